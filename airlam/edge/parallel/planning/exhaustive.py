"""All participants, orders, meshes, cuts and micro-batches of a small pool."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence

from airlam.edge.parallel.planning.balance import compositions
from airlam.edge.parallel.planning.candidates import Candidates

LARGEST = 6  # devices


def exhaustive(candidates: Candidates, modes: Sequence[str], *, looped: bool = False) -> None:
    """Try every structure; ``candidates.best`` is then the best of all.

    What is not enumerated are the shares of links and tokens: they come from :func:`~.balance.balance`, exact for links
    (all work is affine in them), and for tokens exact up to the padding, of which several bounds are tried.

    Args:
        modes: that may be used. looped: the model sums at a server.
    """
    numbers = range(len(candidates.pool))
    for one in numbers:
        candidates.data([one])
    for n in range(2, len(candidates.pool) + 1):
        for members in itertools.combinations(numbers, n):
            for ring in rings(members):
                if looped:
                    for server in range(n):
                        candidates.tensor((*ring[server:], *ring[:server]), looped=True)
                    continue
                if "data" in modes:
                    candidates.data(ring)
                    candidates.data(ring, shard=True)
                if "sequence" in modes:
                    candidates.sequence(ring)
                if "tensor" in modes:
                    candidates.tensor(ring)
            if not looped:
                if "pipeline" in modes and n <= candidates.profile.layers:
                    for order in itertools.permutations(members):
                        candidates.pipeline(order)
                if "hybrid" in modes:
                    _grids(candidates, members)


def rings(members: Sequence[int]) -> Iterator[tuple[int, ...]]:
    """Every ring once: all orders but for where it begins and which way round it goes.

    Example:
        >>> list(rings((0, 1, 2, 3)))
        [(0, 1, 2, 3), (0, 1, 3, 2), (0, 2, 1, 3)]
    """
    first, rest = members[0], members[1:]
    for order in itertools.permutations(rest):
        if len(order) < 2 or order[0] < order[-1]:
            yield (first, *order)


def _grids(candidates: Candidates, members: Sequence[int]) -> None:
    """All assignments to replicas; the replicas' order does not matter."""
    n = len(members)
    for replicas in range(2, n // 2 + 1):
        if n % replicas:
            continue
        width = n // replicas
        for order in itertools.permutations(members):
            rows = [order[k * width : (k + 1) * width] for k in range(replicas)]
            if any(a[0] > b[0] for a, b in zip(rows, rows[1:], strict=False)):
                continue
            if width <= candidates.profile.layers:
                candidates.grid("pipeline", rows, compositions(candidates.profile.layers, width))
            candidates.grid("sequence", rows)
            candidates.grid("tensor", rows)
