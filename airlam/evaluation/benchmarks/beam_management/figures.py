"""Figures of the beam management benchmark: accuracy and spectral efficiency over what is measured of the beams."""

from __future__ import annotations

from typing import Any

from airlam.evaluation.report.drawing import Figure, draw_panels, draw_points, unique
from airlam.evaluation.report.palette import Looks
from airlam.evaluation.report.sections import ReportFigure, Section, rows_of
from airlam.evaluation.report.style import order, title
from airlam.evaluation.rows import Results


def beam_accuracy(results: Results) -> Figure | None:
    """Top-1 accuracy of predicted beams over what is measured, how well, and how often."""
    return _beam_panels(results, "top1", "top-1 accuracy")


def beam_se_ratio(results: Results) -> Figure | None:
    """Spectral efficiency of predicted beams over that of the best, likewise."""
    return _beam_panels(results, "se_ratio_top1", "SE over the best beam's")


def _beam_panels(results: Results, name: str, label: str) -> Figure | None:
    """A panel for each sweep: beams measured, SNR of a measurement, time between sweeps."""
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
            draw_points(axes, looks[method], points, figures)
        axes.set_title(f"{title(rows[0].data)}, {rows[0].speed_kmh:g} km/h")
        axes.set_xlabel(keys[group])
        if field:
            axes.set_xscale("log", base=2)
            ticks = unique(row.settings[field] for row in rows)
            axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks])

    return draw_panels(panel, groups, label, share_y=True)


SECTIONS = (
    Section(
        "Beams",
        (
            ReportFigure(
                beam_accuracy,
                "Share of cases in which the predicted beam is the best one, against the number of beams measured in "
                "a sweep, the SNR of each measurement, and the time between sweeps.",
                rows_of("beams", "snr", "period"),
            ),
            ReportFigure(
                beam_se_ratio,
                "Spectral efficiency with the predicted beam relative to that with the best beam; mean over the "
                "horizon.",
                rows_of("beams", "snr", "period"),
            ),
        ),
    ),
)
