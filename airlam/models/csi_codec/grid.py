"""Sizes and phases of a quantised coefficient: rings around zero, with more phases the larger they are."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from airlam.models.csi_codec.contexts import SIZES

LARGEST = 400  # size of a coefficient
COARSEST, STEPS_PER_OCTAVE = 0.6, 4  # step 0, and how fast steps fall
_SIZE = np.arange(LARGEST + 1)
PHASES = np.where(_SIZE == 0, 1, np.where(_SIZE == 1, 8, 6 * _SIZE)).astype(np.int64)
PHASE_BITS = np.log2(PHASES)
RADII = np.where(_SIZE == 1, 1.1, _SIZE).astype(np.float64)  # in steps; the mean of what is told as that size
_BEYOND = np.maximum(_SIZE - (SIZES - 1) + 1, 1)
ESCAPE_BITS = np.where(_SIZE >= SIZES - 1, 2 * np.floor(np.log2(_BEYOND)) + 1, 0)


def step_size(step: NDArray) -> NDArray:
    """The width of a ring, relative to all of a report's coefficients together."""
    return COARSEST * 2.0 ** (-np.asarray(step) / STEPS_PER_OCTAVE)


def points(sizes: NDArray, phases: NDArray) -> NDArray:
    """Told coefficients in steps, ``complex``."""
    return RADII[sizes] * np.exp(2j * np.pi * phases / PHASES[sizes])
