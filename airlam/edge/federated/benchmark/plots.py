"""Figures of the federated benchmark: NMSE over what training costs, and over the number of clients."""

from __future__ import annotations

from typing import Any

from airlam.evaluation.report.drawing import Figure, draw_panels, log_x_axis
from airlam.evaluation.report.sections import ReportFigure, Section, rows_of
from airlam.evaluation.rows import Results

CURVES = ("curve_rounds", "curve_megabytes", "curve_seconds")  # figures of a row: NMSE against what was spent


def nmse_vs_rounds(results: Results) -> Figure | None:
    """Validation NMSE of federated training over rounds, over bytes, over modelled seconds."""
    rows = [row for row in results.select(group="methods") if "curve_rounds" in row.figures]
    keys = [key for key in CURVES if any(key in row.figures for row in rows)]
    if not keys:
        return None
    untouched = min(max(_values(row.figures["curve_rounds"])) for row in rows)
    # a network from random weights that never gets as good as the untouched model would only squeeze the others
    rows = [row for row in rows if min(_values(row.figures["curve_rounds"])) <= untouched]
    colors = {row.method: f"C{n}" for n, row in enumerate(rows)}

    def panel(axes: Any, key: str) -> None:
        for row in rows:
            if key in row.figures:
                figure = row.figures[key]
                points = list(zip(figure.axis or [], _values(figure), strict=True))
                points = points if key == "curve_rounds" else [point for point in points if point[0] > 0]
                axes.plot(*zip(*points, strict=True), color=colors[row.method], label=row.method, marker=".")
                axes.set_xlabel(figure.axis_name)
        if key != "curve_rounds":  # costs differ by orders of magnitude; the start, at no cost, is the dotted line
            log_x_axis(axes)
        axes.axhline(untouched, color="#999999", linestyle=":", linewidth=1)
        good = [v for row in rows for v in _values(row.figures["curve_rounds"])]
        axes.set_ylim(min(good) - 0.1, untouched + 0.3)

    return draw_panels(panel, keys, "NMSE [dB]", share_y=True, height=3.4)


def nmse_vs_clients(results: Results) -> Figure | None:
    """NMSE after federated training against the number of clients."""
    rows = [row for row in results.select(group="clients") if "clients" in row.settings]
    if len(rows) < 2:
        return None

    def panel(axes: Any, _: Any) -> None:
        figures = [row.figures["nmse_cells_db"] for row in rows]
        count = [row.settings["clients"] for row in rows]
        axes.plot(count, [f.number for f in figures], marker="o", color="#d55e00", label="federated")
        low, high = zip(*(f.ends for f in figures), strict=True)
        axes.fill_between(count, low, high, color="#d55e00", alpha=0.12, linewidth=0)
        for row in results.select(group="methods"):
            if row.method in ("zero-shot", "centralised"):
                line = ":" if row.method == "zero-shot" else "--"
                axes.axhline(row.figures["nmse_cells_db"].number, color="#444444", linestyle=line, label=row.method)
        axes.set_xscale("log", base=2)
        axes.set_xticks(count, [f"{n:g}" for n in count])
        axes.set_xlabel("clients")

    return draw_panels(panel, [0], "NMSE [dB]")


def _values(figure: Any) -> list[float]:
    return list(figure.value)


SECTIONS = (
    Section(
        "Over rounds, bytes, seconds",
        (
            ReportFigure(
                nmse_vs_rounds,
                "NMSE of all sites' validation users after each round, against what was spent until then: rounds, "
                "measured bytes, modelled seconds. Dotted line: the model before training.",
                rows_of("methods"),
            ),
            ReportFigure(
                nmse_vs_clients,
                "NMSE of all sites' held-out users against the number of clients, each with its own small share of "
                "the data.",
                rows_of("clients"),
            ),
        ),
    ),
)
