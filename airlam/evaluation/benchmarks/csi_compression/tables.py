"""Rows, tables, headline and notes of the report on CSI compression."""

from __future__ import annotations

from typing import Any

from airlam.evaluation.benchmarks.csi_compression.config import GAUSSIAN, PERFECT, UNQUANTISED, CompressionConfig
from airlam.evaluation.engine import statistics
from airlam.evaluation.engine.summarise import new_row
from airlam.evaluation.engine.timing import timed_figures
from airlam.evaluation.report.style import look, title
from airlam.evaluation.results import SE, CellRecord, file_names, group_of
from airlam.evaluation.rows import Figure, Results, Row

NOTES = (
    "Measured: computed on simulated channels, or timed, in this run.",
    "Intervals: 95 %, bootstrap over drops.",
    "SGCS: squared generalised cosine similarity of the reported and the true strongest eigenvector of a subband.",
    "Bits: the precoder's fields and the number of coefficients, as TS 38.212 and TS 38.214 count them, mean over "
    "reports; rank and channel quality are not counted.",
    "Gaussian code: what an optimal code for Gaussian channels of the cell's covariance (of other drops) tells with as "
    "many bits. It is no bound: channels are not Gaussian, and it tells phases of subbands, which do not count.",
    "Sum-rates: RZF from the reported vectors, told the mean quality of such reports; users have equal mean power.",
)


def make_results(config: CompressionConfig, records: list[CellRecord]) -> Results:
    """Rows, tables, headline and notes."""
    results = Results(config.title, "csi_compression", config=config.plain())
    results.cells = file_names(records)
    for record in records:
        results.rows += [method_row(record, method) for method in record.methods]
    results.recipes = {record.cell["data"]: record.cell["recipe"] for record in records}
    tables = [_table(record) for record in records if record.cell["headline"]]
    tables += _side(results, "snr", "At other CSI SNRs") + _side(results, "age", "With old reports")
    results.extras = {"tables": [*tables, *_latency(results)], "compared": compared(config, records[0])}
    results.headline = headline(results)
    results.notes = list(NOTES)
    return results


def method_row(record: CellRecord, method: str) -> Row:
    """One codec in one cell."""
    cell, users = record.cell, record.cell["users"][0]
    row = new_row(record, method, cell["group"])
    age_ms = 1e3 * cell["num_pilots"] * cell["recipe"]["slot_duration"]
    row.settings |= {"age_ms": age_ms, "subbands": record.extras["subbands"], "ports": record.extras["ports"]}
    for metric, unit, per in (("sgcs", "1", "link"), ("bits", "1", "link"), ("sum_se", SE, group_of(users))):
        if series := record.find(method, metric, per):
            row.figures[metric] = statistics.mean_figure(series.values, record.drop(per), unit)
    row.figures |= timed_figures(record, method)
    return row


def headline(results: Results) -> str:
    """What the smallest and the largest report are worth in the first cell."""
    rows = [row for row in results.select(group="cell") if row.data == results.rows[0].data and "bits" in row.figures]
    rows = sorted((row for row in rows if GAUSSIAN not in row.method), key=lambda row: row.figures["bits"].number)
    best = next(row for row in results.rows if row.method == PERFECT)
    words = [
        f"{look(row.method).label} ({row.figures['bits'].number:.0f} bits) {row.figures['sgcs'].number:.3f} and "
        f"{row.figures['sum_se'].number:.1f} bit/s/Hz"
        for row in (rows[0], rows[-1])
    ]
    return (
        f"{title(rows[0].data)}, SGCS and sum-SE: " + "; ".join(words) + f"; with perfect CSI the sum-SE is "
        f"{best.figures['sum_se'].number:.1f}."
    )


def label_of(method: str) -> str:
    """As tables have it."""
    if method.startswith(GAUSSIAN):
        return f"Gaussian code, {method.removeprefix(GAUSSIAN)} bits"
    return {UNQUANTISED: "measured vectors, not quantised", PERFECT: "perfect CSI"}.get(method, look(method).label)


