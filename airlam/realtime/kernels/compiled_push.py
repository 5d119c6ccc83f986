"""Steps of a push, each one call from Python: a call of a kernel costs several microseconds, whatever it computes."""

from __future__ import annotations

import numpy as np

from airlam.realtime.kernels.compiled_basis import (
    energies,
    exchange,
    fold,
    gather,
    pick,
    project,
    synthesise,
    update_covariances,
)
from airlam.realtime.kernels.compiled_eigen import fast_eigenvectors
from airlam.realtime.kernels.compiled_filters import ar_taps, blend, multiply, roll_out
from airlam.realtime.kernels.jit import kernel


@kernel
def append(slots, offsets, slot, frequency, modes, rows, cols, series, one):
    """Fold ``slot`` of ``slots``, project it onto the basis, and append its bins to ``series``. ``one [3, ...]`` is
    scratch for three folded slots."""
    fold(slots, offsets, slot, one[0])
    project(one[0], frequency, modes, one[1], one[2])
    gather(one[2], 0, rows, cols, series)


@kernel
def move(slots, offsets, slot, ring, place, tone, port, one):
    """Fold ``slot`` of ``slots`` and put it at ``place`` of ``ring``, whose covariances are ``tone`` and ``port``.
    ``one [3, ...]`` is scratch for three folded slots."""
    fold(slots, offsets, slot, one[0])
    exchange(ring, place, one[0], one[1])
    update_covariances(one[0], one[1], tone, port)


@kernel
def renew(ring, oldest, tone, port, frequency, modes, rows, cols, series, half, coefficients, energy):
    """Basis, strongest bins and series of a window from its covariances; the last three arguments are scratch."""
    fast_eigenvectors(tone, port, frequency, modes)
    project(ring, frequency, modes, half, coefficients)
    energies(coefficients, energy)
    pick(energy, rows, cols)
    gather(coefficients, oldest, rows, cols, series)


@kernel
def extrapolate(series, products, order, ridge, relative, absolute, shrinkage, limit, future):
    """Refit AR filters to ``series``, and roll them out to ``future``; a single sample is held."""
    if series.shape[1] == 1:
        for s in range(future.shape[1]):
            future[:, s] = series[:, 0]
        return
    taps = np.empty((2, order, series.shape[2]), np.float32)
    ar_taps(series, products, order, ridge, relative, absolute, shrinkage, taps)
    roll_out(series, taps, limit, future)


@kernel
def predict(
    series,
    new,
    products,
    order,
    ridge,
    relative,
    absolute,
    shrinkage,
    limit,
    weights,
    token,
    gate,
    rows,
    cols,
    frequency,
    modes,
    grid,
    half,
    future,
    out,
):
    """From a series with ``new`` new slots to CSI: AR filters, blended with the network's, and the way back.

    ``products`` (see :func:`multiply`) move along. ``grid``, ``half`` and ``future`` are scratch.
    """
    multiply(series, new, products)
    extrapolate(series, products, order, ridge, relative, absolute, shrinkage, limit, future)
    blend(series, weights, token, gate, future)
    synthesise(future, rows, cols, frequency, modes, grid, half, out)
