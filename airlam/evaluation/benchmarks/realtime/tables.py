"""Rows, tables and texts of the report on predictions that arrive in time."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from airlam.evaluation.benchmarks.realtime.config import LATEST_S, STREAM, RealtimeArguments
from airlam.evaluation.engine import statistics
from airlam.evaluation.engine.summarise import age_rows
from airlam.evaluation.report.markdown import write_tables
from airlam.evaluation.report.style import look, order, title
from airlam.evaluation.report.verdicts import verdict
from airlam.evaluation.results import SE, CellRecord, file_names, group_of
from airlam.evaluation.rows import Figure, Results, Row
from airlam.methods import names
from airlam.metrics import latency_charged_se


def make_results(config: RealtimeArguments, records: list[CellRecord], timing: CellRecord) -> Results:
    """Rows, tables, headline and notes, from the records of cells and that of all latencies."""
    for record in records:
        record.add(*timing.series)
    results = Results(config.title, "realtime", config=config.plain())
    results.cells = file_names([*records, timing])
    for record in records:
        results.rows += rows_of(record, config)
    results.recipes = {record.cell["data"]: record.cell["recipe"] for record in records}
    results.extras = {
        "focus": config.label + STREAM,
        "bar": config.bar,
        "tables": [table(record, results.rows, config) for record in records],
        "compared": compared(config, results.recipes),
        "details": compared(config, results.recipes),
    }
    results.headline = headline(results.rows, config)
    results.notes = [
        "Sum spectral efficiency is measured for every slot after the newest measured one; what a latency costs is "
        "modelled from it: a prediction that takes L serves the slots that follow L, until the next is ready.",
        "Latencies are measured: all methods in turn on one core and one thread, medians over rounds. A stream's is "
        "that of a push between two refreshes.",
        "Intervals: 95 %, bootstrap over drops; differences are paired on the same links and noise.",
    ]
    return results


def rows_of(record: CellRecord, config: RealtimeArguments) -> list[Row]:
    """A row for each method: its curve over latency, and what it is worth at its own, with paired differences."""
    rows = age_rows(record, config.bar, csi_period=config.csi_period)
    per, worth = group_of(record.cell["users"][0]), {}
    drop = record.drop(per)
    for row in rows:
        at = charged(record, row.method, config)
        if at is not None:
            worth[row.method] = at
            row.figures["charged"] = replace(statistics.mean_figure(at, drop, SE), kind="modelled")
        if record.find(row.method, "nmse_steps"):
            nmse = record.values(row.method, "nmse_steps")[:, : config.csi_period].mean(1)
            row.figures["nmse_db"] = statistics.db_figure(nmse, record.drop())
        for name, metric, unit in (("ratio", "latency_ratio", "1"), ("refresh_ms", "refresh_ms", "ms")):
            if (value := record.number(row.method, metric)) is not None:
                row.figures[name] = Figure(value, unit, "measured")
    for row in rows:
        for name, other in (("over_bar", config.bar), ("over_classic", best_classic(worth))):
            if row.method in worth and other in worth and other != row.method:
                gain = statistics.gain(worth[row.method], worth[other], drop, SE)
                row.figures[name] = replace(gain, kind="modelled", note=other)
    return rows


def charged(record: CellRecord, method: str, config: RealtimeArguments) -> Tensor | None:
    """Sum-SE ``[group]`` at the method's own median latency; ``None`` where that is beyond what was judged."""
    steps = record.values(method, "sum_se_steps", group_of(record.cell["users"][0]))
    p50, slot = record.number(method, "latency_p50_ms"), record.cell["recipe"]["slot_duration"]
    if method == "perfect":
        p50 = 0.0
    if p50 is None or p50 > 1e3 * LATEST_S:
        return None
    return latency_charged_se(
        steps, torch.tensor(1e-3 * p50, dtype=torch.float64), slot_duration=slot, csi_period=config.csi_period
    )


def best_classic(worth: dict[str, Tensor]) -> str | None:
    """Of the classical methods, streams or not, the one that is worth most."""
    classical = names(kind="classical")
    classics = [name for name in worth if name.removesuffix(STREAM) in classical]
    return max(classics, key=lambda name: float(worth[name].mean()), default=None)


