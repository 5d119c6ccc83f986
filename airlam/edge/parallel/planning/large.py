"""Plans for pools of any size: growth and exchange of rings, dynamic programming over cuts, local search.

1. *Rings* (data, sequence, tensor). From several seeds a ring grows by the device that helps most, at the place where its
   slowest hop stays fastest; then devices are exchanged, taken out and moved while that helps.
2. *Pipelines.* In a row of devices (by speed, by memory, by links), dynamic programming finds the stages and cuts with the
   shortest way through them for every bound on the slowest stage; local search then exchanges devices and moves layers.
3. *Hybrids.* Devices of like speed share a column, so that equal shares across replicas fit; then exchange.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable, Iterator, Sequence

import numpy as np

from airlam.edge.parallel.planning.candidates import SMALL, Candidates, Found

CLOSE = 12  # devices tried at a time
SEEDS = 2  # rings are grown from so many of the best devices, by speed and by worth
PATIENCE = 4  # devices added to a ring without a gain before it stops growing
ROUNDS = 12  # of local search
BOUNDS = 8  # on the slowest stage
GRIDS = 6  # meshes that are refined

Solve = Callable[[Sequence[int]], Found | None]


def large(candidates: Candidates, modes: Sequence[str], *, looped: bool = False) -> None:
    """Search; ``candidates.best`` is then the best that was found. Arguments as :func:`~.exhaustive.exhaustive`'s."""
    search = _Search(candidates)
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
        search.pipelines()
    if "hybrid" in modes:
        for kind in ("pipeline", "sequence", "tensor"):
            search.grids(kind)


