"""Durable states: any mode goes on where another one was, on any number of ranks; plain checkpoints; damage."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist

import airlam
from airlam.edge.parallel.engine.checkpoint import STATE, forget_older, remove_state, state_folder, states
from airlam.edge.parallel.engine.training import Training
from airlam.edge.parallel.layout import Mesh
from airlam.edge.parallel.recipe import ParallelTraining, Shares
from airlam.errors import CheckpointError

# one run of ten steps of AdamW, which goes from mode to mode: (ranks, name, arguments, steps)
CHAIN: list[tuple[int, str, dict[str, Any], int]] = [
    (2, "tensor", {"mode": "tensor", "shares": Shares(tensor=[3, 1])}, 2),
    (2, "sequence", {"mode": "sequence", "shares": Shares(sequence=[3, 1])}, 1),
    (3, "data", {"mode": "data", "shares": Shares(data=[2, 1, 1])}, 1),
    (3, "pipeline", {"mode": "pipeline", "micro_batches": 4}, 1),
    (1, "one process", {"mode": "data"}, 1),
    (2, "sharded", {"mode": "data", "shard": True}, 1),
    (2, "looped", {"mode": "looped"}, 1),
    (4, "hybrid", {"mode": "hybrid", "mesh": Mesh(data=2, tensor=2)}, 1),
    (2, "data again", {"mode": "data"}, 1),
]


@pytest.fixture(scope="module")
def chain(arguments, on_ranks, tmp_path_factory):
    """(what ranks.py wrote, folder with a subfolder for each case)."""
    folder, launches, state, done = tmp_path_factory.mktemp("chain"), [], None, 0
    for ranks, name, given, steps in CHAIN:
        run = ParallelTraining(**arguments(optimiser="adamw", clip=0.5, nproc=ranks, loops=1, **given))
        case = {"name": name, "run": run.to_dict(), "steps": steps, "grads": 0, "state": state}
        case |= {"save": str(folder / f"{name}.run"), "export": str(folder / f"{name}.run")}
        done += steps
        state = str(state_folder(folder / f"{name}.run", done))
        launches.append({"world": ranks, "cases": [case]})
    last = {"run": run.to_dict(), "steps": 1, "grads": 0}
    for moment in ("files", "name"):
        target = folder / f"killed {moment}.run"
        launches.append({"world": 2, "cases": [{**last, "name": moment, "save": str(target), "kill": moment}]})
    return on_ranks(folder, launches), folder


@pytest.mark.parametrize("number", range(len(CHAIN)), ids=[name.replace(" ", "-") for _, name, _, _ in CHAIN])
def test_every_mode_goes_on_where_another_was(number, chain, alone):
    found, done = chain[0][CHAIN[number][1]], sum(steps for *_, steps in CHAIN[: number + 1])
    here = alone(optimiser="adamw", clip=0.5)
    for name, value in here.weights[done].items():
        moved = float((value - here.weights[0][name]).abs().max())
        # entries whose gradient is of the size of rounding go anywhere, by as much as their moments allow
        limit = 1e-7 * max(moved, 1e-3) if not name.endswith("key.bias") else 1e-2
        assert float((found["weights"][name] - value).abs().max()) <= limit, name
    steps = CHAIN[number][-1]
    for rank in found["ranks"]:
        assert [r["step"] for r in rank["records"]] == list(range(done - steps + 1, done + 1))
        assert [r["loss"] for r in rank["records"]] == pytest.approx(here.losses[done - steps : done], abs=1e-8)


@pytest.mark.parametrize("name", [name for _, name, _, _ in CHAIN])
def test_the_plain_checkpoint_has_the_same_weights_to_the_bit(name, chain):
    found, folder = chain
    predictor = airlam.load_predictor(folder / f"{name}.run" / "checkpoint")
    stored = dict(predictor.model.state_dict()) if hasattr(predictor, "model") else dict(predictor.state_dict())
    weights = found[name]["weights"]
    assert stored.keys() == weights.keys()
    for key, value in weights.items():
        assert torch.equal(stored[key], value.float() if value.is_floating_point() else value), key


@pytest.mark.parametrize("moment", ["files", "name"])
def test_a_state_whose_writer_was_killed_does_not_count(moment, chain):
    folder = chain[1] / f"killed {moment}.run"
    assert list((folder / "states").iterdir()), "it was being written"
    assert states(folder) == {}
    forget_older(folder, 1)
    assert not list((folder / "states").iterdir())


@pytest.fixture(scope="module")
def alone_in_group(tmp_path_factory):
    """A process group of this process alone."""
    store = tmp_path_factory.mktemp("group") / "store"
    dist.init_process_group("gloo", init_method=f"file://{store}", rank=0, world_size=1)
    yield
    dist.destroy_process_group()


@pytest.fixture
def state(chain, tmp_path) -> Path:
    """A copy of the state that two ranks wrote last."""
    (last,) = states(chain[1] / "data again.run").values()
    return Path(shutil.copytree(last, tmp_path / "states" / last.name))


def resumed(arguments, state: Path, **changes: Any) -> Training:
    return Training(ParallelTraining(**arguments(**{"optimiser": "adamw", "nproc": 1, **changes})), state)


def test_a_whole_state_is_read(alone_in_group, arguments, state):
    training = resumed(arguments, state)
    assert (training.step, training.position) == (10, 10)


def flip(state: Path) -> None:
    file = max(state.glob("*.distcp"), key=lambda path: path.stat().st_size)
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(data)


def cut_short(state: Path) -> None:
    file = max(state.glob("*.distcp"), key=lambda path: path.stat().st_size)
    file.write_bytes(file.read_bytes()[:-100])


def lose(state: Path) -> None:
    next(state.glob("*.distcp")).unlink()


def lose_index(state: Path) -> None:
    (state / ".metadata").unlink()


def cut_facts(state: Path) -> None:
    (state / STATE).write_text((state / STATE).read_text()[:50])


def lose_facts(state: Path) -> None:
    (state / STATE).unlink()


def empty_facts(state: Path) -> None:
    (state / STATE).write_text(json.dumps({"step": 3}))


@pytest.mark.parametrize("damage", [flip, cut_short, lose, lose_index, cut_facts, lose_facts, empty_facts])
def test_damage_is_one_line(damage, alone_in_group, arguments, state):
    damage(state)
    with pytest.raises(CheckpointError) as caught:
        resumed(arguments, state)
    assert state.name in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize("changes", [{"model": "bert"}, {"model": "llama"}, {"checkpoint": "airlam-tiny"}])
def test_a_state_of_another_model_is_one_line(changes, alone_in_group, arguments, state):
    with pytest.raises(CheckpointError) as caught:
        resumed(arguments, state, **changes)
    assert state.name in str(caught.value) and "\n" not in str(caught.value)


def test_fewer_layers_are_another_model(alone_in_group, arguments, state, tmp_path):
    from airlam.models import AirlamModel, load_checkpoint, save_checkpoint

    config = load_checkpoint(arguments()["checkpoint"]).config
    config.backbone = {**config.backbone, "num_hidden_layers": 3}
    save_checkpoint(AirlamModel(config), tmp_path / "short")
    with pytest.raises(CheckpointError, match="belong to nothing"):
        resumed(arguments, state, checkpoint=str(tmp_path / "short"))


def test_removing_takes_the_name_first(tmp_path, monkeypatch):
    path = state_folder(tmp_path, 3)
    path.mkdir(parents=True)
    (path / STATE).write_text("{}")
    monkeypatch.setattr(shutil, "rmtree", lambda *args, **kwargs: None)  # killed before it
    remove_state(path)
    assert states(tmp_path) == {}
