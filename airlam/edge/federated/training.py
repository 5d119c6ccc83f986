"""``airlam federate``: a run from a recipe, with progress, a state after each round, and what came out."""

from __future__ import annotations

import contextlib
import math
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from rich import box
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from airlam.data.generation import locked
from airlam.edge.federated.engines import ENGINES, run_rounds
from airlam.edge.federated.federation import DENSE, Federation
from airlam.edge.federated.learner import Learner, learner_for
from airlam.edge.federated.planning import federated_recipe
from airlam.edge.federated.rounds import RoundRecord
from airlam.edge.federated.server_app import STATE, State, Watch
from airlam.edge.federated.sites import TEST, make_site
from airlam.edge.federated.strategies import make_strategy
from airlam.interfaces import AirlamError, RecipeError, StoreError
from airlam.io import check_folder, write_json
from airlam.metrics import cpu_threads
from airlam.models import save_checkpoint, save_lora
from airlam.models.comparators import Comparator, save_comparator
from airlam.models.split import check_split
from airlam.recipes import check_choice

SUMMARY, LOCK = "federated.json", ".lock"
RESULTS = ("adapters", "checkpoint")


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
    folder = check_folder(out if out is not None else "outputs/federated")
    with only_run(folder) as lock:
        check_results(federation, folder, resume=resume, overwrite=overwrite)
        check_startable(federation, engine)
        if not resume:
            forget(folder)
        _federate(federation, folder, engine, resume, lock)
    return folder


@contextlib.contextmanager
def only_run(folder: Path) -> Iterator[int]:
    """Nobody else runs in ``folder``; the lock dies with this process, and with SuperLink and SuperNodes that it
    started."""
    path = folder / LOCK
    path.touch()
    with locked(path, "a run, or the deployed processes of one that was killed") as lock:
        yield lock


def _federate(federation: Federation, folder: Path, engine: str, resume: bool, lock: int) -> None:
    console = Console()
    if resume and not (folder / STATE).exists():
        console.print(f"nothing to resume in {folder}: a new run", style="yellow", highlight=False, markup=False)
    with cpu_threads(federation.threads), progress(federation, console) as watch:
        if engine == "deployment":
            from airlam.edge.federated.deployment import run_deployed

            state = run_deployed(federation, folder, resume=resume, watch=watch, lock=lock)
        else:
            state = run_rounds(federation, folder, engine=engine, resume=resume, watch=watch)
        console.print("the held-out users of each site judge it", style="dim")
        learner, tests = judged(federation, state)
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
    _print(console, federation, state, learner, tests)
    console.print(f"\n{written} written", highlight=False, markup=False)


def check_results(federation: Federation, folder: Path, *, resume: bool, overwrite: bool) -> None:
    """Errors before anything in ``folder`` is touched."""
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
    """Take away an earlier run and its results, see :func:`check_results`: no result stands beside another run."""
    for name in (STATE, SUMMARY):
        (folder / name).unlink(missing_ok=True)
    for name in RESULTS:
        shutil.rmtree(folder / name, ignore_errors=True)


def check_startable(federation: Federation, engine: str) -> None:
    """What clients would only say one by one, said before an earlier run is forgotten: model, strategy, sites."""
    f = federation
    if f.secure_aggregation and engine != "simulation":
        raise RecipeError("secure_aggregation runs in engine simulation alone: elsewhere it would average in the clear")
    make_strategy(f)
    learner = learner_for(f, None if f.lora_rank is None else f.largest_rank)
    for number, spec in enumerate(f.sites):
        site = make_site(f, number)
        users = torch.arange(min(2, len(site.train)))
        site.measured(site.train, users, f.seed)
        if spec.mode == "split":
            check_split(learner.model.get_base_model(), spec.split_layers)
    learner.load(learner.start(), 1)
    if not math.isfinite(found := learner.validate(make_site(f, 0))):
        raise RecipeError(f"sites.{f.sites[0].label}: the model gives {found} for its validation users before training")


def judged(federation: Federation, state: State) -> tuple[Learner, dict[str, dict[str, float]]]:
    """The trained model, and of each site's held-out users the mean figure before and after."""
    f = federation
    learner = Learner(f, None if f.lora_rank is None else f.largest_rank)
    learner.model.eval()
    found: dict[str, dict[str, float]] = {}
    for when, arrays in (("before", learner.start()), ("after", state.arrays)):
        learner.load(arrays, f.rounds + 1)
        for number, spec in enumerate(f.sites):
            site = make_site(f, number)
            figure = float(learner.objective.judge(site, site.test, TEST, f.seed).mean())
            if not math.isfinite(figure):
                raise AirlamError(f"sites.{spec.label}: the held-out users' {learner.objective.figure} is {figure}")
            found.setdefault(spec.label, {})[when] = figure
    return learner, found


