"""Figures of the benchmark of mechanisms: time against energy, who does what when, bytes, NMSE."""

from __future__ import annotations

from typing import Any

from airlam.edge.parallel.benchmark.sentences import GROUP, START_NAME, front
from airlam.evaluation.report.drawing import Figure, draw_panels, log_x_axis
from airlam.evaluation.report.sections import ReportFigure, Section, rows_of
from airlam.evaluation.rows import Results, Row

KINDS = {  # kind -> color, marker
    "cloud": ("#0072b2", "s"),
    "one device": ("#777777", "^"),
    "federated": ("#009e73", "o"),
    "split": ("#cc79a7", "D"),
    "collaborative": ("#d55e00", "o"),
    "planned": ("#882255", "*"),
}
PHASES = {"compute": "#0072b2", "send": "#d55e00", "receive": "#f0c27a", "wait": "#e2e2e2"}


def billed(results: Results) -> list[Row]:
    """Rows of mechanisms, in the order of the table."""
    return [row for row in results.select(group=GROUP) if "seconds" in row.figures]


def energy_vs_time(results: Results) -> Figure | None:
    """Joules against seconds of a whole training, and the front of those that no other beats in both."""
    rows = billed(results)
    if len(rows) < 2:
        return None
    best = front(rows)

    def panel(axes: Any, _: Any) -> None:
        line = [(row.figures["seconds"].number, row.figures["joules"].number) for row in best]
        axes.plot(*zip(*line, strict=True), color="#bbbbbb", linewidth=1.2, zorder=1)
        for row in rows:
            color, marker = KINDS[row.settings["kind"]]
            at = row.figures["seconds"].number, row.figures["joules"].number
            axes.plot(*at, marker=marker, color=color, linestyle="", label=row.settings["kind"], markersize=7)
        log_x_axis(axes)
        axes.set_yscale("log")
        axes.yaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
        axes.margins(0.12)
        axes.set_xlabel("seconds of the training (modelled)")
        name_points(axes, rows)

    return draw_panels(panel, [0], "joules (modelled)", height=4.6)


def name_points(axes: Any, rows: list[Row]) -> None:
    """Names beside their points, moved up or down where two would lie on each other."""
    import math

    taken: list[tuple[float, float, float]] = []  # left end, height, width, in decades
    places = [(math.log10(r.figures["seconds"].number), math.log10(r.figures["joules"].number)) for r in rows]
    xs, ys = zip(*places, strict=True)
    wide, high = max(max(xs) - min(xs), 0.3), max(max(ys) - min(ys), 0.3)
    middle, gap = (max(xs) + min(xs)) / 2, 0.022 * wide
    taken += [(x - 0.6 * gap, y, 1.2 * gap) for x, y in places]  # by the points themselves
    for row, (x, y) in sorted(zip(rows, places, strict=True), key=lambda pair: pair[0].figures["joules"].number):
        left = x > middle
        width = 0.0155 * len(row.method) * wide
        start = x - width - gap if left else x + gap
        for shift in (0, 1, -1, 2, -2, 3, -3, 4, -4):
            at = y + 0.045 * shift * high
            if all(abs(at - b) > 0.042 * high or start > a + w or start + width < a for a, b, w in taken):
                break
        taken.append((start, at, width))
        axes.annotate(
            row.method,
            (10**x, 10**y),
            xytext=(10 ** (x - gap if left else x + gap), 10**at),
            fontsize=8,
            ha="right" if left else "left",
            va="center",
            color="#333333",
            arrowprops={"arrowstyle": "-", "color": "#aaaaaa", "linewidth": 0.6} if shift else None,
        )


