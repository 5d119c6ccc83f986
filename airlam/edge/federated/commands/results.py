"""The files of ``airlam federate``: what may be overwritten, what is forgotten, what is written."""

from __future__ import annotations

import shutil
from pathlib import Path

from airlam.edge.federated.learning.learner import Learner
from airlam.edge.federated.recipe.federation import Federation
from airlam.edge.federated.server.state import STATE, State
from airlam.errors import StoreError
from airlam.models import save_checkpoint, save_lora
from airlam.models.comparators import Comparator, save_comparator

SUMMARY, LOCK = "federated.json", ".lock"
RESULTS = ("adapters", "checkpoint")


def check_results(federation: Federation, folder: Path, *, resume: bool, overwrite: bool) -> None:
    """Check that results can go into ``folder``, before anything in it is touched.

    Raises:
        StoreError: it holds another run, or files that are not of a federated run.
    """
    mine = (folder / STATE).exists() or (folder / SUMMARY).exists()
    if (folder / STATE).exists() and not resume and not overwrite:
        raise StoreError(f"{folder} holds a run already: go on with --resume, or forget it with --overwrite")
    if mine and not (folder / STATE).exists() and not overwrite:
        raise StoreError(f"{folder} holds the results of a run without its state: forget them with --overwrite")
    for name in RESULTS:
        if (folder / name).exists() and not mine:
            raise StoreError(f"{folder / name} is not of a federated run; name another folder with --out")
    model = federation.model
    if isinstance(model, str) and Path(model).expanduser().resolve().is_relative_to(folder.resolve()):
        raise StoreError(f"the model {model} lies in {folder}, where results will go; name another folder with --out")
    if resume and (folder / STATE).exists():
        done = State.load(folder, federation).done
        if done > federation.rounds:
            raise StoreError(f"{folder} holds {done} rounds, more than rounds = {federation.rounds}; ask for more")


def forget(folder: Path) -> None:
    """Delete an earlier run and its results, see :func:`check_results`: no result may stand beside another run."""
    for name in (STATE, SUMMARY):
        (folder / name).unlink(missing_ok=True)
    for name in RESULTS:
        shutil.rmtree(folder / name, ignore_errors=True)


def write_model(federation: Federation, learner: Learner, folder: Path) -> Path:
    """Write the adapters if nothing else changed, or else the whole checkpoint; the folder that was written."""
    f, model = federation, learner.model
    for name in RESULTS:  # of fewer rounds
        shutil.rmtree(folder / name, ignore_errors=True)
    if isinstance(model, Comparator):
        return save_comparator(model, folder / "checkpoint")
    if f.lora_rank is not None and not f.scheme.changes_weights:
        return save_lora(model, folder / "adapters")
    plain = model if f.lora_rank is None else model.merge_and_unload()
    return save_checkpoint(plain, folder / "checkpoint")
