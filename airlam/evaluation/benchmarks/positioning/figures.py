"""Figures of the benchmark of positioning."""

from __future__ import annotations

from typing import Any

from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from airlam.evaluation.benchmarks.positioning.config import LABELS
from airlam.evaluation.report.drawing import Figure, draw_line, draw_panels, draw_points
from airlam.evaluation.report.sections import ReportFigure, Section, rows_of
from airlam.evaluation.report.style import Look
from airlam.evaluation.rows import Results

_COLORS = ("#56b4e9", "#e69f00", "#999999", "#0072b2", "#d55e00", "#cc79a7", "#009e73")
_MARKERS = ("s", "^", "v", "o", "D", "P", "X")
LOOKS = {
    name: Look(label, color, "--" if ":" in name else "-", marker)
    for (name, label), color, marker in zip(LABELS.items(), _COLORS, _MARKERS, strict=True)
}


def error_cdf(results: Results) -> Figure | None:
    """Share of users whose error is below a distance, one panel a site."""
    sites = list(dict.fromkeys(row.data for row in results.select(group="cell")))

    def panel(axes: Any, site: str) -> None:
        for row in results.select(group="cell"):
            if row.data == site and "cdf" in row.figures:
                curve, style = row.figures["cdf"], LOOKS[row.method]
                draw_line(axes, Look(style.label, style.color, style.line, ""), curve.value, curve.axis)
        axes.set_xscale("log")
        _plain(axes.xaxis, (0.3, 1, 3, 10, 30, 100))
        axes.set_title(site)
        axes.set_xlabel("error [m]")

    return draw_panels(panel, sites, "share of users", share_y=True) if sites else None


def error_over_share(results: Results) -> Figure | None:
    """90 % error over the share of known positions, one panel a site."""
    rows = [row for row in results.rows if row.group in ("cell", "share")]
    sites = list(dict.fromkeys(row.data for row in rows))

    def panel(axes: Any, site: str) -> None:
        for name, style in LOOKS.items():
            mine = sorted((r for r in rows if (r.data, r.method) == (site, name)), key=lambda r: r.settings["share"])
            if mine:
                found = [row.figures["error_90"] for row in mine]
                x = [row.settings["known positions"] for row in mine]
                draw_points(axes, style, x, found)
        axes.set_xscale("log")
        axes.set_yscale("log")
        _plain(axes.xaxis, tuple(sorted({row.settings["known positions"] for row in rows})))
        _plain(axes.yaxis, (1, 3, 10, 30, 100))
        axes.set_title(site)
        axes.set_xlabel("known positions")

    return draw_panels(panel, sites, "90 % error [m]", share_y=False) if sites else None


def _plain(axis: Any, ticks: tuple[float, ...]) -> None:
    """Numbers as they are on a logarithmic axis."""
    axis.set_major_locator(FixedLocator(ticks))
    axis.set_minor_locator(NullLocator())
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))


SECTIONS = (
    Section(
        "Errors",
        (
            ReportFigure(error_cdf, "Error at the headline's share of known positions.", rows_of("cell")),
            ReportFigure(
                error_over_share,
                "90 % error over known positions; bands are 95 % intervals over {resampled}.",
                rows_of("share"),
            ),
        ),
    ),
)
