"""Pipelines in a large pool: dynamic programming over cuts, then local search."""

from __future__ import annotations

import heapq
from collections.abc import Iterator, Sequence

import numpy as np

from airlam.edge.parallel.cost_model.plan import Plan
from airlam.edge.parallel.planning.judge import SMALL, Found
from airlam.edge.parallel.planning.surroundings import ROUNDS, SEEDS, Surroundings

BOUNDS = 8  # on the slowest stage


class PipelineSearch(Surroundings):
    """Participants, their order, cuts and micro-batches."""

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
            path = shortest(np.where(took <= bound, took, np.inf), sends, layers)
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

    def pipeline_moves(self, one: Found) -> Iterator[Plan]:
        """Pipelines that differ in one thing."""
        plan, layers = one.plan, self.c.profile.layers
        devices, cut, stages = list(plan.devices), list(plan.layers), len(plan.layers)

        def made(devices: Sequence[int], cut: Sequence[int], micro: int = plan.micro_batches) -> Plan:
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


def shortest(took: np.ndarray, sends: np.ndarray, layers: int) -> list[tuple[int, int]] | None:
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
