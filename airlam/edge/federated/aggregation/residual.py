"""FedEx-LoRA: A and B are averaged, and what that misses goes into the weights."""

from __future__ import annotations

import numpy as np

from airlam.edge.federated.adapters import Arrays, Shapes, layers, stacked, zero_w
from airlam.edge.federated.aggregation.scheme import Scheme


class Residual(Scheme):
    """A and B are averaged, each by itself, and what that misses is added to the weights (FedEx-LoRA, arXiv
    2410.09432). Exact; the whole change is sent down."""

    name = "residual"
    averages_products = True
    changes_weights = True
    keeps_factors = True

    def start(self, shapes: Shapes, rank: int, seed: int) -> Arrays:
        """See :class:`Scheme`: adapters and dense parts."""
        return super().start(shapes, rank, seed) | zero_w(shapes)

    def combine(self, updates: list[Arrays], weights: list[float], before: Arrays, rank: int) -> Arrays:
        """See :class:`Scheme`."""
        made: Arrays = {}
        padded = super().combine(updates, weights, before, rank)
        for layer in layers(updates[0]):
            b, a = stacked(updates, weights, layer)
            dense = before[f"W/{layer}"].astype(np.float64) + b @ a
            made[f"A/{layer}"], made[f"B/{layer}"] = padded[f"A/{layer}"], padded[f"B/{layer}"]
            dense = dense - padded[f"B/{layer}"].astype(np.float64) @ padded[f"A/{layer}"]
            made[f"W/{layer}"] = dense.astype(np.float32)
        return made
