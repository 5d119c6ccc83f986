"""Parts that figures of a report are drawn from: style, panels, lines with bands, and which rows a figure shows.

Every figure is a function of :class:`airlam.evaluation.rows.Results` alone. It returns a ``matplotlib.figure.Figure``,
or ``None`` where the results hold nothing to draw, and keeps no state between calls.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from matplotlib import rc_context
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter

from airlam.evaluation.report.cells import CellNames
from airlam.evaluation.report.palette import Looks
from airlam.evaluation.report.style import Look, order
from airlam.evaluation.rows import Results, Row

STYLE: dict[str, Any] = {
    "font.family": "sans-serif",
    "font.size": 10,
    "axes.titlesize": 10.5,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": "#999999",
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#e6e6e6",
    "grid.linewidth": 0.8,
    "lines.linewidth": 1.8,
    "lines.markersize": 5,
    "legend.frameon": False,
    "legend.fontsize": 9,
    "legend.handlelength": 3.0,  # dashes can be told from a line
    "xtick.color": "#444444",
    "ytick.color": "#444444",
    "svg.hashsalt": "airlam",
    "text.parse_math": False,  # a "$" in the name of a recipe or a method is a dollar sign
    "figure.dpi": 150,
}
WIDTH = 9.0  # inch; the report's text column


def over_transmit_snr(rows: list[Row], looks: Looks, name: str, label: str, most: int | None = None) -> Figure:
    """Curves over transmit SNR of rows of one scenario; a panel for each cell, ``most`` at most."""
    cells = CellNames(rows).panels(rows, snr=False)

    def panel(axes: Any, cell: str) -> None:
        for row in by_method(cells[cell]):
            draw_curve(axes, looks[row.method], row.figures[name])
        axes.set_title(cell)
        axes.set_xlabel("transmit SNR [dB]")

    return draw_panels(panel, list(cells)[:most], label, share_y=True)


def against_speed(results: Results, name: str, label: str) -> Figure | None:
    """The figure ``name`` against speed in the headline's cells; a panel for each scenario with several speeds."""
    looks, cells = Looks.of(results), over_speeds([row for row in headline_cells(results) if name in row.figures])
    if not cells:
        return None

    def panel(axes: Any, cell: str) -> None:
        draw_speed_lines(axes, looks, cells[cell], name)
        axes.set_title(cell)
        axes.set_xlabel("user speed [km/h]")

    return draw_panels(panel, list(cells), label, share_y=True)


def over_speeds(rows: list[Row]) -> dict[str, list[Row]]:
    """Rows that differ in speed and method alone, by the name of what they share; a single speed is no axis."""
    found = CellNames(rows).panels(rows, speed=False, snr=False)
    return {name: mine for name, mine in found.items() if len({row.speed_kmh for row in mine}) > 1}


def draw_speed_lines(axes: Any, looks: Looks, rows: list[Row], name: str) -> None:
    """One line over user speed for each method, of the figure ``name``."""
    for method in order({row.method for row in rows}):
        points = sorted((r for r in rows if r.method == method and name in r.figures), key=lambda r: r.speed_kmh or 0.0)
        figures = [row.figures[name] for row in points]
        if figures:
            draw_points(axes, looks[method], [row.speed_kmh for row in points], figures)


def draw_line(axes: Any, style: Look, x: Any, y: Any, intervals: Any = None) -> None:
    """One method's line, and a band for its interval."""
    width = 1.4 if not style.marker else 1.8  # bounds have no marker
    axes.plot(x, y, style.line, marker=style.marker, color=style.color, label=style.label, linewidth=width)
    if intervals:
        low, high = zip(*intervals, strict=True)
        axes.fill_between(x, low, high, color=style.color, alpha=0.12, linewidth=0)


def draw_points(axes: Any, style: Look, x: Any, figures: list[Any]) -> None:
    """One method's line through figures that are numbers."""
    draw_line(axes, style, x, [figure.value for figure in figures], intervals_of(figures))


