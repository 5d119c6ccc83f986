"""Rows, tables and explanations of the report on reconstruction."""

from __future__ import annotations

from typing import Any

from airlam.evaluation.engine import statistics
from airlam.evaluation.engine.summarise import add_mean_nmse
from airlam.evaluation.report.style import look, order
from airlam.evaluation.results import CellRecord
from airlam.evaluation.rows import Results, Row
from airlam.io import recipe_hash

NOTES = (
    "Classical methods are tuned in every cell on links of other drops, over their whole grid.",
    "Adapted rows, and the networks that are trained from random weights for comparison, see the same "
    "batches for the same number of steps; adapted-5 used 5 % of the training links, adapted all of them.",
    "Intervals are 95 %, bootstrapped over drops; gains are paired.",
)


def compared(slots: int, bar: str) -> list[str]:
    """Paragraphs on what was compared: the task and the methods."""
    return [
        f"Gains are relative to the baseline {look(bar).label}. {slots} slots of one link are measured with the same "
        "pattern and estimated together. For comb patterns NMSE is taken over all samples of the axis, for "
        "extrapolation over the samples that were not measured; always against the true channel.",
        "lmmse knows the frequency (or antenna) covariance of the scenario's training links, lmmse-sample the "
        "link's own power-delay profile, eigen-... work in the link's own eigenbasis of all other axes; "
        "lmmse-genie knows the link's own covariance from its rays and treats every antenna alone: it bounds "
        "methods that do so, not methods that use all antennas together.",
    ]


def rows_of(records: list[CellRecord], bar: str) -> list[Row]:
    """Rows of every cell, means over all cells, and for each task means over the cells with adapted rows."""
    rows = [row for record in records for row in cell_rows(record, bar)]
    shared = [m for m in records[0].methods if all(m in r.methods for r in records)]
    rows += mean_rows(records, shared, bar, "mean")
    few = [r for r in records if any(":" in m for m in r.methods)]
    for task in dict.fromkeys(r.cell["task"] for r in few):
        here = [r for r in few if r.cell["task"] == task]
        means = mean_rows(here, list(here[0].methods), bar, "few_shot")
        for row in means:
            row.settings["task"] = task
        rows += means
    return rows


def new_row(record: CellRecord, method: str, group: str) -> Row:
    """A row with everything but figures."""
    cell, facts = record.cell, record.methods[method]
    settings = {"task": cell["task"], "pattern": cell["pattern"], **facts.settings}
    return Row(
        method,
        cell["data"],
        recipe_hash(cell["recipe"]),
        None,
        cell["csi_snr_db"],
        cell["history"],
        0,
        facts.parameters_total,
        facts.parameters_trained,
        settings,
        {"benchmark": cell["seed"]},
        len(record.drop()),
        len(record.drop().unique()),
        group=group,
    )


def cell_rows(record: CellRecord, bar: str) -> list[Row]:
    """One row per method of a cell's record."""
    drop, rows, reference = record.drop(), [], record.values(bar, "nmse")
    for method in record.methods:
        row, values = new_row(record, method, "estimate"), record.values(method, "nmse")
        row.figures["nmse"] = statistics.mean_figure(values, drop, "1")
        row.figures["nmse_db"] = statistics.db_figure(values, drop)
        if method != bar:
            row.figures["gain_db"] = statistics.gain_db(values, reference, drop)
        rows.append(row)
    return rows


def mean_rows(records: list[CellRecord], methods: list[str], bar: str, group: str) -> list[Row]:
    """One row per method over several cells: both means, paired gains."""
    drops, rows = [record.drop() for record in records], []
    snrs = {record.cell["csi_snr_db"] for record in records}
    for method in methods:
        row = new_row(records[0], method, group)
        row.data = ", ".join(dict.fromkeys(record.cell["data"] for record in records))
        row.data_hash = recipe_hash([record.cell["recipe"] for record in records])
        row.csi_snr_db = next(iter(snrs)) if len(snrs) == 1 else None
        row.settings = {k: v for k, v in row.settings.items() if k in ("links", "steps", "trained")}
        row.num_links = sum(len(drop) for drop in drops)
        row.num_drops = sum(len(drop.unique()) for drop in drops)
        add_mean_nmse(row, records, bar)
        rows.append(row)
    return rows


def pattern_tables(records: list[CellRecord]) -> list[dict[str, Any]]:
    """NMSE in dB of every cell: a table for each task and pattern, a line for each method."""
    tables = []
    for task, pattern in dict.fromkeys((r.cell["task"], r.cell["pattern"]) for r in records):
        here = [r for r in records if (r.cell["task"], r.cell["pattern"]) == (task, pattern)]
        methods = [m for m in order({m for r in here for m in r.methods}) if not m.partition(":")[2]]
        lines = []
        for method in methods:
            values = [r.values(method, "nmse").mean().log10().item() * 10 for r in here]
            lines.append([look(method).label, f"{sum(values) / len(values):.1f}", *(f"{v:.1f}" for v in values)])
        columns = [f"{r.cell['data']} {r.cell['csi_snr_db']:g} dB" for r in here]
        tables.append(
            {"title": f"{task}, {pattern}: NMSE [dB]", "columns": ["method", "mean of cells", *columns], "lines": lines}
        )
    return tables


def few_shot_tables(results: Results) -> list[dict[str, Any]]:
    """The mean over the cells with adapted rows: a table for each task."""
    tasks = dict.fromkeys(row.settings["task"] for row in results.select(group="few_shot"))
    return [few_shot_table(results, task) for task in tasks]


def few_shot_table(results: Results, task: str) -> dict[str, Any]:
    """One of them; adapted rows in the order of the links they saw."""
    rows = {row.method: row for row in results.select(group="few_shot") if row.settings["task"] == task}
    methods = sorted(order(list(rows)), key=lambda m: rows[m].settings.get("links", 0) if ":" in m else -1)
    lines = []
    for method in methods:
        figures, settings = rows[method].figures, rows[method].settings
        gain = figures.get("gain_cells_db")
        text = "-" if gain is None else f"{gain.number:+.2f} ({gain.ends[0]:+.2f} to {gain.ends[1]:+.2f})"
        lines.append(
            [
                look(method).label,
                str(settings.get("links", "-")),
                settings.get("trained", "-"),
                f"{figures['nmse_cells_db'].number:.2f}",
                text,
                f"{figures['nmse_linear_db'].number:.2f}",
            ]
        )
    columns = ["method", "links", "trained", "NMSE, mean of cells [dB]", "gain over baseline [dB]", "NMSE, linear mean"]
    return {"title": f"After few-shot adaptation, {task}", "columns": columns, "lines": lines}
