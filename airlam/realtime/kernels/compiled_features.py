"""Spectra and samples that the network sees of one link's series, compiled."""

from __future__ import annotations

import math

import numpy as np

from airlam.realtime.kernels.jit import kernel


@kernel
def periodograms(series, correlators, singles, size, spectrum):
    """Energy of ``series [2, slot, bin]`` at each frequency relative to a pure tone's, ``spectrum [token, grid]``, the
    mean of its members for a group of ``size``; ``correlators [2 * grid, 2 * slot]``."""
    slots, bins = series.shape[1:]
    grid = spectrum.shape[1]
    samples = series.reshape(2 * slots, bins)
    response = np.dot(correlators, samples)
    scale = np.zeros(bins, np.float32)
    for t in range(2 * slots):
        for b in range(bins):
            scale[b] += samples[t, b] ** 2
    tiny = np.float32(1.1754944e-38)
    for b in range(bins):
        scale[b] = np.float32(1.0) / max(slots * scale[b], tiny)
    power = np.empty(bins, np.float32)
    for g in range(grid):
        for b in range(bins):
            power[b] = (response[g, b] ** 2 + response[grid + g, b] ** 2) * scale[b]
        for n in range(singles):
            spectrum[n, g] = power[n]
        for n in range(singles, spectrum.shape[0]):
            total = np.float32(0.0)
            begin = singles + (n - singles) * size
            for i in range(size):
                total += power[begin + i]
            spectrum[n, g] = total / size


@kernel
def show(series, start, first, amplitude, own, ahead):
    """The bins ``first [token]`` of ``series [2, slot, bin]`` to ``own [token, 2 * slot]`` and of ``start``, limited to
    4, to ``ahead [token, 2 * slot]``: divided by ``amplitude [token]``, turned to the phase of the newest sample, real
    and imaginary parts in turn."""
    slots = series.shape[1]
    for n in range(first.shape[0]):
        b = first[n]
        re, im = series[0, slots - 1, b], series[1, slots - 1, b]
        inverse = np.float32(1.0) / amplitude[n]
        size = math.hypot(re, im)
        turn_re = re / size * inverse if size > 0 else inverse
        turn_im = -im / size * inverse if size > 0 else np.float32(0.0)
        for t in range(slots):
            x, y = series[0, t, b], series[1, t, b]
            own[n, 2 * t] = x * turn_re - y * turn_im
            own[n, 2 * t + 1] = x * turn_im + y * turn_re
        for t in range(ahead.shape[1] // 2):
            x, y = start[0, t, b], start[1, t, b]
            ahead[n, 2 * t] = min(max(x * turn_re - y * turn_im, np.float32(-4.0)), np.float32(4.0))
            ahead[n, 2 * t + 1] = min(max(x * turn_im + y * turn_re, np.float32(-4.0)), np.float32(4.0))