def write_model(federation: Federation, learner: Learner, folder: Path) -> Path:
    """Adapters alone where nothing else changed, or else the whole checkpoint: both load by their folder's name."""
    f, model = federation, learner.model
    for name in RESULTS:  # of fewer rounds
        shutil.rmtree(folder / name, ignore_errors=True)
    if isinstance(model, Comparator):
        return save_comparator(model, folder / "checkpoint")
    if f.lora_rank is not None and f.aggregation not in DENSE:
        return save_lora(model, folder / "adapters")
    plain = model if f.lora_rank is None else model.merge_and_unload()
    return save_checkpoint(plain, folder / "checkpoint")


@contextlib.contextmanager
def progress(federation: Federation, console: Console) -> Iterator[Watch]:
    """A bar over rounds that shows the mean figure, and a line for whatever went wrong."""
    columns = (
        TextColumn("round"), MofNCompleteColumn(), BarColumn(), TextColumn("{task.description}"),
        TextColumn("left"), TimeRemainingColumn(),
    )  # fmt: skip
    with Progress(*columns, console=console) as bar:
        task = bar.add_task("", total=federation.rounds)

        def watch(record: RoundRecord) -> None:
            figure = record.mean_figure
            text = "" if figure is None else f"validation {figure:.2f}"
            bar.update(task, completed=record.number, description=text or bar.tasks[0].description)
            for line in troubles_of(record):  # a Text: what nodes said is no markup
                bar.console.print(Text(f"round {record.number}: {line}", style="yellow"))

        yield watch


def troubles_of(record: RoundRecord) -> list[str]:
    """What went wrong in a round, one line each."""
    lines = []
    for label, why in {**record.lost, **record.rejected}.items():
        lines.append(f"{label} {'rejected' if label in record.rejected else 'lost'} ({why})")
    if record.outage:
        lines.append(f"in outage: {', '.join(record.outage)}")
    return lines + record.notes + [f"a site is missing ({why})" for why in record.strays]


def _print(
    console: Console, federation: Federation, state: State, learner: Learner, tests: dict[str, dict[str, float]]
) -> None:
    """Site by site, and what it cost."""
    objective, records = learner.objective, [r for r in state.rounds if r.number]
    table = Table(title=escape(f"{federation.label}, {len(records)} rounds"), title_justify="left", box=box.SIMPLE_HEAD,
                  padding=(0, 1, 0, 0))  # fmt: skip
    table.add_column("site", no_wrap=True)
    for name in ("before", "after", "gain", "MB down", "MB up", "air s", "compute s", "J"):
        table.add_column(name, justify="right", no_wrap=True)
    for number, spec in enumerate(federation.sites):
        before, after = tests[spec.label]["before"], tests[spec.label]["after"]
        took = [r.seconds.get(number, [0.0, 0.0, 0.0]) for r in records]
        sent = (sum(getattr(r, way).get(number, 0) for r in records) / 1e6 for way in ("down_bytes", "up_bytes"))
        gain = after - before if objective.larger else before - after
        costs = [*sent, sum(s[0] + s[2] for s in took), sum(s[1] for s in took),
                 sum(r.joules.get(number, 0.0) for r in records)]  # fmt: skip
        shown = ("-" if federation.secure_aggregation else f"{cost:.2f}" for cost in costs)
        table.add_row(escape(spec.label), f"{before:.2f}", f"{after:.2f}", f"{gain:+.2f}", *shown)
    console.print(table)
    figure = {"nmse_db": "mean NMSE of the held-out users [dB]"}.get(objective.figure, objective.unit)
    console.print(
        "rounds under secure aggregation are not priced"
        if federation.secure_aggregation
        else f"before, after: {figure}, measured; bytes measured; airtime, computation and energy modelled. "
        f"Rounds took {sum(r.delay for r in records):.1f} s in all (modelled). The looks at validation users between "
        f"rounds sent {sum(r.look_bytes for r in state.rounds) / 1e6:.1f} MB, which are in none of these figures.",
        style="dim",
        markup=False,
    )
    naive = [r.naive_error for r in records if r.naive_error is not None]
    errors = [r.aggregation_error for r in records if r.naive_error is not None]
    if naive:
        console.print(
            f"averaging A and B by themselves would miss {100 * naive[0]:.1f} % of the first round's change, "
            f"{100 * naive[-1]:.1f} % of the last one's; {federation.aggregation} missed "
            f"{100 * (errors[0] or 0):.2g} and {100 * (errors[-1] or 0):.2g} %",
            style="dim",
        )
    if records and records[-1].epsilon is not None and federation.privacy:
        console.print(f"privacy: epsilon {records[-1].epsilon:.3g} at delta {federation.privacy['delta']:g} a device")
