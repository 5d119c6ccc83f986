"""How ranks begin: all of them with parts of the same values, and none of them with the whole model."""

from __future__ import annotations

import pytest
import torch

from airlam.edge.parallel.engine.building import check_mode
from airlam.edge.parallel.layout import Mesh
from airlam.edge.parallel.recipe import ParallelTraining, Shares
from airlam.errors import RecipeError
from airlam.models import AirlamConfig, AirlamModel, save_checkpoint
from airlam.models.fresh import empty_model

WIDE = {
    "model_type": "roberta-prelayernorm",
    "hidden_size": 128,
    "num_hidden_layers": 8,
    "num_attention_heads": 4,
    "intermediate_size": 512,
    "vocab_size": 2,
    "pad_token_id": 1,
    "bos_token_id": 0,
    "eos_token_id": 1,
    "hidden_dropout_prob": 0.0,
    "attention_probs_dropout_prob": 0.0,
    "max_position_embeddings": 64,
}
MODES = {
    "data": {"mode": "data"},
    "sharded": {"mode": "data", "shard": True},
    "sequence": {"mode": "sequence"},
    "tensor": {"mode": "tensor", "shares": Shares(tensor=[1, 1, 1, 1])},
    "pipeline": {"mode": "pipeline", "shares": Shares(pipeline=[1, 2, 2, 3])},
    "looped": {"mode": "looped"},
    "hybrid": {"mode": "hybrid", "mesh": Mesh(pipeline=2, tensor=2)},
}
APART = ("sharded", "tensor", "pipeline", "looped", "hybrid")


@pytest.fixture(scope="module")
def started(arguments, on_ranks, tmp_path_factory):
    """What four ranks begin with, by mode: fresh values, and ``loaded MODE`` those of a checkpoint."""
    folder, cases = tmp_path_factory.mktemp("start"), []
    model = {"error_variance": True, "phase_tracker": True, "backbone": WIDE}
    save_checkpoint(AirlamModel(AirlamConfig(**model)), folder / "saved")
    task = {"class_path": "airlam.tasks.Pretraining", "init_args": {"model": model}}
    for name, given in MODES.items():
        common = arguments(nproc=4, precision="32-true", loops=1, **given)
        fresh = ParallelTraining(**{**common, "task": task, "checkpoint": None})
        loaded = ParallelTraining(**{**common, "checkpoint": str(folder / "saved")})
        for case, run in ((name, fresh), (f"loaded {name}", loaded)):
            cases.append({"name": case, "run": run.to_dict(), "steps": 0, "measure": True})
    return on_ranks(folder, [{"world": 4, "cases": cases}]), folder


@pytest.mark.slow
@pytest.mark.parametrize("name", MODES)
def test_all_modes_begin_with_the_same_values(name, started):
    found, one = started[0][name]["weights"], started[0]["data"]["weights"]
    assert found.keys() == one.keys()
    assert all(torch.equal(value, one[key]) for key, value in found.items())


@pytest.mark.slow
@pytest.mark.parametrize("name", MODES)
def test_weights_of_a_checkpoint_arrive_whole(name, started):
    from safetensors.torch import load_file

    stored = load_file(started[1] / "saved" / "model.safetensors")
    found = started[0][f"loaded {name}"]["weights"]
    assert found.keys() == stored.keys()
    assert all(torch.equal(value, stored[key]) for key, value in found.items())


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["", "loaded "])
@pytest.mark.parametrize("name", APART)
def test_no_rank_ever_holds_the_whole_model(name, kind, started):
    model = empty_model(AirlamConfig(error_variance=True, phase_tracker=True, backbone=dict(WIDE)))
    whole = sum(value.nbytes for value in (*model.parameters(), *model.buffers()))
    largest = max(
        sum(value.nbytes for value in (*module.parameters(recurse=False), *module.buffers(recurse=False)))
        for module in model.modules()
    )
    # a mapped file counts as taken, though its pages come only when they are read
    mapped = (started[1] / "saved" / "model.safetensors").stat().st_size if kind else 0
    ranks = started[0][f"{kind}{name}"]["ranks"]
    for rank in ranks:
        # while it fills its part, a rank holds one module's values more, and what drawing them needs
        assert rank["bytes"] < 0.6 * whole
        assert rank["peak"] - mapped < rank["bytes"] + 3 * largest < 0.8 * whole, rank


def refused(arguments, words: str, **given) -> None:
    with pytest.raises(RecipeError, match=words) as caught:
        check_mode(ParallelTraining(**arguments(**given)))
    assert "\n" not in str(caught.value)


def test_what_cannot_be_shared_out_is_refused_before_any_process_starts(arguments):
    refused(arguments, "gpt2.*Modes data, sequence and pipeline", model="gpt2", mode="tensor")
    refused(arguments, "5 ranks cannot share out 4 layers", mode="pipeline", nproc=5)
    refused(arguments, "8 ranks cannot share out 4 attention heads", mode="tensor", nproc=8)
    mesh = Mesh(pipeline=2, sequence=2)
    refused(arguments, "do not go together", mode="hybrid", mesh=mesh, nproc=4)
    refused(arguments, "micro_batches is 2, but must be at least 3", mode="pipeline", nproc=3, micro_batches=2)
    refused(arguments, "but 16 links of a batch", mode="pipeline", micro_batches=3)
    shares, mesh = Shares(data=[15, 1]), Mesh(data=2, pipeline=2)
    refused(arguments, "but 15 links", mode="hybrid", nproc=4, mesh=mesh, shares=shares, micro_batches=4)
    refused(arguments, "cannot loop", mode="pipeline", loops=2)


def test_unequal_heads_need_attention_without_dropout(arguments):
    backbone = {**WIDE, "attention_probs_dropout_prob": 0.1}
    task = {"class_path": "airlam.tasks.Pretraining", "init_args": {"model": {"backbone": backbone}}}
    given = {**arguments(mode="tensor"), "task": task, "checkpoint": None}
    check_mode(ParallelTraining(**given))
    with pytest.raises(RecipeError, match="attention_probs_dropout_prob is 0.1"):
        check_mode(ParallelTraining(**given, shares=Shares(tensor=[3, 1])))
