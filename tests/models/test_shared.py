"""Several networks on one frozen backbone: one copy in memory, small files, refused on any other backbone."""

from __future__ import annotations

import json
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file

import airlam
from airlam.errors import CheckpointError
from airlam.io import file_hash
from airlam.models import (
    AirlamBeams,
    AirlamConfig,
    AirlamModel,
    AirlamPilots,
    AirlamPrecoder,
    AirlamPredictor,
    LearnedPrecoder,
    add_lora,
    load_beams,
    load_checkpoint,
    load_learned_precoder,
    load_pilots,
    save_checkpoint,
)
from airlam.models.shared import own_tensors
from airlam.recipes import find_checkpoint

KINDS = {
    "precoder": (AirlamPrecoder, load_learned_precoder),
    "beams": (AirlamBeams, load_beams),
    "pilots": (AirlamPilots, load_pilots),
}


def randn(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, dtype=torch.complex64, generator=torch.Generator().manual_seed(seed))


def answer(model) -> torch.Tensor:
    """What a network says to a request of its kind."""
    with torch.no_grad():
        if isinstance(model, AirlamPrecoder):
            return model(randn(3, 4, 8), 1.0, 0.05)[-1]
        if isinstance(model, AirlamBeams):
            power = randn(2, 8, 12).abs()
            return model(power, torch.ones(8, 12, dtype=torch.bool), port_shape=(1, 4, 3))
        return model(randn(3, 12, 4), randn(4, 8, seed=1), 0.1, port_shape=(2, 4, 1))[0]


@pytest.fixture
def base(tmp_path, tiny_backbone):
    """A predictor's model that lies on the disk."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        made = AirlamModel(AirlamConfig(backbone=tiny_backbone, num_tokens=16, num_groups=2))
    return load_checkpoint(save_checkpoint(made, tmp_path / "base"))


@pytest.fixture
def variant(base, tmp_path):
    """``variant("beams", rank=2)``: a network whose adapters and head say something, on the backbone of ``base``."""

    def make(kind: str, rank: int = 2):
        with torch.random.fork_rng():
            torch.manual_seed(1)
            made = KINDS[kind][0].from_backbone(base, rank).eval()
            for name, value in made.named_parameters():
                if ".lora_B." in name or name == "head.weight":
                    torch.nn.init.normal_(value, std=0.3)
        save_checkpoint(made, tmp_path / kind)
        return made

    return make


def places(model: torch.nn.Module) -> dict[int, int]:
    """Where a model's tensors lie in memory -> their bytes."""
    return {x.data_ptr(): x.numel() * x.element_size() for x in model.state_dict().values()}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("rank", [0, 2])
def test_a_variant_comes_back_alone_and_on_a_backbone_in_memory(kind, rank, variant, base, tmp_path):
    made, load = variant(kind, rank), KINDS[kind][1]
    stored = load_file(tmp_path / kind / "model.safetensors")
    assert all(not name.startswith("backbone.") or ".lora_" in name for name in stored)
    assert any(".lora_" in name for name in stored) == bool(rank)
    for found in (load(tmp_path / kind), load(tmp_path / kind, backbone=base)):
        assert torch.equal(answer(found), answer(made))
        trainable = {name for name, value in found.named_parameters() if value.requires_grad}
        assert trainable == own_tensors(made).keys()  # so that training can go on
    # and once more, from what was loaded
    again = load(save_checkpoint(found, tmp_path / "again"))
    assert torch.equal(answer(again), answer(made))


def test_one_backbone_in_memory_serves_every_task(variant, base, tmp_path):
    """The predictor and three variants take the memory of the predictor and of the variants' own tensors."""
    h = randn(2, 8, 12, 1, 4)
    before = AirlamPredictor(base).predict(h, 2)
    predictor = airlam.load_predictor(tmp_path / "base")
    shared, own = places(predictor.model.backbone), 0
    together = places(predictor.model)
    for kind, (_, load) in KINDS.items():
        variant(kind)
        found = load(tmp_path / kind, backbone=predictor)
        assert shared.keys() <= places(found).keys()
        own += sum(places(found).values()) - sum(shared.values())
        together |= places(found)
    assert sum(together.values()) == sum(places(predictor.model).values()) + own
    # adapters of one network are no part of another
    assert torch.equal(predictor.predict(h, 2), before)
    assert all(value.requires_grad for value in predictor.model.head.parameters())