def table(record: CellRecord, rows: list[Row], config: RealtimeArguments) -> dict[str, Any]:
    """Of one cell: every method with its latency and what it is worth."""
    here = {r.method: r for r in rows if (r.data, r.speed_kmh) == (record.cell["data"], record.cell["speed_kmh"])}
    lines = []
    for method in order(list(here)):
        figures = here[method].figures
        p50, p99 = figures.get("latency_p50_ms"), figures.get("latency_p99_ms")
        lines.append(
            [
                look(method).label,
                "" if p50 is None or p99 is None else f"{p50.number:.3g} / {p99.number:.3g}",
                _number(figures.get("ratio"), ".2f"),
                _number(figures.get("nmse_db"), ".2f"),
                _with_interval(figures.get("charged"), "") or ("too late" if p50 is not None else ""),
                _with_interval(figures.get("over_bar")),
                _with_interval(figures.get("over_classic")),
                here[method].settings.get("break_even", ""),
                _refresh(figures, 1e3 * record.cell["recipe"]["slot_duration"]),
            ]
        )
    bar = look(config.bar).label
    classic = next((r.figures["over_classic"].note for r in here.values() if "over_classic" in r.figures), "")
    row = next(iter(here.values()))
    return {
        "title": f"{title(row.data)}, {row.speed_kmh:g} km/h",
        "columns": [
            "method",
            "latency p50 / p99 [ms]",
            f"p50 over {bar}",
            "NMSE of the first slots [dB]",
            "sum-SE, charged",
            f"over {bar}",
            f"over {look(classic).label}" if classic else "over the best classical method",
            f"up to this latency [ms] worth more than {bar} is",
            "refresh [ms], and slots beside the pushes",
        ],
        "lines": lines,
        "text": f"{row.num_links} links from {row.num_drops} drops, {record.cell['users'][0]} users together.",
    }


def _number(figure: Figure | None, style: str) -> str:
    return "" if figure is None else f"{figure.number:{style}}"


def _refresh(figures: dict[str, Figure], slot_ms: float) -> str:
    """Time of a refresh, and how many slots it takes in the time that pushes leave on the same core."""
    if "refresh_ms" not in figures:
        return ""
    refresh, push = figures["refresh_ms"].number, figures["latency_p50_ms"].number
    return f"{refresh:.3g}, " + (f"{refresh / (slot_ms - push):.0f}" if push < slot_ms else "never done")


def _with_interval(figure: Figure | None, sign: str = "+") -> str:
    if figure is None:
        return ""
    low, high = figure.ends
    return f"{figure.number:{sign}.2f} ({low:{sign}.2f} to {high:{sign}.2f})"


def write_page(results: Results, path: str | Path) -> Path:
    """The tables as Markdown, with the machine where latencies were measured, versions, and the command."""
    found = results.environment
    versions = ", ".join(f"{name} {version}" for name, version in found.get("versions", {}).items())
    made = (
        f"Latencies of one user and one thread on {found.get('processor', '')}; {versions}; "
        f"{found.get('date', '')[:10]}; `{found.get('command', 'airlam evaluate')}`."
    )
    return write_tables(
        replace(results, extras={**results.extras, "details": [*results.extras["details"], made]}), path
    )


def headline(rows: list[Row], config: RealtimeArguments) -> str:
    """The learned stream against the baseline and against the best classical method, at every speed."""
    words = []
    for row in rows:
        if row.method != config.label + STREAM or "over_bar" not in row.figures:
            continue
        figures = row.figures
        text = f"{row.speed_kmh:g} km/h {figures['charged'].number:.2f} ({_with_interval(figures['over_bar'])}"
        if "over_classic" in figures:
            other = figures["over_classic"]
            text += f"; over {look(other.note).label} {_with_interval(other)}: {verdict(other)}"
        words.append(text + ")")
    what = f"Sum-SE [bit/s/Hz] of {config.rates.users[0]} users from {look(config.label + STREAM).label}, charged with "
    return what + f"its latency, and over {look(config.bar).label}: " + ("; ".join(words) if words else "not run") + "."


def compared(config: RealtimeArguments, recipes: dict[str, Any]) -> list[str]:
    """What runs how, in channels of these recipes."""
    sizes = config.sizes
    ages = ", ".join(f"{2 * config.refresh_of(name)} slots for {name}" for name in config.streaming.names)
    lines = [
        f"Full predictions see the newest {sizes.history} slots and predict {config.horizon} (their time is that of "
        f"{sizes.horizon}); streams predict {sizes.horizon} after every slot. A prediction serves {config.csi_period} "
        f"slots. CSI SNR {config.cells.csi_snr_db:g} dB.",
        f"Streams are judged with filters as old as they become: {ages}. Paths are followed from one refresh to the "
        "next. The last column says how long a refresh takes here on the core of the pushes: where that is more than "
        "half of that age, refreshes need a core of their own.",
        "Every user has a core of its own. Classical methods are tuned on links of other drops; ar-reference is the "
        "frozen AR with its default settings.",
    ]
    if not all(recipe.get("tracks") or recipe["scenario"] == "ray_traced" for recipe in recipes.values()):
        lines.append(
            "Delays and directions of statistical drops do not change in time, which spares old filters; "
            "docs/realtime.md has ray-traced tracks beside them."
        )
    return lines
