"""Shares in whole numbers that end the slowest part first, or draw the least energy within a deadline."""

from __future__ import annotations

import heapq
import math
from collections.abc import Iterator, Sequence

FEW = 6  # parts, of which every deadline at which something changes is tried


def balance(
    total: int, offsets: Sequence[float], slopes: Sequence[float], caps: Sequence[int], least: int = 1
) -> list[int] | None:
    """Shares with the least ``max(offset + slope * share)``; None where the caps leave no room.

    Exact: units are given one by one to whoever then ends first; the first ones, which everybody gets before the last
    moment, all at once.

    Args:
        total: units to share out. offsets, slopes: time of each part. caps: largest share of each. least: smallest one.

    Example:
        >>> balance(10, [0.0, 0.0], [1.0, 4.0], [10, 10])
        [8, 2]
        >>> balance(10, [0.0, 0.0], [1.0, 4.0], [6, 10])
        [6, 4]
    """
    n = len(slopes)
    if min(caps) < least or sum(caps) < total or total < n * least:
        return None
    low, high = min(offsets), max(o + s * total for o, s in zip(offsets, slopes, strict=True))

    def within(moment: float) -> list[int]:
        return [
            max(least, min(cap, math.floor((moment - o) / s + 1e-12) if moment > o else 0))
            for o, s, cap in zip(offsets, slopes, caps, strict=True)
        ]

    shares = within(low)
    for _ in range(20):
        middle = (low + high) / 2
        tried = within(middle)
        if sum(tried) <= total:
            low, shares = middle, tried
        else:
            high = middle
        if sum(shares) == total:
            break
    heap = [(offsets[k] + slopes[k] * (shares[k] + 1), k) for k in range(n) if shares[k] < caps[k]]
    heapq.heapify(heap)
    for _ in range(total - sum(shares)):
        _, k = heapq.heappop(heap)
        shares[k] += 1
        if shares[k] < caps[k]:
            heapq.heappush(heap, (offsets[k] + slopes[k] * (shares[k] + 1), k))
    while sum(shares) > total:  # only the least shares stand above: others' work is taken away
        k = max((k for k in range(n) if shares[k] > least), key=lambda k: offsets[k] + slopes[k] * shares[k])
        shares[k] -= 1
    return shares


def thrifty(
    total: int,
    offsets: Sequence[float],
    slopes: Sequence[float],
    caps: Sequence[int],
    joules: Sequence[float],
    moments: int,
) -> Iterator[list[int]]:
    """Shares that draw least within a deadline, for up to so many deadlines from the earliest possible one on.

    Args:
        joules: of a unit, of each part.

    Example:
        >>> list(thrifty(4, [0.0, 0.0], [1.0, 1.0], [4, 4], [1.0, 2.0], 8))
        [[2, 2], [3, 1]]
    """
    first = balance(total, offsets, slopes, caps)
    if first is None:
        return
    yield first
    n = len(slopes)
    soonest = max(offsets[k] + slopes[k] * first[k] for k in range(n))
    if n > FEW:  # a few moments between the earliest and that at which the cheapest would have done all
        latest = max(soonest * 1.01, min(o + s * c for o, s, c in zip(offsets, slopes, caps, strict=True)))
        later = [soonest * (latest / soonest) ** (k / max(1, moments)) for k in range(1, moments + 1)]
    else:
        ends = {offsets[k] + slopes[k] * units for k in range(n) for units in range(1, caps[k] + 1)}
        later = sorted(end for end in ends if end >= soonest * (1 - 1e-12))
        later = later[:: max(1, len(later) // max(1, moments))]
    known = {tuple(first)}
    order = sorted(range(n), key=lambda k: joules[k])
    for end in later:
        room = [min(caps[k], math.floor((end - offsets[k]) / slopes[k] + 1e-9)) for k in range(n)]
        shares, left = [1] * n, total - n
        for k in order:
            more = min(left, max(0, room[k] - 1))
            shares[k] += more
            left -= more
        if left == 0 and tuple(shares) not in known:
            known.add(tuple(shares))
            yield shares


def compositions(total: int, parts: int, least: int = 1) -> Iterator[tuple[int, ...]]:
    """All ways to write ``total`` as an ordered sum of ``parts`` whole numbers of at least ``least``.

    Example:
        >>> list(compositions(4, 2))
        [(1, 3), (2, 2), (3, 1)]
    """
    if parts == 1:
        if total >= least:
            yield (total,)
        return
    for first in range(least, total - least * (parts - 1) + 1):
        for rest in compositions(total - first, parts - 1, least):
            yield (first, *rest)
