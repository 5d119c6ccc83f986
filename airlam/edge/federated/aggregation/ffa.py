"""FFA-LoRA: A is frozen, B is averaged."""

from __future__ import annotations

from airlam.edge.federated.adapters import Arrays, Shapes, fresh_a, zero_b
from airlam.edge.federated.aggregation.scheme import Scheme


class FrozenA(Scheme):
    """A is drawn alike on all devices and frozen, so the average of B is exact (FFA-LoRA, arXiv 2403.12313)."""

    name = "ffa"
    freezes_a = True
    keeps_factors = True

    def start(self, shapes: Shapes, rank: int, seed: int) -> Arrays:
        """See :class:`Scheme`: B alone."""
        return zero_b(shapes, rank)

    def drawn(self, shapes: Shapes, rank: int, seed: int, number: int) -> Arrays:
        """See :class:`Scheme`: the same A in every round."""
        return fresh_a(shapes, rank, seed, 0)

    def update(self, shapes: Shapes, rank: int) -> Arrays:
        """See :class:`Scheme`: B alone."""
        return zero_b(shapes, rank)
