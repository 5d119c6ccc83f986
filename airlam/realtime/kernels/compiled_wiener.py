"""The filters of the network's spectra, compiled: :func:`airlam.models.doppler.wiener` for one link."""

from __future__ import annotations

import functools

import numpy as np

from airlam.models.doppler import phasors
from airlam.realtime.kernels.compiled_filters import factorise_block, substitute_block
from airlam.realtime.kernels.jit import kernel

TOGETHER = 40  # tokens that are solved side by side: half of what airlam-tiny has


@functools.lru_cache(maxsize=32)
def lags(grid: int, stop: int) -> np.ndarray:
    """Phasors of the lags ``0 .. stop - 1``, ``float64 [2 * lag, grid]``, real and imaginary parts in turn."""
    return np.ascontiguousarray(np.ascontiguousarray(phasors(grid, 0, stop).numpy()).view(np.float64).T)


def wiener_filters(power: np.ndarray, noise: np.ndarray, weights: np.ndarray) -> None:
    """Filters that predict from noisy samples, in double precision.

    Args:
        power: ``float32 [token, grid]``, see :func:`airlam.models.doppler.wiener`.
        noise: ``float32 [token]``.
        weights: written, ``float32 [token, 2, target, slot]``: the targets are the slots that follow.
    """
    targets, history = weights.shape[2:]
    r = lags(power.shape[1], history + targets) @ power.T.astype(np.float64)
    solve(r.reshape(history + targets, 2, -1), noise.astype(np.float64), weights)


@kernel
def solve(r, noise, weights):
    """``weights`` from correlations ``r float64 [lag, 2, token]``."""
    targets, history = weights.shape[2:]
    tokens = noise.shape[0]
    width = min(tokens, TOGETHER)
    system = np.empty((history, history, 2, width), np.float64)
    x = np.empty((targets, history, 2, width), np.float64)
    for first in range(0, tokens, width):
        first = min(first, tokens - width)
        for i in range(history):
            for j in range(i + 1):
                for b in range(width):
                    system[i, j, 0, b] = r[i - j, 0, first + b]
                    system[i, j, 1, b] = r[i - j, 1, first + b]
            for b in range(width):
                system[i, i, 0, b] += noise[first + b]
            for k in range(targets):
                for b in range(width):
                    x[k, i, 0, b] = r[history + k - i, 0, first + b]
                    x[k, i, 1, b] = -r[history + k - i, 1, first + b]
        inverse = factorise_block(system)
        for k in range(targets):
            substitute_block(system, inverse, x[k])
            for i in range(history):
                for b in range(width):
                    weights[first + b, 0, k, i] = x[k, i, 0, b]
                    weights[first + b, 1, k, i] = -x[k, i, 1, b]
