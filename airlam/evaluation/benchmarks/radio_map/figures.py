"""Figures of the benchmark of radio maps."""

from __future__ import annotations

from typing import Any

from airlam.evaluation.benchmarks.radio_map.config import CLASSICS, LABELS, NETWORKS
from airlam.evaluation.report.drawing import Figure, draw_panels, draw_points
from airlam.evaluation.report.sections import ReportFigure, Section, rows_of
from airlam.evaluation.report.style import Look
from airlam.evaluation.rows import Results

_COLORS = ("#bbbbbb", "#777777", "#56b4e9", "#e69f00", "#f0e442", "#cc79a7", "#0072b2", "#d55e00", "#009e73")
_MARKERS = ("x", "s", "^", "v", "<", ">", "o", "D", "P")
LOOKS = {
    name: Look(label, color, "--" if name.endswith("no-heights") else "-", marker)
    for (name, label), color, marker in zip((CLASSICS | NETWORKS).items(), _COLORS, _MARKERS, strict=True)
}


def error_over_share(results: Results) -> Figure | None:
    """Power error over the number of measured places, one panel a place."""
    rows = [row for row in results.rows if row.group in ("cell", "share")]
    places = list(dict.fromkeys(row.data for row in rows))

    def panel(axes: Any, place: str) -> None:
        for name, style in LOOKS.items():
            mine = sorted((r for r in rows if (r.data, r.method) == (place, name)), key=lambda r: r.settings["share"])
            if mine:
                found = [row.figures["rmse"] for row in mine]
                x = [row.settings["measured places"] for row in mine]
                draw_points(axes, style, x, found)
        axes.set_title(place)
        axes.set_xlabel("measured places")

    return draw_panels(panel, places, "power error [dB]", share_y=False) if places else None


def maps(results: Results) -> Figure | None:
    """Truth, what kriging and the network say, its error and its spread, at one station of each place."""
    drawn = {label: picture for label, picture in results.extras.get("pictures", {}).items() if picture}
    if not drawn:
        return None
    label, picture = next(iter(drawn.items()))
    said = picture["said"]
    best = "network" if "network" in said else "kriging:cities"
    x, y = zip(*picture["place"], strict=True)
    kx, ky = zip(*picture["known"], strict=True)
    low, high = min(picture["power"]), max(picture["power"])
    error = [a - b for a, b in zip(said[best]["power"], picture["power"], strict=True)]
    panels = {
        "true power [dB]": (picture["power"], "viridis", low, high),
        "kriging [dB]": (said["kriging"]["power"], "viridis", low, high),
        f"{LABELS[best]} [dB]": (said[best]["power"], "viridis", low, high),
        "its error [dB]": (error, "RdBu", -20.0, 20.0),
        "its spread [dB]": (said[best]["spread"], "magma", 0.0, 20.0),
    }

    def panel(axes: Any, name: str) -> None:
        values, colours, least, most = panels[name]
        shown = axes.scatter(x, y, c=values, cmap=colours, vmin=least, vmax=most, s=9)
        axes.scatter(kx, ky, marker="x", c="black", s=12, linewidths=0.8)
        axes.figure.colorbar(shown, ax=axes)
        axes.set_aspect("equal")
        axes.set_title(name)
        axes.set_xlabel("x [m]")

    return draw_panels(panel, list(panels), f"{label}, y [m]", share_y=True)


SECTIONS = (
    Section(
        "Maps",
        (
            ReportFigure(maps, "One station; crosses are measured places.", rows_of("cell")),
            ReportFigure(
                error_over_share,
                "Power error where nothing was measured; bands are 95 % intervals over {resampled}.",
                rows_of("share"),
            ),
        ),
    ),
)