def test_loaded_alone_a_variant_has_a_backbone_of_its_own(variant, tmp_path):
    variant("beams")
    one, other = load_beams(tmp_path / "beams"), load_beams(tmp_path / "beams")
    assert not places(one).keys() & places(other).keys()


@pytest.mark.parametrize("kind", KINDS)
def test_new_adapters_change_nothing(kind, base):
    cls, said = KINDS[kind][0], []
    for rank in (None, 0, 4):
        with torch.random.fork_rng():
            torch.manual_seed(3)
            made = cls.from_backbone(base, rank).eval()
            torch.manual_seed(4)
            torch.nn.init.normal_(made.head.weight)
        said.append(answer(made))
    assert torch.equal(said[0], said[1]) and torch.allclose(said[0], said[2], atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_the_fast_adapters_of_inference_mode_are_pefts(kind, variant):
    """Operators of two libraries round differently."""
    made = variant(kind, 4)
    one = answer(made)
    with torch.inference_mode():
        torch.testing.assert_close(answer(made), one, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("kind", KINDS)
def test_every_own_tensor_is_trained_and_the_backbone_is_not(kind, variant, base):
    before = {name: value.clone() for name, value in base.backbone.state_dict().items()}
    made = variant(kind).train()
    optimiser = torch.optim.SGD([p for p in made.parameters() if p.requires_grad], lr=0.1)
    with torch.enable_grad():
        if kind == "precoder":
            loss = made(randn(3, 4, 8), 1.0, 0.05)[-1][..., 0].abs().mean()
        elif kind == "beams":
            loss = (
                made(randn(2, 8, 12).abs(), torch.ones(8, 12, dtype=torch.bool), port_shape=(1, 4, 3)).square().mean()
            )
        else:
            loss = made(randn(3, 12, 4), randn(4, 8, seed=1), 0.1, port_shape=(2, 4, 1))[0].abs().mean()
        loss.backward()
    missing = [name for name, p in made.named_parameters() if p.requires_grad and p.grad is None]
    assert not missing
    optimiser.step()
    assert all(torch.equal(value, before[name]) for name, value in base.backbone.state_dict().items())


def test_another_backbone_is_refused(variant, base, tmp_path, tiny_backbone):
    variant("precoder")
    torch.manual_seed(7)  # not that of the fixture
    other = AirlamPredictor(AirlamModel(AirlamConfig(backbone=tiny_backbone, num_tokens=16, num_groups=2)))
    with pytest.raises(CheckpointError, match=r"has sha256 \w{16}..., but .*precoder belongs to \w{16}...") as error:
        airlam.load_precoder(tmp_path / "precoder", backbone=other)
    assert "\n" not in str(error.value)
    # another precision is another backbone
    with pytest.raises(CheckpointError, match="belongs to"):
        airlam.load_precoder(tmp_path / "precoder", backbone=AirlamPredictor(base, precision="bfloat16"))
    # nor do adapters of another kind count as the same
    with pytest.raises(CheckpointError, match="belongs to"):
        airlam.load_precoder(tmp_path / "precoder", backbone=add_lora(load_checkpoint(tmp_path / "base"), 2))
    # the base on the disk was trained on
    save_checkpoint(other.model, tmp_path / "base")
    with pytest.raises(CheckpointError, match=r"base has sha256 \w{16}..., but"):
        airlam.load_precoder(tmp_path / "precoder")
    shutil.rmtree(tmp_path / "base")
    with pytest.raises(CheckpointError, match="no checkpoint"):
        airlam.load_precoder(tmp_path / "precoder")


def test_what_is_no_backbone_is_refused(variant, base, tmp_path):
    variant("beams")
    with pytest.raises(TypeError, match="backbone is ARPredictor, but must be a predictor of a checkpoint"):
        load_beams(tmp_path / "beams", backbone=airlam.load_predictor("ar"))
    whole = save_checkpoint(AirlamBeams.from_backbone(base), tmp_path / "whole")
    with pytest.raises(CheckpointError, match="all its weights of its own"):
        load_beams(whole, backbone=base)
    with pytest.raises(ValueError, match="has adapters on a shared backbone already"):
        add_lora(load_learned_precoder(save_checkpoint(variant("precoder"), tmp_path / "p")), 2)
    with pytest.raises(ValueError, match="adapter_rank"):
        AirlamBeams.from_backbone(base, -1)
    nowhere = AirlamModel(base.config.__class__(backbone=base.config.backbone))
    with pytest.raises(CheckpointError, match="never saved"):
        save_checkpoint(AirlamBeams.from_backbone(nowhere, 2), tmp_path / "nowhere")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"rank": 3}, "has the shape"),
        ({"rank": 0}, "belong to nothing"),
        ({"rank": 2000}, "at most 1024"),
        ({"sha256": "0" * 64}, "belongs to 0000000000000000"),
        ({"sha256": "0"}, "64 hexadecimal digits"),
        ({"base": ""}, "name of 1 to 1024"),
        ({"base": "airlam-teeny"}, "did you mean 'airlam-tiny'"),
        ({"depth": 1}, "shared_backbone has no field 'depth'"),
    ],
)
def test_wrong_entries_of_the_configuration_are_refused(change, message, variant, tmp_path):
    variant("beams")
    path = tmp_path / "beams" / "config.json"
    fields = json.loads(path.read_text())
    fields["shared_backbone"] |= change
    path.write_text(json.dumps(fields))
    with pytest.raises(CheckpointError, match=message) as error:
        load_beams(tmp_path / "beams")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda state: state.pop("head.bias"), "lacks 1"),
        (lambda state: state.update(extra=torch.ones(1)), "belong to nothing"),
        (lambda state: state["head.bias"].fill_(torch.nan), "NaN"),
    ],
)
def test_wrong_tensors_are_refused(change, message, variant, tmp_path):
    variant("pilots")
    weights, config = tmp_path / "pilots" / "model.safetensors", tmp_path / "pilots" / "config.json"
    state = load_file(weights)
    change(state)
    save_file(state, weights)
    config.write_text(json.dumps(json.loads(config.read_text()) | {"weights_sha256": file_hash(weights)}))
    with pytest.raises(CheckpointError, match=message):
        load_pilots(tmp_path / "pilots")


