r"""Bounds: the error of a predictor that knows the rays of the drop.

The channel is :math:`h = \sum_r c_r\, t_r \otimes f_r \otimes a_r` with known delay, Doppler, array
response and power of every ray and unknown independent :math:`c_r` of variance ``power``: random phases make the
amplitudes uncorrelated, and the estimates below are the best *linear* ones.
"""

from __future__ import annotations

import math
from typing import Protocol

import torch
from torch import Tensor

from airlam.baselines.bins import bin_series, csi_of
from airlam.csi import PortShape, check_port_shape, resolve_inputs
from airlam.interfaces import check_csi

NEGLIGIBLE = 1e-7  # of a link's power: what all atoms that are left out may hold together


class RaysLike(Protocol):
    """The rays of a batch of links.

    Attributes:
        delay: ``[link, atom]`` [s].
        doppler: ``[link, atom]`` [Hz]; the phase advances by ``+2 pi doppler t``.
        power: ``[link, atom]``, mean ``|c|^2``.
        array: ``complex [link, atom, rx_ant * tx_ant]``, receive antenna major.
        cluster: ``int64 [link, atom]``, which atoms make a cluster; only :func:`cluster_genie` looks at it.
    """

    delay: Tensor
    doppler: Tensor
    power: Tensor
    array: Tensor
    cluster: Tensor


@resolve_inputs
def genie_lmmse(
    rays: RaysLike,
    h_past: Tensor,
    noise_variance: float | Tensor,
    num_future: int,
    *,
    slot_duration: float,
    subcarrier_spacing: float,
) -> Tensor:
    r"""Bayesian linear estimate over all slots, tones and antennas of the history, with all rays known except their
    phases.

    Solved in ray space, :math:`(P^{1/2} G^HG P^{1/2} + \sigma^2 I)\,\tilde c = P^{1/2} G^H y`, where the Gram matrix of
    the rays is the Hadamard product of their time, frequency and array Gram matrices: a few hundred unknowns instead of
    tens of thousands of observations.

    Args:
        rays: of the same links (:class:`RaysLike`).
        h_past: measured ``complex [link, slot, subcarrier, rx_ant, tx_ant]``.
        noise_variance: of each measured entry, one value or ``[link]``; 0 is taken as 1e-10 of the ray power.
        num_future: slots to predict.
        slot_duration: [s]. subcarrier_spacing: [Hz].

    Returns:
        ``complex [link, num_future, subcarrier, rx_ant, tx_ant]``, dtype of ``h_past``; computed in complex128.
    """
    links, slots, tones, rx, tx = checked(rays, h_past, num_future)
    known = responses(rays, slots + num_future, tones, slot_duration, subcarrier_spacing)
    return joint_estimate(*known, rays.power.double().clamp(min=0), h_past, noise_variance)


@resolve_inputs
def cluster_genie(
    rays: RaysLike,
    h_past: Tensor,
    noise_variance: float | Tensor,
    num_future: int,
    *,
    slot_duration: float,
    subcarrier_spacing: float,
) -> Tensor:
    r"""Bayesian linear estimate that knows the statistics of each cluster, but not its rays.

    It knows of every cluster the delay, the power, the Doppler spectrum, and the covariance over antennas; not which
    direction has which Doppler shift. So a cluster's covariance is the Kronecker product
    :math:`R_c = R_{t,c} \otimes f_c f_c^H \otimes R_{a,c}`: the limit for a predictor that finds clusters and has
    learned how they spread. :func:`genie_lmmse` resolves rays that lie closer than that.

    Args and returns: as :func:`genie_lmmse`.
    """
    links, slots, tones, rx, tx = checked(rays, h_past, num_future)
    time, frequency, array = responses(rays, slots + num_future, tones, slot_duration, subcarrier_spacing)
    amplitude = rays.power.double().clamp(min=0).sqrt()
    member = torch.nn.functional.one_hot(rays.cluster.long()).mT * amplitude[:, None]  # [link, cluster, atom]
    strength = array.abs().square().mean(-1).sqrt()
    over_slots, shapes = modes(time * strength[..., None], member)
    over_array, ports = modes(array, member)
    total = over_slots.sum(-1) / (slots + num_future)
    power = over_slots[..., :, None] * over_array[..., None, :] / total.clamp_min(1e-30)[..., None, None]
    # the strongest products of modes, whose rest holds less than NEGLIGIBLE
    flat, order = power.flatten(1).sort(dim=1, descending=True)
    rest = flat.flip(1).cumsum(1).flip(1)
    heard = rest > NEGLIGIBLE * rest[:, :1]
    kept = int(heard.sum(1).max())
    flat, order = (flat * heard)[:, :kept], order[:, :kept]
    cluster, i, j = torch.unravel_index(order, power.shape[1:])
    link = torch.arange(links, device=order.device)[:, None]
    first = (member > 0).int().argmax(-1)  # any atom of the cluster: all have its delay
    known = shapes[link, cluster, :, i], frequency[link, first[link, cluster]], ports[link, cluster, :, j]
    return joint_estimate(*known, flat, h_past, noise_variance)


