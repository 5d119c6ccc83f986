"""Steps that all precoders share: checks of their inputs, equal powers, pseudo-inverse, water-filling."""

from __future__ import annotations

import torch
from torch import Tensor

from airlam.csi import resolve_inputs
from airlam.interfaces import check_precoding_request
from airlam.metrics.rates import dominant_row, noise_of_users


@resolve_inputs
def effective_channel(h: Tensor) -> Tensor:
    """``[..., user, rx_ant, tx_ant] -> [..., user, tx_ant]``: what a receiver sees along its strongest direction.

    Its norm is the largest singular value of the user's channel.
    """
    return dominant_row(h)


def prepared(h: Tensor, power: float | Tensor, no: float | Tensor, rx_axis: bool) -> tuple[Tensor, Tensor, Tensor]:
    """Checked ``h [..., user, tx_ant]``, ``power [...]`` and ``noise [..., user]``, broadcast to the batch."""
    check_precoding_request(h, power, no)
    if rx_axis:
        if h.dim() < 3:
            raise ValueError(f"h has {h.dim()} axes {tuple(h.shape)}, but rx_axis means [..., user, rx_ant, tx_ant]")
        h = effective_channel(h)
    lead, users = h.shape[:-2], h.shape[-2]
    power = torch.as_tensor(power, dtype=h.real.dtype, device=h.device)
    if power.dim() > len(lead):
        raise ValueError(f"power {tuple(power.shape)} must be one value or one per batch entry {tuple(lead)}")
    noise = noise_of_users(no, lead, h)
    return h, power.expand(lead), noise.expand(*lead, users)


def equal_powers(beams: Tensor, power: Tensor) -> Tensor:
    """Columns of ``beams [..., tx_ant, user]`` scaled to ``power / K`` each; a zero column stays zero."""
    largest = beams.abs().amax(-2, keepdim=True)
    beams = beams / torch.where(largest > 0, largest, torch.ones_like(largest))  # no overflow in the norm
    norm = torch.linalg.vector_norm(beams, dim=-2, keepdim=True)
    share = (power / beams.shape[-1]).sqrt()[..., None, None]
    return beams * (share / torch.where(norm > 0, norm, torch.ones_like(norm)))


def pseudo_inverse(h: Tensor) -> Tensor:
    """``H^+ [..., tx_ant, user]`` in double precision; singular values below 1e-7 of the largest count as zero."""
    users, antennas = h.shape[-2:]
    if users > antennas:
        raise ValueError(
            f"zero forcing separates at most {antennas} users with {antennas} transmit antennas, got {users}; "
            "schedule fewer users or use rzf or wmmse"
        )
    wide = h.to(torch.complex128)
    factor, failed = torch.linalg.cholesky_ex(wide @ wide.mH)
    pivots = factor.diagonal(dim1=-2, dim2=-1).real
    # squaring H in the Gram matrix is harmless only while its singular values stay within about 1e-6 of each other
    regular = (failed == 0) & (pivots.amin(-1) > 1e-6 * pivots.amax(-1))
    eye = torch.eye(users, dtype=wide.dtype, device=h.device)
    inverse = wide.mH @ torch.cholesky_solve(eye.expand_as(factor), torch.where(regular[..., None, None], factor, eye))
    if not bool(regular.all()):
        u, s, vh = torch.linalg.svd(wide[~regular], full_matrices=False)
        kept = s > 1e-7 * s[..., :1].clamp(min=1e-300)
        s = torch.where(kept, 1 / s.clamp(min=1e-300), torch.zeros_like(s))
        inverse[~regular] = (vh.mH * s.unsqueeze(-2)) @ u.mH
    return inverse.to(h.dtype)


@resolve_inputs
def water_filling(gains: Tensor, power: Tensor) -> Tensor:
    r"""Powers that maximise :math:`\sum_i\log(1 + g_i p_i)` subject to :math:`\sum_i p_i = power`, exactly.

    Args:
        gains: signal-to-noise ratios per unit power, non-negative ``[..., channel]``.
        power: ``[...]``.

    Returns:
        ``[..., channel]``; where all gains are zero, the power is spread evenly.

    Example:
        >>> water_filling(torch.tensor([1.0, 0.5]), torch.tensor(3.0))
        tensor([2., 1.])
    """
    gains, total = gains.double(), torch.as_tensor(power).double()
    tiny = 1e-150
    floor, order = (1 / gains.clamp(min=tiny)).sort(dim=-1)  # best channel first
    count = torch.arange(1, gains.shape[-1] + 1, device=gains.device, dtype=torch.float64)
    level = (total.unsqueeze(-1) + floor.cumsum(-1)) / count
    active = (level > floor).sum(-1, keepdim=True).clamp(min=1)  # the conditions hold for exactly the first channels
    level = level.gather(-1, active - 1)
    powers = (level - floor).clamp(min=0)
    powers = powers * (total.unsqueeze(-1) / powers.sum(-1, keepdim=True).clamp(min=tiny))
    even = (total / gains.shape[-1]).unsqueeze(-1).expand_as(powers)
    powers = torch.where((gains > tiny).any(-1, keepdim=True), powers, even)
    return torch.zeros_like(powers).scatter(-1, order, powers).to(torch.as_tensor(power).dtype)


def check_error_covariance(error_covariance: Tensor, h: Tensor) -> None:
    """The shape that the robust forms need, finite, and what a covariance has at least: ``1^H C 1`` real, not negative,
    like its diagonal."""
    want = (*h.shape, h.shape[-1])
    if tuple(error_covariance.shape) != want:
        raise ValueError(
            f"error_covariance {tuple(error_covariance.shape)} must be [..., user, tx_ant, tx_ant]: {want}"
        )
    total = error_covariance.sum((-2, -1)).to(h.dtype)
    if not torch.isfinite(torch.view_as_real(total)).all():  # a finite sum proves finite entries
        raise ValueError("error_covariance contains NaN or infinity")
    diagonal = error_covariance.diagonal(dim1=-2, dim2=-1).to(h.dtype)
    slack = 1e-3 * h.shape[-1] * diagonal.abs().sum(-1)  # rounding of single precision, and more
    low = torch.minimum(total.real, diagonal.real.amin(-1))
    odd = torch.maximum(total.imag.abs(), diagonal.imag.abs().amax(-1))
    if bool((low < -slack).any()) or bool((odd > slack).any()):
        raise ValueError(
            "error_covariance must be E[e^H e] of each user, Hermitian and positive semidefinite; it is not: its "
            "diagonal or 1^H C 1 is negative or not real"
        )
