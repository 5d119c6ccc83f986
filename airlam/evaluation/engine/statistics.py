"""Intervals of a report: figures of one cell, paired differences, and means over cells, all resampled by drop.

The estimates inside one cell are :mod:`airlam.metrics`'; here they become :class:`~airlam.evaluation.rows.Figure`
objects, and the same resampling is carried through means over cells, where every cell draws its own drops.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from airlam.evaluation.rows import Figure
from airlam.metrics import Interval, bootstrap_interval, paired_interval
from airlam.metrics.intervals import group_sums, t_quantile

NUM_RESAMPLES = 2000


def bounds(interval: Interval) -> tuple[float, float] | None:
    """The interval as a figure holds it; ``None`` where a single drop allows none."""
    return (interval.low, interval.high) if math.isfinite(interval.low) and math.isfinite(interval.high) else None


def mean_figure(values: Tensor, drop: Tensor, unit: str, *, seed: int = 0, note: str = "") -> Figure:
    """Mean of ``values [n]`` with its 95 % interval, resampled by ``drop [n]``."""
    found = bootstrap_interval(values, groups=drop, num_resamples=NUM_RESAMPLES, seed=seed)
    return Figure(found.estimate, unit, "measured", bounds(found), note=note, groups=_count(drop))


def db_figure(nmse: Tensor, drop: Tensor, *, seed: int = 0) -> Figure:
    """Mean of linear ``nmse [link]``, then dB, with its 95 % interval."""
    return _to_db(mean_figure(nmse, drop, "1", seed=seed))


def db_curve(nmse: Tensor, drop: Tensor, axis: list[float], axis_name: str, *, seed: int = 0) -> Figure:
    """Mean over links of ``nmse [link, step]``, dB of each step, with its 95 % interval."""
    return join([db_figure(step, drop, seed=seed) for step in nmse.unbind(-1)], axis, axis_name)


def curve(values: Tensor, drop: Tensor, axis: list[float], axis_name: str, unit: str, *, seed: int = 0) -> Figure:
    """Mean over groups of ``values [group, point]`` with the 95 % interval of each point."""
    return join([mean_figure(point, drop, unit, seed=seed) for point in values.unbind(-1)], axis, axis_name)


def join(points: list[Figure], axis: list[float], axis_name: str) -> Figure:
    """A curve from its points; it has intervals if all of them have."""
    intervals = [point.ends for point in points] if all(point.interval is not None for point in points) else None
    groups = min((point.groups for point in points if point.groups is not None), default=None)
    return Figure(
        [point.number for point in points], points[0].unit, points[0].kind, intervals, axis, axis_name, groups=groups
    )


def gain_db(nmse: Tensor, bar: Tensor, drop: Tensor, *, seed: int = 0) -> Figure:
    """How many dB the mean NMSE lies *below* the bar's on the same links: positive is better."""
    found = paired_interval(bar, nmse, drop, scale="db", num_resamples=NUM_RESAMPLES, seed=seed)
    return Figure(found.estimate, "dB", "measured", bounds(found), groups=_count(drop))


def gain(values: Tensor, bar: Tensor, drop: Tensor, unit: str, *, seed: int = 0) -> Figure:
    """Paired difference of means, ``values - bar``, on the same groups."""
    found = paired_interval(values, bar, drop, num_resamples=NUM_RESAMPLES, seed=seed)
    return Figure(found.estimate, unit, "measured", bounds(found), groups=_count(drop))


def over_cells(
    statistic: Callable[[list[list[Tensor]]], Tensor],
    columns: list[list[Tensor]],
    drops: list[Tensor],
    unit: str,
    *,
    seed: int = 0,
) -> Figure:
    """A statistic of the means of several cells, with a 95 % interval in which every cell resamples its own drops.

    Args:
        statistic: takes ``means[cell][column]``, each ``[resample]``, and gives ``[resample]``.
        columns: ``columns[cell][column]``: values ``[n]`` of one method in one cell; columns of one cell are paired.
        drops: ``drops[cell]``: the drop of each value.
        unit: of the statistic.

    Example:
        >>> values, drop = torch.ones(8), torch.arange(8)
        >>> over_cells(lambda m: m[0][0] + m[1][0], [[values], [values]], [drop, drop], "1").interval
        (2.0, 2.0)
    """
    generator = torch.Generator().manual_seed(seed)
    plain, resampled, freedom, widest, groups = [], [], 0, 1.0, []
    for cell, drop in zip(columns, drops, strict=True):
        sums, counts = group_sums(cell, drop)
        num = len(counts)
        drawn = torch.randint(num, (NUM_RESAMPLES, num), generator=generator)
        weights = torch.zeros(NUM_RESAMPLES, num, dtype=torch.float64)
        weights.scatter_add_(1, drawn, torch.ones_like(drawn, dtype=torch.float64))
        plain.append([(s.sum() / counts.sum()).unsqueeze(0) for s in sums])
        resampled.append([(weights @ s) / (weights @ counts) for s in sums])
        freedom += num - 1
        groups.append(num)
        widest = max(widest, math.sqrt(num / (num - 1))) if num > 1 else math.inf
    estimate = float(statistic(plain))
    if math.isinf(widest):
        return Figure(estimate, unit, "measured", groups=min(groups))
    # the expanded percentile interval of airlam.metrics.bootstrap_interval, the narrowest cell's factor for all
    tail = 0.5 * math.erfc(widest * t_quantile(0.975, freedom) / math.sqrt(2))
    low, high = torch.quantile(statistic(resampled), torch.tensor([tail, 1 - tail], dtype=torch.float64)).tolist()
    return Figure(estimate, unit, "measured", (low, high), groups=min(groups))


def db_of_linear_mean(means: list[list[Tensor]]) -> Tensor:
    """Statistic: dB of the mean over cells of linear NMSE (column 0)."""
    return 10 * torch.log10(torch.stack([cell[0] for cell in means]).mean(0))


def mean_of_cells_db(means: list[list[Tensor]]) -> Tensor:
    """Statistic: mean over cells of the dB of each cell's NMSE (column 0)."""
    return (10 * torch.log10(torch.stack([cell[0] for cell in means]))).mean(0)


def mean_of_cells(means: list[list[Tensor]]) -> Tensor:
    """Statistic: mean over cells of column 0."""
    return torch.stack([cell[0] for cell in means]).mean(0)


def difference(statistic: Callable[[list[list[Tensor]]], Tensor]) -> Callable[[list[list[Tensor]]], Tensor]:
    """The statistic of column 0 minus that of column 1, for paired columns."""
    return lambda means: statistic([[cell[0]] for cell in means]) - statistic([[cell[1]] for cell in means])


def _to_db(figure: Figure) -> Figure:
    def db(value: float) -> float:
        return 10 * math.log10(max(value, 1e-30))

    interval = (db(figure.ends[0]), db(figure.ends[1])) if figure.interval is not None else None
    return Figure(db(figure.number), "dB", "measured", interval, groups=figure.groups)


def _count(drop: Tensor) -> int:
    return len(drop.unique())
