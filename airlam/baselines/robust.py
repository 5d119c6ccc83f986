"""WMMSE for CSI with a known error covariance."""

from __future__ import annotations

import torch
from torch import Tensor

from airlam.csi import resolve_inputs


@resolve_inputs
def certain_rates(h: Tensor, w: Tensor, no: Tensor, error_covariance: Tensor | None = None) -> Tensor:
    r"""Rate of each user that is certain in spite of CSI errors [bit/s/Hz], ``[..., user]``.

    With :math:`h_k = \hat h_k + e_k` and :math:`C_k = E[e_k^H e_k]`, what a user receives through the error counts as
    noise ("use and forget"): :math:`SINR_k = |\hat h_k w_k|^2 /
    (\sum_{j\ne k}|\hat h_k w_j|^2 + \sum_j w_j^H C_k w_j + no_k)`, a lower bound of the ergodic rate (M. Medard, "The
    effect upon channel capacity in wireless communications of perfect and imperfect knowledge of the channel", IEEE
    Trans. Inf. Theory 2000). Without errors it is the rate itself.

    Args:
        h: estimate ``complex [..., user, tx_ant]``. w: beams ``[..., tx_ant, user]``. no: ``[..., user]``.
        error_covariance: ``[..., user, tx_ant, tx_ant]``; None: the estimate is exact.
    """
    power = (h @ w).abs().square()
    own = power.diagonal(dim1=-2, dim2=-1)
    others = power.masked_fill(torch.eye(w.shape[-1], dtype=torch.bool, device=h.device), 0.0).sum(-1)
    if error_covariance is not None:
        others = others + received_errors(error_covariance, w).sum(-1)
    return torch.log1p(own / (others + no)) / torch.log(torch.tensor(2.0))


def received_errors(error_covariance: Tensor, w: Tensor) -> Tensor:
    """Power ``w_j^H C_k w_j`` that user ``k`` receives of beam ``j`` through the errors of its CSI, ``[..., user,
    beam]``."""
    return (w.conj().unsqueeze(-3) * (error_covariance @ w.unsqueeze(-3))).real.sum(-2).clamp_min(0)


@resolve_inputs
def robust_wmmse(
    h: Tensor, power: Tensor, noise: Tensor, error_covariance: Tensor, start: Tensor, num_iterations: int
) -> Tensor:
    r"""Beams that maximise the sum-rate that is certain in spite of CSI errors.

    The sum of :func:`certain_rates`. Its WMMSE iteration is the plain one with :math:`C_k` beside :math:`h_k^H h_k`;
    the beams now leave the span of the users' rows, so each step solves a system of the size of the array.

    Args:
        h: estimate ``complex [..., user, tx_ant]``. power: ``[...]``. noise: ``[..., user]``.
        error_covariance: ``[..., user, tx_ant, tx_ant]``.
        start: beams ``[..., tx_ant, user]`` within the power; the bound never falls below theirs.

    Returns:
        ``w [..., tx_ant, user]`` with ``sum_k ||w_k||^2 = power``.
    """
    scale = (power.unsqueeze(-1) / noise).sqrt()  # rows of unit noise, unit power
    rows = (h * scale[..., None]).to(torch.complex128)
    spread = (error_covariance * scale.square()[..., None, None]).to(torch.complex128)
    eye = torch.eye(h.shape[-1], dtype=rows.dtype, device=h.device)
    outer = (rows.conj().unsqueeze(-1) * rows.unsqueeze(-2) + spread).flatten(-2)  # E[h_k^H h_k], [..., user, ant^2]
    w = start.to(torch.complex128) / power.sqrt()[..., None, None]
    best, best_rate = w, torch.full(w.shape[:-2], -torch.inf, dtype=torch.float64, device=h.device)
    for iteration in range(num_iterations + 1):
        own = (rows * w.mT).sum(-1)
        spent = w.abs().square().sum((-2, -1)).unsqueeze(-1)  # the noise, scaled by the power in use
        used = (w @ w.mH).mT.flatten(-2).unsqueeze(-1)
        seen = (outer @ used)[..., 0].real + spent  # sum_j w_j^H E[h_k^H h_k] w_j
        mse = (1 - own.abs().square() / seen.clamp(min=1e-300)).clamp(min=1e-15)
        rate = -torch.log2(mse).sum(-1)
        best = torch.where((rate > best_rate)[..., None, None], w, best)
        best_rate = torch.maximum(rate, best_rate)
        if iteration == num_iterations:
            break
        receiver = own.conj() / seen.clamp(min=1e-300)
        weight = receiver.abs().square() / mse
        system = (weight.unsqueeze(-2).to(outer.dtype) @ outer)[..., 0, :].unflatten(-1, eye.shape)
        system = system + (weight.sum(-1)[..., None, None] + 1e-300) * eye
        w = torch.linalg.solve(system, rows.mH * (receiver.conj() / mse).unsqueeze(-2))
    w = best / torch.linalg.matrix_norm(best).clamp(min=1e-300)[..., None, None] * power.sqrt()[..., None, None]
    usable = torch.isfinite(torch.view_as_real(w)).all(-1).all(-1).all(-1) & (best_rate > 0)
    return torch.where(usable[..., None, None], w.to(h.dtype), start)
