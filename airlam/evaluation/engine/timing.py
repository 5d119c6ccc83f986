"""Timed calls in the records of cells, and the mark of a timing that other programs disturbed."""

from __future__ import annotations

from typing import Any

from airlam.evaluation.rows import Figure
from airlam.metrics.latency import BUSY_BELOW, Latency

BUSY = "busy machine"


def latency_fields(*calls: Latency) -> dict[str, float]:
    """The latency of calls that follow each other, as a record keeps it.

    Returns:
        ``latency_p50_ms`` and ``latency_p99_ms``, sums over the calls, and ``latency_cpu_share``, the lowest of them.

    Example:
        >>> latency_fields(Latency(1e-3, 2e-3, 1, 50, 0.5))
        {'latency_p50_ms': 1.0, 'latency_p99_ms': 2.0, 'latency_cpu_share': 0.5}
    """
    return {
        "latency_p50_ms": 1e3 * sum(call.p50 for call in calls),
        "latency_p99_ms": 1e3 * sum(call.p99 for call in calls),
        "latency_cpu_share": min(call.cpu_share for call in calls),
    }


def timed_figure(entry: dict[str, Any], name: str, unit: str) -> Figure:
    """The timing ``entry[name]`` as a figure; its note names a busy machine."""
    share = entry.get("latency_cpu_share", 1.0)
    busy = unit == "ms" and share < BUSY_BELOW
    note = f"{BUSY}: the timed calls had {100 * share:.0f} % of a core, so an idle machine is faster" if busy else ""
    return Figure(entry[name], unit, "measured", note=note)


def is_busy(figure: Figure | None) -> bool:
    """Whether a timing was taken while other programs used the processor."""
    return figure is not None and figure.note.startswith(BUSY)
