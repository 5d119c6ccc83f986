"""Learned comparators: shapes that they refuse, roll-out, what is frozen, save and load."""

import json

import pytest
import torch

from airlam.baselines import EigenARPredictor
from airlam.csi import mean_power
from airlam.errors import CheckpointError
from airlam.loading import load_predictor
from airlam.models import load_checkpoint
from airlam.models.comparators import KINDS, ComparatorPredictor, build_comparator, load_comparator, save_comparator
from airlam.models.comparators import minilm as minilm_module
from airlam.models.comparators.comparator import complex_features, real_features, turn_to_last, unit_power

SMALL = {
    "rnn": {"num_subcarriers": 12, "width": 16},
    "gru": {"num_subcarriers": 12, "width": 16},
    "lstm": {"num_subcarriers": 12, "width": 16},
    "cnn": {"width": 8, "num_blocks": 1},
    "transformer": {"num_subcarriers": 12, "width": 16, "num_layers": 1, "num_heads": 2},
    "wifo": {"patch": [4, 4, 2], "width": 24, "num_layers": 1, "num_decoder_layers": 1, "num_heads": 2},
    "llm4cp": {"num_subcarriers": 12, "beams_per_sequence": 2, "width": 32, "num_layers": 1, "num_heads": 2},
    "minilm": {"num_subcarriers": 12, "pretrained": None, "width": 32, "num_layers": 1, "num_heads": 2},
    "refined": {"network": "cnn", "width": 8, "num_blocks": 1},
}
PORTS = (2, 2, 2)


def small(kind: str):
    """Random weights everywhere, the silent output layer too."""
    torch.manual_seed(0)
    model = build_comparator(kind, **SMALL[kind]).eval()
    for value in model.parameters():
        if not value.any():
            torch.nn.init.normal_(value, std=0.05)
    return model


@pytest.fixture(params=list(KINDS))
def kind(request) -> str:
    return request.param


@pytest.fixture
def h():
    return torch.randn(3, 16, 12, 1, 8, dtype=torch.complex64, generator=torch.Generator().manual_seed(0))


def test_untrained_it_is_its_start(kind, h):
    model = build_comparator(kind, **SMALL[kind]).eval()
    out = model(h, 4, port_shape=PORTS)
    start = h[:, -1:].expand_as(out)
    if kind == "refined":
        start = EigenARPredictor(forward_backward=False).predict(h, 4, port_shape=PORTS)
    # two transforms in single precision; eigenvectors of close eigenvalues turn with rounding, their filters do not
    assert torch.allclose(out, start, atol=1e-3 if kind == "refined" else 1e-5)


def test_every_weight_that_trains_gets_a_gradient(kind, h):
    model = small(kind)
    (model(h, 4, port_shape=PORTS) - h[:, :4]).abs().square().sum().backward()
    idle = [name for name, value in model.named_parameters() if value.requires_grad and value.grad is None]
    assert not idle
    assert all(torch.isfinite(value.grad).all() for value in model.parameters() if value.grad is not None)


def test_a_rollout_starts_as_the_short_prediction_and_stays_bounded(kind, h):
    model = small(kind)
    with torch.no_grad():
        four, three, many = (model(h, steps, port_shape=PORTS) for steps in (4, 3, 50))
    assert torch.equal(four[:, :3], three)
    assert torch.allclose(many[:, :4], four, atol=1e-6)
    assert bool((mean_power(many) <= 2 * mean_power(h[:, :, None]).amax(1) * 1.01).all())


def test_receive_antennas_are_links_of_their_own(kind, h):
    both = torch.cat([h, 3j * h.flip(0)], -2)
    model = small(kind)
    with torch.no_grad():
        assert torch.allclose(model(both, 4, port_shape=PORTS)[..., :1, :], model(h, 4, port_shape=PORTS), atol=1e-5)


def test_save_and_load_is_identity(kind, h, tmp_path):
    model = small(kind)
    folder = save_comparator(model, tmp_path / kind)
    assert sorted(path.name for path in folder.iterdir()) == ["config.json", "model.safetensors"]
    predictor = load_predictor(folder)
    assert isinstance(predictor, ComparatorPredictor) and predictor.name == kind
    with torch.no_grad():
        assert torch.equal(predictor.predict(h, 4, port_shape=PORTS), model(h, 4, port_shape=PORTS))
    assert predictor.model.config == model.config
    assert [v.requires_grad for v in predictor.model.parameters()] == [v.requires_grad for v in model.parameters()]


