"""Plots of a report, each from :class:`airlam.evaluation.rows.Results` alone. No plot keeps state between calls.

Every function returns a ``matplotlib.figure.Figure``, or ``None`` where the results hold nothing to draw.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import rc_context
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter

from airlam.evaluation.engine.timing import is_busy
from airlam.evaluation.report.palette import Looks
from airlam.evaluation.report.style import Look, is_classical, is_learned, order, short
from airlam.evaluation.rows import Results, Row
from airlam.io import write_text

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
    "xtick.color": "#444444",
    "ytick.color": "#444444",
    "svg.hashsalt": "airlam",
    "text.parse_math": False,  # a "$" in the name of a recipe or a method is a dollar sign
    "figure.dpi": 150,
}
WIDTH = 9.0  # inch; the report's text column


def nmse_vs_horizon(results: Results) -> Figure | None:
    """NMSE of each predicted slot; one panel per speed of the first scenario."""
    looks = Looks.of(results)
    rows = [row for row in results.select(group="cell") if "nmse_steps_db" in row.figures]
    rows = [row for row in rows if row.data == rows[0].data and row.csi_snr_db == _headline_snr(results)]
    speeds = _unique(row.speed_kmh for row in rows)[:4]
    if not speeds:
        return None

    def panel(axes: Any, speed: float) -> None:
        for row in _by_method(row for row in rows if row.speed_kmh == speed):
            _curve(axes, looks[row.method], row.figures["nmse_steps_db"])
        axes.set_title(f"{title(rows[0].data)}, {speed:g} km/h")
        axes.set_xticks(rows[0].figures["nmse_steps_db"].axis)
        axes.set_xlabel("prediction horizon [ms]")

    return _panels(panel, speeds, "NMSE [dB]", share_y=True)


def nmse_vs_speed(results: Results) -> Figure | None:
    """NMSE over the horizon against user speed; one panel per scenario."""
    return _against_speed(results, "nmse_db", "NMSE [dB]")


def sum_se_vs_speed(results: Results) -> Figure | None:
    """Sum spectral efficiency against user speed; one panel per scenario and group size."""
    looks = Looks.of(results)
    names = _unique(name for row in results.select(group="cell") for name in row.figures if _is_sum_se(name))
    figures = [(name, scenario) for name in names for scenario in _scenarios(results)]
    rows = headline_cells(results)
    if not figures or not rows:
        return None

    def panel(axes: Any, key: tuple[str, str]) -> None:
        name, scenario = key
        _speed_lines(axes, looks, [row for row in rows if row.data == scenario], name)
        axes.set_title(f"{title(scenario)}, {name.removeprefix('sum_se_k')} users")
        axes.set_xlabel("user speed [km/h]")

    return _panels(panel, figures, "sum-SE [bit/s/Hz]")


def nmse_vs_csi_snr(results: Results) -> Figure | None:
    """NMSE against the SNR of the measured history, wherever a speed was swept over several."""
    looks = Looks.of(results)
    rows = [row for row in results.select(group="cell") if "nmse_db" in row.figures]
    cells = _unique((row.data, row.speed_kmh) for row in rows)
    swept = [cell for cell in cells if len({r.csi_snr_db for r in rows if (r.data, r.speed_kmh) == cell}) > 1]
    if not swept:
        return None

    def panel(axes: Any, cell: tuple[str, float]) -> None:
        here = [row for row in rows if (row.data, row.speed_kmh) == cell]
        for method in order({row.method for row in here}):
            points = sorted((row for row in here if row.method == method), key=lambda row: row.csi_snr_db or 0.0)
            figures = [row.figures["nmse_db"] for row in points]
            _points(axes, looks[method], [row.csi_snr_db for row in points], figures)
        axes.set_title(f"{title(cell[0])}, {cell[1]:g} km/h")
        axes.set_xlabel("CSI SNR of the history [dB]")

    return _panels(panel, swept, "NMSE [dB]", share_y=True)


def sum_se_vs_csi_snr(results: Results) -> Figure | None:
    """Sum spectral efficiency against the SNR of the measured CSI, one panel per group size; beamforming alone."""
    looks = Looks.of(results)
    rows = results.select(group="cell") if results.task == "beamforming" else []
    speeds = {row.speed_kmh for row in rows if row.csi_snr_db != _headline_snr(results)}
    rows = [row for row in rows if row.speed_kmh in speeds and row.data == rows[0].data]
    names = _unique(name for row in rows for name in row.figures if _is_sum_se(name))
    if not names:
        return None

    def panel(axes: Any, name: str) -> None:
        for method in order({row.method for row in rows}):
            points = sorted((row for row in rows if row.method == method), key=lambda row: row.csi_snr_db or 0.0)
            figures = [row.figures[name] for row in points]
            _points(axes, looks[method], [row.csi_snr_db for row in points], figures)
        axes.set_title(f"{title(rows[0].data)}, {rows[0].speed_kmh:g} km/h, {name.removeprefix('sum_se_k')} users")
        axes.set_xlabel("CSI SNR [dB]")

    return _panels(panel, names, "sum-SE [bit/s/Hz]")


def sum_se_vs_users(results: Results) -> Figure | None:
    """Sum spectral efficiency against the number of users served together, and what each of them gets."""
    looks = Looks.of(results)
    rows = _by_method(results.select(group="users"))
    if not rows:
        return None
    sizes = sorted(int(name.removeprefix("sum_se_k")) for name in rows[0].figures if _is_sum_se(name))

    def panel(axes: Any, per_user: bool) -> None:
        for row in rows:
            figures = [row.figures[f"sum_se_k{users}"] for users in sizes]
            share = [1 / users if per_user else 1.0 for users in sizes]
            bands = _intervals(figures)
            bands = bands and [(low * s, high * s) for (low, high), s in zip(bands, share, strict=True)]
            _line(axes, looks[row.method], sizes, [f.number * s for f, s in zip(figures, share, strict=True)], bands)
        axes.set_title("mean rate of a user [bit/s/Hz]" if per_user else "sum-SE [bit/s/Hz]")
        axes.set_xlabel(f"users ({title(rows[0].data)}, {rows[0].speed_kmh:g} km/h)")
        axes.set_xticks(sizes)

    return _panels(panel, [False, True], "bit/s/Hz")


def sum_se_vs_pilots(results: Results) -> Figure | None:
    """Sum spectral efficiency from uplink pilots against their number; a panel for each SNR and group size."""
    looks = Looks.of(results)
    rows = results.select(group="pilots")
    names = _unique(name for row in rows for name in row.figures if _is_sum_se(name))
    keys = [(snr, name) for snr in _unique(row.csi_snr_db for row in rows) for name in names]
    if not keys:
        return None

    def panel(axes: Any, key: tuple[float, str]) -> None:
        snr, name = key
        here = [row for row in rows if row.csi_snr_db == snr]
        for method in order({row.method for row in here}):
            points = sorted((row for row in here if row.method == method), key=lambda row: row.settings["pilots"])
            figures = [row.figures[name] for row in points]
            _points(axes, looks[method], [r.settings["pilots"] for r in points], figures)
        axes.set_title(f"pilots at {snr:g} dB, {name.removeprefix('sum_se_k')} users")
        axes.set_xticks(_unique(row.settings["pilots"] for row in here))
        axes.set_xlabel("pilots of a user")

    return _panels(panel, keys, "sum-SE [bit/s/Hz]")


def throughput_vs_snr(results: Results) -> Figure | None:
    """Throughput over a coded link against transmit SNR; a panel for each speed."""
    return _link_panels(results, "throughput", "throughput [bit/s/Hz]")


def bler_vs_snr(results: Results) -> Figure | None:
    """Block error rate of one entry of the MCS table against transmit SNR: the one that tells most methods apart."""
    rows = results.select(group="link")
    names = _unique(name for row in rows for name in row.figures if name.startswith("bler_mcs"))
    if not names:
        return None

    def spread(name: str) -> float:
        return float(np.std([row.figures[name].value for row in rows], axis=0).sum())

    name = max(names, key=spread)
    return _link_panels(results, name, f"block error rate, MCS {name.removeprefix('bler_mcs')}")


def beam_accuracy(results: Results) -> Figure | None:
    """Top-1 accuracy of predicted beams over what is measured, how well, and how often."""
    return _beam_panels(results, "top1", "top-1 accuracy")


def beam_se_ratio(results: Results) -> Figure | None:
    """Spectral efficiency of predicted beams over that of the best, likewise."""
    return _beam_panels(results, "se_ratio_top1", "SE over the best beam's")


def _beam_panels(results: Results, name: str, label: str) -> Figure | None:
    looks = Looks.of(results)
    keys = {"beams": "beams measured in a sweep", "snr": "SNR per port [dB]", "period": "sweep period [ms]"}
    groups = [group for group in keys if results.select(group=group)]
    if not groups:
        return None

    def panel(axes: Any, group: str) -> None:
        rows = results.select(group=group)
        field = {"beams": "beams", "period": "period_ms"}.get(group)
        for method in order({row.method for row in rows}):
            mine = [row for row in rows if row.method == method]
            figures = [row.figures[name] for row in mine]
            points = [row.settings[field] if field else row.csi_snr_db for row in mine]
            _points(axes, looks[method], points, figures)
        axes.set_title(f"{title(rows[0].data)}, {rows[0].speed_kmh:g} km/h")
        axes.set_xlabel(keys[group])
        if field:
            axes.set_xscale("log", base=2)
            ticks = _unique(row.settings[field] for row in rows)
            axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks])

    return _panels(panel, groups, label, share_y=True)


def _link_panels(results: Results, name: str, label: str) -> Figure | None:
    rows = results.select(group="link")
    if not rows:
        return None
    return _over_transmit_snr(rows, Looks.of(results), name, label, _unique(row.speed_kmh for row in rows))


def _over_transmit_snr(rows: list[Row], looks: Looks, name: str, label: str, speeds: list[float]) -> Figure:
    """Curves over transmit SNR of rows of one scenario; a panel for each speed."""

    def panel(axes: Any, speed: float) -> None:
        for row in _by_method(row for row in rows if row.speed_kmh == speed):
            _curve(axes, looks[row.method], row.figures[name])
        axes.set_title(f"{title(rows[0].data)}, {speed:g} km/h")
        axes.set_xlabel("transmit SNR [dB]")

    return _panels(panel, speeds, label, share_y=True)


def sum_se_vs_transmit_snr(results: Results) -> Figure | None:
    """Sum spectral efficiency of the smallest group against transmit SNR; one panel per speed."""
    name = _curve_name(results, "_vs_snr")
    if name is None:
        return None
    rows = [row for row in headline_cells(results) if name in row.figures]
    rows = [row for row in rows if row.data == rows[0].data]
    speeds = _unique(row.speed_kmh for row in rows)[:4]
    return _over_transmit_snr(rows, Looks.of(results), name, "sum-SE [bit/s/Hz]", speeds)


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
    cells = _unique((row.data, row.speed_kmh, row.csi_snr_db) for row in rows)
    methods = order({row.method for row in rows})
    with rc_context(STYLE):
        figure = Figure(figsize=(WIDTH, 1.1 + max(0.3, 0.11 * len(methods)) * len(cells)), layout="constrained")
        axes = figure.add_subplot()
        offsets = np.linspace(-0.27, 0.27, len(methods)) if len(methods) > 1 else [0.0]
        for offset, method in zip(offsets, methods, strict=True):
            style = looks[method]
            for row in (row for row in rows if row.method == method):
                gain = row.figures["gain_db"]
                place = cells.index((row.data, row.speed_kmh, row.csi_snr_db)) + offset
                low, high = gain.interval or (gain.value, gain.value)
                axes.plot([low, high], [place, place], color=style.color, linewidth=2.2, alpha=0.75)
                label = style.label
                axes.plot([gain.value], [place], style.marker, color=style.color, label=label)
        axes.axvline(0.0, color="#333333", linewidth=1.0)
        axes.set_yticks(range(len(cells)), [f"{title(d)}, {v:g} km/h, {s:g} dB" for d, v, s in cells])
        axes.set_ylim(len(cells) - 0.5, -0.5)
        axes.grid(axis="y", visible=False)
        axes.set_xlabel(f"NMSE gain over {short(results.extras.get('bar', 'ar'))} [dB]  (right: better)")
        handles, labels = axes.get_legend_handles_labels()
        seen = dict(zip(labels, handles, strict=True))
        figure.legend(seen.values(), seen.keys(), loc="outside upper left", ncols=3)
    return figure


def latency_bars(results: Results) -> Figure | None:
    """Measured latency of one prediction at batch 1: bar to the median, whisker to the 99th percentile."""
    looks = Looks.of(results)
    rows = [row for row in _by_method(results.select(group="mean")) if "latency_p50_ms" in row.figures]
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
        axes.set_xscale("log")
        low, high = axes.get_xlim()
        axes.set_xlim(low, high * 8)  # room for the text right of the longest bar
        axes.grid(axis="y", visible=False)
        axes.set_xlabel("latency at batch 1, one thread [ms], measured")
    return figure


def _brief(value: float) -> str:
    """Two digits, without an exponent."""
    return f"{value:.0f}" if value >= 10 else f"{value:.2g}"


def latency_charged(results: Results) -> Figure | None:
    """Modelled sum-SE against the latency of the prediction, each method's measured p50 and p99 marked on it."""
    looks = Looks.of(results)
    rows = _by_method(results.select(group="age"))
    if not rows:
        return None
    with rc_context(STYLE):
        figure = Figure(figsize=(WIDTH, 3.9), layout="constrained")
        axes = figure.add_subplot()
        for row in rows:
            curve, style = row.figures["latency_charged_sum_se"], looks[row.method]
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
    rows = _by_method(results.select(group="csi_period"))
    if not rows:
        return None

    def panel(axes: Any, name: str) -> None:
        for row in rows:
            if name in row.figures:
                _curve(axes, looks[row.method], row.figures[name])
        axes.set_xscale("log")
        ticks = rows[0].figures[name].axis
        axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
        axes.minorticks_off()
        axes.set_xlabel("CSI period [ms]")
        axes.set_title("before pilot overhead, measured" if _is_sum_se(name) else "net of pilots, modelled")

    names = _unique(name for row in rows for name in row.figures if _is_sum_se(name.removeprefix("net_")))
    return _panels(panel, names, "sum-SE [bit/s/Hz]", share_y=True)


