"""Linear layers on oneDNN: the same numbers, the same names, and only where nothing is learned."""

import pytest
import torch
from torch import nn

from airlam.models import AirlamConfig, AirlamModel
from airlam.models.linear import Linear, onednn_works, use_onednn


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("lead", [(), (1,), (3, 5), (0, 5)])
def test_parity_in_inference_mode(bias, lead):
    layer = nn.Linear(33, 17, bias=bias)
    x = torch.randn(*lead, 33)
    expected = layer(x).detach()
    use_onednn(layer)
    assert type(layer) is Linear
    for dtype in (torch.float32, torch.float64, torch.bfloat16):
        with torch.inference_mode():
            out = layer.to(dtype)(x.to(dtype))
        assert out.dtype == dtype and out.shape == expected.shape
        # sums of 33 products: rounding of single precision; of eight bits after the round trip through bfloat16
        assert torch.allclose(out.float(), expected, atol=0.1 if dtype == torch.bfloat16 else 1e-5)


def test_learning_is_as_ever():
    layer = nn.Linear(4, 3)
    names = list(layer.state_dict())
    use_onednn(layer)
    layer(torch.randn(2, 4)).sum().backward()
    assert list(layer.state_dict()) == names and torch.equal(layer.bias.grad, torch.full((3,), 2.0))


def test_a_models_layers_use_it():
    model = AirlamModel(AirlamConfig(num_tokens=8, num_groups=0))
    layers = [layer for layer in model.modules() if isinstance(layer, nn.Linear)]
    assert len(layers) > 20 and all(type(layer) is Linear for layer in layers)


def test_the_operator_is_there():
    """It is internal to torch: should it go, everything works as before, but slower, and this says so."""
    if not torch.backends.mkldnn.is_available():
        pytest.skip("this build of torch has no oneDNN")
    assert onednn_works()
