"""Tables of the report on beam management."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from airlam.evaluation.benchmarks.beam_management.judging import METRICS, mean_gain, mean_value, percent, points
from airlam.evaluation.report.style import look, order
from airlam.evaluation.results import CellRecord
from airlam.evaluation.rows import Figure, Results, Row

Table = dict[str, Any]
MAIN = (  # figure, place k of its "first k beams", title
    ("top1", 1, "Top-1 accuracy [%]"),
    ("top3", 3, "Top-3 accuracy [%]"),
    ("top5", 5, "Top-5 accuracy [%]"),
    ("se_ratio_top1", 1, "SE of the first beam over the best [%]"),
    ("se_ratio_top3", 3, "SE after measuring the first three, over the best [%]"),
    ("se_ratio_top5", 5, "SE after measuring the first five, over the best [%]"),
)
SWEPT = (
    ("top1", "top-1 accuracy [%]"),
    ("se_ratio_top1", "SE of the first beam [%]"),
    ("se_ratio_top3", "SE after measuring the first three [%]"),
)
SWEEPS = (  # group of the cells, the setting that differs, its name
    ("beams", "beams", "beams measured in a sweep"),
    ("snr", None, "SNR per port [dB]"),
    ("period", "period_ms", "sweep period [ms]"),
    ("array", "label", "array"),
)


def make_tables(results: Results, main: list[CellRecord], focus: str, against: str) -> list[Table]:
    """Headline cells, mean gains, one table for each sweep and figure, latency.

    Args:
        main: records of the headline cells. focus: the learned method. against: what gains are relative to.
    """
    cells = results.select(group="cell")
    out = _headline_tables(cells, main, against)
    if focus in [row.method for row in cells]:
        out.append(_gains(cells, main, focus))
    for group, key, what in SWEEPS:
        out += _sweep(results.select(group=group), key, what)
    return out + _latency(cells)


def _headline_tables(cells: list[Row], main: list[CellRecord], against: str) -> list[Table]:
    keys, out = list(dict.fromkeys((row.data, row.speed_kmh) for row in cells)), []
    for name, k, title in MAIN:
        lines = []
        for method in order([row.method for row in cells]):
            mine = {(row.data, row.speed_kmh): row for row in cells if row.method == method}
            gain = mean_gain(main, name, method, against) if method != against else None
            mean = percent(mean_value(main, name, method), gain)
            saved = next(iter(mine.values())).settings[f"measurements_saved_top{k}"]
            texts = [_percent(mine[key].figures, name) for key in keys]
            lines.append([look(method).label, mean, f"{100 * saved:.0f} %", *texts])
        columns = ["method", "mean", "measurements saved", *(f"{data}, {speed:g} km/h" for data, speed in keys)]
        text = f"In brackets: gain over {look(against).label}, paired, with 95 % interval. {_rests_on(cells[0])}"
        out.append({"title": title, "columns": columns, "lines": lines, "text": text})
    return out


def _gains(cells: list[Row], main: list[CellRecord], focus: str) -> Table:
    """Gains of the learned method over every other one."""
    lines = [
        [look(other).label, *(points(mean_gain(main, metric, focus, other)) for metric in METRICS)]
        for other in order([row.method for row in cells])
        if other != focus
    ]
    columns = ["over", "top-1", "top-3", "top-5", "SE, first beam", "SE, best of 3 measured again", "of 5"]
    text = f"Means over the {len(main)} cells above, paired, with 95 % intervals. {_rests_on(cells[0])}"
    title = f"Gains of {look(focus).label} over every other method [percentage points]"
    return {"title": title, "columns": columns, "lines": lines, "text": text}


def _sweep(rows: list[Row], key: str | None, what: str) -> list[Table]:
    """Three tables over one setting; none where it was not swept. ``key``: of the setting; None: the CSI SNR."""
    if not rows:
        return []
    at, out = list(dict.fromkeys(row.settings[key] if key else row.csi_snr_db for row in rows)), []
    for name, title in SWEPT:
        lines = []
        for method in order([row.method for row in rows]):
            lines.append([look(method).label, *(_percent(r.figures, name) for r in rows if r.method == method)])
        columns = ["method", *(place if isinstance(place, str) else f"{place:g}" for place in at)]
        text = f"{rows[0].data}, {rows[0].speed_kmh:g} km/h. {_rests_on(rows[0])}"
        out.append({"title": f"Over {what}: {title}", "columns": columns, "lines": lines, "text": text})
    return out


def _latency(cells: list[Row]) -> list[Table]:
    lines = [
        [
            look(row.method).label,
            f"{row.figures['latency_p50_ms'].number:.2f}",
            f"{row.figures['latency_p99_ms'].number:.2f}",
            f"{row.parameters_total:,}",
        ]
        for row in cells
        if "latency_p50_ms" in row.figures
    ]
    columns = ["method", "p50 [ms]", "p99 [ms]", "parameters"]
    title = "Latency of one track, one thread"
    return [{"title": title, "columns": columns, "lines": lines, "text": ""}] if lines else []


def _percent(figures: Mapping[str, Figure], name: str) -> str:
    return percent(figures[name], figures.get(f"{name}_gain"))


def _rests_on(row: Row) -> str:
    return f"{row.num_links} tracks from {row.num_drops} drops in each cell."