def impairments(results: Results) -> Figure | None:
    """NMSE and sum-SE under each impairment, one group of points per impairment."""
    looks = Looks.of(results)
    rows = results.select(group="impairments")
    if not rows:
        return None
    kinds = _unique(row.settings["impairment"] for row in rows)
    methods = order({row.method for row in rows})
    names = _unique(name for row in rows for name in row.figures if name == "nmse_db" or _is_sum_se(name))

    def panel(axes: Any, name: str) -> None:
        for offset, method in zip(np.linspace(-0.22, 0.22, len(methods)), methods, strict=True):
            mine = [row for row in rows if row.method == method and name in row.figures]
            places = np.array([kinds.index(row.settings["impairment"]) for row in mine]) + offset
            values = [row.figures[name].value for row in mine]
            style = looks[method]
            axes.plot(values, places, linestyle="", marker=style.marker or "|", color=style.color, label=style.label)
            for row, place in zip(mine, places, strict=True):
                if row.figures[name].interval:
                    axes.plot(row.figures[name].interval, [place, place], color=style.color, linewidth=1.4, alpha=0.7)
        axes.set_yticks(range(len(kinds)), kinds if name == names[0] else [])
        axes.invert_yaxis()
        axes.grid(axis="y", visible=False)
        axes.set_xlabel("NMSE [dB]" if name == "nmse_db" else "sum-SE [bit/s/Hz]")

    return _panels(panel, names, "", height=1.4 + 0.52 * len(kinds))