class _Search:
    """Moves over devices, on top of :class:`Candidates`."""

    def __init__(self, candidates: Candidates) -> None:
        self.c, self.n = candidates, len(candidates.pool)
        self.rate = candidates.estimate.network.byte_rate
        self.speed = np.array([1 / s for s in candidates.estimate.work.speed])
        self.memory = np.array([m.device.memory_bytes for m in candidates.pool.members])
        reach = np.median(self._others(), axis=1) if self.n > 1 else np.ones(1)
        # the seconds that a step's work and its traffic would take with this device alone
        work = candidates.profile.flops * candidates.batch / candidates.profile.flops_per_second
        traffic = 8.0 * candidates.profile.parameters
        self.worth = 1 / (work / self.speed / self.n + traffic / reach)
        self.took: dict[int, np.ndarray] = {}
        self.by_worth = list(np.argsort(-self.worth))
        self.by_speed = list(np.argsort(-self.speed))

    def _others(self) -> np.ndarray:
        rate = self.rate.copy()
        return rate[~np.eye(self.n, dtype=bool)].reshape(self.n, self.n - 1)

    def outsiders(self, group: Iterable[int], count: int = CLOSE) -> list[int]:
        """Devices worth trying that are not in a group: the fastest, and those with the best links to it."""
        members = list(group)
        out = [one for one in range(self.n) if one not in set(members)]
        if len(out) <= count:
            return out
        links = self.rate[np.ix_(out, members)].min(axis=1) if members else self.worth[out]
        near = [out[k] for k in np.argsort(-links)[: count // 3]]
        fast = [int(one) for one in self.by_speed if one not in set(members)][: count // 3]
        worth = [int(one) for one in self.by_worth if one not in set(members)]
        return list(dict.fromkeys([*near, *fast, *worth]))[:count]

    # -- rings ---------------------------------------------------------------------------------------------------

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

    # -- pipelines -----------------------------------------------------------------------------------------------

    def rows(self) -> Iterator[list[int]]:
        """Orders in which a pipeline may pick its stages."""
        fast = [int(one) for one in self.by_speed]
        yield fast
        yield fast[::-1]
        yield [int(one) for one in self.by_worth]
        if self.n <= SMALL:
            yield [int(one) for one in np.argsort(-self.memory)]
        for start in fast[:SEEDS]:  # always on by the fastest link
            row, left = [start], set(range(self.n)) - {start}
            while left:
                row.append(max(left, key=lambda one: (min(self.rate[row[-1], one], 1e9), self.speed[one])))
                left.remove(row[-1])
            yield row
            if self.n <= SMALL:
                yield row[::-1]

    def pipelines(self) -> None:
        """Stages by dynamic programming in several rows of devices, then local search from the best ones."""
        if self.n < 2 or self.c.profile.layers < 2:
            return
        found: dict[tuple, Found] = {}
        for row in self.rows():
            for micro in self.c.micro:
                for devices, cut in self.stages(row, micro):
                    plan = self.c.plan(devices, layers=cut, micro_batches=micro)
                    if (plan.devices, plan.layers, micro) not in found and len(cut) > 1:
                        one = self.c.judge(plan)
                        if one is not None:
                            found[plan.devices, plan.layers, micro] = one
        for one in heapq.nsmallest(2 * SEEDS, found.values(), key=lambda f: f.score):
            self.exchange(one)

    def stages(self, row: Sequence[int], micro: int) -> set[tuple[tuple[int, ...], tuple[int, ...]]]:
        """(devices, cut) of the shortest pipelines in a row for several bounds on their slowest stage."""
        took, sends = self.stage_seconds(row, micro)  # [device, layers, kind], [device, device]
        layers = self.c.profile.layers
        finite = np.unique(took[np.isfinite(took)])
        if not len(finite):
            return set()
        least = finite[0]
        bounds = np.geomspace(least, finite[-1], BOUNDS)
        out = set()
        for bound in bounds:
            path = _shortest(np.where(took <= bound, took, np.inf), sends, layers)
            if path is not None:
                out.add((tuple(row[k] for k, _ in path), tuple(count for _, count in path)))
        return out

    def stage_seconds(self, row: Sequence[int], micro: int) -> tuple[np.ndarray, np.ndarray]:
        """Seconds of a micro-batch forward and backward in each device, for each number of layers and each kind of
        stage (first, inner, last); infinite where memory does not suffice. And those of its messages."""
        if micro not in self.took:
            self.took[micro] = np.array([self._stage_seconds(one, micro) for one in range(self.n)])
        c = self.c
        size = 4.0 * c.batch / micro * c.profile.tokens * c.profile.width
        rate, latency = self.rate[np.ix_(row, row)], c.pool.latency[np.ix_(row, row)]
        return self.took[micro][list(row)], 2 * (size / rate + latency)

    def _stage_seconds(self, one: int, micro: int) -> np.ndarray:
        c, layers = self.c, self.c.profile.layers
        took = np.full((layers + 1, 3), np.inf)
        for count in range(1, layers):
            for kind, cut in enumerate(((count, layers), (1, count, layers), (layers, count))):
                at = min(kind, 1)
                plan = c.plan([one] * len(cut), layers=cut, micro_batches=micro)
                if c.estimate.work.memory(plan, (0, at, 0, 0)) <= self.memory[one]:
                    p = c.estimate.work.of(plan, at, (0, at, 0, 0))
                    took[count, kind] = sum(p.embed) + sum(p.back) + p.layers * sum(p.layer)
        return took

    def exchange(self, start: Found) -> None:
        """Local search from a pipeline: devices, their order, cuts, micro-batches."""
        best = start
        for _ in range(ROUNDS):
            options = [f for f in map(self.c.judge, self.pipeline_moves(best)) if f is not None]
            if not options:
                return
            found = min(options, key=lambda f: f.score)
            if found.score >= best.score * (1 - 1e-9):
                return
            best = found

    def pipeline_moves(self, one: Found) -> Iterator:
        """Pipelines that differ in one thing."""
        plan, layers = one.plan, self.c.profile.layers
        devices, cut, stages = list(plan.devices), list(plan.layers), len(plan.layers)

        def made(devices: Sequence[int], cut: Sequence[int], micro: int = plan.micro_batches):
            return self.c.plan(devices, layers=tuple(cut), micro_batches=micro)

        for micro in self.c.micro:
            if micro != plan.micro_batches:
                yield made(devices, cut, micro)
        outsiders = self.outsiders(devices)
        for a in range(stages):
            for b in range(stages):
                if a != b and cut[b] > 1:
                    yield made(devices, [n + (k == a) - (k == b) for k, n in enumerate(cut)])
            for b in range(a + 1, stages):
                swapped = list(devices)
                swapped[a], swapped[b] = devices[b], devices[a]
                yield made(swapped, cut)
                both = list(cut)
                both[a], both[b] = cut[b], cut[a]
                yield made(swapped, both)
            for other in outsiders:
                yield made([other if k == a else d for k, d in enumerate(devices)], cut)
            if stages > 2:  # take a stage out; a neighbour gets its layers
                for to in {a - 1, a + 1} & set(range(stages)):
                    joined = [n + (k == to) * cut[a] for k, n in enumerate(cut)]
                    yield made(
                        [d for k, d in enumerate(devices) if k != a], [n for k, n in enumerate(joined) if k != a]
                    )
            if stages < layers:  # split a stage: a new device takes some of its layers
                for other in outsiders:
                    for part in range(1, cut[a]):
                        yield made([*devices[:a], other, *devices[a:]], [*cut[:a], part, cut[a] - part, *cut[a + 1 :]])
                        at = a + 1
                        yield made([*devices[:at], other, *devices[at:]], [*cut[:a], cut[a] - part, part, *cut[at:]])

    # -- hybrids -------------------------------------------------------------------------------------------------

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


def _shortest(took: np.ndarray, sends: np.ndarray, layers: int) -> list[tuple[int, int]] | None:
    """Stages (device, layers) in the order of a row, with all layers and the least seconds in and between them.

    Args:
        took: ``[device, layers, kind]``, infinite where not allowed. sends: ``[device, device]``.
    """
    n = len(took)
    cost = np.full((n, layers + 1), np.inf)  # of the stages so far, the last of them on this device, by layers done
    before = np.full((n, layers + 1, 2), -1)
    best, end = np.inf, None
    for j in range(n):
        if j:
            with np.errstate(invalid="ignore"):
                way = cost[:j] + sends[:j, j][:, None]  # [device before, layers done]
            by = np.argmin(way, 0)
            reach = way[by, np.arange(layers + 1)]
            for count in range(1, layers):
                # an inner stage that brings the layers done to `done`
                inner = np.full(layers + 1, np.inf)
                inner[count:] = reach[: layers + 1 - count] + took[j, count, 1]
                better = inner < cost[j]
                better[layers] = False
                cost[j][better] = inner[better]
                for done in np.flatnonzero(better):
                    before[j, done] = (by[done - count], count)
                last = reach[layers - count] + took[j, count, 2]
                if last < best:
                    best, end = last, (j, count, int(by[layers - count]))
        for count in range(1, layers):
            if took[j, count, 0] < cost[j, count]:
                cost[j, count], before[j, count] = took[j, count, 0], (-1, count)
    if end is None or not np.isfinite(best):
        return None
    j, count, device = end
    path, done = [(j, count)], layers - count
    while device >= 0:
        earlier, count = before[device, done]
        path.append((device, int(count)))
        device, done = int(earlier), done - int(count)
    return path[::-1]
