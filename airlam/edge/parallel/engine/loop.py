"""Training from the last durable state to the last step: batches, log, progress, states, and the model at the end."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

from airlam.edge.parallel.engine.checkpoint import forget_older, states
from airlam.edge.parallel.engine.reporting import Reporter
from airlam.edge.parallel.engine.training import Training, data_module
from airlam.edge.parallel.launching.watchdog import Watchdog, waiting
from airlam.edge.parallel.layout import DIMS, Mesh
from airlam.edge.parallel.recipe import ParallelTraining, Shares
from airlam.errors import RecipeError


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
    training = begin(run, source, folder, found[max(found)] if found else None)
    with Reporter(watch, run, training.step) as report:
        while training.step < run.steps:
            if watch.begin(training.step):
                save(watch, training, run)
                return
            began = time.perf_counter()
            batch = training.batch(source)
            waited = time.perf_counter() - began
            record = training.train_step(batch)
            record.seconds["data"] = waited
            report.step(record)
            if run.validate_every and training.step % run.validate_every == 0:
                report.validated(training.step, training.validate(data.val_dataloader()))
            if training.step % run.checkpoint_every == 0 or training.step == run.steps:
                save(watch, training, run)
    training.write(folder)


def begin(run: ParallelTraining, source: Any, folder: Path, state: Path | None = None) -> Training:
    """The training of all weights, or of adapters.

    Args:
        source: of training batches. folder: of the run. state: to go on from; None: the start.
    """
    if run.adapter is None:
        return Training(run, state)
    from airlam.edge.parallel.adapters.training import AdapterTraining

    return AdapterTraining(run, source, folder, state)


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
    from airlam.edge.parallel.engine.building import check_mode

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