def nmse_vs_rounds(results: Results) -> Figure | None:
    """Validation NMSE of federated training over rounds, over bytes, over modelled seconds."""
    rows = [row for row in results.select(group="methods") if "curve_rounds" in row.figures]
    keys = _unique(name for row in rows for name in row.figures if name.startswith("curve_"))
    if results.task != "federated" or not keys:
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
            axes.set_xscale("log")
            axes.xaxis.set_minor_formatter(NullFormatter())
        axes.axhline(untouched, color="#999999", linestyle=":", linewidth=1)
        good = [v for row in rows for v in _values(row.figures["curve_rounds"])]
        axes.set_ylim(min(good) - 0.1, untouched + 0.3)

    return _panels(panel, keys, "NMSE [dB]", share_y=True, height=3.4)


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

    return _panels(panel, [0], "NMSE [dB]")


def _values(figure: Any) -> list[float]:
    return list(figure.value)


def beam_delay_picture(results: Results) -> Figure | None:
    """One channel in the beam-delay domain: true, predicted, and the errors, in dB of the strongest bin."""
    picture = results.extras.get("picture")
    if not picture:
        return None
    true = np.array(picture["true_db"])
    methods = list(picture["predicted_db"])
    with rc_context(STYLE | {"axes.grid": False}):
        figure = Figure(figsize=(WIDTH, 5.3), layout="constrained")
        grid = figure.subplots(2, 1 + len(methods), squeeze=False, sharex=True, sharey=True)

        def show(axes: Any, image: Any, name: str) -> Any:
            axes.set_title(name, size=9.5)
            return axes.imshow(
                np.array(image) - true.max(),
                aspect="auto",
                origin="lower",
                cmap="cividis",
                vmin=-50,
                vmax=0,
                interpolation="nearest",
            )

        shown = show(grid[0, 0], true, "true channel")
        for column, method in enumerate(methods, 1):
            show(grid[0, column], picture["predicted_db"][method], f"predicted by {short(method)}")
            show(grid[1, column], picture["error_db"][method], f"error of {short(method)}")
            grid[1, column].set_xlabel("beam (polarisation, column, row)")
        grid[1, 0].set_visible(False)
        grid[0, 0].tick_params(labelbottom=True)
        grid[0, 0].set_xlabel("beam (polarisation, column, row)")
        grid[0, 0].set_ylabel("delay bin")
        grid[1, 1].set_ylabel("delay bin")
        grid[1, 1].tick_params(labelleft=True)
        figure.colorbar(shown, ax=grid, label="power [dB of the strongest bin]", shrink=0.9, pad=0.015)
    return figure


