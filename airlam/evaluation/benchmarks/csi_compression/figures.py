"""Figures of the benchmark of CSI compression: what reports are worth over their bits."""

from __future__ import annotations

from typing import Any

from airlam.evaluation.benchmarks.csi_compression.config import GAUSSIAN, PERFECT, UNQUANTISED
from airlam.evaluation.report.drawing import Figure, draw_line, draw_panels, intervals_of
from airlam.evaluation.report.sections import ReportFigure, Section, rows_of
from airlam.evaluation.report.style import Look, look, title
from airlam.evaluation.rows import Results, Row

FAMILIES = {  # beginning of a method's name -> its line
    "type1": Look("Type I", "#56b4e9", ":", "s"),
    "context-codec": Look("context codec", "#d55e00", "-", "D"),
    "type2": Look("enhanced Type II", "#0072b2", "-", "o"),
    GAUSSIAN: Look("Gaussian code of the cell's covariance", "#444444", "--", ""),
}
LIMITS = {
    UNQUANTISED: Look("measured vectors, not quantised", "#444444", "-.", ""),
    PERFECT: Look("perfect CSI", "#000000", ":", ""),
}


def sgcs_over_bits(results: Results) -> Figure | None:
    """SGCS over the bits of a report."""
    return _over_bits(results, "sgcs", "SGCS")


def sum_se_over_bits(results: Results) -> Figure | None:
    """Sum-rate over the bits of a report."""
    return _over_bits(results, "sum_se", "sum-SE [bit/s/Hz]")


def _over_bits(results: Results, name: str, label: str) -> Figure | None:
    cells = list(dict.fromkeys((row.data, row.speed_kmh) for row in results.select(group="cell")))

    def panel(axes: Any, cell: tuple[str, float]) -> None:
        rows = [
            row for row in results.select(group="cell") if (row.data, row.speed_kmh) == cell and name in row.figures
        ]
        told = sorted((row for row in rows if "bits" in row.figures), key=lambda row: row.figures["bits"].number)
        for family, style in lines_of(told).items():
            mine = [row for row in told if family_of(row) == family]
            figures = [row.figures[name] for row in mine]
            draw_line(
                axes,
                style,
                [row.figures["bits"].number for row in mine],
                [f.number for f in figures],
                intervals_of(figures),
            )
        for method, style in LIMITS.items():
            for row in (row for row in rows if row.method == method):
                axes.axhline(
                    row.figures[name].number, linestyle=style.line, color=style.color, label=style.label, linewidth=1.4
                )
        axes.set_title(title(cell[0]))
        axes.set_xlabel("bits of a report")

    return draw_panels(panel, cells, label, share_y=True) if cells else None


def family_of(row: Row) -> str:
    """What stands on one line: a codebook with all its combinations, or a codec of one's own with its name."""
    return next((family for family in FAMILIES if row.method.startswith(family)), row.method)


def lines_of(rows: list[Row]) -> dict[str, Look]:
    """Each line and how it looks."""
    return {family: FAMILIES.get(family) or look(family) for family in dict.fromkeys(map(family_of, rows))}


_CAPTION = "over the bits of a report, one panel a scenario; bands are 95 % intervals over {resampled}."
SECTIONS = (
    Section(
        "Reports",
        (
            ReportFigure(sgcs_over_bits, "SGCS " + _CAPTION, rows_of("cell")),
            ReportFigure(sum_se_over_bits, "Sum-SE " + _CAPTION, rows_of("cell")),
        ),
    ),
)
