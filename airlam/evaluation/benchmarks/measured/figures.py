"""Figures of the benchmark of measured channels: every method against the noise, and what each offset costs."""

from __future__ import annotations

from typing import Any

from airlam.evaluation.benchmarks.measured.config import VIEWS
from airlam.evaluation.report.drawing import Figure, draw_panels, unique
from airlam.evaluation.report.palette import Looks
from airlam.evaluation.report.sections import ReportFigure, Section, rows_of
from airlam.evaluation.report.style import order, title
from airlam.evaluation.rows import Results, Row

FAR_DB = 10.0  # noise that lies so far below all methods is written, not drawn


def first_view(results: Results) -> list[Row]:
    """Rows of the headline's view."""
    rows = results.select(group="cell")
    return [row for row in rows if row.label == rows[0].label]


def error_and_noise(results: Results) -> Figure | None:
    """NMSE of every method in each recording, with the noise of the target."""
    rows, looks = first_view(results), Looks.of(results)
    methods = order({row.method for row in rows})

    def panel(axes: Any, data: str) -> None:
        for place, method in enumerate(methods):
            for row in (row for row in rows if row.data == data and row.method == method):
                figure, style = row.figures["nmse_db"], looks[method]
                axes.plot(
                    figure.number, place, linestyle="", marker=style.marker or "|", color=style.color, markersize=6
                )
                if figure.interval:
                    axes.plot(figure.interval, [place, place], color=style.color, linewidth=1.6, alpha=0.7)
        noise, least = results.extras["noise"][data], axes.get_xlim()[0]
        for name, line in (("across_tones", "--"), ("across_packets", ":")):
            label, value = f"noise {name.replace('_', ' ')}", noise[name]["db"]
            if value < least - FAR_DB:  # a line there would squeeze all others
                axes.text(
                    0.98, 0.5, f"{label}: {value:.0f} dB", transform=axes.get_yaxis_transform(), ha="right", fontsize=9
                )
            else:
                axes.axvline(value, color="#444444", linestyle=line, linewidth=1.4, label=label)
        left = data in recordings[::columns]
        axes.set_yticks(range(len(methods)), [looks[m].label for m in methods] if left else [""] * len(methods))
        axes.set_ylim(len(methods) - 0.5, -0.5)
        axes.grid(axis="y", visible=False)
        axes.set_title(title(data))
        axes.set_xlabel("NMSE [dB]")

    recordings = unique(row.data for row in rows)
    columns = len(recordings) if len(recordings) <= 3 else (len(recordings) + 1) // 2
    return draw_panels(panel, recordings, "", height=1.0 + 0.27 * len(methods), beside=False)


def what_offsets_cost(results: Results) -> Figure | None:
    """NMSE of every method in each view."""
    return _over_views(results, "nmse_db", "NMSE [dB]")


def what_offsets_do_to_shape(results: Results) -> Figure | None:
    """NMSE of every method in each view, after every predicted packet was turned and scaled to fit best."""
    return _over_views(results, "nmse_turned_db", "NMSE of the shape [dB]")


def _over_views(results: Results, name: str, label: str) -> Figure | None:
    looks, rows = Looks.of(results), results.select(group="cell")
    if len({row.label for row in rows}) < 2:
        return None
    several = {m for m in {r.method for r in rows} if len({r.label for r in rows if r.method == m}) > 1}

    def panel(axes: Any, data: str) -> None:
        views = [view for view in VIEWS if any((row.data, row.label) == (data, view) for row in rows)]
        for number, method in enumerate(order(several)):
            mine = {row.label: row.figures[name] for row in rows if (row.data, row.method) == (data, method)}
            style, aside = looks[method], 0.12 * (number - (len(several) - 1) / 2)
            places = [views.index(view) + aside for view in mine]
            values = [figure.number for figure in mine.values()]
            axes.plot(places, values, linestyle="", marker=style.marker or "_", color=style.color, label=style.label)
            for place, figure in zip(places, mine.values(), strict=True):
                if figure.interval:
                    axes.plot([place, place], figure.interval, color=style.color, linewidth=1.2, alpha=0.6)
        axes.set_xticks(range(len(views)), [view.replace(" ", "\n", 1) for view in views], fontsize=8.5)
        axes.set_xlim(-0.5, len(views) - 0.5)
        axes.axhline(0, color="#999999", linewidth=0.9)
        axes.grid(axis="x", visible=False)
        axes.set_title(title(data))

    return draw_panels(panel, unique(row.data for row in rows), label, height=2.7, beside=False)


SECTIONS = (
    Section(
        "Prediction error and noise",
        (
            ReportFigure(
                error_and_noise,
                "NMSE against the measured future, one panel a recording; lines are 95 % intervals over {resampled}. "
                "No method can come below the noise of its target. Of the two estimates the one across tones is low "
                "where noise is smooth over tones, the one across packets holds motion too.",
                first_view,
            ),
        ),
    ),
    Section(
        "What the receiver's offsets cost",
        (
            ReportFigure(
                what_offsets_cost,
                "The same packets with fewer offsets removed. Above the line at 0 dB a prediction is worse than zero.",
                rows_of("cell"),
            ),
            ReportFigure(
                what_offsets_do_to_shape,
                "The same, after every predicted packet was turned and scaled to fit the measured one best: what is "
                "left is the shape over tones, which a precoder uses. “History turned” is what a receiver can do.",
                rows_of("cell"),
            ),
        ),
    ),
)
