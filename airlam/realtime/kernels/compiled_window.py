"""What a stream asks of a slot and of a prediction, compiled. See :mod:`airlam.realtime.kernels.plain`."""

from __future__ import annotations

import numpy as np

from airlam.realtime.kernels.jit import kernel


@kernel
def reals(x):
    """A contiguous complex array as one row of real and imaginary parts."""
    return x.reshape(-1).view(np.float32)


@kernel
def compare(value, expected, newest):
    of_value, of_expected, of_newest = np.float32(0), np.float32(0), np.float32(0)
    re, im, held = np.float32(0), np.float32(0), np.float32(0)
    x, y, z = reals(value), reals(expected), reals(newest)
    for i in range(0, len(x), 2):
        a, b, c, d, e, f = x[i], x[i + 1], y[i], y[i + 1], z[i], z[i + 1]
        of_value += a * a + b * b
        of_expected += c * c + d * d
        of_newest += e * e + f * f
        re += a * c + b * d
        im += b * c - a * d
        held += a * e + b * f
    return of_value, of_expected, of_newest, re, im, held


@kernel
def bound(future, most):
    for slot in range(future.shape[0]):
        x = reals(future[slot])
        power = np.float32(0)
        for i in range(len(x)):
            power += x[i] * x[i]
        if power > most:
            scale = np.float32(np.sqrt(most / power))
            for i in range(len(x)):
                x[i] *= scale
