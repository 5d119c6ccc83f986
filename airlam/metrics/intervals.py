"""Bootstrap intervals whose unit of resampling is the drop: links of one drop are not independent."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from airlam.csi import resolve_inputs

LEVEL, NUM_RESAMPLES = 0.95, 2000


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
    values: Tensor,
    *,
    groups: Tensor | None = None,
    level: float = LEVEL,
    num_resamples: int = NUM_RESAMPLES,
    seed: int = 0,
) -> Interval:
    """Bootstrap interval of the mean of ``values``, resampling whole groups; see :func:`bootstrap`.

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
    cells = [group_sums([values], groups)]
    found = bootstrap(cells, lambda means: means[0][0], level=level, num_resamples=num_resamples, seed=seed)
    return Interval(*map(float, found))


@resolve_inputs
def paired_interval(
    a: Tensor,
    b: Tensor,
    groups: Tensor | None = None,
    *,
    scale: str = "difference",
    level: float = LEVEL,
    num_resamples: int = NUM_RESAMPLES,
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

    def statistic(means: list[list[Tensor]]) -> Tensor:
        first, second = means[0]
        return 10 * torch.log10(first / second) if scale == "db" else first - second

    cells = [group_sums([a, b], groups)]
    found = bootstrap(cells, statistic, level=level, num_resamples=num_resamples, seed=seed)
    return Interval(*map(float, found))


def group_sums(columns: Sequence[Tensor], groups: Tensor | None) -> tuple[Tensor, Tensor]:
    """Sums of the columns within each group ``[column, group, ...]``, and the groups' sizes ``[group]``; float64.

    Args:
        columns: each ``[n]``, or ``[n, point]`` for a curve; all of one shape.
        groups: int ``[n]``; ``None``: every value its own group.
    """
    first = columns[0]
    if first.dim() not in (1, 2) or first.numel() == 0:
        raise ValueError(f"values must be a non-empty vector [n], got {tuple(first.shape)}")
    if not all(bool(torch.isfinite(c).all()) for c in columns):
        raise ValueError("values contain NaN or infinity; an interval over them has no meaning")
    size = len(first)
    if groups is None:
        groups = torch.arange(size)
    if groups.shape != (size,):
        raise ValueError(f"groups {tuple(groups.shape)} must name the group of each of the {size} values")
    values = torch.stack([column.detach().double().cpu() for column in columns])
    _, index, counts = torch.unique(groups.cpu(), return_inverse=True, return_counts=True)
    sums = values.new_zeros(len(columns), len(counts), *first.shape[1:]).index_add(1, index, values)
    return sums, counts.double()


def bootstrap(
    cells: Sequence[tuple[Tensor, Tensor]],
    statistic: Callable[[list[list[Tensor]]], Tensor],
    *,
    level: float = LEVEL,
    num_resamples: int = NUM_RESAMPLES,
    seed: int = 0,
) -> tuple[Tensor, Tensor, Tensor]:
    """A statistic of the means of several cells, with an interval in which every cell resamples its own groups.

    The only place where airlam resamples; the draws are those of :func:`scipy.stats.bootstrap`. The percentiles are
    widened for few groups (T. Hesterberg, "What teachers should know about the bootstrap", 2015, section 4: expanded
    percentile interval), because the plain ones are too narrow by ``sqrt((n - 1) / n)`` and use normal instead of t
    quantiles. Of several cells the one with the fewest groups says how much.

    Args:
        cells: of each cell the sums ``[column, group, ...]`` and sizes ``[group]`` of its groups, as
            :func:`group_sums` gives them. Columns of one cell are resampled together, and so are the points of a curve.
        statistic: takes ``means[cell][column]``, each ``[..., resample]``, and gives ``[..., resample]``.
        level: confidence level, in (0, 1).
        num_resamples: bootstrap resamples.
        seed: the same seed gives the same interval.

    Returns:
        Estimate, low and high end, each ``[...]``. Where a cell has a single group the ends are infinite.

    Example:
        >>> sums, counts = torch.tensor([[1.0, 2.0, 3.0]]).double(), torch.ones(3).double()
        >>> float(bootstrap([(sums, counts)], lambda means: means[0][0])[0])
        2.0
    """
    from scipy import stats  # here and not above: it takes half a second to import

    if not 0 < level < 1:
        raise ValueError(f"level must lie in (0, 1), got {level}")

    def value(*drawn: Any, axis: int = -1) -> Any:
        means = []
        for (sums, counts), index in zip(cells, drawn, strict=True):
            weights = _weights(torch.as_tensor(index).movedim(axis, -1).reshape(-1, len(counts)))
            means.append([torch.einsum("rg,g...->...r", weights, s) / (weights @ counts) for s in sums])
        return statistic(means).numpy()

    groups = [torch.arange(len(counts)).numpy() for _, counts in cells]
    estimate = torch.as_tensor(value(*groups))[..., 0]
    sizes = [len(counts) for _, counts in cells]
    if min(sizes) < 2:
        return estimate, torch.full_like(estimate, -math.inf), torch.full_like(estimate, math.inf)
    fewest = min(sizes)
    wide = math.sqrt(fewest / (fewest - 1)) * stats.t.ppf((1 + level) / 2, sum(sizes) - len(sizes))
    found = stats.bootstrap(
        groups,
        value,
        paired=False,
        vectorized=True,
        n_resamples=num_resamples,
        method="percentile",
        confidence_level=1 - 2 * stats.norm.cdf(-wide),
        rng=seed,
    ).confidence_interval
    return estimate, torch.as_tensor(found.low), torch.as_tensor(found.high)


def _weights(index: Tensor) -> Tensor:
    """How often each group was drawn ``[resample, group]``, from the drawn groups."""
    return torch.zeros(index.shape, dtype=torch.float64).scatter_add_(-1, index, torch.ones_like(index).double())
