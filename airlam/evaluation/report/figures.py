"""Figures that several benchmarks share: prediction error, spectral efficiency, latency, CSI period.

Figures of one benchmark alone stand in its folder, ``benchmarks/<name>/figures.py``.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib import rc_context

from airlam.evaluation.engine.timing import is_busy
from airlam.evaluation.report.baseline import bar_short
from airlam.evaluation.report.cells import CellNames, key_of
from airlam.evaluation.report.contents import break_even_table
from airlam.evaluation.report.drawing import (
    STYLE,
    WIDTH,
    Figure,
    against_speed,
    by_method,
    draw_curve,
    draw_panels,
    draw_points,
    draw_speed_lines,
    headline_cells,
    headline_snr,
    legend_above,
    log_x_axis,
    over_speeds,
    over_transmit_snr,
    unique,
)
from airlam.evaluation.report.palette import Looks
from airlam.evaluation.report.sections import ReportFigure, Section, rows_of
from airlam.evaluation.report.style import is_classical, is_learned, order, title
from airlam.evaluation.rows import Results, group_sizes, sum_se_name


def _strongest_classic(results: Results) -> str | None:
    """Of the classical methods with a paired gain over the bar, the one with the largest mean over cells."""
    rows = [row for row in results.select(group="mean") if "gain_cells_db" in row.figures]
    gains = {row.method: row.figures["gain_cells_db"].number for row in rows}
    return max((m for m in gains if is_classical(m)), key=gains.__getitem__, default=None)


def gain_forest(results: Results) -> Figure | None:
    """Paired NMSE difference to the baseline in every cell, with its 95 % interval; left of zero is worse."""
    looks = Looks.of(results)
    rows = [row for row in results.select(group="cell") if "gain_db" in row.figures]
    classic = _strongest_classic(results)
    rows = [row for row in rows if is_learned(row.method) or row.method == classic]
    if not rows:
        return None
    cells, names = unique(key_of(row) for row in rows), CellNames(rows)
    methods = order({row.method for row in rows})
    with rc_context(STYLE):
        figure = Figure(figsize=(WIDTH, 1.1 + max(0.3, 0.11 * len(methods)) * len(cells)), layout="constrained")
        axes = figure.add_subplot()
        offsets = np.linspace(-0.27, 0.27, len(methods)) if len(methods) > 1 else [0.0]
        for offset, method in zip(offsets, methods, strict=True):
            style = looks[method]
            for row in (row for row in rows if row.method == method):
                gain = row.figures["gain_db"]
                place = cells.index(key_of(row)) + offset
                low, high = gain.interval or (gain.value, gain.value)
                axes.plot([low, high], [place, place], color=style.color, linewidth=2.2, alpha=0.75)
                label = style.label
                axes.plot([gain.value], [place], style.marker, color=style.color, label=label)
        axes.axvline(0.0, color="#333333", linewidth=1.0)
        axes.set_yticks(range(len(cells)), list({key_of(row): names.name(row) for row in rows}.values()))
        axes.set_ylim(len(cells) - 0.5, -0.5)
        axes.grid(axis="y", visible=False)
        axes.set_xlabel(f"NMSE gain over {bar_short(results)} [dB]  (right: better)")
        handles, labels = axes.get_legend_handles_labels()
        seen = dict(zip(labels, handles, strict=True))
        legend_above(figure, seen, most=3)
    return figure


def nmse_vs_speed(results: Results) -> Figure | None:
    """NMSE over the horizon against user speed; one panel per scenario."""
    return against_speed(results, "nmse_db", "NMSE [dB]")


def nmse_vs_horizon(results: Results) -> Figure | None:
    """NMSE of each predicted slot; a panel for each of the first cells of the first scenario."""
    looks = Looks.of(results)
    rows = [row for row in results.select(group="cell") if "nmse_steps_db" in row.figures]
    rows = [row for row in rows if row.data == rows[0].data and row.csi_snr_db == headline_snr(results)]
    cells = CellNames(rows).panels(rows, snr=False)
    if not cells:
        return None

    def panel(axes: Any, cell: str) -> None:
        for row in by_method(cells[cell]):
            draw_curve(axes, looks[row.method], row.figures["nmse_steps_db"])
        axes.set_title(cell)
        axes.set_xticks(cells[cell][0].figures["nmse_steps_db"].axis)
        axes.set_xlabel("prediction horizon [ms]")

    return draw_panels(panel, list(cells)[:4], "NMSE [dB]", share_y=True)


def nmse_vs_csi_snr(results: Results) -> Figure | None:
    """NMSE against the SNR of the measured history, wherever a speed was swept over several."""
    looks = Looks.of(results)
    rows = [row for row in results.select(group="cell") if "nmse_db" in row.figures]
    cells = CellNames(rows).panels(rows, snr=False)
    swept = [name for name, mine in cells.items() if len({row.csi_snr_db for row in mine}) > 1]
    if not swept:
        return None

    def panel(axes: Any, cell: str) -> None:
        here = cells[cell]
        for method in order({row.method for row in here}):
            points = sorted((row for row in here if row.method == method), key=lambda row: row.csi_snr_db or 0.0)
            figures = [row.figures["nmse_db"] for row in points]
            draw_points(axes, looks[method], [row.csi_snr_db for row in points], figures)
        axes.set_title(cell)
        axes.set_xlabel("CSI SNR of the history [dB]")

    return draw_panels(panel, swept, "NMSE [dB]", share_y=True)


def sum_se_vs_speed(results: Results) -> Figure | None:
    """Sum spectral efficiency against user speed; one panel per scenario and group size."""
    looks = Looks.of(results)
    sizes = group_sizes(results.select(group="cell"))
    cells = over_speeds(headline_cells(results))
    figures = [(users, cell) for users in sizes for cell in cells]
    if not figures:
        return None

    def panel(axes: Any, key: tuple[int, str]) -> None:
        users, cell = key
        draw_speed_lines(axes, looks, cells[cell], sum_se_name(users))
        axes.set_title(f"{cell}, {users} users")
        axes.set_xlabel("user speed [km/h]")

    return draw_panels(panel, figures, "sum-SE [bit/s/Hz]")


def sum_se_vs_transmit_snr(results: Results) -> Figure | None:
    """Sum spectral efficiency of the smallest group against transmit SNR; one panel per speed."""
    cells = results.select(group="cell")
    smallest = next((u for row in cells for u in row.group_sizes if row.sum_se_over_snr(u)), None)
    if smallest is None:
        return None
    name = sum_se_name(smallest, "over_snr")
    rows = [row for row in headline_cells(results) if name in row.figures]
    rows = [row for row in rows if row.data == rows[0].data]
    return over_transmit_snr(rows, Looks.of(results), name, "sum-SE [bit/s/Hz]", most=4)


def latency_bars(results: Results) -> Figure | None:
    """Measured latency of one prediction at batch 1: bar to the median, whisker to the 99th percentile."""
    looks = Looks.of(results)
    rows = [row for row in by_method(results.select(group="mean")) if "latency_p50_ms" in row.figures]
    if not rows:
        return None
    with rc_context(STYLE):
        figure = Figure(figsize=(WIDTH, 0.9 + 0.36 * len(rows)), layout="constrained")
        axes = figure.add_subplot()
        for place, row in enumerate(rows):
            p50, p99 = row.figures["latency_p50_ms"].number, row.figures["latency_p99_ms"].number
            axes.barh(place, p50, height=0.6, color=looks[row.method].color)
            axes.plot([p50, p99], [place, place], color="#333333", linewidth=1.2)
            axes.plot([p99], [place], "|", color="#333333", markersize=9)
            text = f"{_brief(p50)} ms (p99 {_brief(p99)})"
            text += ", busy machine" if is_busy(row.figures["latency_p50_ms"]) else ""
            axes.annotate(text, (p99, place), (7, 0), textcoords="offset points", va="center", size=9)
        axes.set_yticks(range(len(rows)), [looks[row.method].label for row in rows])
        axes.invert_yaxis()
        log_x_axis(axes)
        low, high = axes.get_xlim()
        axes.set_xlim(low, high * 8)  # room for the text right of the longest bar
        axes.grid(axis="y", visible=False)
        axes.set_xlabel("latency at batch 1, one thread [ms], measured")
    return figure


def latency_charged(results: Results) -> Figure | None:
    """Modelled sum-SE against the latency of the prediction, each method's measured p50 and p99 marked on it."""
    looks = Looks.of(results)
    rows = by_method(results.select(group="age"))
    if not rows:
        return None
    with rc_context(STYLE):
        figure = Figure(figsize=(WIDTH, 3.9), layout="constrained")
        axes = figure.add_subplot()
        for row in rows:
            curve, style = row.figures["latency_charged_sum_se"], looks[row.method]
            assert curve.axis is not None
            axes.plot(curve.axis, curve.value, style.line, color=style.color, label=style.label, zorder=2)
            for name, marker, size in (("latency_p50_ms", style.marker or "o", 9), ("latency_p99_ms", "|", 13)):
                if name in row.figures and (place := row.figures[name].number) <= curve.axis[-1]:
                    value = float(np.interp(place, curve.axis, curve.value))
                    axes.plot([place], [value], marker, color=style.color, markersize=size, mew=2, zorder=3)
        axes.set_xlim(left=-0.15)
        axes.set_xlabel("latency of the prediction [ms]   (marker: measured p50, bar: measured p99)")
        axes.set_ylabel("sum-SE [bit/s/Hz], modelled")
        axes.set_title(f"{title(rows[0].data)}, {rows[0].speed_kmh:g} km/h, CSI SNR {rows[0].csi_snr_db:g} dB")
        figure.legend(loc="outside right upper")
    return figure