def timeline(results: Results) -> Figure | None:
    """Who computes, sends, receives and waits in one step; a panel for each mode."""
    found = results.extras.get("timelines") or {}
    if not found:
        return None

    def panel(axes: Any, mode: str) -> None:
        one = found[mode]
        names = one["devices"]
        for phase in ("wait", "compute", "receive", "send"):
            for rank in range(len(names)):
                own = [(s, e - s) for r, p, s, e in one["spans"] if r == rank and p == phase]
                # what is sent and received at once is drawn as two thin bars below each other
                low, height = {"send": (0.0, 0.35), "receive": (-0.35, 0.35)}.get(phase, (-0.35, 0.7))
                bars = [(1e3 * start, 1e3 * took) for start, took in own]
                axes.broken_barh(bars, (rank + low, height), facecolors=PHASES[phase], label=phase, linewidth=0)
        axes.set_yticks(range(len(names)), names)
        axes.invert_yaxis()
        axes.grid(False, axis="y")
        axes.set_xlim(0, 1e3 * one["seconds"])
        axes.set_xlabel("ms of a step (modelled)")
        axes.set_title(one["name"])

    return draw_panels(panel, list(found), "", height=2.6)


def bytes_bars(results: Results) -> Figure | None:
    """Megabytes over the links, and raw data that leaves its owner."""
    rows = billed(results)
    if not rows:
        return None
    series = [
        ("over the links", "link_mb", "#0072b2", -0.2),
        ("raw data that leaves its owner", "raw_mb", "#d55e00", 0.2),
    ]

    def panel(axes: Any, _: Any) -> None:
        for label, name, color, shift in series:
            places = [n + shift for n in range(len(rows))]
            values = [row.figures[name].number for row in rows]
            axes.barh(places, values, 0.38, color=color, label=label)
            for place, value in zip(places, values, strict=True):
                axes.text(max(value, 1.0) * 1.08, place, f"{value:,.0f}", fontsize=7.5, va="center", color="#444444")
        log_x_axis(axes)
        axes.set_xlim(left=1.0, right=6 * max(row.figures["link_mb"].number for row in rows) + 10)
        axes.set_yticks(range(len(rows)), [row.method for row in rows])
        axes.invert_yaxis()
        axes.grid(False, axis="y")
        axes.set_xlabel("MB of the whole training")

    return draw_panels(panel, [0], "", height=1.0 + 0.34 * len(rows))


def nmse_vs_time(results: Results) -> Figure | None:
    """NMSE on held-out links against the seconds of the training."""
    rows = billed(results)
    start = results.select(group=GROUP, method=START_NAME)
    if len(rows) < 2:
        return None

    def panel(axes: Any, _: Any) -> None:
        for row in rows:
            color, marker = KINDS[row.settings["kind"]]
            at = row.figures["seconds"].number, row.figures["nmse_cells_db"].number
            axes.plot(*at, marker=marker, color=color, linestyle="", label=row.settings["kind"], markersize=7)
            f = row.figures.get("nmse_by_seed_db")
            if f is not None and isinstance(f.value, list):
                axes.plot([at[0], at[0]], [min(f.value), max(f.value)], color=color, linewidth=1)
        for row in start:
            axes.axhline(row.figures["nmse_cells_db"].number, color="#444444", linestyle=":", label=START_NAME)
        log_x_axis(axes)
        axes.set_xlabel("seconds of the training (modelled)")

    return draw_panels(panel, [0], "NMSE [dB]", height=3.4)


SECTIONS = (
    Section(
        "Time, energy, bytes",
        (
            ReportFigure(
                energy_vs_time,
                "Energy against time of the whole training on the pool. Line: those that no other mechanism beats in "
                "both.",
                rows_of(GROUP),
                modelled=True,
            ),
            ReportFigure(
                timeline,
                "One step: who computes, sends (upper half of a bar), receives (lower half) and waits.",
                lambda _: [],
                modelled=True,
            ),
            ReportFigure(
                bytes_bars,
                "Megabytes of the whole training: all that crosses the links, and the raw data in it that leaves its "
                "owner.",
                rows_of(GROUP),
            ),
            ReportFigure(
                nmse_vs_time,
                "NMSE on held-out users (measured) against time on the pool (modelled); bars: the training seeds. "
                "Dotted: before training.",
                rows_of(GROUP),
                modelled=True,
            ),
        ),
    ),
)
