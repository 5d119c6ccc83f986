"""Bootstrap intervals whose unit of resampling is the drop: links of one drop are not independent."""

from __future__ import annotations

import math
from statistics import NormalDist
from typing import NamedTuple

import torch
from torch import Tensor

from airlam.csi import resolve_inputs


class Interval(NamedTuple):
    """An estimate with its confidence interval; floats."""

    estimate: float
    low: float
    high: float

    def excludes(self, value: float = 0.0) -> bool:
        """Whether ``value`` lies outside."""
        return not self.low <= value <= self.high


@resolve_inputs
def bootstrap_interval(
    values: Tensor, *, groups: Tensor | None = None, level: float = 0.95, num_resamples: int = 2000, seed: int = 0
) -> Interval:
    """Percentile bootstrap interval of the mean of ``values``, resampling whole groups.

    The percentiles are widened for few groups (Hesterberg, "What teachers should know about the bootstrap", 2015,
    section 4: expanded percentile interval), because the plain ones are too narrow by ``sqrt((n - 1) / n)`` and use
    normal instead of t quantiles.

    Args:
        values: ``[n]``, for example the NMSE of each link.
        groups: int ``[n]``, the drop of each value; ``None``: every value its own group.
        level: confidence level, in (0, 1).
        num_resamples: bootstrap resamples.
        seed: the same seed gives the same interval.

    Returns:
        :class:`Interval`. With a single group nothing can be said: the bounds are infinite.

    Example:
        >>> bootstrap_interval(torch.ones(10))
        Interval(estimate=1.0, low=1.0, high=1.0)
    """
    sums, counts = group_sums([values], groups)
    return interval_of(lambda w: (w @ sums[0]) / (w @ counts), len(counts), level, num_resamples, seed)


@resolve_inputs
def paired_interval(
    a: Tensor,
    b: Tensor,
    groups: Tensor | None = None,
    *,
    scale: str = "difference",
    level: float = 0.95,
    num_resamples: int = 2000,
    seed: int = 0,
) -> Interval:
    """Interval of a comparison of two methods measured on the *same* links, resampled together by group.

    Args:
        a, b: ``[n]``, same links in the same order.
        groups: int ``[n]``, the drop of each link.
        scale: ``"difference"``: ``mean(a) - mean(b)``; ``"db"``: ``10 log10(mean(a) / mean(b))``, for NMSE (negative
            where ``a`` is better).
        level, num_resamples, seed: as :func:`bootstrap_interval`.

    Example:
        >>> a = torch.rand(50, generator=torch.Generator().manual_seed(0))
        >>> round(paired_interval(a, 2 * a, scale="db").high, 2)
        -3.01
    """
    if a.shape != b.shape:
        raise ValueError(f"a {tuple(a.shape)} and b {tuple(b.shape)} must hold the same links")
    if scale not in ("difference", "db"):
        raise ValueError(f"scale must be 'difference' or 'db', got {scale!r}")
    (sum_a, sum_b), counts = group_sums([a, b], groups)

    def statistic(w: Tensor) -> Tensor:
        if scale == "db":
            return 10 * torch.log10((w @ sum_a) / (w @ sum_b))
        return (w @ (sum_a - sum_b)) / (w @ counts)

    return interval_of(statistic, len(counts), level, num_resamples, seed)


def group_sums(columns: list[Tensor], groups: Tensor | None) -> tuple[list[Tensor], Tensor]:
    """Sum of each column within each group, and the groups' sizes; float64."""
    size = columns[0].numel()
    if columns[0].dim() != 1 or size == 0:
        raise ValueError(f"values must be a non-empty vector [n], got {tuple(columns[0].shape)}")
    if not all(bool(torch.isfinite(c).all()) for c in columns):
        raise ValueError("values contain NaN or infinity; an interval over them has no meaning")
    if groups is None:
        groups = torch.arange(size)
    if groups.shape != columns[0].shape:
        raise ValueError(f"groups {tuple(groups.shape)} must name the group of each of the {size} values")
    _, index = torch.unique(groups, return_inverse=True)
    zeros = torch.zeros(int(index.max()) + 1, dtype=torch.float64)
    sums = [zeros.index_add(0, index, c.detach().double().cpu()) for c in columns]
    return sums, zeros.index_add(0, index, torch.ones(size, dtype=torch.float64))


def interval_of(statistic, num_groups: int, level: float, num_resamples: int, seed: int) -> Interval:
    """Bootstrap a statistic of group weights ``[..., group]``."""
    if not 0 < level < 1:
        raise ValueError(f"level must lie in (0, 1), got {level}")
    estimate = float(statistic(torch.ones(1, num_groups, dtype=torch.float64)))
    if num_groups < 2:
        return Interval(estimate, -math.inf, math.inf)
    generator = torch.Generator().manual_seed(seed)
    drawn = torch.randint(num_groups, (num_resamples, num_groups), generator=generator)
    weights = torch.zeros(num_resamples, num_groups, dtype=torch.float64)
    weights.scatter_add_(1, drawn, torch.ones_like(drawn, dtype=torch.float64))
    resampled = statistic(weights)
    wide = math.sqrt(num_groups / (num_groups - 1)) * t_quantile((1 + level) / 2, num_groups - 1)
    tail = NormalDist().cdf(-wide)
    low, high = torch.quantile(resampled, torch.tensor([tail, 1 - tail], dtype=torch.float64)).tolist()
    return Interval(estimate, low, high)


def t_quantile(p: float, freedom: int) -> float:
    """Quantile ``p`` of Student's t with ``freedom`` degrees of freedom.

    Example:
        >>> round(t_quantile(0.975, 1), 2)
        12.71
    """
    from scipy import stats  # here and not above: it takes half a second to import

    return float(stats.t.ppf(p, freedom))
