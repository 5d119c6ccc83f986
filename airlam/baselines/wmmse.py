"""Weighted-MMSE sum-rate maximisation; conventions as in :mod:`airlam.baselines.precoders`."""

from __future__ import annotations

import torch
from torch import Tensor

from airlam.baselines.precoders import ClosedForm, rzf
from airlam.baselines.precoding_steps import prepared
from airlam.baselines.robust import robust_wmmse
from airlam.csi import resolve_inputs


@resolve_inputs
def wmmse(
    h: Tensor,
    power: float | Tensor,
    no: float | Tensor,
    *,
    num_iterations: int = 10,
    rx_axis: bool = False,
    error_covariance: Tensor | None = None,
) -> Tensor:
    r"""Weighted-MMSE sum-rate maximisation, started from :func:`rzf`; the sum-rate never falls below it.

    Q. Shi, M. Razaviyayn, Z.-Q. Luo, C. He, IEEE Trans. Signal Process. 2011, in the K x K form: the optimal beams lie
    in the span of the users' rows, ``W = H^H X``, so that every iteration works on the Gram matrix only; and with
    the noise scaled by the power used (X. Zhao et al., "Rethinking WMMSE: can its complexity scale linearly with the
    number of BS antennas?", 2022) the power constraint is met by a final scaling, without a bisection.

    Args:
        h: ``complex [..., user, tx_ant]``.
        power, no: total transmit power, noise variance.
        num_iterations: fixed, so that the result depends on nothing but this entry. Ten are quick and within a percent
            for few users; with many (12 on 32 antennas) the last 5 to 7 % take a hundred.
        error_covariance: as in :func:`rzf`; then :func:`airlam.baselines.robust.robust_wmmse`, from the robust
            :func:`rzf`.

    Returns:
        ``w [..., tx_ant, user]`` with ``sum_k ||w_k||^2 = power``.
    """
    start = rzf(h, power, no, rx_axis=rx_axis, error_covariance=error_covariance)
    h, power, noise = prepared(h, power, no, rx_axis)
    if error_covariance is not None:
        return robust_wmmse(h, power, noise, error_covariance, start, num_iterations)
    # Rows scaled to unit noise and unit power: log2(1 + SINR) stays the same.
    scale = (power.unsqueeze(-1) / noise).sqrt().unsqueeze(-1)
    scaled = (h * scale).to(torch.complex128)
    users = scaled.shape[-2]
    gram = scaled @ scaled.mH
    eye = torch.eye(users, dtype=gram.dtype, device=h.device)
    # coordinates of the start: W = H^H X, by least squares in the span (regularised for dependent users)
    load = 1e-12 * gram.diagonal(dim1=-2, dim2=-1).real.mean(-1)[..., None, None] + 1e-30
    beams = start.to(torch.complex128) / power.sqrt()[..., None, None]
    x = torch.linalg.solve(gram + load * eye, scaled @ beams)
    best, best_rate = x, torch.zeros((), dtype=x.real.dtype, device=x.device)
    for iteration in range(num_iterations + 1):
        received = gram @ x  # h_k w_j
        spent = (x.conj() * received).real.sum((-2, -1), keepdim=True)  # sum_k ||w_k||^2
        power_seen = received.abs().square().sum(-1) + spent.squeeze(-1)
        own = received.diagonal(dim1=-2, dim2=-1)
        mse = (1 - own.abs().square() / power_seen.clamp(min=1e-300)).clamp(min=1e-15)
        rate = -torch.log2(mse).sum(-1)
        if iteration == 0:
            best, best_rate = x, rate
        else:  # rounding on ill-conditioned channels must not undo the monotone ascent
            better = rate > best_rate
            best = torch.where(better[..., None, None], x, best)
            best_rate = torch.maximum(rate, best_rate)
        if iteration == num_iterations:
            break
        receiver = own.conj() / power_seen.clamp(min=1e-300)  # u_k^*
        weight = receiver.abs().square() / mse  # |u_k|^2 v_k
        # W = (H^H D H + tr(D) I)^-1 H^H (u v)  =  H^H (D G + tr(D) I)^-1 (u v)
        system = weight.unsqueeze(-1) * gram + weight.sum(-1)[..., None, None] * eye + 1e-300 * eye
        x = torch.linalg.solve(system, torch.diag_embed(receiver.conj() / mse))
    w = scaled.mH @ best
    norm = torch.linalg.matrix_norm(w).clamp(min=1e-300)[..., None, None]
    w = (w / norm * power.sqrt()[..., None, None]).to(h.dtype)
    # a channel of zeros has no direction: keep the start
    usable = torch.isfinite(torch.view_as_real(w)).all(-1).all(-1).all(-1) & (best_rate > 0)
    return torch.where(usable[..., None, None], w, start)


class WMMSEPrecoder(ClosedForm):
    """:func:`wmmse` as a Precoder."""

    name = "wmmse"

    def __init__(self, num_iterations: int = 10, *, rx_axis: bool = False):
        super().__init__(rx_axis=rx_axis)
        if num_iterations < 0:
            raise ValueError(f"num_iterations must not be negative, got {num_iterations}")
        self.num_iterations = num_iterations

    def precode(self, h, power, no, *, error_covariance=None) -> Tensor:
        """See :class:`airlam.interfaces.Precoder`."""
        return wmmse(
            h,
            power,
            no,
            num_iterations=self.num_iterations,
            rx_axis=self.rx_axis,
            error_covariance=error_covariance,
        )


# ------------------------------------------------------------------------------------------------- shared steps