def modes(response: Tensor, member: Tensor) -> tuple[Tensor, Tensor]:
    """Eigenvalues ``[link, cluster, mode]`` and eigenvectors ``[link, cluster, entry, mode]`` of clusters' covariances.

    Args:
        response: ``[link, atom, entry]``. member: ``[link, cluster, atom]``, amplitude of the cluster's atoms, else 0.
    """
    own = member[..., None] * response[:, None]
    values, vectors = torch.linalg.eigh(own.mT @ own.conj())
    return values.clamp_min(0), vectors


def joint_estimate(
    time: Tensor, frequency: Tensor, array: Tensor, power: Tensor, h_past: Tensor, noise_variance: float | Tensor
) -> Tensor:
    """Linear MMSE estimate of the future of a sum of atoms with uncorrelated amplitudes.

    Args:
        time: ``complex128 [link, atom, slot]`` over past and future slots. frequency: ``[link, atom, subcarrier]``.
        array: ``[link, atom, antenna]``. power: ``[link, atom]`` of the amplitudes.
        h_past: measured. noise_variance: see :func:`genie_lmmse`.
    """
    links, slots, tones, rx, tx = h_past.shape
    amplitude = power.sqrt()
    noise = noise_floor(noise_variance, amplitude)
    past = time[..., :slots]
    gram = (past.conj() @ past.mT) * (frequency.conj() @ frequency.mT) * (array.conj() @ array.mT)
    gram = amplitude.unsqueeze(-1) * gram * amplitude.unsqueeze(-2)
    eye = torch.eye(gram.shape[-1], dtype=gram.dtype, device=gram.device)
    y = h_past.reshape(links, slots, tones, rx * tx).to(torch.complex128)
    seen = torch.einsum("ntfa,nra->nrtf", y, array.conj())
    right = torch.einsum("nrtf,nrf,nrt->nr", seen, frequency.conj(), past.conj()) * amplitude
    factor = torch.linalg.cholesky(gram + noise[:, None, None] * eye)
    c = torch.cholesky_solve(right.unsqueeze(-1), factor).squeeze(-1) * amplitude
    ahead = torch.einsum("nr,nrt,nrf->nrtf", c, time[..., slots:], frequency)
    out = torch.einsum("nrtf,nra->ntfa", ahead, array)
    return out.unflatten(-1, (rx, tx)).to(h_past.dtype)


