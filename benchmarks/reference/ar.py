"""The frozen AR predictor whose time is the unit of every latency ratio: order 12, 512 bins, shrinkage 3, plain torch.

``airlam``'s own ``ar`` may become faster or better; a ratio "to the AR" would then change although nothing else did.
This file holds the method as it was when it was frozen (2026-11-30), with its default settings and without airlam.
Never change it; a test compares it with the ``ar`` of today.

    w_b = w + (D_b^H D_b + kappa R / K)^-1 D_b^H (t_b - D_b w)

``w``: one filter for the link, least squares over its 512 strongest beam-delay bins; ``w_b``: the filter of bin ``b``.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

ORDER, NUM_BINS, SHRINKAGE, RIDGE, LIMIT = 12, 512, 3.0, 1e-4, 1.5
TINY = 1e-20


def predict(h_past: Tensor, num_future: int, port_shape: tuple[int, int, int]) -> Tensor:
    """Predict ``num_future`` slots.

    Args:
        h_past: ``complex [link, slot, subcarrier, rx_ant, tx_ant]``, more than one slot.
        port_shape: (polarisations, columns, rows) of ``tx_ant``.

    Returns:
        ``complex [link, num_future, subcarrier, rx_ant, tx_ant]``.
    """
    x = torch.fft.ifft(h_past, dim=-3, norm="ortho").unflatten(-1, port_shape)
    x = torch.fft.fft2(x, dim=(-2, -1), norm="ortho").flatten(-3)
    series = x.flatten(-3).mT.contiguous()  # [link, bin, slot]
    energy = (series.real.square() + series.imag.square()).sum(-1)
    bins = energy.topk(min(NUM_BINS, energy.shape[-1]), dim=-1).indices
    kept = series.gather(-2, bins.unsqueeze(-1).expand(*bins.shape, series.shape[-1]))
    future = rollout(kept, filters(kept), num_future)
    whole = series.new_zeros(*series.shape[:-1], num_future)
    whole = whole.scatter(-2, bins.unsqueeze(-1).expand_as(future), future)
    x = whole.mT.unflatten(-1, tuple(h_past.shape[-3:]))
    h = torch.fft.ifft2(x.unflatten(-1, port_shape), dim=(-2, -1), norm="ortho").flatten(-3)
    return torch.fft.fft(h, dim=-3, norm="ortho")


def filters(series: Tensor) -> Tensor:
    """One-step filter of each bin ``[link, bin, order]`` of ``series [link, bin, slot]``; the last weight is newest."""
    num_bins, num_slots = series.shape[-2:]
    order = min(ORDER, max(1, (3 * num_slots) // 4))
    power = (series.real.square() + series.imag.square()).mean((-2, -1), keepdim=True)
    series = series / torch.where(power > 0, power, torch.ones_like(power)).sqrt()
    rows = series.unfold(-1, order, 1)[..., :-1, :]
    targets = series[..., order:].unsqueeze(-1)
    flat = rows.flatten(-3, -2)
    gram = (flat.mH @ flat).to(torch.complex128)
    eye = torch.eye(order, dtype=gram.dtype)
    load = RIDGE * gram.diagonal(dim1=-2, dim2=-1).real.mean(-1) + TINY
    factor = torch.linalg.cholesky(gram + load[..., None, None] * eye)
    right = (flat.mH @ targets.flatten(-3, -2)).to(torch.complex128)
    pooled = torch.cholesky_solve(right, factor).squeeze(-1).to(series.dtype)
    error = targets.squeeze(-1) - (rows @ pooled[..., None, :, None]).squeeze(-1)
    whitener = torch.linalg.solve_triangular(factor.mH, eye, upper=True)
    whitener = (whitener * math.sqrt(num_bins / SHRINKAGE)).to(series.dtype)
    white = (flat @ whitener).unflatten(-2, rows.shape[-3:-1])
    update = whitened_ridge(white, error.unsqueeze(-1))
    return pooled.unsqueeze(-2) + update.squeeze(-1) @ whitener.mT


def whitened_ridge(rows: Tensor, targets: Tensor) -> Tensor:
    """``(G^H G + I)^-1 G^H e``, in the smaller of its two forms."""
    num_equations, order = rows.shape[-2:]
    eye = torch.eye(min(num_equations, order), dtype=rows.dtype)
    if num_equations <= order:
        return rows.mH @ torch.cholesky_solve(targets, torch.linalg.cholesky(rows @ rows.mH + eye))
    return torch.cholesky_solve(rows.mH @ targets, torch.linalg.cholesky(rows.mH @ rows + eye))


def rollout(series: Tensor, weights: Tensor, num_future: int) -> Tensor:
    """Feed each prediction back; amplitudes are bounded by 1.5 times the largest one of the bin's history."""
    window, future = series[..., -weights.shape[-1] :], []
    most = LIMIT * series.abs().amax(-1)
    for _ in range(num_future):
        value = (weights * window).sum(-1)
        value = value * (most / value.abs().clamp(min=1e-30)).clamp(max=1.0)
        future.append(value)
        window = torch.cat([window[..., 1:], value.unsqueeze(-1)], dim=-1)
    return torch.stack(future, dim=-1)
