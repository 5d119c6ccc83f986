"""Plans for pools of any size: growth and exchange of rings, dynamic programming over cuts, local search.

1. *Rings* (data, sequence, tensor). From several seeds a ring grows by the device that helps most, at the place where
   its slowest hop stays fastest; then devices are exchanged, taken out and moved while that helps.
2. *Pipelines.* In a row of devices (by speed, by memory, by links), dynamic programming finds the stages and cuts with
   the shortest way through them for every bound on the slowest stage; local search then exchanges devices and moves
   layers.
3. *Hybrids.* Devices of like speed share a column, so that equal shares across replicas fit; then exchange.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterator, Sequence

import numpy as np

from airlam.edge.parallel.planning.candidates import Candidates, Found
from airlam.edge.parallel.planning.pipelines import PipelineSearch
from airlam.edge.parallel.planning.surroundings import CLOSE, ROUNDS, SEEDS, Surroundings

PATIENCE = 4  # devices added to a ring without a gain before it stops growing
GRIDS = 6  # meshes that are refined

Solve = Callable[[Sequence[int]], Found | None]


def large(candidates: Candidates, modes: Sequence[str], *, looped: bool = False) -> None:
    """Search; ``candidates.best`` is then the best that was found. Arguments as :func:`~.exhaustive.exhaustive`'s."""
    search = RingSearch(candidates)
    for one in range(len(candidates.pool)):
        candidates.data([one])
    if looped:
        for server in range(len(candidates.pool)):
            search.grow(lambda group: candidates.tensor(group, looped=True), [server])
        return
    if "data" in modes:
        search.rings(candidates.data)
        search.rings(lambda group: candidates.data(group, shard=True))
    if "sequence" in modes and not candidates.hopeless(candidates.floors.mode("sequence")):
        search.rings(candidates.sequence)
    if "tensor" in modes and not candidates.hopeless(candidates.floors.mode("tensor")):
        search.rings(candidates.tensor, most=candidates.profile.key_heads)
    if "pipeline" in modes:
        PipelineSearch(candidates).pipelines()
    if "hybrid" in modes:
        for kind in ("pipeline", "sequence", "tensor"):
            GridSearch(candidates).grids(kind)


class RingSearch(Surroundings):
    """Participants and order of a ring."""

    def insert(self, ring: Sequence[int], one: int) -> list[int]:
        """A ring with a device where the slower of its two hops is fastest."""
        if len(ring) < 2:
            return [*ring, one]
        hops = [min(self.rate[a, one], self.rate[one, ring[(k + 1) % len(ring)]]) for k, a in enumerate(ring)]
        at = int(np.argmax(hops)) + 1
        return [*ring[:at], one, *ring[at:]]

    def grow(self, solve: Solve, ring: list[int], most: int | None = None) -> None:
        """Add the device that helps most, until several in a row do not help; then improve what was best."""
        best = solve(ring) if len(ring) > 1 else None
        best_ring, idle = list(ring), 0
        while len(ring) < min(self.n, most or self.n) and idle < PATIENCE:
            tried = [(solve(wider), wider) for wider in (self.insert(ring, one) for one in self.outsiders(ring))]
            able = [(found.score, wider, found) for found, wider in tried if found is not None]
            if not able:  # not yet enough memory together: take the largest
                ring = max((wider for _, wider in tried), key=lambda wider: self.memory[wider].sum())
                continue
            score, ring, found = min(able, key=lambda entry: entry[0])
            if best is None or score < best.score * (1 - 1e-9):
                best, best_ring, idle = found, list(ring), 0
            else:
                idle += 1
        if best is not None:
            self.improve(solve, best_ring, best)

    def rings(self, solve: Solve, most: int | None = None) -> None:
        """Rings from several seeds, from all devices, and from the fastest halves."""
        if self.n < 2:
            return
        seeds = list(dict.fromkeys([*map(int, self.by_speed[:SEEDS]), *map(int, self.by_worth[:SEEDS])]))
        for seed in seeds:
            self.grow(solve, [seed], most)
        size = min(self.n, most or self.n)
        while size > 1:
            ring: list[int] = []
            for one in self.by_speed[:size]:
                ring = self.insert(ring, int(one))
            found = solve(ring)
            if found is not None:
                self.improve(solve, ring, found, rounds=2)
            size //= 2

    def improve(self, solve: Solve, ring: list[int], best: Found, rounds: int = ROUNDS) -> None:
        """Take out, exchange, and move single devices while that helps."""
        for _ in range(rounds):
            options: list[tuple[Found, list[int]]] = []
            for wider in self.neighbours(ring):
                found = solve(wider)
                if found is not None:
                    options.append((found, wider))
            if not options:
                return
            found, wider = min(options, key=lambda entry: entry[0].score)
            if found.score >= best.score * (1 - 1e-9):
                return
            best, ring = found, wider

    def neighbours(self, ring: list[int]) -> Iterator[list[int]]:
        """Rings that differ in one device or its place."""
        weakest = sorted(ring, key=lambda one: self.worth[one])[:CLOSE]
        for one in weakest:
            rest = [other for other in ring if other != one]
            if len(rest) > 1:
                yield rest
            for outsider in self.outsiders(ring, 6):
                yield self.insert(rest, outsider)
            if len(ring) > 3:
                yield self.insert(rest, one)
        if 3 < len(ring) <= 2 * CLOSE:
            for a in range(len(ring) - 1):  # reverse a stretch: untangles two hops at once
                for b in range(a + 1, len(ring)):
                    yield [*ring[:a], *reversed(ring[a : b + 1]), *ring[b + 1 :]]


