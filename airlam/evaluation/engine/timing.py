"""Timed calls in the records of cells, and the mark of a timing that other programs disturbed."""

from __future__ import annotations

import torch

from airlam.evaluation.results import CELL, CellRecord, Series
from airlam.evaluation.rows import Figure
from airlam.metrics.latency import BUSY_BELOW, Latency

BUSY = "busy machine"
TIMED = ("latency_p50_ms", "latency_p99_ms", "precoding_p50_ms", "flops")


def latency_series(method: str, *calls: Latency) -> list[Series]:
    """The latency of calls that follow each other.

    Returns:
        ``latency_p50_ms`` and ``latency_p99_ms``, sums over the calls, and ``latency_cpu_share``, the lowest of them.

    Example:
        >>> [series.values.item() for series in latency_series("ar", Latency(1e-3, 2e-3, 1, 50, 0.5))]
        [1.0, 2.0, 0.5]
    """
    return [
        cell_figure(method, "latency_p50_ms", 1e3 * sum(call.p50 for call in calls), "ms"),
        cell_figure(method, "latency_p99_ms", 1e3 * sum(call.p99 for call in calls), "ms"),
        cell_figure(method, "latency_cpu_share", min(call.cpu_share for call in calls)),
    ]


def cell_figure(method: str, metric: str, value: float, unit: str = "1") -> Series:
    """One figure of the cell as a whole."""
    return Series(method, metric, unit, torch.tensor([value], dtype=torch.float64), CELL)


def timed_figures(record: CellRecord, method: str) -> dict[str, Figure]:
    """Those of :data:`TIMED` that were taken, as figures; the note of a time names a busy machine."""
    share, figures = record.number(method, "latency_cpu_share"), {}
    for metric in TIMED:
        if (series := record.find(method, metric, CELL)) is None:
            continue
        busy = series.unit == "ms" and share is not None and share < BUSY_BELOW
        note = (
            f"{BUSY}: the timed calls had {100 * (share or 0.0):.0f} % of a core, so an idle machine is faster"
            if busy
            else ""
        )
        figures[metric] = Figure(float(series.values[0]), series.unit, "measured", note=note)
    return figures


def is_busy(figure: Figure | None) -> bool:
    """Whether a timing was taken while other programs used the processor."""
    return figure is not None and figure.note.startswith(BUSY)