PLOTS: dict[str, Callable[[Results], Figure | None]] = {
    plot.__name__: plot
    for plot in (
        gain_forest,
        nmse_vs_speed,
        nmse_vs_horizon,
        nmse_vs_csi_snr,
        sum_se_vs_speed,
        sum_se_vs_transmit_snr,
        sum_se_vs_csi_snr,
        sum_se_vs_users,
        sum_se_vs_pilots,
        throughput_vs_snr,
        bler_vs_snr,
        beam_accuracy,
        beam_se_ratio,
        latency_bars,
        latency_charged,
        csi_period,
        impairments,
        nmse_vs_rounds,
        nmse_vs_clients,
        beam_delay_picture,
    )
}


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


@dataclass(frozen=True)
class Drawing:
    """A plot as SVG text, and the share of the column that it fills."""

    svg: str
    share: float


def save_all(results: Results, folder: str | Path) -> dict[str, Drawing]:
    """Draw every plot that the results hold and write it as ``<name>.svg`` and ``<name>.png``."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    drawings = {}
    for name, plot in PLOTS.items():
        if (figure := plot(results)) is None:
            continue
        drawings[name] = Drawing(svg(figure), figure.get_figwidth() / WIDTH)
        write_text(folder / f"{name}.svg", drawings[name].svg)
        figure.savefig(folder / f"{name}.png", dpi=110, facecolor="white")
    return drawings


def title(scenario: str) -> str:
    """A recipe's name as a person writes it; of a recipe's file, its name without folders and ending.

    Example:
        >>> title("uma_nlos"), title("channels/umi35.yaml")
        ('UMa NLOS', 'UMi35')
    """
    if scenario.endswith((".yaml", ".yml")):
        scenario = Path(scenario).stem
    words = {
        "uma": "UMa",
        "umi": "UMi",
        "rma": "RMa",
        "inh": "InH",
        "inf": "InF",
        "los": "LOS",
        "nlos": "NLOS",
        "28ghz": "28 GHz",
        "site": "site",
        "rt": "ray-traced",
    }
    parts = [_word(word, words) for word in scenario.split("_") if word]
    return ("-".join(parts) if parts[:1] in (["CDL"], ["TDL"]) else " ".join(parts)) or scenario


def _word(word: str, words: dict[str, str]) -> str:
    """One word of a recipe's name; a number may stand behind a known word."""
    name = word.rstrip("0123456789")
    if word in words:
        return words[word]
    if name in words:
        return words[name] + word[len(name) :]
    return word.upper() if len(word) < 4 else word