@resolve_inputs
def per_bin_genie(
    rays: RaysLike,
    h_past: Tensor,
    noise_variance: float | Tensor,
    num_future: int,
    *,
    slot_duration: float,
    subcarrier_spacing: float,
    port_shape: PortShape | None = None,
) -> Tensor:
    r"""The best temporal filter of each beam-delay bin whose Doppler spectrum is known.

    A bound for methods that treat bins one by one; the joint :func:`genie_lmmse` is better. Bin ``b`` has the
    autocovariance :math:`\rho_b(\tau) = \sum_r P_r |b_r|^2 e^{j2\pi\nu_r\tau}` with :math:`b_r` the transform of ray
    ``r`` at that bin.

    Args and returns: as :func:`genie_lmmse`; ``port_shape`` folds the ``tx_ant`` axis.
    """

    links, slots, tones, rx, tx = checked(rays, h_past, num_future)
    shape = check_port_shape(tx, port_shape)
    time, frequency, array = responses(rays, slots + num_future, tones, slot_duration, subcarrier_spacing)
    delay_power = torch.fft.ifft(frequency, dim=-1, norm="ortho").abs().square()
    beams = torch.fft.fft2(array.unflatten(-1, (rx, *shape)), dim=(-2, -1), norm="ortho").flatten(-4)
    beam_power = beams.abs().square() * rays.power.double().unsqueeze(-1)
    lags = torch.einsum("nrf,nra,nrt->nfat", delay_power.to(time.dtype), beam_power.to(time.dtype), time)
    lags = lags.flatten(1, 2)  # [link, bin, lag]: time starts at slot 0 with phase 0
    noise = noise_floor(noise_variance, rays.power.double().clamp(min=0).sqrt())
    series = bin_series(h_past.to(torch.complex128), shape)
    both = torch.cat([lags[..., 1:].conj().flip(-1), lags], -1)
    index = torch.arange(slots, device=lags.device)
    zero = lags.shape[-1] - 1
    covariance = both[..., index[:, None] - index[None, :] + zero]
    covariance = covariance + noise[:, None, None, None] * torch.eye(
        slots, dtype=covariance.dtype, device=covariance.device
    )
    later = torch.arange(slots, slots + num_future, device=lags.device)
    ahead = both[..., later[:, None] - index[None, :] + zero]
    future = (ahead @ torch.linalg.solve(covariance, series.unsqueeze(-1))).squeeze(-1)
    return csi_of(future, (tones, rx, tx), shape).to(h_past.dtype)


def responses(
    rays: RaysLike, slots: int, tones: int, slot_duration: float, subcarrier_spacing: float
) -> tuple[Tensor, Tensor, Tensor]:
    """Time ``[link, atom, slot]``, frequency ``[link, atom, tone]`` and array ``[link, atom, antenna]`` responses.

    The origin of time and frequency is free: it only turns the unknown phases.
    """
    device = rays.power.device
    t = torch.arange(slots, dtype=torch.float64, device=device) * slot_duration
    f = torch.arange(tones, dtype=torch.float64, device=device) * subcarrier_spacing
    turn = 2 * math.pi * rays.doppler.double().unsqueeze(-1) * t
    lag = -2 * math.pi * rays.delay.double().unsqueeze(-1) * f
    ones = torch.ones((), dtype=torch.float64, device=device)
    return (
        torch.polar(ones.expand(turn.shape), turn),
        torch.polar(ones.expand(lag.shape), lag),
        rays.array.to(torch.complex128),
    )


def noise_floor(noise_variance: float | Tensor, amplitude: Tensor) -> Tensor:
    """Noise variance ``[link]``, at least 1e-10 of the rays' power so that coherent rays stay solvable."""
    noise = torch.as_tensor(noise_variance, dtype=torch.float64, device=amplitude.device)
    if bool((noise < 0).any()) or not bool(torch.isfinite(noise).all()):
        raise ValueError(f"noise_variance must be finite and not negative, got {noise.flatten()[:3].tolist()}")
    return torch.maximum(noise.expand(amplitude.shape[0]), 1e-10 * amplitude.square().sum(-1) + 1e-30)


def checked(rays: RaysLike, h_past: Tensor, num_future: int) -> tuple[int, int, int, int, int]:
    """Shapes that fit each other: ``(links, slots, tones, rx_ant, tx_ant)``."""
    check_csi(h_past)
    if h_past.dim() != 5:
        raise ValueError(f"h_past must be [link, slot, subcarrier, rx_ant, tx_ant], got {tuple(h_past.shape)}")
    if num_future < 1:
        raise ValueError(f"num_future must be at least 1, got {num_future}")
    links, slots, tones, rx, tx = h_past.shape
    want = (links, rays.power.shape[-1])
    for name in ("delay", "doppler", "power"):
        if tuple(getattr(rays, name).shape) != want:
            raise ValueError(f"rays.{name} {tuple(getattr(rays, name).shape)} must be [link, atom] = {want}")
    if tuple(rays.array.shape) != (*want, rx * tx):
        raise ValueError(
            f"rays.array {tuple(rays.array.shape)} must be [link, atom, rx_ant * tx_ant] {(*want, rx * tx)}"
        )
    return links, slots, tones, rx, tx
