"""FlexLoRA: the average of the products, factorised again by an SVD."""

from __future__ import annotations

import numpy as np

from airlam.edge.federated.adapters import Arrays, layers, stacked
from airlam.edge.federated.aggregation.scheme import Scheme


class Svd(Scheme):
    """The average of the products, factorised again to the largest rank (FlexLoRA, arXiv 2402.11505)."""

    name = "svd"
    averages_products = True

    def combine(self, updates: list[Arrays], weights: list[float], before: Arrays, rank: int) -> Arrays:
        """See :class:`Scheme`."""
        made: Arrays = {}
        for layer in layers(updates[0]):
            b, a = refactorise(*stacked(updates, weights, layer), rank)
            made[f"A/{layer}"], made[f"B/{layer}"] = a.astype(np.float32), b.astype(np.float32)
        return made


def refactorise(b: np.ndarray, a: np.ndarray, rank: int) -> tuple[np.ndarray, np.ndarray]:
    """The best ``(B, A)`` of ``rank`` for ``b @ a``, by an SVD of the small core; both factors have the same norm."""
    q_b, r_b = np.linalg.qr(b)
    q_a, r_a = np.linalg.qr(a.T)
    u, s, vh = np.linalg.svd(r_b @ r_a.T)
    count = min(rank, len(s))
    root = np.sqrt(s[:count])
    best_b, best_a = (q_b @ u[:, :count]) * root, root[:, None] * (vh[:count] @ q_a.T)
    missing = rank - count
    return np.pad(best_b, [(0, 0), (0, missing)]), np.pad(best_a, [(0, missing), (0, 0)])
