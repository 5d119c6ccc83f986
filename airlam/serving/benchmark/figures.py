"""Figures of the benchmark of services."""

from __future__ import annotations

from typing import Any

from airlam.evaluation.report.drawing import Figure, draw_panels
from airlam.evaluation.report.sections import ReportFigure, Section, rows_of
from airlam.evaluation.rows import Results, Row
from airlam.serving.benchmark.results import CLASSIC, PATH, RATE

COLORS = {"p50": "#0072b2", "p95": "#009e73", "p99": "#d55e00", "p99.9": "#cc79a7"}


def latency_over_load(results: Results) -> Figure | None:
    """Percentiles of the latency over the arrival rate, by model, without and with deadlines."""
    groups: dict[tuple[str, str], list[Row]] = {}
    for name in (RATE, CLASSIC):
        for row in results.select(group=name):
            groups.setdefault((row.method, name), []).append(row)
    if not groups:
        return None

    def panel(axes: Any, of: tuple[str, str]) -> None:
        rows = sorted(groups[of], key=lambda row: row.settings["rate"])
        for point, color in COLORS.items():
            mine = [row for row in rows if f"latency_{point}_ms" in row.figures]
            rate = [row.settings["rate"] for row in mine]
            values = [row.figures[f"latency_{point}_ms"].number for row in mine]
            axes.plot(rate, values, marker="o", color=color, label=point)
        axes.set_yscale("log")
        axes.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
        axes.set_xlabel("arrivals [1/s]")
        axes.set_title(of[0] if of[1] == RATE else f"{of[0]}, with a deadline")

    return draw_panels(panel, list(groups), "latency [ms]", share_y=True)


def latency_by_path(results: Results) -> Figure | None:
    """Median and 99th percentile of requests one after another, by path."""
    rows = results.select(group=PATH)
    if not rows:
        return None

    def panel(axes: Any, _: Any) -> None:
        for place, row in enumerate(rows):
            p50, p99 = (row.figures[f"latency_{point}_ms"].number for point in ("p50", "p99"))
            axes.barh(place, p50, height=0.6, color=COLORS["p50"], label="p50")
            axes.plot([p50, p99], [place, place], color="#333333", linewidth=1.2, label="to p99")
            axes.annotate(
                f"{p50:.1f} ({p99:.1f})", (p99, place), (6, 0), textcoords="offset points", va="center", size=9
            )
        axes.set_yticks(range(len(rows)), [row.method for row in rows])
        axes.invert_yaxis()
        axes.set_xlim(0, 1.25 * axes.get_xlim()[1])
        axes.grid(axis="y", visible=False)
        axes.set_xlabel("latency [ms]")

    return draw_panels(panel, [0], "")


SECTIONS = (
    Section(
        "Latency",
        (
            ReportFigure(latency_by_path, "Requests one after another: median, and 99th percentile.", rows_of(PATH)),
            ReportFigure(
                latency_over_load,
                "Latency of Poisson arrivals, from when a request is due to the end of its answer.",
                rows_of(RATE, CLASSIC),
            ),
        ),
    ),
)
