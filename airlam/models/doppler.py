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
    u = torch.arange(num_points, dtype=torch.float64) * 2 - (num_points - 1)
    u = u / (num_points - 1)
    return 0.5 * torch.sinh(4 * u) / math.sinh(4)


def phasors(grid: Tensor, slots: Tensor) -> Tensor:
    """``exp(j 2 pi nu_g t)``: ``complex128 [grid, slot]``."""
    angle = 2 * math.pi * grid[:, None].double() * slots.double()
    return torch.polar(torch.ones_like(angle), angle)


def periodogram(series: Tensor, grid: Tensor, observed: Tensor | None = None) -> Tensor:
    """Energy of each series at each grid frequency, relative to what a pure tone of its energy would show there.

    Args:
        series: ``complex [..., slot]``.
        observed: ``bool``, broadcastable to ``[..., slot]``.

    Returns:
        ``[..., grid]`` in [0, 1]: 1 where the series is a pure tone of that frequency.
    """
    if observed is not None:
        series = series * observed
        count = observed.sum(-1, keepdim=True).clamp_min(1).to(series.real.dtype)
    else:
        count = torch.tensor(float(series.shape[-1]), dtype=series.real.dtype)
    slots = torch.arange(series.shape[-1], device=series.device)
    response = series @ phasors(grid, slots).conj().mT.to(series.dtype)
    energy = (series.real.square() + series.imag.square()).sum(-1, keepdim=True)
    tiny = torch.finfo(energy.dtype).tiny
    return (response.real.square() + response.imag.square()) / (count * energy).clamp_min(tiny)


def wiener(
    spectrum: Tensor,
    noise: Tensor,
    series: Tensor,
    targets: Tensor,
    grid: Tensor,
    observed: Tensor | None = None,
) -> Tensor:
    """Linear MMSE estimate of the clean samples at ``targets`` from noisy samples at slots ``0 .. slots - 1``.

    Args:
        spectrum: ``[..., grid]``, power at each Doppler frequency, not negative.
        noise: ``[...]``, noise variance of a sample, positive.
        series: ``complex [..., member, slot]``, measured; the members share spectrum and noise level.
        targets: ``int [target]``, slot indices to estimate; ``slots`` is the first one of the future.
        observed: ``bool``, broadcastable to ``[..., slot]``; other slots have no influence.

    Returns:
        ``complex [..., member, target]``.

    The covariance of a slow user is close to singular, so this runs in double precision.
    """
    slots = series.shape[-1]
    now = torch.arange(slots, device=series.device)
    lags = torch.arange(-slots, max(slots, int(targets.max()) + 1), device=series.device)
    basis = phasors(grid, lags)
    power = spectrum.double()
    r = torch.complex(power @ basis.real, power @ basis.imag)  # [..., lag], lag from -slots
    loading = noise.double()[..., None].expand(*r.shape[:-1], slots)
    if observed is not None:
        # a slot that is not observed is one with a hopeless amount of noise
        loading = loading + 1e8 * (~observed).expand(loading.shape).double()
    covariance = r[..., now[:, None] - now[None, :] + slots] + torch.diag_embed(loading.to(r.dtype))
    cross = r[..., targets[:, None] - now[None, :] + slots]
    measured = series.to(r.dtype).mT
    with torch.no_grad():
        factor = torch.linalg.cholesky(covariance)
        solution = torch.cholesky_solve(measured, factor)
    if covariance.requires_grad:
        # One Newton step at the solution adds zero, and carries the exact gradient -R^-1 dR R^-1 y: far cheaper than
        # differentiating the Cholesky factorisation.
        solution = solution + torch.cholesky_solve(measured - covariance @ solution, factor)
    return (cross @ solution).mT.to(series.dtype)
