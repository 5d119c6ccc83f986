"""Quantiles of tensors of any size."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from airlam.csi import resolve_inputs


@resolve_inputs
def quantile(values: Tensor, q: float, *, dim: int = -1, keepdim: bool = False) -> Tensor:
    """The ``q`` quantile along ``dim``, linearly interpolated: ``torch.quantile``, which stops at 2^24 entries, of any
    number of entries.

    Args:
        values: real ``[...]``; a NaN makes the quantile of its series NaN.
        q: in [0, 1].
        dim, keepdim: as in ``torch.quantile``.

    Raises:
        ValueError: ``q`` outside [0, 1], or nothing along ``dim``.

    Example:
        >>> quantile(torch.tensor([0.0, 10.0, 20.0]), 0.25)
        tensor(5.)
    """
    if not 0 <= q <= 1:
        raise ValueError(f"q is {q!r}, but must lie in [0, 1]")
    count = values.shape[dim]
    if count == 0:
        raise ValueError(f"values {tuple(values.shape)} has no entries along axis {dim}; a quantile needs at least one")
    # the rank in the precision of the values, as torch.quantile has it
    rank = float(torch.tensor(q, dtype=values.dtype) * (count - 1))
    below = math.floor(rank)
    ranked = values.sort(dim).values  # kthvalue takes the square of the time for values in falling order
    lower, upper = (ranked.narrow(dim, place, 1) for place in (below, math.ceil(rank)))
    out = torch.where(values.isnan().any(dim, keepdim=True), torch.nan, torch.lerp(lower, upper, rank - below))
    return out if keepdim else out.squeeze(dim)
