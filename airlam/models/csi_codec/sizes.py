"""The learned frequencies of sizes: a small network with whole numbers as weights and activations."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

UNIT, SCALE = 64, 4096  # of activations and of weights: a real weight 1 is 4096
INPUT = 16  # features are 16 times what the network was trained on
FINE = 32  # logits a bit
RARE = 16 * FINE  # a size is at most 2^16 times as frequent as another
FREQUENCY = np.maximum(np.round(2.0 ** (16 - np.arange(RARE + 1) / FINE)), 1).astype(np.int64)
LIMIT = 2**20  # of activations: sums stay far below 2^53, where double precision is exact


@dataclass(frozen=True)
class SizeModel:
    """Frequencies of the sizes of coefficients from their contexts.

    All numbers are whole. They are kept in double precision, in which sums of products are exact in any order, so
    both ends find the same frequencies.

    Attributes:
        weights: ``[in, out]`` of each layer, whole numbers, 4096 for a real weight of 1.
        biases: ``[out]`` of each layer, in units of the products.
    """

    weights: tuple[NDArray, ...]
    biases: tuple[NDArray, ...]

    @classmethod
    def from_real(cls, weights: list[NDArray], biases: list[NDArray]) -> SizeModel:
        """Round a trained network: ReLU between layers, logits in bits, inputs ``features / 16``."""
        units = [INPUT, *[UNIT] * (len(weights) - 1)]
        return cls(
            tuple(np.round(np.asarray(w, np.float64) * SCALE) for w in weights),
            tuple(np.round(np.asarray(b, np.float64) * SCALE * u) for b, u in zip(biases, units, strict=True)),
        )

    def frequencies(self, features: NDArray) -> NDArray:
        """Positive frequencies ``int [..., size]`` from ``int [..., feature]``."""
        x, unit = features.astype(np.float64), INPUT
        for w, b in zip(self.weights[:-1], self.biases[:-1], strict=True):
            x = np.clip(np.floor((x @ w + b) / (SCALE * unit // UNIT)), 0, LIMIT)
            unit = UNIT
        logits = np.floor((x @ self.weights[-1] + self.biases[-1]) / (SCALE * unit // FINE)).astype(np.int64)
        return FREQUENCY[np.minimum(logits.max(-1, keepdims=True) - logits, RARE)]