def test_transformers_alone_does_not_make_up_a_backbone(variant, tmp_path):
    variant("beams")
    with pytest.raises(CheckpointError, match="shares a backbone that is not in it"):
        AirlamBeams.from_pretrained(tmp_path / "beams")


def test_loading_draws_no_random_numbers(variant, tmp_path):
    variant("precoder")
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    load_learned_precoder(tmp_path / "precoder")
    assert torch.equal(torch.rand(3), expected)


@pytest.mark.parametrize("kind", KINDS)
def test_the_shipped_variants_share_the_predictors_backbone(kind):
    folder = find_checkpoint(f"airlam-{kind}-shared")
    card = (folder / "README.md").read_text()
    assert all(f"## {title}" in card for title in ("Training", "Scores", "Limits"))
    assert (folder / "model.safetensors").stat().st_size < 8e6
    predictor = airlam.load_predictor("airlam-tiny")
    alone, together = KINDS[kind][1](folder), KINDS[kind][1](folder, backbone=predictor)
    assert places(predictor.model.backbone).keys() <= places(together).keys()
    assert torch.equal(answer(alone), answer(together))


def test_the_shipped_precoder_by_its_name():
    predictor = airlam.load_predictor("airlam-tiny")
    precoder = airlam.load_precoder("airlam-precoder-shared", backbone=predictor)
    assert isinstance(precoder, LearnedPrecoder) and precoder.name == "airlam-precoder-shared"
