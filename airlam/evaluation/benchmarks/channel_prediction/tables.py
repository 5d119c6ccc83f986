"""Rows and explanations of the report on channel prediction."""

from __future__ import annotations

from dataclasses import replace

from airlam.evaluation.benchmarks.channel_prediction.config import ChannelPredictionArguments
from airlam.evaluation.engine.summarise import age_rows, cell_rows, csi_period_rows, mean_rows, path_loss_rows
from airlam.evaluation.report.baseline import bar_label
from airlam.evaluation.report.style import title
from airlam.evaluation.results import CellRecord
from airlam.evaluation.rows import Results, Row


def main_cells(records: list[CellRecord]) -> list[CellRecord]:
    """The records of the headline's cells."""
    return [record for record in records if record.cell["group"] == "cell" and record.cell["headline"]]


def rows_of(records: list[CellRecord], bar: str, csi_period: int) -> list[Row]:
    """The rows of every table.

    Args:
        records: of all cells.
        bar: the method that gains are relative to.
        csi_period: slots between two measurements in the table of latencies, the benchmark's horizon.
    """

    def of(group: str) -> list[CellRecord]:
        return [record for record in records if record.cell["group"] == group]

    main = main_cells(records)
    timed = next((record for record in main if record.cell["timed"]), None)
    rows = list(mean_rows(main, bar, timed))
    for record in of("cell"):
        rows += cell_rows(record, bar)
    for record in of("age"):
        rows += age_rows(record, bar, csi_period=csi_period)
    if periods := of("csi_period"):
        rows += csi_period_rows(periods)
    for label in dict.fromkeys(record.cell["label"] for record in of("held_out")):
        mine = [record for record in of("held_out") if record.cell["label"] == label]
        rows += [replace(row, group="held_out", settings={"held_out": label}) for row in mean_rows(mine, bar)]
    for record in [*of("impairments"), *of("odd")]:
        rows += [row for row in cell_rows(record, bar) if row.method != "perfect"]
    for record in main:
        rows += path_loss_rows(record, bar)
    return rows


def compared(results: Results, main: list[CellRecord], arguments: ChannelPredictionArguments, label: str) -> list[str]:
    """Paragraphs on what was compared: the task, the data, the methods.

    Args:
        results: with all rows.
        main: records of the headline's cells.
        label: the learned method's name.
    """
    recipe, sizes, cells = main[0].cell["recipe"], arguments.sizes, arguments.cells
    ports = recipe["bs_panel"]["rows"] * recipe["bs_panel"]["columns"]
    ports *= 2 if recipe["bs_panel"]["polarisation"] == "dual" else 1
    links, drops = len(main[0].drop()), len(main[0].drop().unique())
    return [
        f"From {sizes.history} measured CSI occasions, {1e3 * recipe['slot_duration']:g} ms apart, the next "
        f"{sizes.horizon} are predicted, for {ports} ports x {recipe['num_subcarriers']} subcarriers at "
        f"{recipe['carrier_frequency'] / 1e9:g} GHz. The history has a CSI SNR of {cells.csi_snr_db:g} dB; the "
        "target is the true channel.",
        f"{len(main)} cells: {', '.join(map(title, cells.scenarios))} at "
        f"{', '.join(f'{v:g}' for v in cells.speeds_kmh)} km/h. Each cell holds {links} links from {drops} drops (a "
        "drop is one random placement of a base station and its users), made by Sionna from 3GPP TR 38.901. Every "
        "method sees the same links and the same noise. Classical methods are tuned in each cell, on "
        f"{sizes.num_tune} links of other drops (paths on 16 of them).",
        f"The learned method is {label}. Gains are relative to {bar_label(results, arguments.bar)}. “{label}, "
        "correction off” is what the model starts from, without what its own network adds: a classical filter, or "
        "paths averaged with the model inside. Genies know what no receiver does. The one that knows all rays bounds "
        "what can be reached by linear estimates; the other two are for orientation, and a method may be better.",
    ]
