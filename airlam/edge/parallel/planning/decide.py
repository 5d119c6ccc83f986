"""The best plan for a pool, what it costs beside simpler ones, and why a device takes no part."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from airlam.edge.parallel.cost_model.cost import Cost, simulate
from airlam.edge.parallel.cost_model.plan import Plan
from airlam.edge.parallel.cost_model.pool import Pool
from airlam.edge.parallel.cost_model.profiling import ModelProfile
from airlam.edge.parallel.planning.candidates import Candidates
from airlam.edge.parallel.planning.exhaustive import exhaustive
from airlam.edge.parallel.planning.goals import Goal
from airlam.edge.parallel.planning.judge import SMALL, Found
from airlam.edge.parallel.planning.large import large
from airlam.edge.parallel.shares import equal_shares, share_out
from airlam.errors import RecipeError
from airlam.recipes import check_choice, check_number

MODES = ("data", "sequence", "tensor", "pipeline", "hybrid")
SOLVERS = ("auto", "exhaustive", "large")


@dataclass
class Option:
    """A plan beside the best one.

    Attributes:
        name: what it is. plan, cost: None where it is not possible; ``why`` then says why.
    """

    name: str
    plan: Plan | None = None
    cost: Cost | None = None
    why: str = ""


@dataclass
class Decision:
    """What was decided.

    Attributes:
        plan, cost: the best, its step simulated. solver: that found it; tried: plans it estimated.
        beside: equal split over all, the best single device, data parallel. left_out: device -> why.
    """

    plan: Plan
    cost: Cost
    goal: Goal
    solver: str
    tried: int
    beside: list[Option] = field(default_factory=list)
    left_out: dict[str, str] = field(default_factory=dict)


def decide(
    profile: ModelProfile,
    pool: Pool,
    batch: int,
    goal: Goal | None = None,
    *,
    modes: Sequence[str] = MODES,
    ranks: int | None = None,
    solver: str = "auto",
    looped: bool = False,
    explain: bool = True,
) -> Decision:
    """Participants, mode, order, shares, cuts and micro-batches with the least of a goal; no device exceeds its memory.

    Args:
        batch: links of a step. modes: that may be used. ranks: how many devices take part; None: as many as help.
        solver: ``exhaustive`` (up to 6 devices), ``large``, or ``auto``. looped: the model is trained in mode looped.
        explain: whether simpler plans and reasons are worked out too.

    Raises:
        RecipeError: the pool is too small for the model (says how much memory is missing), or no mode can share it out
            over so many ranks.
    """
    check_choice("solver", solver, SOLVERS)
    goal = goal or Goal()
    for mode in modes:
        check_choice("mode", mode, MODES)
    if ranks is not None:
        check_ranks(profile, pool, batch, modes, int(check_number("ranks", ranks, 1, 4096, integer=True)))
    if solver == "auto":
        solver = "exhaustive" if len(pool) <= SMALL else "large"
    if solver == "exhaustive" and len(pool) > SMALL + 2:
        raise RecipeError(f"the exhaustive solver is for {SMALL} devices, and the pool has {len(pool)}; take 'large'")
    accept = None if ranks is None else lambda plan: len(plan.devices) == ranks
    candidates = Candidates(profile, pool, batch, goal, accept)
    (exhaustive if solver == "exhaustive" else large)(candidates, modes, looped=looped)
    if candidates.best is None:
        raise RecipeError(_too_small(candidates, ranks))
    best = candidates.best
    decision = Decision(best.plan, simulate(best.plan, profile, pool), goal, solver, candidates.estimate.calls)
    if explain:
        free = candidates if ranks is None else Candidates(profile, pool, batch, goal)
        decision.beside = beside(free)
        decision.left_out = {
            pool.members[one].name: reason(free, best, one, modes)
            for one in range(len(pool))
            if one not in best.plan.devices
        }
    return decision


def check_ranks(profile: ModelProfile, pool: Pool, batch: int, modes: Sequence[str], ranks: int) -> None:
    """Raises RecipeError where no mode can share the model out over so many ranks."""
    if ranks > len(pool):
        raise RecipeError(f"ranks is {ranks}, but the pool has {len(pool)} devices")
    most = {
        "data": (batch, "links of a batch"),
        "sequence": (profile.tokens, "tokens"),
        "tensor": (profile.key_heads, "attention heads"),
        "pipeline": (profile.layers, "layers"),
    }
    able = [mode for mode in modes if mode == "hybrid" or most[mode][0] >= ranks]
    if "hybrid" in able and not any(ranks % k == 0 for k in range(2, ranks // 2 + 1)):
        able.remove("hybrid")
    if not able and ranks > 1:
        has = ", ".join(f"{most[mode][0]} {most[mode][1]}" for mode in modes if mode in most)
        raise RecipeError(f"no cut fits {ranks} ranks: there are {has}; take fewer ranks, or another mode")


def beside(candidates: Candidates) -> list[Option]:
    """Equal split over all devices (in the mode where it is best), the best single device, data parallel over all."""
    c, every = candidates, list(range(len(candidates.pool)))
    n, profile = len(every), candidates.profile
    equal = []
    if n > 1:
        if n <= c.batch:
            equal.append(c.plan(every, links=tuple(equal_shares(c.batch, n))))
        if n <= profile.tokens:
            equal.append(c.plan(every, tokens=tuple(equal_shares(profile.tokens, n))))
        if n <= profile.key_heads:
            equal.append(c.plan(every, tensor=(1,) * n))
        if n <= profile.layers:
            cut = tuple(equal_shares(profile.layers, n))
            equal += [c.plan(every, layers=cut, micro_batches=micro) for micro in c.micro]
    speeds = [1 / c.estimate.work.speed[one] for one in every]
    data = [c.plan(every, links=tuple(share_out(c.batch, speeds)))] if 1 < n <= c.batch else []
    return [
        _option(c, "equal split over all", equal, f"{n} devices are more than links, tokens, heads and layers allow"),
        _option(c, "best single device", [c.plan([one]) for one in every], ""),
        _option(c, "data parallel over all, links by speed", data, f"{n} devices cannot share {c.batch} links"),
    ]


def _option(c: Candidates, name: str, plans: Sequence[Plan], why: str) -> Option:
    """The best of some plans, or what the closest one lacks."""
    costs = [(plan, c.estimate(plan)) for plan in plans]
    able = [(plan, cost) for plan, cost in costs if cost.fits]
    if able:
        plan, cost = min(able, key=lambda entry: (c.goal.of(entry[1]), entry[1].seconds * entry[1].joules))
        return Option(name, plan, cost)
    if costs:
        plan, cost = min(costs, key=lambda entry: entry[1].missing)
        why = f"{_lack(c.pool, plan, cost)} ({plan.describe()})"
    return Option(name, why=why)


def reason(candidates: Candidates, best: Found, one: int, modes: Sequence[str]) -> str:
    """Why a device takes no part: what the best plan with it would cost, or what memory it lacks."""
    c, plan = candidates, best.plan
    wider = [*plan.devices, one]
    tries: list[Found | None] = []
    if "data" in modes and plan.mode in ("data", "single"):
        tries += [c.data(wider), c.data(wider, shard=True)]
    if "sequence" in modes and plan.mode in ("sequence", "single"):
        tries.append(c.sequence(wider))
    if "tensor" in modes and plan.mode in ("tensor", "single"):
        tries.append(c.tensor(wider))
    if "pipeline" in modes and plan.mode in ("pipeline", "single"):
        micro, cut = (plan.micro_batches, plan.layers) if plan.mode == "pipeline" else (c.micro[-1], plan.layers)
        for at in range(len(cut) + 1):
            for giver in range(len(cut)):
                if cut[giver] > 1:
                    less = [count - (k == giver) for k, count in enumerate(cut)]
                    devices = (*plan.devices[:at], one, *plan.devices[at:])
                    layers = (*less[:at], 1, *less[at:])
                    tries.append(c.judge(c.plan(devices, layers=layers, micro_batches=micro)))
    for place in range(len(plan.devices)):  # in another's place
        devices = tuple(one if k == place else other for k, other in enumerate(plan.devices))
        tries.append(c.judge(replace(plan, devices=devices)))
    able = [found for found in tries if found is not None]
    device = c.pool.device(one)
    if not able:
        return f"{device.memory_bytes / 1e6:.0f} MB hold no part of the work that would help"
    found = min(able, key=lambda f: f.score)
    unit, now, then = {
        "time": ("s a step", best.cost.seconds, found.cost.seconds),
        "energy": ("J a step", best.cost.joules, found.cost.joules),
        "mix": ("of the mix", best.score, found.score),
    }[c.goal.name]
    if found.score <= best.score * (1 + 1e-6):
        return f"would not help: as good without it ({now:.3g} {unit})"
    return f"with it {then:.3g} {unit} instead of {now:.3g}: {_weakness(c, best, one)}"


def _weakness(c: Candidates, best: Found, one: int) -> str:
    """The plainest way in which a device is worse than those that take part."""
    speed = [1 / c.estimate.work.speed[k] for k in best.plan.devices]
    rate = c.estimate.network.byte_rate
    others = [k for k in best.plan.devices if k != one]
    links = max(rate[one, k] for k in others) * 8 / 1e6 if others else 0.0
    slower = min(speed) * c.estimate.work.speed[one]
    if c.goal.name != "time":
        return (
            f"its part of the work saves less than its {c.pool.device(one).idle_watts:g} W idle and its messages cost"
        )
    if slower > 1.5:
        return f"{slower:.1f} times slower than the slowest that takes part"
    return f"its messages ({links:.0f} Mbit/s at most) cost more time than its work saves"


def _lack(pool: Pool, plan: Plan, cost: Cost) -> str:
    """Which device lacks how much memory."""
    worst = max(range(len(cost.memory)), key=lambda rank: cost.memory[rank] - cost.limits[rank])
    name = pool.members[plan.devices[worst]].name
    return (
        f"{name} lacks {cost.missing / 1e6:.1f} MB: it has {cost.limits[worst] / 1e6:.1f} MB and its part needs "
        f"{cost.memory[worst] / 1e6:.1f} MB"
    )


def _too_small(candidates: Candidates, ranks: int | None) -> str:
    closest = candidates.closest
    if closest is None:
        return f"no mode can share the model out over {ranks} ranks of this pool; take another number"
    return (
        f"the pool is too small for the model: in the best division found ({closest.plan.describe()}) "
        f"{_lack(candidates.pool, closest.plan, closest.cost)}; add devices or memory, or take a smaller batch_size"
    )