def _against_speed(results: Results, name: str, label: str) -> Figure | None:
    looks = Looks.of(results)
    rows = [row for row in headline_cells(results) if name in row.figures]
    if not rows:
        return None

    def panel(axes: Any, scenario: str) -> None:
        _speed_lines(axes, looks, [row for row in rows if row.data == scenario], name)
        axes.set_title(title(scenario))
        axes.set_xlabel("user speed [km/h]")

    return _panels(panel, _scenarios(results), label, share_y=True)


def _speed_lines(axes: Any, looks: Looks, rows: list[Row], name: str) -> None:
    for method in order({row.method for row in rows}):
        points = sorted((r for r in rows if r.method == method and name in r.figures), key=lambda r: r.speed_kmh or 0.0)
        figures = [row.figures[name] for row in points]
        if figures:
            _points(axes, looks[method], [row.speed_kmh for row in points], figures)


def _line(axes: Any, style: Look, x: Any, y: Any, intervals: Any = None) -> None:
    """One method's line, and a band for its interval."""
    width = 1.4 if not style.marker else 1.8  # bounds have no marker
    axes.plot(x, y, style.line, marker=style.marker, color=style.color, label=style.label, linewidth=width)
    if intervals:
        low, high = zip(*intervals, strict=True)
        axes.fill_between(x, low, high, color=style.color, alpha=0.12, linewidth=0)


