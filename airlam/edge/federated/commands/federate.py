"""``airlam federate``: a run from a recipe, with progress, a state after each round, and its results."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from rich.console import Console

from airlam.edge.federated.commands.console import print_result, progress
from airlam.edge.federated.commands.results import LOCK, SUMMARY, check_results, forget, write_model
from airlam.edge.federated.engines.run import ENGINES, run_rounds
from airlam.edge.federated.learning.learner import Learner
from airlam.edge.federated.learning.sites import TEST, Places
from airlam.edge.federated.recipe.federation import Federation
from airlam.edge.federated.recipe.read import federated_recipe
from airlam.edge.federated.server.state import STATE, State
from airlam.errors import AirlamError, RecipeError
from airlam.io import inheritable_lock, results_folder, write_json
from airlam.metrics import cpu_threads
from airlam.models.split import check_split
from airlam.recipes import check_choice


def federate(
    config: str | Path,
    out: str | Path | None = None,
    *,
    engine: str = "in_process",
    resume: bool = False,
    overwrite: bool = False,
    **changes: Any,
) -> Path:
    """Run the federated fine-tuning that a YAML describes.

    Args:
        config: path or shipped name of a mapping with ``class_path: airlam.edge.federated.Federation`` and its
            ``init_args``. changes: init_args that replace those of the YAML.
        out: folder for the state, ``federated.json``, and ``adapters/`` or ``checkpoint/``; the default is
            ``outputs/federated``.
        engine: ``in_process``, ``simulation`` (Flower's, on Ray), ``deployment`` (Flower's, on this machine; see
            docs/deploy-federated.md).
        resume: go on after the last whole round. overwrite: forget an earlier run in ``out``.

    Returns:
        The folder.

    Raises:
        RecipeError: a key or value that does not exist. StoreError: ``out`` holds another run.
    """
    engines = (*ENGINES, "deployment")
    check_choice("engine", engine, engines)
    federation, _ = federated_recipe(config, changes)
    with results_folder(out if out is not None else "outputs/federated") as folder, only_run(folder) as lock:
        check_results(federation, folder, resume=resume, overwrite=overwrite)
        places = Places()
        check_startable(federation, engine, places)
        if not resume:
            forget(folder)
        _federate(federation, folder, engine, resume, lock, places)
    return folder


@contextlib.contextmanager
def only_run(folder: Path) -> Iterator[int]:
    """Hold the lock of ``folder``. It ends with this process and with the SuperLink and SuperNodes that it started.

    Raises:
        StoreError: another run holds it.
    """
    path = folder / LOCK
    path.touch()
    with inheritable_lock(path, by="a run, or the deployed processes of one that was killed") as lock:
        try:
            yield lock
        except BaseException:
            if list(folder.iterdir()) == [path]:  # it failed before anything was written or started
                path.unlink()
            raise


def _federate(federation: Federation, folder: Path, engine: str, resume: bool, lock: int, places: Places) -> None:
    console = Console()
    if resume and not (folder / STATE).exists():
        console.print(f"nothing to resume in {folder}: a new run", style="yellow", highlight=False, markup=False)
    with cpu_threads(federation.threads), progress(federation, console) as watch:
        if engine == "deployment":
            from airlam.edge.federated.engines.deployment import run_deployed

            state = run_deployed(federation, folder, resume=resume, watch=watch, lock=lock)
        else:
            state = run_rounds(federation, folder, engine=engine, resume=resume, watch=watch, places=places)
        console.print("testing on the held-out users of each site", style="dim")
        learner, tests = tested(federation, state, places)
    if all(record.used == 0 for record in state.rounds if record.number):
        raise AirlamError(
            f"no round could use any update, so nothing was trained and nothing is written; {folder / STATE} has the "
            "rounds, with sites in outage, lost, rejected: more bandwidth (cell), energy (max_joules) or devices help"
        )
    written = write_model(federation, learner, folder)
    write_json(
        folder / SUMMARY,
        {
            "federation": federation.config,
            "engine": engine,
            "rounds": [record.to_dict() for record in state.rounds],
            "figure": learner.objective.figure,
            "unit": learner.objective.unit,
            "test": tests,
        },
    )
    print_result(console, federation, state, learner, tests)
    console.print(f"\n{written} written", highlight=False, markup=False)


def check_startable(federation: Federation, engine: str, places: Places) -> None:
    """Load the model and draw every site once, so that errors come before an earlier run is deleted.

    Raises:
        RecipeError: the engine, the model or a site cannot be used.
    """
    f = federation
    if f.secure_aggregation and engine != "simulation":
        raise RecipeError("secure_aggregation runs in engine simulation alone: elsewhere it would average in the clear")
    learner = Learner(f, None if f.lora_rank is None else f.largest_rank)
    for number, spec in enumerate(f.site_specs):
        site = places.site(f, number)
        users = torch.arange(min(2, len(site.train)))
        site.measured(site.train, users, f.seed)
        if spec.mode == "split":
            check_split(learner.model.get_base_model(), spec.split_layers)
    learner.load(learner.start(), 1)
    if not math.isfinite(found := learner.validate(places.site(f, 0))):
        raise RecipeError(
            f"sites.{f.site_specs[0].label}: the model gives {found} for its validation users before training"
        )


def tested(federation: Federation, state: State, places: Places) -> tuple[Learner, dict[str, dict[str, float]]]:
    """The trained model, and the mean figure of each site's held-out users before and after: site -> when -> figure."""
    f = federation
    learner = Learner(f, None if f.lora_rank is None else f.largest_rank)
    learner.model.eval()
    found: dict[str, dict[str, float]] = {}
    for when, arrays in (("before", learner.start()), ("after", state.arrays)):
        learner.load(arrays, f.rounds + 1)
        for number, spec in enumerate(f.site_specs):
            site = places.site(f, number)
            figure = float(learner.objective.score(site, site.test, TEST, f.seed).mean())
            if not math.isfinite(figure):
                raise AirlamError(f"sites.{spec.label}: the held-out users' {learner.objective.figure} is {figure}")
            found.setdefault(spec.label, {})[when] = figure
    return learner, found
