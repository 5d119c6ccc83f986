"""The devices, shares and raw data of each mechanism: its plan on the pool."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from airlam.edge.parallel.benchmark.config import Mechanism, Server
from airlam.edge.parallel.cost_model.estimate import Estimator
from airlam.edge.parallel.cost_model.plan import Plan, plan_from
from airlam.edge.parallel.cost_model.pool import Member, Pool
from airlam.edge.parallel.cost_model.profiling import ModelProfile
from airlam.edge.parallel.shares import share_out
from airlam.errors import RecipeError
from airlam.resources import device

SERVER = "server"


def owners_pool(pool: Pool, owners: Sequence[str]) -> Pool:
    """The part of a pool that owns data.

    Raises:
        RecipeError: an owner is no device of the pool.
    """
    for name in owners:
        if name not in pool.names:
            raise RecipeError(f"owners names {name!r}, but the devices are {', '.join(pool.names)}")
    return pool.part([pool.names.index(name) for name in owners])


def with_server(pool: Pool, server: Server) -> Pool:
    """A pool and, as its last device, the server behind everybody's uplink."""
    n = len(pool)
    rate, latency = np.full((n + 1, n + 1), server.rate), np.full((n + 1, n + 1), server.latency)
    rate[:n, :n], latency[:n, :n] = pool.rate, pool.latency
    members = (*pool.members, Member(SERVER, device(server.device)))
    return replace(pool, members=members, rate=rate, latency=latency)


def fastest(profile: ModelProfile, pool: Pool, batch: int) -> int:
    """The device that alone takes a step in the least time, of those whose memory suffices.

    Raises:
        RecipeError: none has the memory.
    """
    estimate = Estimator(profile, pool)
    costs = [estimate(alone(profile, number, batch)) for number in range(len(pool))]
    able = [number for number, cost in enumerate(costs) if cost.fits]
    if not able:
        missing = min(cost.missing for cost in costs)
        raise RecipeError(f"no device can hold the model alone: the largest lacks {missing / 1e6:.0f} MB")
    return min(able, key=lambda number: costs[number].seconds)


def alone(profile: ModelProfile, number: int, batch: int) -> Plan:
    """All on one device."""
    return Plan((number,), (batch,), (profile.layers,), (profile.tokens,))


def plan_of(mechanism: Mechanism, profile: ModelProfile, pool: Pool, batch: int) -> Plan:
    """The plan of a mechanism that computes in steps of several devices.

    Args:
        pool: of the owners.

    Raises:
        RecipeError: devices that do not exist, or too many for what they share.
    """
    if mechanism.kind == "planned":
        return planned(mechanism.goal, profile, pool, batch)
    names = list(mechanism.devices or pool.names)
    for name in names:
        if name not in pool.names:
            raise RecipeError(f"devices names {name!r}, but the owners are {', '.join(pool.names)}")
    arguments = {
        "mode": mechanism.mode,
        "nproc": len(names),
        "devices": names,
        "shard": mechanism.shard,
        "micro_batches": mechanism.micro_batches,
    }
    if mechanism.mesh is not None:
        arguments["mesh"] = dict(mechanism.mesh)
        return plan_from(arguments, pool, profile, batch)
    speeds = [pool.device(pool.names.index(name)).flops_per_second for name in names]
    dimension = "tensor" if mechanism.mode == "looped" else mechanism.mode
    if mechanism.shares == "speed":
        total = {"data": batch, "sequence": profile.tokens, "pipeline": profile.layers, "tensor": profile.key_heads}
        arguments["shares"] = {dimension: share_out(total[dimension], speeds, what=dimension)}
    return plan_from(arguments, pool, profile, batch)


def planned(goal: str, profile: ModelProfile, pool: Pool, batch: int) -> Plan:
    """The best plan of all devices, orders and modes, see :func:`airlam.edge.parallel.planning.decide.decide`."""
    from airlam.edge.parallel.planning.decide import decide
    from airlam.edge.parallel.planning.goals import Goal

    return decide(profile, pool, batch, Goal(goal), explain=False).plan


@dataclass(frozen=True)
class Move:
    """Raw data of one owner that goes to another device, once, before training. Devices are numbers in the pool."""

    source: int
    target: int
    size: int


def moves_to(target: int, owners: Sequence[int], sizes: Sequence[int]) -> list[Move]:
    """All owners send their data to one device."""
    return [Move(one, target, size) for one, size in zip(owners, sizes, strict=True) if one != target]


def moves_of(plan: Plan, sizes: Sequence[int]) -> list[Move]:
    """Which raw data a plan needs elsewhere than at its owner.

    The links of a step come from all owners, equally many of each; see :func:`readers`. First and last stages read CSI;
    ranks that share out tokens, heads or units each read that of all links of their replica. A device that needs any
    link of an owner gets that owner's data, once.

    Args:
        sizes: of each owner's data; owners are the devices 0, 1, ... of the pool.

    Example:
        >>> moves_of(Plan((0, 1), links=(2, 2), layers=(4,), tokens=(80,)), [10, 10])
        []
        >>> moves_of(Plan((0, 1), links=(4,), layers=(2, 2), tokens=(80,)), [10, 20])
        [Move(source=1, target=0, size=20), Move(source=0, target=1, size=10)]
    """
    within = len(plan.devices) // len(plan.links)
    replicas = [plan.devices[d * within : (d + 1) * within] for d in range(len(plan.links))]
    read = readers(replicas, plan.links, len(sizes))
    found = []
    for rank, (d, stage, _, _) in enumerate(plan.places()):
        if 0 < stage < len(plan.layers) - 1:
            continue
        for owner, size in enumerate(sizes):
            if owner in read[d] and plan.devices[rank] != owner:
                found.append(Move(owner, plan.devices[rank], size))
    return list(dict.fromkeys(found))


def readers(replicas: Sequence[Sequence[int]], links: Sequence[int], owners: int) -> list[set[int]]:
    """Whose links each replica computes: those of its own devices first, then what others have no room for.

    Args:
        replicas: devices of each. links: of a step, of each replica. owners: devices 0, 1, ... with equally many links.

    Example:
        >>> readers([[0], [1], [2]], [4, 1, 1], 3)
        [{0, 1, 2}, {1}, {2}]
    """
    room, left = [float(n) for n in links], [sum(links) / owners] * owners
    found: list[set[int]] = [set() for _ in replicas]

    def give(owner: int, d: int) -> None:
        part = min(left[owner], room[d])
        if part > 1e-9:
            left[owner], room[d] = left[owner] - part, room[d] - part
            found[d].add(owner)

    for d, members in enumerate(replicas):
        for owner in members:
            if owner < owners:
                give(owner, d)
    for owner in range(owners):
        for d in range(len(replicas)):
            give(owner, d)
    return found
