"""Figures of beam prediction: hits and rates of each track, their means over cells, and paired gains between methods.

Every mean gain that a table, a headline or a page prints comes from :func:`mean_gain`, so that one gain has one
interval.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from airlam.evaluation.engine import statistics
from airlam.evaluation.results import CellRecord
from airlam.evaluation.rows import Figure

TOP = (1, 3, 5)
BEST, HIT, RATE = "best beam", "hit", "rate"  # the row of the best beam's rate in a record, and names of metrics
# name of a figure -> metric of a cell's record, and whether it is divided by the rate with the best beam
METRICS = {f"top{k}": (f"{HIT}_top{k}", False) for k in TOP} | {
    f"se_ratio_top{k}": (f"{RATE}_top{k}", True) for k in TOP
}


def judge(scores: Tensor, future: Tensor, again: Tensor) -> dict[str, Tensor]:
    """Hits and rates ``[track, step]`` of the first 1, 3 and 5 beams.

    Args:
        scores: ``[track, step, beam]``. future: true power over the noise, likewise. again: power measured anew.
    """
    best, out = future.argmax(-1, keepdim=True), dict[str, Tensor]()
    for k in TOP:
        first = scores.topk(min(k, scores.shape[-1]), -1).indices
        chosen = first if k == 1 else first.gather(-1, again.gather(-1, first).argmax(-1, keepdim=True))
        out[f"{HIT}_top{k}"] = (first == best).any(-1).double()
        out[f"{RATE}_top{k}"] = (1 + future.gather(-1, chosen)[..., 0]).log2()
    return out


def share(values: Tensor, best: Tensor, drop: Tensor) -> Figure:
    """Mean of ``values [track]``, or of each point of ``[track, step]``, over the mean of ``best``, likewise; both are
    resampled together."""
    return statistics.over_cells(lambda means: means[0][0] / means[0][1], [[values, best]], [drop], "1")


def mean_value(records: Sequence[CellRecord], metric: str, method: str) -> Figure:
    """Mean over cells of one of ``METRICS``, with its 95 % interval (bootstrap over the drops of each cell)."""
    columns = [_columns(record, metric, (method,)) for record in records]

    def mean(means: list[list[Tensor]]) -> Tensor:
        return torch.stack([own / level for own, level in means]).mean(0)

    return statistics.over_cells(mean, columns, _drops(records), "1")


def mean_gain(records: Sequence[CellRecord], metric: str, method: str, other: str) -> Figure:
    """Mean over cells of the paired difference ``method - other`` in one of ``METRICS``, with its 95 % interval."""
    columns = [_columns(record, metric, (method, other)) for record in records]

    def mean(means: list[list[Tensor]]) -> Tensor:
        return torch.stack([(own - theirs) / level for own, theirs, level in means]).mean(0)

    return statistics.over_cells(mean, columns, _drops(records), "1")


def strongest(records: Sequence[CellRecord], metric: str, methods: Sequence[str]) -> str:
    """The method with the highest mean over cells of ``metric``; the first of equals."""

    def value(method: str) -> float:
        return sum(float(own.mean() / level.mean()) for own, level in (_columns(r, metric, (method,)) for r in records))

    return max(methods, key=value)


def percent(figure: Figure, gain: Figure | None = None) -> str:
    """A share in per cent, and in brackets the gain in points with its interval.

    Example:
        >>> percent(Figure(0.5, "1", "measured"), Figure(0.01, "1", "measured", (-0.01, 0.03)))
        '50.0 (+1.0, -1.0 to +3.0)'
    """
    text = f"{100 * figure.number:.1f}"
    return text if gain is None else f"{text} ({points(gain)})"


def points(gain: Figure) -> str:
    """A gain in percentage points with its interval: ``'+1.0, -1.0 to +3.0'``."""
    low, high = gain.ends
    return f"{100 * gain.number:+.1f}, {100 * low:+.1f} to {100 * high:+.1f}"


def _columns(record: CellRecord, metric: str, methods: Sequence[str]) -> list[Tensor]:
    """``metric`` of each method, and what it is divided by, each ``[track]``: means over the sweeps to come."""
    name, relative = METRICS[metric]
    best = record.values(BEST, RATE)
    level = best if relative else torch.ones_like(best)
    return [values.mean(1) for values in (*(record.values(method, name) for method in methods), level)]


def _drops(records: Sequence[CellRecord]) -> list[Tensor]:
    return [record.drop() for record in records]