def csi_period(results: Results) -> Figure | None:
    """Sum-SE against the CSI period, before and after the pilots' overhead."""
    looks = Looks.of(results)
    rows = by_method(results.select(group="csi_period"))
    if not rows:
        return None

    def panel(axes: Any, key: tuple[int, bool]) -> None:
        users, net = key
        figures = [(row.method, row.net_sum_se(users) if net else row.sum_se(users)) for row in rows]
        for method, figure in figures:
            if figure is not None:
                draw_curve(axes, looks[method], figure)
        axes.set_xscale("log")
        ticks = next(figure.axis for _, figure in figures if figure is not None and figure.axis)
        axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
        axes.minorticks_off()
        axes.set_xlabel("CSI period [ms]")
        axes.set_title("net of pilots, modelled" if net else "before pilot overhead, measured")

    sizes = group_sizes(rows)
    keys = [(users, net) for users in sizes for net in (False, True) if not net or rows[0].net_sum_se(users)]
    return draw_panels(panel, keys, "sum-SE [bit/s/Hz]", share_y=True)


def _brief(value: float) -> str:
    """Two digits, without an exponent."""
    return f"{value:.0f}" if value >= 10 else f"{value:.2g}"


PREDICTION_ERROR = Section(
    "Prediction error",
    (
        ReportFigure(
            gain_forest,
            "NMSE against {bar}, cell by cell, on the same links and the same noise. Bars: 95 % interval of the paired "
            "difference, bootstrapped over {resampled}.",
            rows_of("cell"),
        ),
        ReportFigure(
            nmse_vs_speed, "NMSE over the whole horizon against user speed. Bands: 95 % intervals.", headline_cells
        ),
        ReportFigure(nmse_vs_horizon, "NMSE of each predicted slot.", headline_cells),
        ReportFigure(
            nmse_vs_csi_snr,
            "NMSE against the SNR of the measured history; the target is always the true channel.",
            rows_of("cell"),
        ),
    ),
)
SPECTRAL_EFFICIENCY = Section(
    "Spectral efficiency",
    (
        ReportFigure(
            sum_se_vs_speed,
            "Sum spectral efficiency of precoding computed from predicted CSI and judged on the true channel: RZF, "
            "unless the method names another precoder. Users of one group share a base station and a drop.",
            headline_cells,
        ),
        ReportFigure(
            sum_se_vs_transmit_snr,
            "Sum spectral efficiency against transmit SNR. Where CSI is wrong, more power no longer helps: the users "
            "disturb each other.",
            headline_cells,
        ),
    ),
)
LATENCY = Section(
    "Latency and prediction age",
    (
        ReportFigure(
            latency_bars,
            "Time of one prediction (one link, all its antennas and subcarriers). Bar: median; whisker: 99th "
            "percentile.",
            rows_of(),
        ),
        ReportFigure(
            latency_charged,
            "Modelled effect of the latency of prediction: a prediction that takes longer serves later slots. The "
            "precoder in service at latency L uses the prediction for the slots that follow L; beyond the horizon the "
            "last predicted slot is held.",
            rows_of("age"),
            modelled=True,
        ),
    ),
    tables=(break_even_table,),
)
CSI_PERIOD = Section(
    "CSI period and pilot overhead",
    (
        ReportFigure(
            csi_period,
            "CSI measured less often: the history is sampled at the period, and spectral efficiency is judged at the "
            "end of the period, when the prediction is oldest.",
            rows_of("csi_period"),
            modelled=True,
        ),
    ),
)
SHARED = (PREDICTION_ERROR, SPECTRAL_EFFICIENCY, LATENCY, CSI_PERIOD)
"""Sections of a benchmark that has no figures of its own; each appears only where its rows are."""
