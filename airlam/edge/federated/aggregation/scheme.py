"""The base of aggregation schemes: how the adapters of several devices become one."""

from __future__ import annotations

from typing import ClassVar

from airlam.edge.federated.adapters import Arrays, Shapes, average, fitted, fresh_a, zero_a, zero_b


class Scheme:
    """An aggregation scheme. As it stands it is the plain one: A and B are averaged, each by itself.

    A subclass sets the attributes and replaces the methods in which it differs. ``updates`` are the devices' arrays,
    each of its own rank; ``weights`` their numbers of training users; ``shapes`` maps each adapted layer to (out, in).

    Attributes:
        name: in recipes.
        averages_products: :meth:`combine` takes the place of the strategy's own average, so the strategy must be a
            plain mean. False: the server strategy (Flower's) averages the arrays as they are.
        changes_weights: dense parts ``W/layer`` are sent down and added to the weights beneath the adapters. What comes
            out of the run is then a whole checkpoint.
        freezes_a: A is neither trained nor sent; all devices draw the same.
        keeps_factors: a round's A and B are those of the round before, moved a little; False: they may be factorised or
            drawn anew, so that what a device has left of its last change means nothing any more.

    Example:
        >>> import numpy as np
        >>> one = {"A/x": np.ones((2, 3)), "B/x": np.zeros((4, 2))}
        >>> two = {"A/x": np.ones((2, 3)), "B/x": np.ones((4, 2))}
        >>> float(Scheme().combine([one, two], [1.0, 3.0], {}, 2)["B/x"][0, 0])
        0.75
    """

    name: ClassVar[str] = ""
    averages_products: ClassVar[bool] = False
    changes_weights: ClassVar[bool] = False
    freezes_a: ClassVar[bool] = False
    keeps_factors: ClassVar[bool] = False

    def start(self, shapes: Shapes, rank: int, seed: int) -> Arrays:
        """What the server begins with and sends down: adapters of ``rank`` that change nothing (B is zero)."""
        return fresh_a(shapes, rank, seed, 0) | zero_b(shapes, rank)

    def drawn(self, shapes: Shapes, rank: int, seed: int, number: int) -> Arrays:
        """Factors that are not sent in round ``number``: every device draws the same. Here none."""
        return {}

    def update(self, shapes: Shapes, rank: int) -> Arrays:
        """Zero arrays with the names and shapes of what a device of ``rank`` sends up."""
        return zero_a(shapes, rank) | zero_b(shapes, rank)

    def combine(self, updates: list[Arrays], weights: list[float], before: Arrays, rank: int) -> Arrays:
        """The server's new arrays.

        Args:
            before: what the server sent. Its dense parts ``W/layer`` are carried on.
            rank: of the result's adapters.
        """
        return average([fitted(update, rank) for update in updates], weights)
