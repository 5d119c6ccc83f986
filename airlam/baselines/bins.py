"""Beam-delay bins as time series: selection, noise level, and the way back. Used by every classical predictor."""

from __future__ import annotations

import torch
from torch import Tensor

from airlam.csi import PortShape, from_beam_delay, to_beam_delay
from airlam.metrics import quantile as quantile_of

TINY = 1e-20  # below any power after normalisation; keeps systems of all-zero series regular


def bin_series(h: Tensor, port_shape: PortShape | None = None) -> Tensor:
    """CSI ``[..., slot, subcarrier, rx_ant, tx_ant]`` -> beam-delay series ``[..., bin, slot]``.

    ``bin`` runs over delay, then receive antenna, then beam.
    """
    return to_beam_delay(h, port_shape).flatten(-3).mT.contiguous()


def csi_of(series: Tensor, axes: torch.Size | tuple[int, int, int], port_shape: PortShape | None = None) -> Tensor:
    """Inverse of :func:`bin_series`; ``axes`` is (subcarrier, rx_ant, tx_ant)."""
    return from_beam_delay(series.mT.unflatten(-1, tuple(axes)), port_shape)


def bin_energy(series: Tensor) -> Tensor:
    """Sum of ``|x|^2`` over slots: ``[..., bin]``."""
    return (series.real.square() + series.imag.square()).sum(-1)


def strongest(series: Tensor, num_bins: int | None) -> Tensor:
    """Indices ``[..., K]`` of the bins with the most energy over the history, strongest first; ``None``: all."""
    energy = bin_energy(series)
    return energy.topk(min(num_bins or energy.shape[-1], energy.shape[-1]), dim=-1).indices


def take(series: Tensor, bins: Tensor) -> Tensor:
    """The bins ``[..., K]`` of ``series [..., bin, slot]``: ``[..., K, slot]``."""
    return series.gather(-2, bins.unsqueeze(-1).expand(*bins.shape, series.shape[-1]))


def put(values: Tensor, bins: Tensor, rest: Tensor) -> Tensor:
    """``rest [..., bin, slot]`` with ``values [..., K, slot]`` written to the bins ``[..., K]``."""
    return rest.scatter(-2, bins.unsqueeze(-1).expand_as(values), values)


def bounded(values: Tensor, series: Tensor, limit: float = 1.5) -> Tensor:
    """``values [..., bin, step]`` with amplitudes at most ``limit`` times the largest one in the bin's history."""
    most = limit * bin_peak(series).unsqueeze(-1)
    return values * (most / values.abs().clamp(min=1e-30)).clamp(max=1.0)


def bin_peak(series: Tensor) -> Tensor:
    """Largest amplitude of each bin over the history: ``[..., bin]``."""
    return series.abs().amax(-1)


def noise_variance(series: Tensor, *, quantile: float = 0.1) -> Tensor:
    """Noise variance of each link ``[...]``, guessed from its weakest bins.

    Most beam-delay bins of a wideband link with many ports hold nothing but noise. The energy of such a bin over
    ``T`` slots is Gamma distributed; the 10 % quantile over bins, divided by that of the distribution
    (Wilson and Hilferty, 1931), is the variance. Where all bins carry signal this guess is too high; it is
    therefore capped by the residual of a one-step linear prediction, which can never fall below the noise.

    Args:
        series: ``complex [..., bin, slot]``.
    """
    slots = series.shape[-1]
    power = bin_energy(series) / slots
    z = -1.2816 if quantile == 0.1 else float(torch.special.ndtri(torch.tensor(quantile)))
    weakest = (1 - 1 / (9 * slots) + z * (1 / (9 * slots)) ** 0.5) ** 3
    guess = quantile_of(power, quantile) / max(weakest, 1e-3)
    if slots < 3:
        return torch.minimum(guess, power.mean(-1) / 2)
    order = max(1, slots // 3)
    rows = series.unfold(-1, order, 1)[..., :-1, :].flatten(-3, -2)
    target = series[..., order:].flatten(-2).unsqueeze(-1)
    gram = rows.mH @ rows
    load = 1e-6 * gram.diagonal(dim1=-2, dim2=-1).real.mean(-1) + TINY
    gram = gram + load[..., None, None] * torch.eye(order, dtype=gram.dtype, device=gram.device)
    weights = torch.linalg.solve(gram, rows.mH @ target)
    residual = bin_energy((target - rows @ weights).squeeze(-1)) / max(target.shape[-2] - order, 1)
    return torch.minimum(guess, residual)


def stable_filter(weights: Tensor, max_radius: float = 1.0) -> Tensor:
    """One-step filters with every pole of modulus at most ``max_radius``; others move radially onto that circle.

    Args:
        weights: ``complex [..., order]``, newest slot last, as in :class:`airlam.baselines.ARFilters`.

    Example:
        >>> stable_filter(torch.tensor([2.0 + 0j])).real
        tensor([1.])
    """
    order = weights.shape[-1]
    wide = weights.to(torch.complex128)
    companion = torch.zeros(*weights.shape, order, dtype=wide.dtype, device=wide.device)
    companion[..., :-1, 1:] = torch.eye(order - 1, dtype=wide.dtype, device=wide.device)
    companion[..., -1, :] = wide
    poles = torch.linalg.eigvals(companion)
    size = poles.abs()
    moved = poles * (max_radius / size.clamp(min=1e-30)).clamp(max=1.0)
    polynomial = torch.ones_like(wide[..., :1])  # coefficients of z^n, z^(n-1), ...
    for i in range(order):
        longer = torch.cat([polynomial, torch.zeros_like(polynomial[..., :1])], -1)
        longer[..., 1:] = longer[..., 1:] - moved[..., i : i + 1] * polynomial
        polynomial = longer
    inside = (size <= max_radius).all(-1, keepdim=True)
    return torch.where(inside, wide, -polynomial[..., 1:].flip(-1)).to(weights.dtype)
