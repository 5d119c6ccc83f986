"""Durable states of a run: weights, moments of the optimiser, step; written by all ranks, read by any number of them.

A state is a folder ``step_00000100`` of torch's distributed checkpoints with a ``state.json`` beside them, which has
the SHA-256 of every file. The folder gets its name when every rank's part is on disk: one of that name is whole.
torch reads a state's index with pickle: states are for the runs of those who wrote them. What is passed on is the plain
checkpoint of :func:`write_checkpoint`, or a Lightning checkpoint (:mod:`airlam.edge.parallel.engine.lightning_states`).
"""

from __future__ import annotations

import os
import re
import shutil
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
import torch.distributed.checkpoint as dcp

from airlam.edge.parallel.engine.building import Part, local
from airlam.edge.parallel.engine.pieces import Held, Piece
from airlam.edge.parallel.recipe import RECIPE
from airlam.errors import CheckpointError, StoreError
from airlam.io import file_hash, read_json, write_json, write_text
from airlam.models import AirlamModel
from airlam.models.cards import card_metadata
from airlam.models.checkpoint import CHECKSUM, compare_shapes, replace_files

STATE = "state.json"
INDEX = ".metadata"  # torch's, of all files
_NAME = re.compile(r"step_(\d{8})")
MOMENTS = ("exp_avg", "exp_avg_sq")  # of AdamW


def state_folder(folder: Path, step: int) -> Path:
    """Where the state after ``step`` steps lies."""
    return folder / "states" / f"step_{step:08d}"


def states(folder: Path) -> dict[int, Path]:
    """step -> folder of every whole state of a run, in order."""
    found = {}
    for path in (folder / "states").glob("step_*"):
        if (name := _NAME.fullmatch(path.name)) and (path / STATE).is_file():
            found[int(name[1])] = path
    return dict(sorted(found.items()))


def held(part: Part, optimizer: torch.optim.Optimizer | None) -> dict[str, Any]:
    """This rank's tensors by name: ``model.NAME``, and ``optimizer.NAME.MOMENT`` of what is trained."""
    model, found = part.model, {}
    stored = set(model.state_dict()) if part.stored is None else part.stored
    for name, value in (*model.named_parameters(), *model.named_buffers()):
        if name in stored:
            found[f"model.{name}"] = Held(local(value.detach()), part.pieces[name])
    if optimizer is not None:
        for name, parameter in model.named_parameters():
            for key, value in optimizer.state.get(parameter, {}).items():
                whole = value.dim() == 0
                piece = Piece.whole(()) if whole else part.pieces[name]
                found[f"optimizer.{name}.{key}"] = Held(local(value), piece)
    return found


def begin_moments(part: Part, optimizer: torch.optim.Optimizer) -> None:
    """Give AdamW its moments, all zero, as it would at its first step: a state can be read into them."""
    if not isinstance(optimizer, torch.optim.AdamW):
        return
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            optimizer.state[parameter] = {
                "step": torch.tensor(0.0),
                **{key: torch.zeros_like(parameter, requires_grad=False) for key in MOMENTS},
            }


def save_state(folder: Path, step: int, part: Part, optimizer: torch.optim.Optimizer, facts: dict[str, Any]) -> Path:
    """Write the state after ``step`` steps. All ranks call this together.

    Args:
        facts: plain data for ``state.json``.
    """
    final = state_folder(folder, step)
    work = final.with_name(f".{final.name}")
    if dist.get_rank() == 0:
        shutil.rmtree(work, ignore_errors=True)
        work.mkdir(parents=True)
    dist.barrier()
    dcp.save(held(part, optimizer), checkpoint_id=work)
    hashes: list[Any] = [None] * dist.get_world_size()
    mine = {path.name: file_hash(path) for path in work.glob(f"__{dist.get_rank()}_*.distcp")}
    dist.all_gather_object(hashes, mine)
    if dist.get_rank() == 0:
        publish_state(work, final, {name: value for one in hashes for name, value in one.items()}, step, facts)
    dist.barrier()
    return final


def publish_state(work: Path, final: Path, hashes: dict[str, str], step: int, facts: dict[str, Any]) -> None:
    """Complete the folder ``work``, whose tensors are written, and give it its name."""
    hashes = hashes | {INDEX: file_hash(work / INDEX)}
    write_json(work / STATE, {"step": step, **facts, "files": hashes})
    _sync(work)
    remove_state(final)
    os.replace(work, final)
    _sync(final.parent)


def _sync(folder: Path) -> None:
    """Wait until the names in a folder are on the disk."""
    descriptor = os.open(folder, os.O_RDONLY)
    os.fsync(descriptor)
    os.close(descriptor)


def remove_state(path: Path) -> None:
    """Remove a state: its name first, so that at no moment a part of it passes for a whole one."""
    if path.exists():
        gone = path.with_name(f".{path.name}.old")
        shutil.rmtree(gone, ignore_errors=True)
        os.replace(path, gone)
        shutil.rmtree(gone, ignore_errors=True)


