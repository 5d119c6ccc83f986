"""Services, nodes, links, traffic; what a placement costs in latency, and whether it fits.

A node runs one group of services, all of which share a replica, in one or several replicas. Groups of different nodes
are equal or disjoint: each is a deployment. A request goes from service to service of its chain; where the next service
runs on the node where it is, it stays, else it goes over a link to one of the nodes that have it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from airlam.errors import RecipeError

BUSIEST = 0.9  # of a replica's time: beyond, waiting grows without bound
CLIENT = ""  # name of the place where requests come from


@dataclass(frozen=True)
class Service:
    """One service.

    Attributes:
        seconds: of processor time for a request, on a node of speed 1. memory_mb: of a replica that holds it.
        out_bytes: that it hands to the next service of a chain.
        core: stays where it is when the load changes; light ones move.
    """

    name: str
    seconds: float
    memory_mb: float
    out_bytes: float = 0.0
    core: bool = True


@dataclass(frozen=True)
class Node:
    """A machine: ``cores`` for replicas (one each), ``memory_mb``, and its ``speed`` relative to where costs were
    measured."""

    name: str
    cores: int
    memory_mb: float
    speed: float = 1.0


@dataclass(frozen=True)
class Link:
    """Between two places: ``latency_s`` one way, ``rate`` in bytes a second."""

    latency_s: float
    rate: float


@dataclass(frozen=True)
class Chain:
    """Requests of one kind: the services they pass in order, how many a second, and the bytes that come in.

    Attributes:
        through: services of these that hand a request on as it came, without work: where requests arrive.
    """

    services: tuple[str, ...]
    per_second: float
    in_bytes: float = 0.0
    through: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Plan:
    """What every node runs: its group (sorted names) and how many replicas; nodes that are left out run nothing.

    Example:
        >>> Plan({"edge": (("backbone", "heads"), 2)}).replicas("edge")
        2
    """

    nodes: Mapping[str, tuple[tuple[str, ...], int]]

    def replicas(self, node: str) -> int:
        return self.nodes[node][1] if node in self.nodes else 0

    def group(self, node: str) -> tuple[str, ...]:
        return self.nodes[node][0] if node in self.nodes else ()

    @property
    def groups(self) -> list[tuple[str, ...]]:
        """The deployments."""
        return sorted({group for group, _ in self.nodes.values()})


@dataclass(frozen=True)
class Problem:
    """Everything a placement depends on.

    Attributes:
        links: between two places, either order; those that are not named: ``usual``. Clients are the place ``""``.
        hop_s: of a call from one replica to another, besides the link.
        process_mb: of a replica without any service. most: replicas of a node.
        order: services that every request passes one after the other: a group holds consecutive ones of these.

    Raises:
        RecipeError: a chain through a service that there is not, or no node.

    Example:
        >>> problem = Problem([Service("model", 0.01, 100)], [Node("a", 2, 1000)], [Chain(("model",), 50)])
        >>> round(1e3 * problem.latency(Plan({"a": (("model",), 1)})), 1)
        15.0
        >>> problem.latency(Plan({}))
        inf
    """

    services: Sequence[Service]
    nodes: Sequence[Node]
    chains: Sequence[Chain]
    links: Mapping[tuple[str, str], Link] = field(default_factory=dict)
    usual: Link = Link(0.0, math.inf)
    hop_s: float = 0.0
    process_mb: float = 0.0
    most: int = 4
    order: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not self.nodes or not self.chains:
            raise RecipeError("there are no nodes or no chains; name at least one of each")
        for chain in self.chains:
            for name in chain.services:
                if name not in self.by_name:
                    raise RecipeError(f"a chain passes {name!r}, but the services are {', '.join(self.by_name)}")

    @cached_property
    def by_name(self) -> dict[str, Service]:
        return {service.name: service for service in self.services}

    @cached_property
    def place(self) -> dict[str, int]:
        """Index of each node."""
        return {node.name: number for number, node in enumerate(self.nodes)}

    def link(self, a: str, b: str) -> Link:
        return self.links.get((a, b), self.links.get((b, a), self.usual))

    def sent_s(self, a: str, b: str, size: float) -> float:
        """Seconds for ``size`` bytes from one place to another; none within one."""
        if a == b:
            return 0.0
        link = self.link(a, b)
        return link.latency_s + size / link.rate + (self.hop_s if a != CLIENT and b != CLIENT else 0.0)

    def fits(self, plan: Plan) -> bool:
        """Whether memory and cores of every node suffice, groups are equal or disjoint, and none skips a service of the
        order."""
        groups = plan.groups
        if sum(map(len, groups)) != len({name for group in groups for name in group}):
            return False
        for group in groups:
            numbers = [number for number, name in enumerate(self.order) if name in group]
            if numbers and numbers[-1] - numbers[0] >= len(numbers):
                return False
        for node in self.nodes:
            count = plan.replicas(node.name)
            used = self.process_mb + sum(self.by_name[name].memory_mb for name in plan.group(node.name))
            if count > min(node.cores, self.most) or count * used > node.memory_mb:
                return False
        return True

    def latency(self, plan: Plan) -> float:
        """Mean seconds of a request, over all chains; infinite where the plan does not fit or carry the load."""
        return float(self.judge(plan)[1])

    def judge(self, plan: Plan) -> tuple[float, float]:
        """By how much the plan fails (0: it does not), and its latency. Of two plans the lesser one is better."""
        if not self.fits(plan):
            return math.inf, math.inf
        flows = [self._flow(chain, plan) for chain in self.chains]
        missing = sum(flow is None for flow in flows)
        if missing:
            return 1e6 * missing, math.inf
        speed = np.array([node.speed for node in self.nodes])
        replicas = np.array([plan.replicas(node.name) for node in self.nodes])
        work, visits = np.zeros(len(self.nodes)), np.zeros(len(self.nodes))
        for chain, flow in zip(self.chains, flows, strict=True):
            at, enters, _ = flow  # type: ignore[misc]
            work += chain.per_second * (self._seconds(chain) @ at) / speed
            visits += chain.per_second * enters
        with np.errstate(divide="ignore", invalid="ignore"):
            use = np.where(work > 0, work / replicas, 0.0)
            visit = np.where(visits > 0, work / visits, 0.0)
        if not (use < BUSIEST).all():
            return float((use - BUSIEST).clip(0).sum()) + 1e-9, math.inf
        waits = use / (2 * (1 - use)) * visit  # of a queue with one server and services of equal length
        total = 0.0
        for chain, flow in zip(self.chains, flows, strict=True):
            at, enters, sent = flow  # type: ignore[misc]
            total += chain.per_second * (float((self._seconds(chain) @ at / speed).sum() + enters @ waits) + sent)
        return 0.0, total / sum(chain.per_second for chain in self.chains)

    def _seconds(self, chain: Chain) -> NDArray:
        return np.array([0.0 if name in chain.through else self.by_name[name].seconds for name in chain.services])

    def _flow(self, chain: Chain, plan: Plan) -> tuple[NDArray, NDArray, float] | None:
        """Where a request is: probabilities ``at [service, node]``, visits ``enters [node]``, seconds on links."""
        places = [CLIENT, *(node.name for node in self.nodes)]
        now = np.zeros(len(places))
        now[0] = 1.0
        at, enters, sent = [], np.zeros(len(self.nodes)), 0.0
        size = chain.in_bytes
        for name in chain.services:
            share = np.array([0.0, *(self._weight(node, name, plan) for node in self.nodes)])
            if not share.any():
                return None
            share = share / share.sum()
            after = np.zeros(len(places))
            for here in np.flatnonzero(now):
                if share[here]:  # fused: it stays
                    after[here] += now[here]
                    continue
                moved = now[here] * share
                after += moved
                enters += moved[1:]
                sent += sum(moved[to] * self.sent_s(places[here], places[to], size) for to in np.flatnonzero(moved))
            at.append(after[1:])
            now, size = after, size if name in chain.through else self.by_name[name].out_bytes
        sent += sum(now[here] * self.sent_s(places[here], CLIENT, size) for here in np.flatnonzero(now))
        return np.array(at), enters, sent

    @staticmethod
    def _weight(node: Node, service: str, plan: Plan) -> float:
        """Share of the load of a service that goes to a node, up to a factor."""
        return node.speed * plan.replicas(node.name) if service in plan.group(node.name) else 0.0