def test_language_models_are_frozen_but_norms_and_positions():
    for kind, position in (("llm4cp", "wpe.weight"), ("minilm", "embeddings.position_embeddings.weight")):
        language_model = small(kind).language_model
        trained = {name for name, value in language_model.named_parameters() if value.requires_grad}
        norms = {
            f"{name}.{part}"
            for name, module in language_model.named_modules()
            if isinstance(module, torch.nn.LayerNorm)
            for part in ("weight", "bias")
        }
        assert trained == {position, *norms}


def test_the_published_size_of_llm4cp():
    """GPT-2's six layers: 12 x 768^2 weights and 13 x 768 biases and norms each, the last norm, 1024 positions."""
    model = build_comparator("llm4cp").language_model
    layer = 12 * 768**2 + 13 * 768
    assert sum(p.numel() for p in model.parameters()) == 6 * layer + 2 * 768 + 1024 * 768 + 768  # one word is left


def test_shapes_that_it_was_not_made_for(h):
    for kind in ("rnn", "gru", "lstm", "transformer", "llm4cp", "minilm"):
        with pytest.raises(ValueError, match="was made for 12 subcarriers, got 10"):
            small(kind)(h[:, :, :10], 4, port_shape=PORTS)
    with pytest.raises(ValueError, match="2 beams at a time, which do not divide 7 ports"):
        small("llm4cp")(h[..., :7], 4)
    with pytest.raises(ValueError, match="do not divide 10 x 8"):
        small("wifo")(h[:, :, :10], 4, port_shape=PORTS)
    with torch.no_grad():  # any band and array
        assert small("cnn")(h[:, :, :5, :, :3], 4).shape == (3, 4, 5, 1, 3)


def test_arguments_out_of_bounds():
    with pytest.raises(ValueError, match="did you mean 'gru'"):
        build_comparator("gruu")
    with pytest.raises(ValueError, match="history must be an integer"):
        build_comparator("cnn", history=0)
    with pytest.raises(ValueError, match="patches of 3 slots do not divide"):
        build_comparator("wifo", patch=[3, 4, 4])
    with pytest.raises(ValueError, match="multiple of 6"):
        build_comparator("wifo", width=100)
    with pytest.raises(ValueError, match="multiple of 4"):
        build_comparator("minilm", pretrained=None, history=6)


def test_damaged_and_foreign_folders(tmp_path):
    folder = save_comparator(small("gru"), tmp_path / "gru")
    with pytest.raises(CheckpointError, match="'airlam-comparator', not 'airlam'"):
        load_checkpoint(folder)
    config = json.loads((folder / "config.json").read_text())
    config["comparator"]["width"] = 17
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(CheckpointError, match="do not belong together"):
        load_comparator(folder)
    weights = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(weights[:-1] + bytes([weights[-1] ^ 1]))
    with pytest.raises(CheckpointError, match="damaged"):
        load_predictor(folder)


def test_minilm_names_its_extra(monkeypatch):
    monkeypatch.setattr(minilm_module, "PACKAGE", "a_package_that_is_not_there")
    with pytest.raises(CheckpointError, match=r"airlam\[minilm\]"):
        build_comparator("minilm")


def test_minilm_takes_the_weights_of_the_package(h):
    pytest.importorskip(minilm_module.PACKAGE)
    from safetensors.torch import load_file

    there = load_file(minilm_module.package_folder() / "model.safetensors")
    state = build_comparator("minilm", num_subcarriers=12).language_model.state_dict()
    shared = [name for name in there if name in state and "word_embeddings" not in name]
    assert len(shared) > 95 and all(torch.equal(there[name], state[name]) for name in shared)


def test_helpers_are_inverses(h):
    turned, phase = turn_to_last(h)
    assert torch.allclose(turned * phase, h, atol=1e-6)
    assert float(turned[:, -1].imag.abs().max()) < 1e-6 and bool((turned[:, -1].real >= 0).all())
    assert torch.equal(complex_features(real_features(h)), h)
    unit, scale = unit_power(h, (1,))
    assert torch.allclose((unit * scale), h, atol=1e-6)
    assert torch.allclose(unit.abs().square().mean(1), torch.ones(()), atol=1e-5)


def test_a_refined_comparator_refines_another_kind():
    with pytest.raises(ValueError, match="another kind than 'refined'"):
        build_comparator("refined", network="refined")
