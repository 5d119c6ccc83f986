"""The model: invariances, shapes, masks, backbones."""

import pytest
import torch
from transformers import AutoConfig, AutoModel

from airlam.baselines.eigen_ar import EigenARPredictor
from airlam.models import AirlamConfig, AirlamModel, AirlamPredictor, load_checkpoint, save_checkpoint

SMALL = {"num_tokens": 24, "num_groups": 3}
TINY_BACKBONES = {
    "gpt2": {"n_embd": 32, "n_layer": 2, "n_head": 2, "n_positions": 64, "bos_token_id": 0, "eos_token_id": 0},
    "bert": {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64},
    "llama": {
        "hidden_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "num_key_value_heads": 2,
        "intermediate_size": 64,
    },
}


def csi(*shape, seed=0):
    """A few complex exponentials over slots, tones and ports, plus noise: something that can be predicted."""
    generator = torch.Generator().manual_seed(seed)
    links, slots, tones, rx, tx = shape
    h = torch.zeros(shape, dtype=torch.complex64)
    for _ in range(5):
        doppler, delay, angle = (torch.rand(links, 1, generator=generator) - 0.5 for _ in range(3))
        a = torch.exp(2j * torch.pi * 0.2 * doppler * torch.arange(slots))
        b = torch.exp(-2j * torch.pi * delay * torch.arange(tones))
        c = torch.exp(2j * torch.pi * angle * torch.arange(tx))
        h = h + torch.einsum("lt,lf,la->ltfa", a, b, c)[:, :, :, None, :]
    return h + 0.1 * torch.randn(shape, dtype=torch.complex64, generator=generator)


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    model = AirlamModel(AirlamConfig(**SMALL)).eval()
    torch.nn.init.normal_(model.head.weight, std=0.05)  # a fresh head is silent
    return model


def test_phase_and_scale_equivariance(model):
    h = csi(3, 16, 24, 1, 8)
    factor = 1e-4 * torch.exp(torch.tensor(1.2j))
    a, b = model(h, 4) * factor, model(h * factor, 4)
    # Eigenvectors of close eigenvalues amplify rounding; 1e-3 of the amplitude is far below any prediction error.
    assert (a - b).abs().max() < 1e-3 * a.abs().max()


def test_links_do_not_see_each_other(model):
    h = csi(4, 16, 24, 1, 8)
    assert torch.allclose(model(h, 4)[1:2], model(h[1:2], 4), atol=1e-4)


@pytest.mark.parametrize(
    "shape, port_shape, future",
    [
        ((2, 16, 48, 1, 32), (2, 4, 4), 4),
        ((1, 5, 12, 2, 4), None, 1),
        ((3, 32, 20, 1, 6), (1, 3, 2), 16),
        ((1, 1, 3, 1, 1), None, 2),
        ((2, 40, 12, 4, 2), (2, 1, 1), 3),
    ],
)
def test_one_model_takes_every_array_band_history_and_horizon(model, shape, port_shape, future):
    out = model(csi(*shape), future, port_shape=port_shape)
    assert out.shape == (shape[0], future, *shape[2:])
    assert torch.isfinite(torch.view_as_real(out)).all()


def test_without_correction_it_is_the_classical_start(model):
    h = csi(2, 16, 24, 1, 8)
    for forward_backward in (False, True):
        model.config.forward_backward = forward_backward
        start = EigenARPredictor(num_bins=24 + 3 * 8, forward_backward=forward_backward).predict(h, 4)
        # the model normalises first; rounding moves eigenvectors of close eigenvalues
        assert (model(h, 4, correction=False) - start).abs().max() < 1e-3 * start.abs().max()


def test_zero_csi_is_finite(model):
    out = model(torch.zeros(1, 16, 12, 1, 4, dtype=torch.complex64), 4)
    assert torch.isfinite(torch.view_as_real(out)).all()
    assert out.abs().max() < 1e-3


def test_missing_slots_do_not_matter(model):
    h = csi(2, 16, 24, 1, 8)
    observed = torch.ones(2, 16, dtype=torch.bool)
    observed[:, [3, 9]] = False
    other = h.clone()
    other[:, [3, 9]] = 7.0
    a = model(h, 4, observed=observed)
    h[:, [3, 9]] = 0  # normalisation counts what is there
    assert torch.isfinite(torch.view_as_real(a)).all()
    b = model(h, 4, observed=observed)
    c = model(torch.where(observed[..., None, None, None], other, torch.zeros_like(other)), 4, observed=observed)
    assert torch.allclose(b, c, atol=1e-4)


def test_gradients_are_finite(model):
    h = csi(2, 12, 12, 1, 4)
    model(h, 2).abs().square().sum().backward()
    gradients = [p.grad for p in model.parameters() if p.grad is not None]
    assert len(gradients) > 20 and all(torch.isfinite(g).all() for g in gradients)
    model.zero_grad()


@pytest.mark.parametrize("kind", TINY_BACKBONES)
def test_any_hugging_face_transformer_from_a_local_folder(kind, tmp_path):
    torch.manual_seed(1)
    pretrained = AutoModel.from_config(AutoConfig.for_model(kind, vocab_size=8, **TINY_BACKBONES[kind]))
    pretrained.save_pretrained(tmp_path / "language-model")
    model = AirlamModel(AirlamConfig(backbone=str(tmp_path / "language-model"), **SMALL)).eval()
    for a, b in zip(pretrained.state_dict().values(), model.backbone.state_dict().values(), strict=True):
        assert torch.equal(a, b)
    torch.nn.init.normal_(model.head.weight, std=0.05)
    h = csi(1, 16, 12, 1, 4)
    save_checkpoint(model, tmp_path / "airlam")
    (tmp_path / "language-model").rename(tmp_path / "gone")  # a checkpoint carries its backbone
    assert torch.equal(load_checkpoint(tmp_path / "airlam")(h, 4), model(h, 4))


def test_predictor_keeps_dtype_and_leading_axes(model):
    h = csi(6, 16, 12, 1, 4).to(torch.complex128).reshape(2, 3, 16, 12, 1, 4)
    out = AirlamPredictor(model, chunk=4).predict(h, 2)
    assert out.dtype == torch.complex128 and out.shape == (2, 3, 2, 12, 1, 4)


@pytest.mark.parametrize(
    "bad, match",
    [
        ({"num_tokens": 0}, "num_tokens"),
        ({"num_groups": -1}, "num_groups"),
        ({"max_history": 1}, "max_history"),
    ],
)
def test_bad_configurations(bad, match):
    with pytest.raises(ValueError, match=match):
        AirlamConfig(**bad)


def test_the_untrained_twin_keeps_the_tracker_and_nothing_else():
    model = AirlamModel(AirlamConfig(num_tokens=16, num_groups=0, phase_tracker=True))
    with torch.no_grad():
        for weights in model.tracker.parameters():
            weights.add_(0.1)
    twin = model.untrained()
    mine, other = model.state_dict(), twin.state_dict()
    assert all(torch.equal(mine[name], other[name]) for name in mine if name.startswith("tracker."))
    learned = [name for name in mine if name.startswith("backbone.encoder") and mine[name].dim() == 2]
    assert not any(torch.equal(mine[name], other[name]) for name in learned)
