"""The best plan of given devices in given places: shares, cuts and micro-batches."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from airlam.edge.parallel.cost import Cost
from airlam.edge.parallel.estimate import Estimator
from airlam.edge.parallel.plan import Plan
from airlam.edge.parallel.planning.balance import balance, compositions, thrifty
from airlam.edge.parallel.planning.floors import Floors
from airlam.edge.parallel.planning.goals import Goal, divisors
from airlam.edge.parallel.pool import Pool
from airlam.edge.parallel.profiling import ModelProfile

MICRO_BATCHES = 32  # at most
SMALL = 6  # devices of a pool that is searched more closely
DEADLINES = 24  # that are tried where energy counts
MOST_CUTS = 40  # that are all tried; of more only those near the balanced ones


@dataclass(frozen=True)
class Found:
    """A plan and what it costs."""

    score: float
    plan: Plan
    cost: Cost


class Candidates:
    """Best shares for devices in places, and a memory of the best plan so far.

    Args:
        batch: links of a step.
        accept: which plans may win; None: all. Plans that exceed a device's memory never do.

    Attributes:
        best: the best plan so far. closest: the plan that lacks least memory, of those that lack some.
    """

    def __init__(
        self,
        profile: ModelProfile,
        pool: Pool,
        batch: int,
        goal: Goal,
        accept: Callable[[Plan], bool] | None = None,
    ) -> None:
        self.profile, self.pool, self.batch, self.goal = profile, pool, batch, goal
        self.estimate = Estimator(profile, pool)
        self.floors = Floors(self.estimate, batch, goal)
        self.deadlines = DEADLINES if len(pool) <= SMALL else DEADLINES // 6
        self.accept = accept
        self.best: Found | None = None
        self.closest: Found | None = None
        self.micro = divisors(batch, MICRO_BATCHES)
        self.cap_links = lru_cache(maxsize=None)(self._cap_links)
        self.cap_tokens = lru_cache(maxsize=None)(self._cap_tokens)
        self.line = lru_cache(maxsize=None)(self._line)

    def plan(self, devices: Iterable[int], **changes: Any) -> Plan:
        """A plan in which nothing is shared out but what ``changes`` says."""
        whole: dict[str, Any] = {
            "links": (self.batch,),
            "layers": (self.profile.layers,),
            "tokens": (self.profile.tokens,),
        }
        return Plan(tuple(devices), **{**whole, **changes})

    def judge(self, plan: Plan) -> Found | None:
        """The plan with its cost, remembered; None where it does not fit or may not win."""
        cost = self.estimate(plan)
        found = Found(self.goal.of(cost), plan, cost)
        if not cost.fits:
            if self.closest is None or cost.missing < self.closest.cost.missing:
                self.closest = found
            return None
        if (self.accept is None or self.accept(plan)) and (self.best is None or found.score < self.best.score):
            self.best = found
        return found

    def least(self, plans: Iterable[Plan]) -> Found | None:
        """The best of some plans."""
        best = None
        for plan in plans:
            found = self.judge(plan)
            if found is not None and (best is None or found.score < best.score):
                best = found
        return best

    # -- one dimension -------------------------------------------------------------------------------------------

    def data(self, devices: Sequence[int], shard: bool = False) -> Found | None:
        """Links shared out."""
        n = len(devices)
        if n == 1:
            return self.judge(self.plan(devices))
        lines = [self.line(one, "links") for one in devices]
        caps = [self.cap_links(one, n if shard else 1) for one in devices]
        shares = self._shares(devices, self.batch, lines, caps)
        return self.least(self.plan(devices, links=tuple(s), shard=shard) for s in shares)

    def sequence(self, devices: Sequence[int]) -> Found | None:
        """Tokens shared out. Keys and values are padded to the largest share, so even shares may win."""
        n, total = len(devices), self.profile.tokens
        if not 1 < n <= total:
            return None
        lines = [self.line(one, "tokens") for one in devices]
        caps = [self.cap_tokens(one) for one in devices]
        least = -(-total // n)
        bounds = 16 if self.goal.name == "time" and len(self.pool) <= SMALL else 4 if len(self.pool) <= SMALL else 2
        steps = sorted({total, *(least + round((total - least) * k / bounds) for k in range(bounds))})
        found = []
        for most in steps:
            found += self._shares(devices, total, lines, [min(cap, most) for cap in caps])
        return self.least(self.plan(devices, tokens=tuple(s)) for s in sorted(set(map(tuple, found))))

    def tensor(self, devices: Sequence[int], looped: bool = False) -> Found | None:
        """Heads and hidden units shared out."""
        if not 1 < len(devices) <= self.profile.key_heads:
            return None
        weights = self.tensor_weights([1 / self.estimate.work.speed[one] for one in devices])
        return self.least(self.plan(devices, tensor=one, looped=looped) for one in weights)

    def pipeline(self, devices: Sequence[int], cuts: Iterable[tuple[int, ...]] | None = None) -> Found | None:
        """Layers shared out, all cuts unless some are given, every number of micro-batches."""
        n, layers = len(devices), self.profile.layers
        if not 1 < n <= layers or len(set(devices)) < n:
            return None
        best: Found | None = None
        for cut in compositions(layers, n) if cuts is None else cuts:
            for micro in self.micro:
                inner: dict[str, Any] = {"layers": cut, "micro_batches": micro}
                if self.hopeless(self.floors.grid("pipeline", [devices], inner)):
                    continue
                found = self.judge(self.plan(devices, **inner))
                if found is not None and (best is None or found.score < best.score):
                    best = found
        return best

    # -- data beside another dimension ---------------------------------------------------------------------------

    def grid(
        self, kind: str, rows: Sequence[Sequence[int]], cuts: Iterable[tuple[int, ...]] | None = None
    ) -> Found | None:
        """Replicas (rows) of equal structure: ``kind`` (pipeline, sequence, tensor) within each, links between them."""
        devices = [one for row in rows for one in row]
        columns = [max(self.estimate.work.speed[row[k]] for row in rows) for k in range(len(rows[0]))]
        width = len(columns)
        if len(set(devices)) < len(devices) or self.batch < len(rows):
            return None
        inner: list[dict[str, Any]] = []
        if kind == "pipeline":
            if width > self.profile.layers:
                return None
            for cut in self.near_cuts(columns) if cuts is None else cuts:
                inner += [{"layers": cut, "micro_batches": m} for m in self.micro if self.batch // m >= len(rows)]
        elif kind == "tensor":
            if width > self.profile.key_heads:
                return None
            inner = [{"tensor": one} for one in self.tensor_weights([1 / c for c in columns])]
        else:
            total = self.profile.tokens
            if width > total:
                return None
            least = -(-total // width)
            for most in sorted({total, *(least + round((total - least) * k / 4) for k in range(4))}):
                shares = balance(total, [0.0] * width, columns, [most] * width)
                if shares is not None and {"tokens": tuple(shares)} not in inner:
                    inner.append({"tokens": tuple(shares)})
        hopeful = (one for one in inner if not self.hopeless(self.floors.grid(kind, rows, one)))
        return self.least(plan for one in hopeful for plan in self._with_links(rows, devices, one))

    def hopeless(self, floor: float) -> bool:
        """Whether a plan with a score of at least ``floor`` cannot become the best."""
        return self.accept is None and self.best is not None and floor >= self.best.score

    def _with_links(self, rows: Sequence[Sequence[int]], devices: list[int], inner: dict[str, Any]) -> Iterator[Plan]:
        """Plans with the batch shared out over replicas by the time that each takes alone."""
        unit = inner.get("micro_batches", 1)
        total = self.batch // unit
        lines = [self._replica(tuple(row), unit, tuple(sorted(inner.items()))) for row in rows]
        offsets, slopes = [a for a, _ in lines], [b for _, b in lines]
        shares = balance(total, offsets, slopes, [total] * len(rows))
        if shares is None:
            return
        yield self.plan(devices, links=tuple(unit * s for s in shares), **inner)
        even = tuple(unit * (total // len(rows) + (k < total % len(rows))) for k in range(len(rows)))
        if even != tuple(unit * s for s in shares):  # where memory binds
            yield self.plan(devices, links=even, **inner)

    def _replica(self, row: tuple[int, ...], unit: int, inner: tuple) -> tuple[float, float]:
        """(offset, slope) of a replica's seconds in units of links."""
        key = (row, unit, inner)
        if key not in self._replicas:
            few, many = (
                self.estimate(self.plan(row, links=(unit * k,), **dict(inner))).seconds
                for k in (1, max(2, self.batch // unit))
            )
            slope = (many - few) / (max(2, self.batch // unit) - 1)
            self._replicas[key] = (few - slope, slope)
        return self._replicas[key]

    @property
    def _replicas(self) -> dict[tuple, tuple[float, float]]:
        return self.__dict__.setdefault("_known_replicas", {})

    def near_cuts(self, slowness: Sequence[float]) -> list[tuple[int, ...]]:
        """All cuts where they are few; else those with at most one layer more or less than the balanced ones."""
        n, layers = len(slowness), self.profile.layers
        every = []
        for cut in compositions(layers, n):
            every.append(cut)
            if len(every) > MOST_CUTS:
                break
        else:
            return every
        shares = balance(layers, [0.0] * n, list(slowness), [layers] * n)
        assert shares is not None
        found = {tuple(shares)}
        for a in range(n):
            for b in range(n):
                if a != b and shares[b] > 1:
                    found.add(tuple(s + (k == a) - (k == b) for k, s in enumerate(shares)))
        return sorted(found)

    # -- shares --------------------------------------------------------------------------------------------------

    def tensor_weights(self, speeds: Sequence[float]) -> list[tuple[int, ...]]:
        """Weights to try: all shares of heads where they are few, and shares of units in proportion to speed."""
        n, heads, units = len(speeds), self.profile.key_heads, self.profile.units
        by_speed = balance(units, [0.0] * n, [1 / s for s in speeds], [units] * n)
        assert by_speed is not None
        found = [tuple(by_speed)]
        for number, one in enumerate(compositions(heads, n)):
            if number >= MOST_CUTS:
                near = balance(heads, [0.0] * n, [1 / s for s in speeds], [heads] * n)
                found.append(tuple(near or one))
                break
            found.append(one)
        return list(dict.fromkeys(found))

    def _shares(
        self, devices: Sequence[int], total: int, lines: Sequence[tuple[float, float]], caps: Sequence[int]
    ) -> list[tuple[int, ...]]:
        offsets, slopes = [a for a, _ in lines], [b for _, b in lines]
        if self.goal.name == "time":
            shares = balance(total, offsets, slopes, caps)
            if shares is None and sum(caps) < total and len(devices) <= total:  # to know what is missing
                shares = balance(total, offsets, slopes, [total] * len(devices))
            return [] if shares is None else [tuple(shares)]
        watts = [self.estimate.watts[one][1] for one in devices]
        joules = [s * w for s, w in zip(slopes, watts, strict=True)]
        return [tuple(s) for s in thrifty(total, offsets, slopes, caps, joules, self.deadlines)]

    def _line(self, device: int, what: str) -> tuple[float, float]:
        """(offset, slope) of a device's computing time in its links or tokens."""
        total = self.batch if what == "links" else self.profile.tokens

        def seconds(part: int) -> float:
            shares = (part, total) if part < total else (total, 1)
            plan = self.plan((device, device), **{what: shares})
            p = self.estimate.work.of(plan, 0, (0, 0, 0, 0))
            return p.tokens + sum(p.embed) + sum(p.back) + p.layers * sum(p.layer)

        if total == 1:
            return 0.0, seconds(1)
        slope = (seconds(total) - seconds(1)) / (total - 1)
        return seconds(1) - slope, slope

    def _cap_links(self, device: int, shards: int) -> int:
        """The most links whose training fits into a device."""
        limit = self.pool.device(device).memory_bytes

        def fits(links: int) -> bool:
            shared = (links, *[1] * (shards - 1))
            plan = self.plan([device] * shards, links=shared, shard=shards > 1)
            return self.estimate.work.memory(plan, (0, 0, 0, 0)) <= limit

        return _largest(fits, self.batch)

    def _cap_tokens(self, device: int) -> int:
        """The most tokens of each link whose training fits into a device."""
        limit = self.pool.device(device).memory_bytes

        def fits(tokens: int) -> bool:
            plan = self.plan([device, device], tokens=(tokens, self.profile.tokens))
            return self.estimate.work.memory(plan, (0, 0, 0, 0)) <= limit

        return _largest(fits, self.profile.tokens)


def _largest(fits: Callable[[int], bool], most: int) -> int:
    """The largest number that fits, 0 if none does; what fits also fits with less."""
    low, high = 0, most
    while low < high:
        middle = (low + high + 1) // 2
        if fits(middle):
            low = middle
        else:
            high = middle - 1
    return low
