"""Figures of a report: means with intervals, paired differences, and means over cells, all resampled by drop.

The resampling is :func:`airlam.metrics.intervals.bootstrap`'s; here it becomes
:class:`~airlam.evaluation.rows.Figure` objects.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor

from airlam.evaluation.results import CellRecord, Series
from airlam.evaluation.rows import Figure
from airlam.metrics.intervals import bootstrap, group_sums

# Takes ``means[cell][column]``, each ``[..., resample]``, and gives ``[..., resample]``.
Statistic = Callable[[list[list[Tensor]]], Tensor]


def figure_of(record: CellRecord, series: Series) -> Figure:
    """Mean over the items of a series of this record, a curve where it has an axis."""
    return on_axis(mean_figure(series.values, record.drop(series.per), series.unit), series)


def mean_figure(values: Tensor, drop: Tensor, unit: str) -> Figure:
    """Mean of ``values [n]``, or of each point of ``[n, point]``, with its 95 % interval, resampled by ``drop [n]``."""
    return over_cells(mean_of_cells, [[values]], [drop], unit)


def db_figure(nmse: Tensor, drop: Tensor) -> Figure:
    """Mean of linear ``nmse [link]``, or of each point of ``[link, point]``, then dB, with its 95 % interval."""
    return over_cells(db_of_linear_mean, [[nmse]], [drop], "dB")


def gain_db(nmse: Tensor, bar: Tensor, drop: Tensor) -> Figure:
    """How many dB the mean NMSE lies *below* the bar's on the same links: positive is better."""
    return over_cells(difference(db_of_linear_mean), [[bar, nmse]], [drop], "dB")


def gain(values: Tensor, bar: Tensor, drop: Tensor, unit: str) -> Figure:
    """Paired difference of means, ``values - bar``, on the same groups."""
    return over_cells(difference(mean_of_cells), [[values, bar]], [drop], unit)


def on_axis(figure: Figure, series: Series) -> Figure:
    """A curve along the axis of ``series`` in place of the numbers of its points; a number as it is."""
    return figure if series.axis is None else replace(figure, axis=list(series.axis), axis_name=series.axis_name)


def join(points: list[Figure], axis: list[float], axis_name: str) -> Figure:
    """A curve from its points; it has intervals if all of them have."""
    intervals = [point.ends for point in points] if all(point.interval is not None for point in points) else None
    groups = min((point.groups for point in points if point.groups is not None), default=None)
    return Figure(
        [point.number for point in points], points[0].unit, points[0].kind, intervals, axis, axis_name, groups=groups
    )


def over_cells(statistic: Statistic, columns: list[list[Tensor]], drops: list[Tensor], unit: str) -> Figure:
    """A statistic of the means of several cells, with a 95 % interval in which every cell resamples its own drops.

    Args:
        statistic: takes ``means[cell][column]``, each ``[..., resample]``, and gives ``[..., resample]``.
        columns: ``columns[cell][column]``: values ``[n]``, or ``[n, point]`` of a curve, of one method in one cell;
            columns of one cell are paired.
        drops: ``drops[cell]``: the drop of each value.
        unit: of the statistic.

    Returns:
        A number, or a curve over the numbers of its points (see :func:`on_axis`).

    Example:
        >>> values, drop = torch.ones(8), torch.arange(8)
        >>> over_cells(lambda m: m[0][0] + m[1][0], [[values], [values]], [drop, drop], "1").interval
        (2.0, 2.0)
    """
    cells = [group_sums(cell, drop) for cell, drop in zip(columns, drops, strict=True)]
    estimate, low, high = bootstrap(cells, statistic)
    groups, bounded = min(len(counts) for _, counts in cells), bool(torch.isfinite(low).all())
    if estimate.dim() == 0:
        ends = (float(low), float(high)) if bounded else None
        return Figure(float(estimate), unit, "measured", ends, groups=groups)
    every = list(zip(low.tolist(), high.tolist(), strict=True)) if bounded else None
    axis = [float(point) for point in range(len(estimate))]
    return Figure(estimate.tolist(), unit, "measured", every, axis, groups=groups)


def db_of_linear_mean(means: list[list[Tensor]]) -> Tensor:
    """Statistic: dB of the mean over cells of linear NMSE (column 0)."""
    return _db(torch.stack([cell[0] for cell in means]).mean(0))


def mean_of_cells_db(means: list[list[Tensor]]) -> Tensor:
    """Statistic: mean over cells of the dB of each cell's NMSE (column 0)."""
    return _db(torch.stack([cell[0] for cell in means])).mean(0)


def mean_of_cells(means: list[list[Tensor]]) -> Tensor:
    """Statistic: mean over cells of column 0."""
    return torch.stack([cell[0] for cell in means]).mean(0)


def difference(statistic: Callable[[list[list[Tensor]]], Tensor]) -> Callable[[list[list[Tensor]]], Tensor]:
    """The statistic of column 0 minus that of column 1, for paired columns."""
    return lambda means: statistic([[cell[0]] for cell in means]) - statistic([[cell[1]] for cell in means])


def _db(value: Tensor) -> Tensor:
    return 10 * torch.log10(value.clamp_min(1e-30))
