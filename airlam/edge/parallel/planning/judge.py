"""Plans judged: what they cost, whether they fit, which shares are worth trying, which was best."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from airlam.edge.parallel.cost_model.cost import Cost
from airlam.edge.parallel.cost_model.estimate import Estimator
from airlam.edge.parallel.cost_model.plan import Plan
from airlam.edge.parallel.cost_model.pool import Pool
from airlam.edge.parallel.cost_model.profiling import ModelProfile
from airlam.edge.parallel.planning.balance import balance, compositions, thrifty
from airlam.edge.parallel.planning.floors import Floors
from airlam.edge.parallel.planning.goals import Goal, divisors

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


class Judge:
    """Costs plans, remembers the best one, and knows which shares of devices fit and are worth trying.

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

    def hopeless(self, floor: float) -> bool:
        """Whether a plan with a score of at least ``floor`` cannot become the best."""
        return self.accept is None and self.best is not None and floor >= self.best.score

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
