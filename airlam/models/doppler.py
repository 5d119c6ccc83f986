"""Doppler spectra on a grid, and the linear MMSE filters that follow from them.

A wide-sense stationary series with power spectrum ``S(nu)`` has the autocorrelation
``r[k] = sum_g S_g exp(j 2 pi nu_g k)``. From ``r`` and the noise variance follows the best linear estimate of any
sample, past or future, from any set of noisy samples (Wiener). So a spectrum serves every history length, every
horizon, and slots that were never measured.
"""

from __future__ import annotations

import functools
import math

import torch
from torch import Tensor


@functools.lru_cache(maxsize=8)
def doppler_grid(num_points: int) -> Tensor:
    """Doppler frequencies in cycles per slot over [-0.5, 0.5], denser around zero (hyperbolic sine spacing).

    Slow users fill a few thousandths of a cycle per slot, fast ones a tenth: the grid resolves both.

    Returns:
        ``float64 [num_points]``, increasing, symmetric.
    """
    with torch.inference_mode(False):  # cached: must also serve training
        u = torch.arange(num_points, dtype=torch.float64) * 2 - (num_points - 1)
        u = u / (num_points - 1)
        return 0.5 * torch.sinh(4 * u) / math.sinh(4)


@functools.lru_cache(maxsize=32)
def phasors(num_points: int, first: int, stop: int, device: torch.device | str = "cpu") -> Tensor:
    """``exp(j 2 pi nu_g t)`` for the slots ``first <= t < stop``: ``complex128 [grid, slot]``. Do not write to it."""
    with torch.inference_mode(False):  # cached: must also serve training
        angle = 2 * math.pi * doppler_grid(num_points)[:, None] * torch.arange(first, stop, dtype=torch.float64)
        return torch.polar(torch.ones_like(angle), angle).to(device)


def periodogram(series: Tensor, num_points: int, observed: Tensor | None = None) -> Tensor:
    """Energy of each series at each grid frequency, relative to what a pure tone of its energy would show there.

    Args:
        series: ``complex [..., slot]``.
        num_points: points of the grid.
        observed: ``bool``, broadcastable to ``[..., slot]``.

    Returns:
        ``[..., grid]`` in [0, 1]: 1 where the series is a pure tone of that frequency.
    """
    slots = series.shape[-1]
    count: Tensor | int = slots
    if observed is not None:
        series = series * observed
        count = observed.sum(-1, keepdim=True).clamp_min(1)
    response = series @ phasors(num_points, 0, slots, series.device).conj().mT.to(series.dtype)
    energy = (series.real.square() + series.imag.square()).sum(-1, keepdim=True)
    tiny = torch.finfo(energy.dtype).tiny
    return (response.real.square() + response.imag.square()) / (count * energy).clamp_min(tiny)


def wiener(
    spectrum: Tensor, noise: Tensor, slots: int, targets: Tensor, observed: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """The linear MMSE filters that estimate clean samples at ``targets`` from noisy ones at slots ``0 .. slots - 1``.

    Args:
        spectrum: ``[..., grid]``, power at each point of :func:`doppler_grid`, not negative.
        noise: ``[...]``, noise variance of a sample, positive.
        slots: length of the history.
        targets: ``int [target]``, slot indices to estimate; ``slots`` is the first one of the future.
        observed: ``bool``, broadcastable to ``[..., slot]``; other slots get no weight.

    Returns:
        weights ``complex128 [..., target, slot]``: estimate = weights @ measured; and the variance of the error
        ``float64 [..., target]`` (without gradient).

    The covariance of a slow user is close to singular, so this runs in double precision.
    """
    now = torch.arange(slots, device=spectrum.device)
    stop = max(slots, int(targets.max()) + 1)
    basis = phasors(spectrum.shape[-1], -slots, stop, spectrum.device)
    r = torch.view_as_complex((spectrum.double() @ torch.view_as_real(basis).flatten(1)).unflatten(-1, (-1, 2)))
    loading = noise.double()[..., None]
    if observed is not None:
        # a slot that is not observed is one with a hopeless amount of noise
        loading = loading + 1e8 * (~observed).double()
    eye = torch.eye(slots, dtype=r.dtype, device=r.device)
    covariance = r[..., now[:, None] - now + slots] + loading[..., None] * eye  # r runs over lags from -slots
    cross = r[..., targets[:, None] - now + slots].mH
    with torch.no_grad():
        factor = torch.linalg.cholesky(covariance)
        solution = torch.cholesky_solve(cross, factor)
        variance = r[..., slots : slots + 1].real - (cross.conj() * solution).real.sum(-2)
    if covariance.requires_grad:
        # One Newton step at the solution adds zero, and carries the exact gradient R^-1 (dC - dR R^-1 C): far cheaper
        # than differentiating the Cholesky factorisation.
        solution = solution + torch.cholesky_solve(cross - covariance @ solution, factor)
    return solution.mH, variance


def wiener_at(
    spectrum: Tensor, noise: Tensor, frequency: Tensor, measured: Tensor, targets: Tensor
) -> tuple[Tensor, Tensor]:
    """As :func:`wiener`, of samples measured at any places, with a frequency of its own for each point of the spectrum.

    Args:
        spectrum: ``[..., grid]``, power of each point.
        noise: ``[...]``, noise variance of a sample, positive.
        frequency: ``float64 [grid]``, cycles per unit of ``measured`` and ``targets``.
        measured, targets: ``int [sample]``, ``int [target]``, in any order.

    Returns:
        weights ``complex128 [..., target, sample]``, error variance ``float64 [..., target]`` (without gradient).
    """
    places = torch.cat([measured, targets])
    reach = int(places.max() - places.min())
    angle = 2 * math.pi * frequency.double()[:, None] * torch.arange(-reach, reach + 1, device=spectrum.device)
    basis = torch.view_as_real(torch.polar(torch.ones_like(angle), angle))
    r = torch.view_as_complex((spectrum.double() @ basis.flatten(1)).unflatten(-1, (-1, 2)).contiguous())
    eye = torch.eye(len(measured), dtype=r.dtype, device=r.device)
    covariance = r[..., measured[:, None] - measured + reach] + noise.double()[..., None, None] * eye
    cross = r[..., targets[:, None] - measured + reach].mH
    with torch.no_grad():
        factor = torch.linalg.cholesky(covariance)
        solution = torch.cholesky_solve(cross, factor)
        variance = r[..., reach : reach + 1].real - (cross.conj() * solution).real.sum(-2)
    if covariance.requires_grad:  # one Newton step that adds zero: see wiener
        solution = solution + torch.cholesky_solve(cross - covariance @ solution, factor)
    return solution.mH, variance
