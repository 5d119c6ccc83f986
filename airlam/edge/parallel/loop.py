"""Training from the last durable state to the last step: batches, log, progress, states, and the model at the end."""

from __future__ import annotations

import contextlib
import json
import math
import resource
import time
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn

from airlam.edge.parallel.checkpoint import forget_older, states, write_checkpoint
from airlam.edge.parallel.layout import DIMS, Mesh
from airlam.edge.parallel.recipe import ParallelTraining, Shares
from airlam.edge.parallel.training import StepRecord, Training, data_module
from airlam.edge.parallel.watchdog import Watchdog, waiting
from airlam.errors import RecipeError
from airlam.progress import ProgressLines

LOG = "log.jsonl"
DECIBELS = 10 / math.log(10)  # of a natural logarithm


def train(watch: Watchdog, run: ParallelTraining) -> None:
    """Train as one rank of ``watch``, from the newest durable state of the run's folder on."""
    torch.set_num_threads(run.threads)
    folder = watch.folder
    data = data_module(run)
    data.prepare_data()
    source = data.train_dataloader().source
    with waiting("the start of the others"):
        dist.barrier()
    found = states(folder)
    training = Training(run, found[max(found)] if found else None)
    with _reporter(watch, run, training) as report:
        while training.step < run.steps:
            if watch.begin(training.step):
                save(watch, training, run)
                return
            began = time.perf_counter()
            batch = source.batch(training.step) if training.engine.needs_tokens else None
            waited = time.perf_counter() - began
            record = training.train_step(batch)
            record.seconds["data"] = waited
            report(record)
            if training.step % run.checkpoint_every == 0 or training.step == run.steps:
                save(watch, training, run)
    write_checkpoint(folder, training.part)


def save(watch: Watchdog, training: Training, run: ParallelTraining) -> None:
    """A durable state; older ones go."""
    with waiting("the writing of a state"):
        training.save(watch.folder)
    if watch.rank == 0:
        forget_older(watch.folder, run.keep)
    watch.saved(training.step)


def fewer(run: ParallelTraining, left: list[int]) -> ParallelTraining:
    """The run for the ranks that are left, in the same mode where that is possible.

    Args:
        left: numbers of the ranks that are left, of those the run was written for.

    Raises:
        RecipeError: no mode fits.

    Example:
        >>> task = {"class_path": "airlam.tasks.Pretraining"}
        >>> run = ParallelTraining(task, "tiny", nproc=3, shares=Shares(data=[2, 1, 1]))
        >>> fewer(run, [0, 2]).shares.data
        [2, 1]
    """
    from airlam.edge.parallel.building import check_mode

    count = len(left)
    devices = None if run.devices is None else [run.devices[rank] for rank in left]
    dims = [name for name in DIMS if run.ranks.sizes[name] > 1] or ["data"]
    candidates: list[ParallelTraining] = []
    given: dict[str, Any] = {"nproc": count, "devices": devices, "shard": run.shard and count > 1}
    if run.mode != "hybrid":
        old = getattr(run.shares, dims[0])
        kept = None if old is None else [old[rank] for rank in left]
        candidates.append(replace(run, **given, shares=Shares(**{dims[0]: kept})))
    else:
        for first in range(count, 0, -1):
            if count % first == 0:
                mesh = Mesh(**{dims[0]: first, dims[1]: count // first})
                candidates.append(replace(run, **given, mesh=mesh, shares=Shares()))
    candidates.append(replace(run, **given, mode="data", mesh=None, shares=Shares()))
    why = ""
    for candidate in candidates:
        try:
            check_mode(candidate)
            return candidate
        except RecipeError as error:
            why = why or str(error)
    raise RecipeError(f"the {count} ranks that are left cannot train this model: {why}")


@contextlib.contextmanager
def _reporter(watch: Watchdog, run: ParallelTraining, training: Training) -> Iterator[Any]:
    """What is called after every step: a line of the log, TensorBoard, and a bar, all written by rank 0."""
    if watch.rank:
        yield lambda record: _exchange(run, record)
        return
    from torch.utils.tensorboard import SummaryWriter

    columns = (
        TextColumn("step"),
        MofNCompleteColumn(),
        BarColumn(),
        TextColumn("{task.description}"),
        TextColumn("left"),
        TimeRemainingColumn(),
    )
    board = SummaryWriter(str(watch.folder / "tensorboard"), purge_step=training.step)
    with ProgressLines(*columns, console=Console()) as bar, open(watch.folder / LOG, "a", encoding="utf-8") as log:
        task = bar.add_task("", total=run.steps, completed=training.step)

        def report(record: StepRecord) -> None:
            text = f"NMSE {DECIBELS * record.loss:.2f} dB"
            bar.update(task, completed=record.step, description=text)
            ranks = _exchange(run, record)
            if ranks is None:
                return
            entry = {"step": record.step, "nmse_db": DECIBELS * record.loss, "norm": record.norm, "rate": record.rate}
            log.write(json.dumps(entry | {"ranks": ranks}) + "\n")
            log.flush()
            for name, value in entry.items():
                board.add_scalar(f"train/{name}", value, record.step)
            for one in ranks:
                board.add_scalar(f"memory_mb/rank_{one['rank']}", one["peak_memory_bytes"] / 1e6, record.step)

        try:
            yield report
        finally:
            board.close()


def _exchange(run: ParallelTraining, record: StepRecord) -> list[dict[str, Any]] | None:
    """What every rank did, every ``log_every`` steps; these bytes are not counted."""
    if record.step % run.log_every and record.step != run.steps:
        return None
    mine = {
        "rank": dist.get_rank(),
        **{key: value for key, value in asdict(record).items() if key in ("links", "bytes", "seconds")},
        "peak_memory_bytes": peak_memory(),
    }
    ranks: list[Any] = [None] * dist.get_world_size()
    with waiting("the log"):
        dist.all_gather_object(ranks, mine)
    return ranks


def peak_memory() -> int:
    """Most bytes that this process ever had in memory."""
    return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def read_log(folder: str | Path) -> list[dict[str, Any]]:
    """The lines of a run's log; of a step that was done again after a fault the last one."""
    lines = (json.loads(line) for line in (Path(folder) / LOG).read_text(encoding="utf-8").splitlines() if line.strip())
    return list({line["step"]: line for line in lines}.values())
