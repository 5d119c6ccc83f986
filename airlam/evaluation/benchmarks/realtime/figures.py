"""Figures of the benchmark of predictions that arrive in time."""

from __future__ import annotations

from typing import Any

import numpy as np

from airlam.evaluation.report.drawing import Figure, draw_panels, unique
from airlam.evaluation.report.palette import Looks
from airlam.evaluation.report.sections import ReportFigure, Section, rows_of
from airlam.evaluation.report.style import order
from airlam.evaluation.rows import Results


def charged_by_latency(results: Results) -> Figure | None:
    """Sum-SE over latency, a panel for each speed, with each method's measured p50 and p99 on its curve."""
    rows, looks = results.select(group="age"), Looks.of(results)
    if not rows:
        return None

    def panel(axes: Any, key: tuple[str, float | None]) -> None:
        here = {row.method: row for row in rows if (row.data, row.speed_kmh) == key}
        for method in order(list(here)):
            curve, style = here[method].figures["latency_charged_sum_se"], looks[method]
            axes.plot(curve.axis, curve.value, style.line, color=style.color, label=style.label, alpha=0.6, zorder=2)
            for name, marker, size in (("latency_p50_ms", style.marker or "o", 8), ("latency_p99_ms", "|", 12)):
                place = here[method].figures.get(name)
                if place is not None and curve.axis is not None and place.number <= curve.axis[-1]:
                    value = float(np.interp(place.number, curve.axis, curve.value))
                    axes.plot([place.number], [value], marker, color=style.color, markersize=size, mew=2, zorder=3)
        axes.set_xscale("symlog", linthresh=0.5, linscale=0.5)
        axes.set_xticks([0, 0.5, 1, 2, 5, 10], ["0", "0.5", "1", "2", "5", "10"])
        axes.set_xlabel("latency [ms]")
        axes.set_title(f"{key[1]:g} km/h")

    keys = unique((row.data, row.speed_kmh) for row in rows)
    return draw_panels(panel, keys, "sum-SE [bit/s/Hz], modelled", share_y=True, height=4.2)


SECTIONS = (
    Section(
        "What a prediction is worth when it arrives",
        (
            ReportFigure(
                charged_by_latency,
                "Sum-SE over the latency of a prediction: it serves the slots that follow. Marker: the method's "
                "measured median latency; bar: its 99th percentile. A method without a marker takes longer than 10 ms.",
                rows_of("age"),
                modelled=True,
            ),
        ),
    ),
)