def draw_curve(axes: Any, style: Look, figure: Any) -> None:
    """One method's line of a figure that is a curve."""
    draw_line(axes, style, figure.axis, figure.value, figure.interval)


def draw_panels(
    panel: Callable[[Any, Any], None],
    keys: list[Any],
    ylabel: str,
    *,
    share_y: bool = False,
    height: float = 3.1,
    beside: bool = True,
) -> Figure:
    """One row of panels, or two where there are more than three; one legend above them, ``beside`` a single one."""
    columns = len(keys) if len(keys) <= 3 else (len(keys) + 1) // 2
    lines = -(-len(keys) // columns)
    with rc_context(STYLE):
        beside = beside and columns == 1
        width = 0.85 * WIDTH if beside else WIDTH
        figure = Figure(figsize=(width, height * lines + 0.6), layout="constrained")
        grid = figure.subplots(lines, columns, squeeze=False, sharey=share_y)
        for axes, key in zip(grid.flat, keys, strict=False):
            panel(axes, key)
        for axes in list(grid.flat)[len(keys) :]:
            axes.set_visible(False)
        for axes in grid[:, 0]:
            axes.set_ylabel(ylabel)
        seen: dict[str, Any] = {}
        for axes in list(grid.flat)[: len(keys)]:
            handles, labels = axes.get_legend_handles_labels()
            seen.update({label: seen.get(label, handle) for label, handle in zip(labels, handles, strict=True)})
        if beside:
            figure.legend(seen.values(), seen.keys(), loc="outside right upper")
        else:
            legend_above(figure, seen)
    return figure


def legend_above(figure: Figure, handles: Mapping[str, Any], most: int = 4) -> None:
    """A legend above the axes, in as many columns as the figure is wide enough for.

    Args:
        handles: by label. most: columns.
    """
    for across in range(most, 0, -1):
        legend = figure.legend(handles.values(), handles.keys(), loc="outside upper left", ncols=across)
        if across == 1 or legend.get_window_extent().width <= figure.bbox.width:
            return
        legend.remove()


def headline_snr(results: Results) -> float | None:
    """The CSI SNR at which most speeds were run."""
    rows = results.select(group="cell")
    values = unique(row.csi_snr_db for row in rows)
    count = {v: len({(row.data, row.speed_kmh) for row in rows if row.csi_snr_db == v}) for v in values}
    return max(values, key=lambda value: count[value]) if values else None


def headline_cells(results: Results) -> list[Row]:
    """Rows of the cells at the CSI SNR of the headline."""
    return results.select(group="cell", csi_snr_db=headline_snr(results))


def by_method(rows: Iterable[Row]) -> list[Row]:
    """Rows in the order of the tables."""
    rows = list(rows)
    names = order({row.method for row in rows})
    return sorted(rows, key=lambda row: names.index(row.method))


def intervals_of(figures: list[Any]) -> list[Any] | None:
    """The intervals of figures; None unless every figure has one."""
    return [f.interval for f in figures] if figures and all(f.interval is not None for f in figures) else None


def unique(values: Iterable[Any]) -> list[Any]:
    """Distinct values in the order of their first appearance."""
    return list(dict.fromkeys(values))


def log_x_axis(axes: Any) -> None:
    """Make the x axis logarithmic, with plain numbers at powers of ten only: formulas are not drawn (see STYLE)."""
    axes.set_xscale("log")
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
    axes.xaxis.set_minor_formatter(NullFormatter())


def svg(figure: Figure) -> str:
    """The figure as SVG text without a date, so that equal results make equal files."""
    buffer = io.StringIO()
    with rc_context(STYLE):
        figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None, "Format": None, "Type": None})
    text = buffer.getvalue()
    return text[text.index("<svg") :]


def data_uri(text: str) -> str:
    """SVG text as a data URI for an ``<img>``: isolated from the page's own ids and styles."""
    return "data:image/svg+xml;base64," + base64.b64encode(text.encode()).decode()
