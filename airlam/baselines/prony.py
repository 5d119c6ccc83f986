"""Prony-based prediction: PAD, and the vector form that is often mistaken for it."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from airlam.baselines.ar import alone, ar_filters, rollout
from airlam.baselines.bins import bin_energy, bin_series, csi_of, stable_filter
from airlam.csi import PortShape
from airlam.interfaces import any_scale, check_prediction_request


class PADPredictor:
    """Prony-based angular-delay domain prediction, with coefficients of its own for each angle-delay element.

    H. Yin, H. Wang, Y. Liu, D. Gesbert, "Addressing the curse of mobility in massive MIMO with Prony-based
    angular-delay domain channel predictions", IEEE JSAC 2020. Each kept bin is fitted by least squares over its
    whole history. An order near half the history fits noise worst (as many equations as unknowns): choose well below.

    Stability as in :class:`airlam.baselines.ARPredictor`: amplitudes are bounded by ``limit`` times the largest
    one of the bin's history.

    Args:
        order: of Prony's polynomial; lowered for short histories.
        energy: fraction of the link's energy that the kept bins hold, in (0, 1]; the others are predicted as zero,
            which leaves an NMSE of at least about ``1 - energy``.
        ridge: loading relative to the bin's power.
        limit: amplitude bound.

    Example:
        >>> h_past = torch.randn(2, 16, 48, 1, 32, dtype=torch.complex64)
        >>> PADPredictor(order=4).predict(h_past, 4, port_shape=(2, 4, 4)).shape
        torch.Size([2, 4, 48, 1, 32])
    """

    def __init__(self, order: int = 4, energy: float = 1.0, *, ridge: float = 1e-3, limit: float = 1.5):
        if order < 1:
            raise ValueError(f"order must be at least 1, got {order}")
        if not 0 < energy <= 1:
            raise ValueError(f"energy must lie in (0, 1], got {energy}")
        if ridge < 0:
            raise ValueError(f"ridge must not be negative, got {ridge}")
        self.order, self.energy, self.ridge, self.limit = order, energy, ridge, limit
        self.name = "pad"

    @any_scale
    def predict(
        self, h_past: Tensor, num_future: int, *, port_shape: PortShape | None = None, context: dict | None = None
    ) -> Tensor:
        """See :class:`airlam.interfaces.Predictor`."""
        shape = check_prediction_request(h_past, num_future, port_shape)
        series = bin_series(h_past, shape)
        order = min(self.order, series.shape[-1] - 1)
        if order == 0:
            weights = torch.ones_like(series)  # one slot: hold
        else:
            rows = series.unfold(-1, order, 1)[..., :-1, :]
            weights = alone(rows, series[..., order:].unsqueeze(-1), self.ridge)
        future = rollout(series, weights, num_future, self.limit)
        if self.energy < 1:
            future = future * within_energy(series, self.energy).unsqueeze(-1)
        return csi_of(future, h_past.shape[-3:], shape)


def within_energy(series: Tensor, energy: float) -> Tensor:
    """bool ``[..., bin]``: the fewest strongest bins that together hold at least this fraction of the energy."""
    sorted_energy, index = bin_energy(series).sort(dim=-1, descending=True)
    before = sorted_energy.cumsum(-1) - sorted_energy
    keep = before < energy * sorted_energy.sum(-1, keepdim=True)
    return torch.zeros_like(keep).scatter(-1, index, keep)


class VectorPronyPredictor:
    """One Prony polynomial shared by all elements of the link (LLM4CP's public code calls this PAD).

    One shared coefficient vector is not affected by a unitary transform, so there is none. Its poles are kept within
    the unit circle exactly.

    Args:
        order: lowered for short histories.
        ridge: loading relative to the mean diagonal of the Gram matrix.
    """

    def __init__(self, order: int = 8, *, ridge: float = 1e-4):
        if order < 1 or ridge < 0:
            raise ValueError(f"order must be at least 1 and ridge not negative, got {order} and {ridge}")
        self.order, self.ridge = order, ridge
        self.name = "vector-prony"

    @any_scale
    def predict(
        self, h_past: Tensor, num_future: int, *, port_shape: PortShape | None = None, context: dict | None = None
    ) -> Tensor:
        """See :class:`airlam.interfaces.Predictor`."""
        check_prediction_request(h_past, num_future, port_shape)
        series = h_past.flatten(-3).mT.contiguous()
        weights = stable_filter(ar_filters(series, self.order, self.ridge, math.inf).pooled)
        future = rollout(series, weights.unsqueeze(-2), num_future)
        return future.mT.unflatten(-1, h_past.shape[-3:])
