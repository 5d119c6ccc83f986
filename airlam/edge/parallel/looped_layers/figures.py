"""Figures of the benchmark of looped layers: NMSE over depth, and over CPU time."""

from __future__ import annotations

from typing import Any

from airlam.edge.parallel.looped_layers.results import GROUP
from airlam.evaluation.report.drawing import Figure, draw_panels
from airlam.evaluation.report.sections import ReportFigure, Section, rows_of
from airlam.evaluation.rows import Results

COLORS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#117733", "#444444")


def nmse_vs_depth(results: Results) -> Figure | None:
    """NMSE after training over the depth: a line for each row of layers that is looped, one for those that are not."""
    rows = results.select(group=GROUP)
    if not rows:
        return None
    lines = {}
    for layers in sorted({row.settings["layers"] for row in rows if row.settings["loops"] > 1}):
        label = f"{layers} layer{'s' * (layers > 1)}, looped"
        lines[label] = [row for row in rows if row.settings["layers"] == layers]
    lines["layers of their own"] = [row for row in rows if row.settings["loops"] == 1]

    def panel(axes: Any, key: str) -> None:
        for color, (label, mine) in zip(COLORS, lines.items(), strict=False):
            mine = sorted(mine, key=lambda row: row.settings["depth"])
            depth = [row.settings["depth"] for row in mine]
            style = "--" if label == "layers of their own" else "-"
            axes.plot(depth, [row.figures[key].number for row in mine], style, marker="o", color=color, label=label)
            if key == "nmse_mean_db":
                for row in mine:
                    seeds = list(row.figures["nmse_by_seed_db"].value)  # type: ignore[arg-type]
                    axes.plot([row.settings["depth"]] * len(seeds), seeds, ".", color=color, alpha=0.5, markersize=4)
        ticks = sorted({row.settings["depth"] for row in rows})
        axes.set_xscale("log", base=2)
        axes.set_xticks(ticks, [str(depth) for depth in ticks])
        axes.set_xlabel("layers that a token passes through")
        axes.set_title("mean of dB" if key == "nmse_mean_db" else "linear mean")

    return draw_panels(panel, ["nmse_mean_db", "nmse_linear_db"], "NMSE [dB]")


def nmse_vs_cpu_time(results: Results) -> Figure | None:
    """NMSE of validation links while training, over the CPU time."""
    rows = [row for row in results.select(group=GROUP) if "curve" in row.figures]
    if not rows:
        return None

    def panel(axes: Any, _: Any) -> None:
        for color, row in zip(COLORS, rows, strict=False):
            figure = row.figures["curve"]
            style = "--" if row.settings["loops"] == 1 else "-"
            axes.plot(figure.axis, figure.value, style, marker=".", color=color, label=row.method)
        axes.set_xlabel(rows[0].figures["curve"].axis_name)

    return draw_panels(panel, [0], "NMSE [dB], mean of dB")


SECTIONS = (
    Section(
        "Depth and CPU time",
        (
            ReportFigure(
                nmse_vs_depth,
                "NMSE after equal CPU time against depth, mean over training seeds; small dots on the left: each seed.",
                rows_of(GROUP),
            ),
            ReportFigure(
                nmse_vs_cpu_time,
                "NMSE of validation links while training, mean over training seeds. Dashed: layers that are run once.",
                rows_of(GROUP),
            ),
        ),
    ),
)