def _points(axes: Any, style: Look, x: Any, figures: list[Any]) -> None:
    """One method's line through figures that are numbers."""
    _line(axes, style, x, [figure.value for figure in figures], _intervals(figures))


def _curve(axes: Any, style: Look, figure: Any) -> None:
    """One method's line of a figure that is a curve."""
    _line(axes, style, figure.axis, figure.value, figure.interval)


def _panels(
    panel: Callable[[Any, Any], None], keys: list[Any], ylabel: str, *, share_y: bool = False, height: float = 3.1
) -> Figure:
    """One row of panels, or two where there are more than three; one legend above them."""
    columns = len(keys) if len(keys) <= 3 else (len(keys) + 1) // 2
    lines = -(-len(keys) // columns)
    with rc_context(STYLE):
        width = WIDTH if columns > 1 else 0.85 * WIDTH
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
        if columns > 1:
            longest = max(map(len, seen), default=0)
            across = 4 if longest <= 30 else 3 if longest <= 42 else 2
            figure.legend(seen.values(), seen.keys(), loc="outside upper left", ncols=across)
        else:
            figure.legend(seen.values(), seen.keys(), loc="outside right upper")
    return figure


def _headline_snr(results: Results) -> float | None:
    """The CSI SNR at which most speeds were run."""
    rows = results.select(group="cell")
    values = _unique(row.csi_snr_db for row in rows)
    count = {v: len({(row.data, row.speed_kmh) for row in rows if row.csi_snr_db == v}) for v in values}
    return max(values, key=lambda value: count[value]) if values else None


def headline_cells(results: Results) -> list[Row]:
    """Rows of the cells at the CSI SNR of the headline."""
    return results.select(group="cell", csi_snr_db=_headline_snr(results))


def _scenarios(results: Results) -> list[str]:
    return _unique(row.data for row in headline_cells(results))


def _curve_name(results: Results, ending: str) -> str | None:
    names = _unique(name for row in results.select(group="cell") for name in row.figures if name.endswith(ending))
    return names[0] if names else None


def _is_sum_se(name: str) -> bool:
    return name.startswith("sum_se_k") and name.removeprefix("sum_se_k").isdigit()


def _by_method(rows: Iterable[Row]) -> list[Row]:
    rows = list(rows)
    names = order({row.method for row in rows})
    return sorted(rows, key=lambda row: names.index(row.method))


def _intervals(figures: list[Any]) -> list[Any] | None:
    return [f.interval for f in figures] if figures and all(f.interval is not None for f in figures) else None


def _unique(values: Iterable[Any]) -> list[Any]:
    return list(dict.fromkeys(values))
