"""Figures of the beamforming benchmark: sum spectral efficiency over CSI SNR, number of users, number of pilots."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from airlam.evaluation.report.drawing import (
    Figure,
    by_method,
    draw_line,
    draw_panels,
    draw_points,
    headline_snr,
    intervals_of,
    unique,
)
from airlam.evaluation.report.figures import CSI_PERIOD, LATENCY, PREDICTION_ERROR, SPECTRAL_EFFICIENCY
from airlam.evaluation.report.palette import Looks
from airlam.evaluation.report.sections import ReportFigure, Section, rows_of
from airlam.evaluation.report.style import order, title
from airlam.evaluation.rows import Results, group_sizes, sum_se_name


def sum_se_vs_csi_snr(results: Results) -> Figure | None:
    """Sum spectral efficiency against the SNR of the measured CSI, one panel per group size."""
    looks = Looks.of(results)
    rows = results.select(group="cell")
    speeds = {row.speed_kmh for row in rows if row.csi_snr_db != headline_snr(results)}
    rows = [row for row in rows if row.speed_kmh in speeds and row.data == rows[0].data]
    sizes = group_sizes(rows)
    if not sizes:
        return None

    def panel(axes: Any, users: int) -> None:
        for method in order({row.method for row in rows}):
            points = sorted((row for row in rows if row.method == method), key=lambda row: row.csi_snr_db or 0.0)
            figures = [row.sum_se(users) for row in points]
            draw_points(axes, looks[method], [row.csi_snr_db for row in points], figures)
        axes.set_title(f"{title(rows[0].data)}, {rows[0].speed_kmh:g} km/h, {users} users")
        axes.set_xlabel("CSI SNR [dB]")

    return draw_panels(panel, sizes, "sum-SE [bit/s/Hz]")


def sum_se_vs_users(results: Results) -> Figure | None:
    """Sum spectral efficiency against the number of users served together, and what each of them gets."""
    looks = Looks.of(results)
    rows = by_method(results.select(group="users"))
    if not rows:
        return None
    sizes = sorted(rows[0].group_sizes)

    def panel(axes: Any, per_user: bool) -> None:
        for row in rows:
            figures = [row.figures[sum_se_name(users)] for users in sizes]
            share = [1 / users if per_user else 1.0 for users in sizes]
            bands = intervals_of(figures)
            bands = bands and [(low * s, high * s) for (low, high), s in zip(bands, share, strict=True)]
            draw_line(
                axes, looks[row.method], sizes, [f.number * s for f, s in zip(figures, share, strict=True)], bands
            )
        axes.set_title("mean rate of a user [bit/s/Hz]" if per_user else "sum-SE [bit/s/Hz]")
        axes.set_xlabel(f"users ({title(rows[0].data)}, {rows[0].speed_kmh:g} km/h)")
        axes.set_xticks(sizes)

    return draw_panels(panel, [False, True], "bit/s/Hz")


def sum_se_vs_pilots(results: Results) -> Figure | None:
    """Sum spectral efficiency from uplink pilots against their number; a panel for each SNR and group size."""
    looks = Looks.of(results)
    rows = results.select(group="pilots")
    keys = [(snr, users) for snr in unique(row.csi_snr_db for row in rows) for users in group_sizes(rows)]
    if not keys:
        return None

    def panel(axes: Any, key: tuple[float, int]) -> None:
        snr, users = key
        here = [row for row in rows if row.csi_snr_db == snr]
        for method in order({row.method for row in here}):
            points = sorted((row for row in here if row.method == method), key=lambda row: row.settings["pilots"])
            figures = [row.sum_se(users) for row in points]
            draw_points(axes, looks[method], [r.settings["pilots"] for r in points], figures)
        axes.set_title(f"pilots at {snr:g} dB, {users} users")
        axes.set_xticks(unique(row.settings["pilots"] for row in here))
        axes.set_xlabel("pilots of a user")

    return draw_panels(panel, keys, "sum-SE [bit/s/Hz]")


SECTIONS = (
    PREDICTION_ERROR,
    replace(
        SPECTRAL_EFFICIENCY,
        figures=(
            *SPECTRAL_EFFICIENCY.figures,
            ReportFigure(
                sum_se_vs_csi_snr,
                "Sum spectral efficiency against the SNR of the measured history.",
                rows_of("cell"),
            ),
            ReportFigure(
                sum_se_vs_users,
                "Sum spectral efficiency and mean rate of a user against the number of users served together: "
                "they share the transmit power and the antennas, and disturb each other where CSI is wrong.",
                rows_of("users"),
            ),
        ),
    ),
    Section(
        "From pilots",
        (
            ReportFigure(
                sum_se_vs_pilots,
                "Static users send fewer pilots than the base station has antennas, received through an analog "
                "combiner of random phases; spectral efficiency is computed on the true channel.",
                rows_of("pilots"),
            ),
        ),
    ),
    LATENCY,
    CSI_PERIOD,
)
