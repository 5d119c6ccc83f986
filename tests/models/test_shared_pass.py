"""One pass gives what the model's own methods give, one after another."""

from __future__ import annotations

import pytest
import torch

from airlam.interfaces import extreme_scale
from airlam.models import AirlamConfig, AirlamModel, AirlamPredictor, load_checkpoint, pooled_hidden
from airlam.models.shared_pass import encode, read_out, tokenize
from airlam.recipes import find_checkpoint
from airlam.testing.histories import PORTS, history


@pytest.fixture(scope="module")
def tiny() -> AirlamModel:
    return load_checkpoint(find_checkpoint("airlam-tiny")).eval()


def whole(model: AirlamModel, h_past, num_future, wanted=None, **options):
    with torch.inference_mode():
        return read_out(model, encode(model, tokenize(model, h_past, num_future, **options)), **(wanted or {}))


@pytest.mark.parametrize("views", [1, 2, 3])
def test_all_outputs(tiny, views):
    h_past, predictor = history(5), AirlamPredictor(tiny, views=views)
    some, tones = torch.tensor([0, 3]), torch.tensor([1, 7])
    wanted = {"variance": some, "covariance": torch.tensor([4]), "subcarriers": tones, "pooled": True}
    found = whole(tiny, h_past, 3, wanted, port_shape=PORTS, views=views)
    future, variance = predictor.predict_with_variance(h_past, 3, port_shape=PORTS)
    _, covariance = predictor.predict_with_covariance(h_past, 3, port_shape=PORTS, subcarriers=tones)
    for value, expected in (
        (found.future, future),
        (found.variance, variance[some]),
        (found.covariance, covariance[4:]),
    ):
        assert value.shape == expected.shape
        assert (value - expected).abs().max() <= 1e-5 * expected.abs().max()
    if views == 1:
        assert torch.allclose(found.pooled, pooled_hidden(tiny, h_past, PORTS), atol=1e-4)


def test_gaps_and_any_scale(tiny):
    h_past = history(3)
    observed = torch.ones(3, 16, dtype=torch.bool)
    observed[1, 5:7] = False
    h_past[2] *= 1e14
    assert extreme_scale(h_past) is not None
    found = whole(tiny, h_past, 2, {"variance": torch.arange(3)}, port_shape=PORTS, observed=observed)
    predictor = AirlamPredictor(tiny)
    expected = predictor.predict_with_variance(h_past, 2, port_shape=PORTS, context={"observed": observed})
    for value, truth in zip((found.future, found.variance), expected, strict=True):
        scale = truth.abs().amax((1, 2, 3, 4), keepdim=True)
        assert ((value - truth).abs() <= 1e-5 * scale).all()


def test_readings_of_other_sensors():
    torch.manual_seed(0)
    model = AirlamModel(AirlamConfig(num_tokens=16, num_groups=0, context=["position"])).eval()
    torch.nn.init.normal_(model.head.weight, std=0.1)
    h_past, context = history(2), {"position": torch.tensor([[30.0, 40.0, 1.5], [float("nan")] * 3])}
    found = whole(model, h_past, 2, port_shape=PORTS, context=context).future
    expected = AirlamPredictor(model).predict(h_past, 2, port_shape=PORTS, context=context)
    assert torch.allclose(found, expected, atol=1e-5)
    without = whole(model, h_past, 2, port_shape=PORTS).future
    assert not torch.allclose(found[0], without[0], atol=1e-5) and torch.allclose(found[1], without[1], atol=1e-5)


def test_no_variances_where_none_were_trained():
    model = AirlamModel(AirlamConfig(num_tokens=16, num_groups=0, error_variance=False)).eval()
    with pytest.raises(ValueError, match="has no error variances; ask for the prediction alone"):
        whole(model, history(1), 2, {"variance": torch.tensor([0])}, port_shape=PORTS)