class GridSearch(Surroundings):
    """Participants and places of a mesh."""

    def grids(self, kind: str) -> None:
        """Meshes of replicas times what each shares out; the best few are refined by exchange."""
        most = {"pipeline": self.c.profile.layers, "sequence": 8, "tensor": self.c.profile.key_heads}[kind]
        found: list[tuple[float, int, list[list[int]]]] = []
        for width in range(2, min(most, self.n // 2) + 1):
            for replicas in _few(self.n // width):
                for order in (self.by_speed, self.by_worth):
                    chosen = sorted(map(int, order[: replicas * width]), key=lambda one: -self.speed[one])
                    for rows in self.arrangements(chosen, replicas, width):
                        one = self.c.grid(kind, rows)
                        if one is not None:
                            found.append((one.score, len(found), rows))
        for score, _, rows in heapq.nsmallest(GRIDS, found):
            self.exchange_rows(kind, rows, score)

    def arrangements(self, chosen: Sequence[int], replicas: int, width: int) -> Iterator[list[list[int]]]:
        """Columns of like speed; and replicas whose devices have good links among each other."""
        yield [[chosen[column * replicas + row] for column in range(width)] for row in range(replicas)]
        left, rows = list(chosen), []
        for _ in range(replicas):
            row = [left.pop(0)]
            while len(row) < width:
                best = max(left, key=lambda one: (min(self.rate[one, other] for other in row), self.speed[one]))
                left.remove(best)
                row.append(best)
            rows.append(row)
        yield rows

    def exchange_rows(self, kind: str, rows: list[list[int]], score: float) -> None:
        """Swap two devices, or one for an outsider, while that helps."""
        for _ in range(ROUNDS if self.n <= 8 else 4):
            flat = [one for row in rows for one in row]
            width = len(rows[0])
            moves = []
            places = range(len(flat)) if len(flat) <= CLOSE else self.worst_places(flat)
            for a in places:
                for b in range(len(flat)):
                    if a < b or (a not in range(b) and a != b and len(flat) > CLOSE):
                        swapped = list(flat)
                        swapped[a], swapped[b] = flat[b], flat[a]
                        moves.append(swapped)
                for other in self.outsiders(flat, 4):
                    moves.append([other if k == a else one for k, one in enumerate(flat)])
            best: tuple[float, list[list[int]]] | None = None
            for move in moves:
                changed = [move[k : k + width] for k in range(0, len(move), width)]
                found = self.c.grid(kind, changed)
                if found is not None and (best is None or found.score < best[0]):
                    best = (found.score, changed)
            if best is None or best[0] >= score * (1 - 1e-9):
                return
            score, rows = best

    def worst_places(self, flat: Sequence[int]) -> list[int]:
        """Places of the devices that are worth least."""
        return sorted(range(len(flat)), key=lambda k: self.worth[flat[k]])[:2]


def _few(most: int) -> list[int]:
    """Numbers of replicas to try: all small ones, then ever fewer."""
    out, one = [], 2
    while one <= most:
        out.append(one)
        one = one + 1 if one < 6 else int(one * 1.5)
    return out
