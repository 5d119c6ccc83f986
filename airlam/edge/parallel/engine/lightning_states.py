"""States of parallel runs and Lightning's ``.ckpt`` files, one into the other: weights, moments, step, data position.

``airlam fit --ckpt_path FILE`` goes on where a parallel run was, and a parallel run where ``airlam fit`` was. One
process does it, and holds the whole model: a Lightning checkpoint is one file.
"""

from __future__ import annotations

import contextlib
import importlib.metadata
import shutil
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import lightning as L
import torch
import torch.distributed.checkpoint as dcp
from torch import Tensor

from airlam.edge.parallel.engine.building import empty_task
from airlam.edge.parallel.engine.checkpoint import (
    MOMENTS,
    check_files,
    index_of,
    publish_state,
    read_facts,
    state_folder,
    states,
)
from airlam.edge.parallel.recipe import ParallelTraining, run_from_dict
from airlam.errors import CheckpointError, RecipeError
from airlam.io import file_hash, replacing
from airlam.models.checkpoint import compare_shapes
from airlam.tasks.lightning_files import read_lightning
from airlam.tasks.optimisation import adamw_with_warmup

PREFIX = "model."  # of the model's tensors in a task, and in a state


def to_lightning(folder: Path, out: Path, step: int | None = None) -> Path:
    """Write a state of a run as a Lightning checkpoint.

    Args:
        folder: of the run. step: of the state; None: the newest one.

    Raises:
        CheckpointError: no such state, or a damaged one. RecipeError: a run without AdamW, which ``airlam fit`` has.
    """
    found = states(folder)
    if not found or (step is not None and step not in found):
        have = ", ".join(map(str, found)) or "none"
        raise CheckpointError(
            f"{folder} has no state{'' if step is None else f' of step {step}'}; steps it has: {have}"
        )
    path = found[max(found) if step is None else step]
    facts = read_facts(path)
    check_files(path, facts)
    run = run_from_dict(facts["run"])
    if run.optimiser != "adamw":
        raise RecipeError(
            f"{folder} was trained with optimiser {run.optimiser}, but 'airlam fit' goes on with adamw only"
        )
    _check_whole(run)
    tensors = {name: torch.empty(entry.size, dtype=entry.properties.dtype) for name, entry in index_of(path).items()}
    with _alone():
        dcp.load(tensors, checkpoint_id=path, no_dist=True)
    task, steps, position = empty_task(run), int(facts["step"]), int(facts["data_position"])
    optimizer, schedule = _optimiser(task, run, steps, tensors)
    trainer = _trainer(steps, position, _batches_per_epoch(run))
    saved = {
        "epoch": trainer.current_epoch,
        "global_step": trainer.global_step,
        "pytorch-lightning_version": L.__version__,
        "state_dict": {name: value for name, value in tensors.items() if name.startswith(PREFIX)},
        "loops": {"fit_loop": trainer.fit_loop.state_dict()},
        "callbacks": {},
        "optimizer_states": [optimizer],
        "lr_schedulers": [schedule],
        "hparams_name": "kwargs",
        "hyper_parameters": {"_class_path": run.task["class_path"], **_arguments(task)},
        "CSIDataModule": {"train": {"position": position}},
    }
    with replacing(out) as work:
        torch.save(saved, work)
    return out


def from_lightning(path: Path, folder: Path, run: ParallelTraining) -> Path:
    """Write a Lightning checkpoint of ``airlam fit`` as the state from which a run starts.

    Learning rate, number of steps and objective are those of ``run``.

    Args:
        path: the ``.ckpt`` file. folder: of the run.

    Returns:
        The folder of the state.

    Raises:
        CheckpointError: damaged, of another model, or without the state of its optimiser. RecipeError: it has done all
            steps of the run.
    """
    _check_whole(run)
    saved = read_lightning(str(path))
    state = saved.get("current_model_state", saved["state_dict"])  # of a weight average, the weights behind it
    model = empty_task(run).model
    assert isinstance(model, torch.nn.Module)
    expected = {f"{PREFIX}{name}": tuple(value.shape) for name, value in model.state_dict().items()}
    compare_shapes(path, {name: tuple(value.shape) for name, value in state.items()}, expected)
    tensors, step = dict(state), saved.get("global_step")
    if not isinstance(step, int) or step < 0:
        raise CheckpointError(f"{path} has no global_step")
    if step >= run.steps:
        raise RecipeError(f"{path} has {step} steps behind it, but the run has {run.steps}; take more: --steps")
    if run.optimiser == "adamw":
        tensors |= _moments(path, saved, model)
    position = saved.get("CSIDataModule", {}).get("train", {}).get("position", step)
    final = state_folder(folder, step)
    work = final.with_name(f".{final.name}")
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    with _alone():
        dcp.save(tensors, checkpoint_id=work, no_dist=True)
    versions = {name: importlib.metadata.version(name) for name in ("airlam", "torch")}
    facts = {"run": run.to_dict(), "data_position": int(position), "seed": run.seed, "versions": versions, "world": 1}
    hashes = {file.name: file_hash(file) for file in work.glob("*.distcp")}
    publish_state(work, final, hashes, step, {**facts, "source": str(path)})
    return final


