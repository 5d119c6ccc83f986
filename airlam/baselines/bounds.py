r"""Upper bounds on the sum-rate [bit/s/Hz] of a down-link: cooperating receivers, and dirty-paper coding.

For every channel: linear precoding <= DPC <= cooperation.
"""

from __future__ import annotations

import torch
from torch import Tensor

from airlam.baselines.precoding_steps import water_filling
from airlam.csi import resolve_inputs
from airlam.interfaces import check_precoding_request
from airlam.metrics.rates import noise_of_users


@resolve_inputs
def water_filling_capacity(h: Tensor, power: float | Tensor, no: float | Tensor, *, rx_axis: bool = False) -> Tensor:
    r"""Capacity of the point-to-point MIMO channel in which all rows of ``h`` belong to one receiver.

    :math:`\sum_i\log_2(1 + p_i s_i^2/no)`, singular values :math:`s_i`, powers by water-filling. With one user it is
    that user's capacity; with several, what they could reach if they decoded together.

    Args:
        h: ``complex [..., user, tx_ant]``, or ``[..., user, rx_ant, tx_ant]`` with ``rx_axis``.
        power, no: linear; one value or one per batch entry; ``no`` also per user.

    Returns:
        float64 ``[...]``.

    Example:
        >>> round(float(water_filling_capacity(torch.eye(2, dtype=torch.complex64), 2.0, 1 / 3)), 6)
        4.0
    """
    rows, power = whitened_rows(h, power, no, rx_axis)
    gains = torch.linalg.svdvals(rows.flatten(-3, -2)).square()
    return torch.log2(1 + gains * water_filling(gains, power)).sum(-1)


@resolve_inputs
def dpc_sum_capacity(
    h: Tensor,
    power: float | Tensor,
    no: float | Tensor,
    *,
    rx_axis: bool = False,
    tolerance: float = 1e-4,
    max_iterations: int = 300,
    return_gap: bool = False,
) -> Tensor | tuple[Tensor, Tensor]:
    r"""Sum-capacity of the broadcast channel (dirty-paper coding), from its dual multiple-access channel.

    :math:`\max \log_2\det(I + \sum_k H_k^H Q_k H_k)` over :math:`Q_k \succeq 0`, :math:`\sum_k\mathrm{tr}\,Q_k \le
    power` (P. Viswanath, D. Tse, IEEE Trans. Inf. Theory 2003), by sum-power iterative water-filling (N. Jindal et al.,
    IEEE Trans. Inf. Theory 2005) with a line search that includes their provably convergent step 1/K.

    The problem is concave, so the first-order bound :math:`f^\star - f \le power\,\max_k\lambda_{\max}(G_k) -
    \sum_k\mathrm{tr}(G_kQ_k)`, with the gradients :math:`G_k`, certifies how far the value can be below the capacity.

    Args:
        h, power, no, rx_axis: as :func:`water_filling_capacity`.
        tolerance: stop when the certified gap [bit/s/Hz] is below it in every entry.
        max_iterations: stop in any case.
        return_gap: also return the certified gap.

    Returns:
        float64 ``[...]``: a rate that DPC reaches; with ``return_gap`` also the gap, so that the capacity lies in
        ``[value, value + gap]``.

    Example:
        >>> h = torch.eye(2, dtype=torch.complex64)                  # orthogonal users: no loss against cooperation
        >>> round(float(dpc_sum_capacity(h, 2.0, 1 / 3)), 4)
        4.0
    """
    rows, power = whitened_rows(h, power, no, rx_axis)
    users, rx = rows.shape[-3:-1]
    stacked = rows.flatten(-3, -2)
    gram = stacked @ stacked.mH  # everything below lives in (users * rx) x (users * rx)
    eye = torch.eye(users * rx, dtype=gram.dtype, device=gram.device)
    start = (power / (users * rx))[..., None, None, None]
    q = torch.eye(rx, dtype=gram.dtype, device=gram.device) * start.to(gram.dtype).expand(*power.shape, users, 1, 1)
    steps = sorted({1.0, 0.5, 0.25, 1.0 / users}, reverse=True)

    def value(q: Tensor) -> Tensor:
        return torch.linalg.slogdet(eye + gram @ block_diagonal(q)).logabsdet

    current = value(q)
    for iteration in range(max_iterations + 1):
        # M = H A^-1 H^H with A = I + H^H Q H, by the inversion lemma; its diagonal blocks are the gradients
        m = torch.linalg.solve(eye + gram @ block_diagonal(q), gram)
        m = (m + m.mH) / 2
        gradient = torch.stack([m[..., i * rx : (i + 1) * rx, i * rx : (i + 1) * rx] for i in range(users)], -3)
        steepest = torch.linalg.eigvalsh(gradient)[..., -1].amax(-1)
        gap = (power * steepest - (gradient * q.mT).sum((-3, -2, -1)).real).clamp(min=0)
        if iteration == max_iterations or bool((gap < tolerance * 0.6931).all()):
            break
        # each user's channel with the others as noise: (I - M_kk Q_k)^-1 M_kk
        small = torch.eye(rx, dtype=gram.dtype, device=gram.device)
        alone = torch.linalg.solve(small - gradient @ q, gradient)
        values, vectors = torch.linalg.eigh((alone + alone.mH) / 2)
        filled = water_filling(values.clamp(min=0).flatten(-2), power).unflatten(-1, (users, rx))
        target = (vectors * filled.unsqueeze(-2).to(vectors.dtype)) @ vectors.mH
        tried = [q + step * (target - q) for step in steps]
        scores = torch.stack([value(t) for t in tried])
        best, index = scores.max(0)
        chosen = torch.stack(tried).gather(0, index[None, ..., None, None, None].expand(1, *q.shape)).squeeze(0)
        ascent = best > current  # at the optimum, rounding may say otherwise: stay
        q = torch.where(ascent[..., None, None, None], chosen, q)
        current = torch.where(ascent, best, current)
    bits = current / 0.6931471805599453
    return (bits, gap / 0.6931471805599453) if return_gap else bits


def whitened_rows(h: Tensor, power: float | Tensor, no: float | Tensor, rx_axis: bool) -> tuple[Tensor, Tensor]:
    """``[..., user, rx_ant, tx_ant]`` with unit noise, complex128, and ``power [...]`` in float64."""
    check_precoding_request(h, power, no)
    rows = h if rx_axis else h.unsqueeze(-2)
    if rows.dim() < 3:
        raise ValueError(f"h has {h.dim()} axes {tuple(h.shape)}, but rx_axis means [..., user, rx_ant, tx_ant]")
    lead = rows.shape[:-3]
    noise = noise_of_users(no, lead, h).expand(*lead, rows.shape[-3]).double()
    rows = rows.to(torch.complex128) / noise.sqrt()[..., None, None]
    return rows, torch.as_tensor(power, dtype=torch.float64, device=h.device).expand(lead)


def block_diagonal(blocks: Tensor) -> Tensor:
    """``[..., n, r, r]`` -> ``[..., n r, n r]``."""
    n, r = blocks.shape[-3:-1]
    out = blocks.new_zeros(*blocks.shape[:-3], n, r, n, r)
    index = torch.arange(n, device=blocks.device)
    out[..., index, :, index, :] = blocks.movedim(-3, 0)
    return out.flatten(-4, -3).flatten(-2)
