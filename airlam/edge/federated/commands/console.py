"""What ``airlam federate`` prints: progress over rounds, and a table of what came out."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from airlam.edge.federated.learning.learner import Learner
from airlam.edge.federated.recipe.federation import Federation
from airlam.edge.federated.server.record import RoundRecord
from airlam.edge.federated.server.state import State, Watch


@contextlib.contextmanager
def progress(federation: Federation, console: Console) -> Iterator[Watch]:
    """A bar over rounds that shows the mean validation figure, and a line for each thing that went wrong."""
    columns = (
        TextColumn("round"),
        MofNCompleteColumn(),
        BarColumn(),
        TextColumn("{task.description}"),
        TextColumn("left"),
        TimeRemainingColumn(),
    )
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


def print_result(
    console: Console, federation: Federation, state: State, learner: Learner, tests: dict[str, dict[str, float]]
) -> None:
    """A table of the sites (figure before and after, costs), and lines on cost, aggregation and privacy."""
    objective, records = learner.objective, [r for r in state.rounds if r.number]
    table = Table(
        title=escape(f"{federation.label}, {len(records)} rounds"),
        title_justify="left",
        box=box.SIMPLE_HEAD,
        padding=(0, 1, 0, 0),
    )
    table.add_column("site", no_wrap=True)
    for name in ("before", "after", "gain", "MB down", "MB up", "air s", "compute s", "J"):
        table.add_column(name, justify="right", no_wrap=True)
    for number, spec in enumerate(federation.site_specs):
        before, after = tests[spec.label]["before"], tests[spec.label]["after"]
        took = [r.seconds.get(number, [0.0, 0.0, 0.0]) for r in records]
        sent = (sum(getattr(r, way).get(number, 0) for r in records) / 1e6 for way in ("down_bytes", "up_bytes"))
        gain = after - before if objective.larger else before - after
        costs = [
            *sent,
            sum(s[0] + s[2] for s in took),
            sum(s[1] for s in took),
            sum(r.joules.get(number, 0.0) for r in records),
        ]
        shown = ("-" if federation.secure_aggregation else f"{cost:.2f}" for cost in costs)
        table.add_row(escape(spec.label), f"{before:.2f}", f"{after:.2f}", f"{gain:+.2f}", *shown)
    console.print(table)
    figure = {"nmse_db": "mean NMSE of the held-out users [dB]"}.get(objective.figure, objective.unit)
    console.print(
        "rounds under secure aggregation are not priced"
        if federation.secure_aggregation
        else f"before, after: {figure}, measured; bytes measured; airtime, computation and energy modelled. "
        f"Rounds took {sum(r.delay for r in records):.1f} s in all (modelled). Validation between rounds sent "
        f"{sum(r.validation_bytes for r in state.rounds) / 1e6:.1f} MB, which are in none of these figures.",
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
    if records and records[-1].epsilon is not None and federation.protection:
        console.print(f"privacy: epsilon {records[-1].epsilon:.3g} at delta {federation.protection.delta:g} a device")