def ordered_names(model: torch.nn.Module, optimizer: torch.optim.Optimizer) -> list[str]:
    """Names of the parameters in the order in which an optimiser's state numbers them.

    Example:
        >>> layer = torch.nn.Linear(2, 2)
        >>> ordered_names(layer, torch.optim.SGD([{"params": [layer.bias]}, {"params": [layer.weight]}]))
        ['bias', 'weight']
    """
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    return [names[id(parameter)] for group in optimizer.param_groups for parameter in group["params"]]


def _check_whole(run: ParallelTraining) -> None:
    if run.adapter is not None:
        raise RecipeError(
            "a run with an adapter keeps the adapter only in its states; 'airlam fit' has lora_rank instead"
        )


@contextlib.contextmanager
def _alone() -> Iterator[None]:
    """torch says that it works in a single process, even where it was told to."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="torch.distributed is disabled")
        yield


def _made(task: L.LightningModule, run: ParallelTraining) -> tuple[torch.optim.Optimizer, Any]:
    h = {name: task.hparams[name] for name in ("learning_rate", "weight_decay", "warmup_steps")}
    made = adamw_with_warmup(task.model, **h, total_steps=run.steps)  # type: ignore[arg-type]
    return made["optimizer"], made["lr_scheduler"]["scheduler"]


def _optimiser(
    task: L.LightningModule, run: ParallelTraining, steps: int, tensors: dict[str, Tensor]
) -> tuple[dict[str, Any], dict[str, Any]]:
    """State of AdamW and of its schedule after some steps, as Lightning keeps them."""
    optimizer, schedule = _made(task, run)
    schedule.last_epoch, schedule._step_count = steps, steps + 1
    rates = [peak * factor(steps) for peak, factor in zip(schedule.base_lrs, schedule.lr_lambdas, strict=True)]
    schedule._last_lr = rates
    for group, rate in zip(optimizer.param_groups, rates, strict=True):
        group["lr"] = rate
    names = ordered_names(task.model, optimizer)  # type: ignore[arg-type]
    kept = optimizer.state_dict()
    kept["state"] = {
        number: {key: tensors[f"optimizer.{name}.{key}"] for key in ("step", *MOMENTS)}
        for number, name in enumerate(names)
        if f"optimizer.{name}.step" in tensors
    }
    return kept, schedule.state_dict()


def _moments(path: Path, saved: dict[str, Any], model: torch.nn.Module) -> dict[str, Tensor]:
    """``optimizer.NAME.MOMENT`` from the state of ``airlam fit``'s optimiser."""
    arguments = {"learning_rate": 1.0, "weight_decay": 0.0, "warmup_steps": 1, "total_steps": 1}
    names = ordered_names(model, adamw_with_warmup(model, **arguments)["optimizer"])  # type: ignore[arg-type]
    every = saved.get("optimizer_states")
    if not isinstance(every, list) or len(every) != 1 or not isinstance(every[0].get("state"), dict):
        raise CheckpointError(
            f"{path} holds no optimiser's state (it was saved with save_weights_only); start from its weights instead: "
            "airlam export makes a checkpoint of them, and --checkpoint names it"
        )
    state, shapes = every[0]["state"], {name: value.shape for name, value in model.named_parameters()}
    if not state:  # before the first step
        return {}
    found = {}
    for number, name in enumerate(names):
        entry = state.get(number)
        if entry is None or any(entry[key].shape != shapes[name] for key in MOMENTS):
            raise CheckpointError(
                f"{path}: the optimiser's state does not fit {name}; it trained other parameters than this run"
            )
        found |= {f"optimizer.{name}.{key}": torch.as_tensor(entry[key]) for key in ("step", *MOMENTS)}
    return found


def _arguments(task: L.LightningModule) -> dict[str, Any]:
    """Hyperparameters that make the task again; the model is described in full."""
    return {key: value for key, value in dict(task.hparams).items() if not key.startswith("_")} | {"checkpoint": None}


def _batches_per_epoch(run: ParallelTraining) -> int:
    from airlam.edge.parallel.engine.training import data_module

    data = data_module(run)
    data.prepare_data()
    return len(data.train_dataloader())


def _trainer(steps: int, position: int, length: int) -> L.Trainer:
    """A trainer whose counters stand where Lightning saves after some steps: in a batch that is not yet completed."""
    trainer = L.Trainer(accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False)
    before = max(0, position - 1) // length  # whole epochs
    within = position - before * length
    loop = trainer.fit_loop
    epochs, batches = loop.epoch_progress, loop.epoch_loop.batch_progress
    for counter in (epochs.total, epochs.current):
        counter.ready = counter.started = before + 1
        counter.processed = counter.completed = before
    optimiser = loop.epoch_loop.automatic_optimization.optim_progress.optimizer
    stepped = (optimiser.step, optimiser.zero_grad, loop.epoch_loop.scheduler_progress)
    for progress, done in ((batches, position), *((one, steps) for one in stepped)):
        _set(progress.total, done)
        _set(progress.current, min(done, within))
    batches.total.completed, batches.current.completed = max(0, position - 1), max(0, within - 1)
    batches.is_last_batch = within == length
    loop.epoch_loop._batches_that_stepped = max(0, steps - 1)
    return trainer


def _set(counter: Any, done: int) -> None:
    for name in ("ready", "started", "processed", "completed"):
        if hasattr(counter, name):
            setattr(counter, name, done)
