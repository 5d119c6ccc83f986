"""transformers' AutoModel: the shipped checkpoints as airlam loads them; everything else is refused with advice."""

from __future__ import annotations

import pytest
import torch
from transformers import AutoConfig, AutoModel

from airlam.csi import dft_codebook, measure_beams, sweep_schedule
from airlam.errors import CheckpointError
from airlam.loading import load_precoder, load_predictor
from airlam.models import (
    AirlamConfig,
    AirlamModel,
    AirlamPathsPredictor,
    AirlamPredictor,
    LearnedPrecoder,
    load_beams,
    load_checkpoint,
    load_pilots,
    save_checkpoint,
)
from airlam.models.comparators import build_comparator, save_comparator
from airlam.recipes import find_checkpoint


def draw(*shape: int) -> torch.Tensor:
    return torch.randn(shape, dtype=torch.complex64, generator=torch.Generator().manual_seed(0))


def auto(name: str) -> torch.nn.Module:
    return AutoModel.from_pretrained(str(find_checkpoint(name)))


# The same weights and the same code: equal to the last bit, so no tolerance.
@pytest.mark.parametrize("name", ["airlam-tiny", "airlam-tiny-v1", "airlam-small", "airlam-paths"])
def test_predictors(name):
    model = auto(name)
    predictor = (AirlamPathsPredictor if name == "airlam-paths" else AirlamPredictor)(model, name=name)
    h = draw(2, 8, 6, 1, 8)
    expected = load_predictor(name).predict(h, 3, port_shape=(2, 2, 2))
    assert torch.equal(predictor.predict(h, 3, port_shape=(2, 2, 2)), expected)
    assert not model.training


@pytest.mark.parametrize("name", ["airlam-precoder", "airlam-precoder-random-start"])
def test_precoders(name):
    h = draw(2, 3, 8)
    expected = load_precoder(name).precode(h, 1.0, 0.01)
    assert torch.equal(LearnedPrecoder(auto(name), name=name).precode(h, 1.0, 0.01), expected)


@pytest.mark.parametrize("name", ["airlam-beams", "airlam-beams-random-start"])
def test_beams(name):
    shape = (1, 4, 4)
    power = measure_beams(draw(2, 4, 1, 1, 16), dft_codebook(shape), noise=1.0)
    measured = sweep_schedule(num_beams=power.shape[-1], beams_per_sweep=4, num_sweeps=4)
    scores = [m.scores(power, measured, horizon=2, port_shape=shape) for m in (auto(name), load_beams(name))]
    assert torch.equal(*scores)


@pytest.mark.parametrize("name", ["airlam-pilots", "airlam-pilots-random-start"])
def test_pilots(name):
    found, expected = auto(name).state_dict(), load_pilots(name).state_dict()
    assert found.keys() == expected.keys()
    assert all(torch.equal(value, expected[key]) and value.dtype == torch.float32 for key, value in found.items())


def test_the_same_parameters_are_trained():
    def trained(model):
        return [name for name, value in model.named_parameters() if value.requires_grad]

    assert trained(auto("airlam-tiny")) == trained(load_checkpoint("airlam-tiny"))


@pytest.mark.parametrize("name", ["airlam-precoder-shared", "airlam-pilots-shared", "airlam-beams-shared"])
def test_a_variant_without_its_backbone_is_refused(name):
    with pytest.raises(CheckpointError, match="shares a backbone.*airlam.load_precoder.*load_pilots or load_beams"):
        auto(name)


def test_a_comparator_is_refused(tmp_path):
    save_comparator(build_comparator("rnn", history=4, horizon=2), tmp_path)
    with pytest.raises(CheckpointError, match="use airlam.load_predictor with this folder"):
        AutoModel.from_pretrained(str(tmp_path))


@pytest.fixture
def folder(tmp_path):
    return save_checkpoint(AirlamModel(AirlamConfig(num_tokens=8, num_groups=0)), tmp_path / "small")


def test_changed_weights_are_refused(folder):
    weights = folder / "model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    with pytest.raises(CheckpointError, match="SHA-256 is not the one in config.json"):
        AutoModel.from_pretrained(folder)


def test_what_is_trained_and_saved_with_transformers_loads_here(folder, tmp_path):
    model, info = AutoModel.from_pretrained(folder, output_loading_info=True)
    assert not info["missing_keys"]
    torch.nn.init.normal_(model.head.weight, std=0.1)
    model.save_pretrained(tmp_path / "again")
    assert torch.equal(load_checkpoint(tmp_path / "again").head.weight, model.head.weight)


def test_a_model_of_airlam_is_no_backbone_of_another(folder):
    assert AutoConfig.from_pretrained(folder).num_tokens == 8
    with pytest.raises(ValueError, match="cannot be the backbone of another"):
        AirlamModel(AirlamConfig(backbone=str(folder)))