def in_order(rows: list[Row]) -> list[Row]:
    """By kind, then by bits."""
    kinds = {PERFECT: 3, UNQUANTISED: 2}

    def place(row: Row) -> tuple[int, float]:
        bits = row.figures["bits"].number if "bits" in row.figures else 0.0
        return kinds.get(row.method, int(row.method.startswith(GAUSSIAN))), bits

    return sorted(rows, key=place)


def _table(record: CellRecord) -> dict[str, Any]:
    rows = in_order([method_row(record, method) for method in record.methods])
    lines = [
        [label_of(row.method), *(_text(row.figures.get(name), form) for name, form in COLUMNS.values())] for row in rows
    ]
    cell = record.cell
    text = f"{rows[0].num_links} links from {rows[0].num_drops} drops, {cell['csi_snr_db']:g} dB CSI SNR."
    return {"title": title(cell["data"]), "columns": ["report", *COLUMNS], "lines": lines, "text": text}


COLUMNS = {"bits": ("bits", ".0f"), "SGCS": ("sgcs", ".3f"), "sum-SE [bit/s/Hz]": ("sum_se", ".2f")}


def _side(results: Results, group: str, name: str) -> list[dict[str, Any]]:
    """SGCS and sum-SE of every codec in the cells of a group."""
    rows = results.select(group=group)
    if not rows:
        return []
    cells = list(dict.fromkeys((row.data, row.csi_snr_db, row.speed_kmh, row.settings["age_ms"]) for row in rows))
    out = []
    for metric, what, form in (("sgcs", "SGCS", ".3f"), ("sum_se", "sum-SE [bit/s/Hz]", ".2f")):
        lines = []
        for row in in_order([row for row in rows if row.data == cells[0][0]]):
            mine = {
                (r.data, r.csi_snr_db, r.speed_kmh, r.settings["age_ms"]): r for r in rows if r.method == row.method
            }
            line = [
                label_of(row.method),
                *(_text(mine[c].figures.get(metric), form) if c in mine else "" for c in cells),
            ]
            if line not in lines:
                lines.append(line)
        columns = [
            f"{title(data)}, " + (f"{snr:g} dB" if group == "snr" else f"{age:g} ms old, {speed:g} km/h")
            for data, snr, speed, age in cells
        ]
        out.append({"title": f"{name}: {what}", "columns": ["report", *columns], "lines": lines, "text": ""})
    return out


def _latency(results: Results) -> list[dict[str, Any]]:
    lines = [
        [
            label_of(row.method),
            f"{row.figures['latency_p50_ms'].number:.1f}",
            f"{row.figures['latency_p99_ms'].number:.1f}",
        ]
        for row in results.rows
        if "latency_p50_ms" in row.figures
    ]
    columns = ["report", "p50 [ms]", "p99 [ms]"]
    return [{"title": "Time to find a report, one link, one thread", "columns": columns, "lines": lines, "text": ""}]


def _text(figure: Figure | None, form: str) -> str:
    if figure is None:
        return ""
    low, high = figure.ends
    same = f"{low:{form}}" == f"{high:{form}}"
    return f"{figure.number:{form}}" + ("" if same else f" ({low:{form}} to {high:{form}})")


def compared(config: CompressionConfig, record: CellRecord) -> list[str]:
    """What is reported, and how it is judged."""
    recipe, sizes = record.cell["recipe"], config.sizes
    return [
        f"A user with one antenna measures {record.extras['ports']} ports at {config.cells.csi_snr_db:g} dB, and "
        f"reports the strongest eigenvector of each of {record.extras['subbands']} subbands of {sizes.subband} "
        "subcarriers "
        f"({sizes.subband * recipe['subcarrier_spacing'] / 1e3:g} kHz).",
        f"The base station serves {sizes.users} users of a drop at {config.transmit_snr_db:g} dB transmit SNR.",
        "How a user finds its report is not part of the standard: here it searches long (docs/compression.md).",
    ]
