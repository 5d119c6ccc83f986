"""The filters of the network's spectra, compiled: :func:`airlam.models.doppler.wiener` for one link."""

from __future__ import annotations

import functools

import numpy as np

from airlam.models.doppler import phasors
from airlam.realtime.compiled_filters import cholesky
from airlam.realtime.jit import kernel


@functools.lru_cache(maxsize=32)
def lags(grid: int, stop: int) -> np.ndarray:
    """Phasors of the lags ``0 .. stop - 1``, ``float64 [grid, 2 * lag]``, real and imaginary parts in turn."""
    return np.ascontiguousarray(phasors(grid, 0, stop).numpy()).view(np.float64)


def wiener_filters(power: np.ndarray, noise: np.ndarray, weights: np.ndarray) -> None:
    """Filters that predict from noisy samples, in double precision.

    Args:
        power: ``float32 [token, grid]``, see :func:`airlam.models.doppler.wiener`.
        noise: ``float32 [token]``.
        weights: written, ``float32 [token, 2, target, slot]``: the targets are the slots that follow.
    """
    targets, history = weights.shape[2:]
    r = power.astype(np.float64) @ lags(power.shape[1], history + targets)
    solve(r.view(np.complex128), noise.astype(np.float64), weights)


@kernel
def solve(r, noise, weights):
    """``weights`` from correlations ``r complex128 [token, lag]``."""
    targets, history = weights.shape[2:]
    covariance = np.empty((history, history), np.complex128)
    factor = np.zeros((history, history), np.complex128)
    x = np.empty((history, targets), np.complex128)
    for n in range(r.shape[0]):
        for i in range(history):
            for j in range(i + 1):
                covariance[i, j] = r[n, i - j]
            covariance[i, i] += noise[n]
            for k in range(targets):
                x[i, k] = np.conj(r[n, history + k - i])
        if not cholesky(covariance, factor):
            weights[n] = np.nan
            continue
        for i in range(history):
            for j in range(i):
                left = factor[i, j]
                for k in range(targets):
                    x[i, k] -= left * x[j, k]
            inverse = factor[i, i].real
            for k in range(targets):
                x[i, k] *= inverse
        for step in range(history):
            i = history - 1 - step
            for j in range(i + 1, history):
                left = np.conj(factor[j, i])
                for k in range(targets):
                    x[i, k] -= left * x[j, k]
            inverse = factor[i, i].real
            for k in range(targets):
                x[i, k] *= inverse
                weights[n, 0, k, i] = x[i, k].real
                weights[n, 1, k, i] = -x[i, k].imag
