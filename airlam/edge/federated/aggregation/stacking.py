"""FLoRA: the average of the products goes into the weights."""

from __future__ import annotations

import numpy as np

from airlam.edge.federated.adapters import Arrays, Shapes, fresh_a, layers, stacked, zero_b, zero_w
from airlam.edge.federated.aggregation.scheme import Scheme


class Stacking(Scheme):
    """The average of the products is added to the weights, and adapters start anew in every round (FLoRA, arXiv
    2409.05976). Exact; the whole change is sent down."""

    name = "stacking"
    averages_products = True
    changes_weights = True

    def start(self, shapes: Shapes, rank: int, seed: int) -> Arrays:
        """See :class:`Scheme`: dense parts alone."""
        return zero_w(shapes)

    def drawn(self, shapes: Shapes, rank: int, seed: int, number: int) -> Arrays:
        """See :class:`Scheme`: new adapters in each round."""
        return fresh_a(shapes, rank, seed, number) | zero_b(shapes, rank)

    def combine(self, updates: list[Arrays], weights: list[float], before: Arrays, rank: int) -> Arrays:
        """See :class:`Scheme`."""
        made: Arrays = {}
        for layer in layers(updates[0]):
            b, a = stacked(updates, weights, layer)
            made[f"W/{layer}"] = (before[f"W/{layer}"].astype(np.float64) + b @ a).astype(np.float32)
        return made
