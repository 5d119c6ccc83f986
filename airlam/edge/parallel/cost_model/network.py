"""Seconds of a collective or a message on a pool's links, and how long each device's radio is on for it.

A ring is as slow as its slowest hop; the root of a broadcast serves one device after the other. Devices are numbers in
the pool; a payload is what one rank hands to the call, see :mod:`airlam.edge.parallel.cost_model.volume`.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

from airlam.edge.parallel.cost_model.pool import Pool
from airlam.edge.parallel.cost_model.volume import SUMS, wire_bytes


@dataclass(frozen=True)
class Transfer:
    """A collective.

    Attributes:
        seconds: from when the last rank comes until all may go on. busy: of each member the spans (start, stop), from
            the beginning, in which it sends, and in which it receives.
    """

    seconds: float
    busy: tuple[tuple[tuple[float, float], tuple[float, float]], ...]

    def on(self, member: int) -> tuple[float, float]:
        """Seconds that a member sends, and that its radio is on."""
        (a, b), (c, d) = self.busy[member]
        return b - a, (b - a) + (d - c) - max(0.0, min(b, d) - max(a, c))


class Network:
    """The links of a pool."""

    def __init__(self, pool: Pool) -> None:
        self.pool = pool
        self.byte_rate = pool.rate * pool.efficiency / 8
        self._rates = self.byte_rate.tolist()
        self._latency = pool.latency.tolist()
        self.hops = lru_cache(maxsize=200_000)(self._hops)
        self.collective = lru_cache(maxsize=200_000)(self._collective)

    def seconds(self, source: int, target: int, payload: float) -> tuple[float, float]:
        """(on the wire, latency) of a message."""
        return payload / self._rates[source][target], self._latency[source][target]

    def _hops(self, group: tuple[int, ...]) -> tuple[list[float], float, float]:
        """Rates [B/s] of a ring's hops, the slowest, and the largest latency."""
        pairs = [(a, group[(n + 1) % len(group)]) for n, a in enumerate(group)]
        rates = [self._rates[a][b] for a, b in pairs]
        return rates, min(rates), max(self._latency[a][b] for a, b in pairs)

    def _collective(self, kind: str, group: tuple[int, ...], payload: float) -> Transfer:
        """A collective among the devices of a group, in the order of its ranks.

        Args:
            kind: of :func:`airlam.edge.parallel.cost_model.volume.wire_bytes`; ``broadcast`` has its root at the
                group's first.
        """
        n = len(group)
        if n == 1:
            return Transfer(0.0, (((0.0, 0.0), (0.0, 0.0)),))
        if kind == "broadcast":
            return self._star(group, payload)
        rates, slowest, latency = self.hops(group)
        rounds = 2 * (n - 1) if kind in SUMS else n - 1
        wire = wire_bytes(kind, payload, n)
        busy = tuple(((0.0, wire / rates[k]), (0.0, wire / rates[k - 1])) for k in range(n))
        return Transfer(rounds * latency + wire / slowest, busy)

    def _star(self, group: tuple[int, ...], payload: float) -> Transfer:
        root, clock, latency = group[0], 0.0, 0.0
        spans = []
        for one in group[1:]:
            took = payload / self._rates[root][one]
            spans.append((clock, clock + took))
            clock, latency = clock + took, max(latency, self._latency[root][one])
        none = (0.0, 0.0)
        return Transfer(clock + latency, (((0.0, clock), none), *((none, span) for span in spans)))
