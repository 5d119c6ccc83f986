"""Figures and tables of the channel prediction benchmark alone: impairments, path loss, picture of one channel."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from matplotlib import rc_context

from airlam.evaluation.report.contents import path_loss_table
from airlam.evaluation.report.drawing import STYLE, WIDTH, Figure, draw_panels, unique
from airlam.evaluation.report.figures import CSI_PERIOD, LATENCY, PREDICTION_ERROR, SPECTRAL_EFFICIENCY
from airlam.evaluation.report.palette import Looks
from airlam.evaluation.report.sections import ReportFigure, Section, rows_of
from airlam.evaluation.report.style import order, short
from airlam.evaluation.rows import Results, group_sizes, sum_se_name


def impairments(results: Results) -> Figure | None:
    """NMSE and sum-SE under each impairment."""
    return labelled(results, "impairments", "impairment")


def odd_inputs(results: Results) -> Figure | None:
    """NMSE of each small or odd input."""
    return labelled(results, "odd", "odd")


def labelled(results: Results, group: str, key: str) -> Figure | None:
    """NMSE and, where it is known, sum-SE of the cells of a group, one group of points per label."""
    looks = Looks.of(results)
    rows = results.select(group=group)
    if not rows:
        return None
    kinds = unique(row.settings[key] for row in rows)
    methods = order({row.method for row in rows})
    names = ["nmse_db"] if any("nmse_db" in row.figures for row in rows) else []
    names += [sum_se_name(users) for users in group_sizes(rows)]

    def panel(axes: Any, name: str) -> None:
        for offset, method in zip(np.linspace(-0.22, 0.22, len(methods)), methods, strict=True):
            mine = [row for row in rows if row.method == method and name in row.figures]
            places = np.array([kinds.index(row.settings[key]) for row in mine]) + offset
            values = [row.figures[name].value for row in mine]
            style = looks[method]
            axes.plot(values, places, linestyle="", marker=style.marker or "|", color=style.color, label=style.label)
            for row, place in zip(mine, places, strict=True):
                if row.figures[name].interval:
                    axes.plot(row.figures[name].interval, [place, place], color=style.color, linewidth=1.4, alpha=0.7)
        axes.set_yticks(range(len(kinds)), kinds if name == names[0] else [])
        axes.set_ylim(len(kinds) - 0.5, -0.5)
        axes.grid(axis="y", visible=False)
        axes.set_xlabel("NMSE [dB]" if name == "nmse_db" else "sum-SE [bit/s/Hz]")

    return draw_panels(panel, names, "", height=1.4 + 0.52 * len(kinds), beside=False)  # labels are long


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


SECTIONS = (
    PREDICTION_ERROR,
    replace(SPECTRAL_EFFICIENCY, tables=(path_loss_table,)),
    LATENCY,
    CSI_PERIOD,
    Section(
        "Impaired measurements",
        (
            ReportFigure(
                impairments,
                "One cell with an impaired history; the target stays the true channel. A phase that all of a user's "
                "antennas and subcarriers share does not change what a precoder does, so a carrier offset costs NMSE "
                "and hardly any sum-SE; what differs from slot to slot disturbs the prediction itself. Lost slots are "
                "interpolated linearly for the classical methods; the learned method is told which they are and "
                "ignores them.",
                rows_of("impairments"),
            ),
        ),
    ),
    Section(
        "Other inputs and broken assumptions",
        (
            ReportFigure(
                odd_inputs,
                "Cells unlike the headline's: few subcarriers or antennas, short and long histories, and channels that "
                "are no sum of a few plane waves on a perfect array. Classical methods are tuned on each cell; the "
                "learned one is used as it is.",
                rows_of("odd"),
            ),
        ),
    ),
    Section(
        "One channel",
        (
            ReportFigure(
                beam_delay_picture, "One held-out channel, last predicted slot, in the beam-delay domain.", rows_of()
            ),
        ),
    ),
)
