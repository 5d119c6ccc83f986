"""``airlam parallel``: a recipe and a folder become a launched run, or one that goes on."""

from __future__ import annotations

import os
import shlex
import shutil
import sys
from pathlib import Path
from typing import Any

from airlam.edge.parallel.launching.launch import Launch, Outcome, launch
from airlam.edge.parallel.launching.store import listen
from airlam.edge.parallel.recipe import RECIPE, ParallelTraining, parallel_recipe
from airlam.errors import CheckpointError, RecipeError, StoreError
from airlam.io import read_json, results_folder, write_json

OUT = "outputs/parallel"
RESULTS = (
    "states",
    "checkpoint",
    "cache",
    "logs",
    "tensorboard",
    "workers",
    "log.jsonl",
    "validation.jsonl",
    "events.jsonl",
    RECIPE,
)
"""What a run writes into its folder; a new run there deletes it."""
SAME = ("task", "data", "checkpoint", "adapter", "loops", "optimiser", "clip", "precision", "seed")
"""What must not change when a run goes on. Mode, ranks and shares may: a state loads in any of them."""
BENCHMARK = "tasks/channel_prediction/benchmark.yaml"
WORKER = (sys.executable, "-m", "airlam.edge.parallel.worker")


def check_mode(run: ParallelTraining) -> None:
    """Raises RecipeError where the model or a batch cannot be shared out as the run says."""
    from airlam.edge.parallel.engine import building

    building.check_mode(run)


def parallel(
    config: str | Path,
    out: str | Path | None = None,
    *,
    again: str = "",
    resume: bool = False,
    overwrite: bool = False,
    prepare: bool = False,
    from_lightning: str | Path | None = None,
    port: int = 0,
    **changes: Any,
) -> Outcome:
    """Train one model with several processes of this machine, as a recipe says.

    Args:
        config: path or shipped name of a recipe, see :class:`~airlam.edge.parallel.recipe.ParallelTraining`.
            changes: arguments that replace those of the recipe.
        out: run folder; the default is ``outputs/parallel``. again: the command line that goes on, for messages.
        resume: go on from the last durable step. overwrite: forget an earlier run in ``out``.
        prepare: only write the folder, for torchrun on several hosts (docs/deploy-parallel.md).
        from_lightning: a ``.ckpt`` of ``airlam fit`` to go on from: weights, moments, step, place in the data.
        port: of the rendezvous store on this machine; 0 takes a free one.

    Returns:
        How it ended.

    Raises:
        RecipeError: a key or value that does not exist, or a run of other data or another model is to go on.
        StoreError: ``out`` holds another run. CheckpointError: ``from_lightning`` does not fit the run.
    """
    if resume and from_lightning is not None:
        raise RecipeError("--resume goes on with the run in the folder, --from-lightning begins one: give one of them")
    run = parallel_recipe(config, changes)
    if run.replanning is not None:
        from airlam.edge.parallel.planning.replan import resolved

        run = resolved(run)
    if from_lightning is not None and not Path(from_lightning).is_file():
        raise CheckpointError(f"no checkpoint file {from_lightning}; --from-lightning takes a .ckpt of 'airlam fit'")
    with results_folder(out if out is not None else OUT) as folder:
        return _train(run, folder, again, resume, overwrite, prepare, from_lightning, port)


def _train(
    run: ParallelTraining,
    folder: Path,
    again: str,
    resume: bool,
    overwrite: bool,
    prepare: bool,
    from_lightning: str | Path | None,
    port: int,
) -> Outcome:
    """:func:`parallel` with a recipe that was read and a folder that is there."""
    what = Launch(
        folder,
        WORKER,
        run.device_names,
        resume=again or "call it again with resume",
        port=port,
        timeout=run.timeout,
        start_timeout=max(300.0, run.timeout),
    )
    check_mode(run)
    check_earlier(run, folder, resume=resume, overwrite=overwrite)
    if not prepare:
        listen(port=port).close()  # a port in use is found before anything is written
    prepare_data(run)
    work = folder / ".from-lightning"
    shutil.rmtree(work, ignore_errors=True)
    if from_lightning is not None:  # may be refused: before anything is forgotten
        from airlam.edge.parallel.engine.lightning_states import from_lightning as convert

        convert(Path(from_lightning), work, run)
    if not resume:
        forget(folder)
    if work.is_dir():
        os.replace(work / "states", folder / "states")
        work.rmdir()
    write_json(folder / RECIPE, run.to_dict())
    if prepare:
        return Outcome(0, f"{folder} is ready; on each host: torchrun ... -m airlam.edge.parallel.worker {folder}")
    outcome = launch(what)
    if outcome.code == 0:
        written = folder / "checkpoint"
        print(f"written to {written}", flush=True)
        print(f"try next: airlam evaluate --config {BENCHMARK} --model {shlex.quote(str(written))}", flush=True)
    return outcome


def prepare_data(run: ParallelTraining) -> None:
    """Generate the data set if it is not there yet: once, before any rank waits for it.

    Raises:
        RecipeError: there is no such data set.
    """
    from airlam.edge.parallel.engine.training import data_module

    data_module(run).prepare_data()


def check_earlier(run: ParallelTraining, folder: Path, *, resume: bool, overwrite: bool) -> None:
    """Refuse to mix runs.

    Raises:
        StoreError: the folder holds a run, and neither ``resume`` nor ``overwrite`` was said. RecipeError: the run
            that is to go on trained another model, or on other data.
    """
    if resume and overwrite:
        raise RecipeError("--resume goes on with the run in the folder, --overwrite forgets it: give one of them")
    if not (folder / RECIPE).is_file():
        if resume:
            print(f"nothing to resume in {folder}: a new run", file=sys.stderr)
        return
    if not (resume or overwrite):
        raise StoreError(f"{folder} holds a run; --resume goes on with it, --overwrite forgets it, --out names another")
    if resume:
        before, now = read_json(folder / RECIPE), run.to_dict()
        for name in SAME:
            if before.get(name) != now.get(name):
                raise RecipeError(
                    f"{name} is not that of the run in {folder}, which cannot go on with it; keep it, or begin a new "
                    "run with --overwrite or --out"
                )
        from airlam.edge.parallel.engine.checkpoint import states

        done = max(states(folder), default=0)
        if done > run.steps:
            raise RecipeError(
                f"the run in {folder} has {done} steps behind it, but steps is {run.steps}; take more: --steps"
            )


def forget(folder: Path) -> None:
    """Delete an earlier run and its results."""
    for name in RESULTS:
        path = folder / name
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)