def load_state(path: Path, part: Part, optimizer: torch.optim.Optimizer | None) -> dict[str, Any]:
    """Read a state, of any mode and number of ranks, into this rank's tensors.

    Returns:
        What ``state.json`` says.

    Raises:
        CheckpointError: no state, a damaged one, or one of another model.
    """
    facts = read_facts(path)
    check_files(path, facts, dist.get_rank(), dist.get_world_size())
    if part.stored is None:
        compare_shapes(path, shapes_in(path), part.shapes)
    if optimizer is not None:
        begin_moments(part, optimizer)
    wanted = held(part, optimizer)
    try:
        dcp.load(wanted, checkpoint_id=path)
    except Exception as error:  # torch wraps what every rank says
        reason = " ".join(str(error).split())
        raise CheckpointError(f"{path} does not fit this run: {reason[:300]}") from error
    return facts


def read_facts(path: Path) -> dict[str, Any]:
    """What the ``state.json`` of a state says.

    Raises:
        CheckpointError: the folder is no whole state.
    """
    if not (path / STATE).is_file():
        raise CheckpointError(f"{path} is no whole state: it has no {STATE}")
    try:
        facts = read_json(path / STATE)
    except StoreError as error:
        raise CheckpointError(str(error)) from None
    if not {"step", "data_position", "run", "files"} <= facts.keys():
        raise CheckpointError(f"{path / STATE} lacks step, data_position, run or files: not written by airlam parallel")
    return facts


def check_files(path: Path, facts: dict[str, Any], rank: int = 0, world: int = 1) -> None:
    """Compare a state's files with their SHA-256. Of ``world`` ranks each reads a part; all of them hear the result.

    Raises:
        CheckpointError: names the first file that is missing or damaged.
    """
    files = sorted(facts["files"].items())
    bad = []
    for name, stated in files[rank::world]:
        if not (path / name).is_file():
            bad.append(f"{name} is missing")
        elif file_hash(path / name) != stated:
            bad.append(f"{name} is damaged: its SHA-256 is not the one in {STATE}")
    every: list[Any] = [bad]
    if world > 1:
        every = [None] * world
        dist.all_gather_object(every, bad)
    if found := sorted(text for one in every for text in one):
        raise CheckpointError(f"{path}: {found[0]}; remove this folder, and the run goes on from an older state")


def index_of(path: Path) -> dict[str, Any]:
    """tensor -> what torch's index says of it. Call :func:`check_files` first."""
    return dict(dcp.FileSystemReader(path).read_metadata().state_dict_metadata)


def shapes_in(path: Path) -> dict[str, tuple[int, ...]]:
    """tensor of the model -> its shape, of those in a state."""
    model = {name: value for name, value in index_of(path).items() if name.startswith("model.")}
    return {name.removeprefix("model."): tuple(value.size) for name, value in model.items()}


def forget_older(folder: Path, keep: int) -> None:
    """Remove all but the newest ``keep`` states, and what an interrupted save left."""
    found = states(folder)
    for step in list(found)[:-keep]:
        remove_state(found[step])
    for path in (folder / "states").glob(".step_*"):
        shutil.rmtree(path, ignore_errors=True)


def write_checkpoint(run_folder: Path, part: Part) -> Path:
    """The model as a plain checkpoint folder, which ``airlam.load_predictor`` takes; all ranks call this together.

    Tensors go from the ranks' files into one safetensors file, so no rank holds the whole model.
    """
    from torch.distributed.checkpoint import HuggingFaceStorageWriter

    out, work = run_folder / "checkpoint", run_folder / ".checkpoint"
    if dist.get_rank() == 0:
        shutil.rmtree(work, ignore_errors=True)
        work.mkdir(parents=True)
    dist.barrier()
    state = {name.removeprefix("model."): _single(value) for name, value in held(part, None).items()}
    names: list[Any] = [None] * dist.get_world_size()
    dist.all_gather_object(names, sorted(state))
    every = sorted({name for one in names for name in one})
    writer = HuggingFaceStorageWriter(
        path=str(work),
        fqn_to_index_mapping=dict.fromkeys(every, 1),
        save_distributed=True,
        enable_consolidation=True,
    )
    dcp.save(state, storage_writer=writer)
    if dist.get_rank() == 0:
        _publish(work, out, part.model)
    dist.barrier()
    return out


def _single(value: Held) -> Held:
    """In single precision, whatever the run computes in."""
    return Held(value.tensor.float(), value.piece) if value.tensor.is_floating_point() else value


def _publish(work: Path, out: Path, model: AirlamModel) -> None:
    """The consolidated file and the configuration, put into place together."""
    (weights,) = [path for path in work.glob("*.safetensors")]
    config = model.config.to_dict() | {"architectures": ["AirlamModel"], CHECKSUM: file_hash(weights)}

    def write(folder: Path) -> dict[str, Any]:
        os.replace(weights, folder / "model.safetensors")
        return {key: value for key, value in config.items() if not key.startswith("_")}

    replace_files(out, write)
    if not (out / "README.md").exists():
        text = f"# A model trained by `airlam parallel`\n\nIts recipe: `../{RECIPE}`.\n"
        write_text(out / "README.md", f"{card_metadata(tags=('CSI', 'channel-prediction'))}\n\n{text}")
    shutil.rmtree(work, ignore_errors=True)


def total_norm(part: Part) -> float:
    """What this rank adds to the squared norm of the whole gradient: blocks that several ranks hold count once."""
    found = [
        local(parameter.grad).double().square().sum() / part.replicas[name]
        for name, parameter in part.model.named_parameters()
        if parameter.grad is not None
    ]
    return float(torch.stack(found).sum()) if found else 0.0
