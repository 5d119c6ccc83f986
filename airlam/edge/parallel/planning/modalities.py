"""Which device encodes which input of the model, and what that saves beside a plan that is blind to it.

An input is encoded where it is held, and its tokens are sent; or it is sent as it is and encoded where the backbone
begins, whichever takes less time in all: the tokens of a position are far larger than the position itself, those of a
CSI smaller than the CSI. The gradient of tokens travels back only to encoders that train. An input that nobody holds is
left out: attention ignores the tokens of missing readings (:mod:`airlam.models.context`). All *modelled*.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from airlam.edge.parallel.cost_model.cost import Cost, simulate
from airlam.edge.parallel.cost_model.plan import Plan
from airlam.edge.parallel.cost_model.pool import Pool
from airlam.edge.parallel.cost_model.profiling import ModelProfile
from airlam.edge.parallel.cost_model.volume import BYTES
from airlam.edge.parallel.planning.objectives import OBJECTIVES, Objective


@dataclass(frozen=True)
class Input:
    """An input of the model, of one link.

    Attributes:
        raw: bytes as it is measured. tokens: that it becomes. features: of each.
    """

    raw: int
    tokens: int
    features: int


def inputs_of(profile: ModelProfile) -> dict[str, Input]:
    """Sizes of the inputs: 16 slots of 48 tones and 32 ports as complex singles; pilots on every fourth tone; three
    coordinates and a time; an occupancy map of 128 x 128 cells in bytes; a depth map of 160 x 120 in two bytes.

    Example:
        >>> from airlam.edge.parallel.cost_model.profiling import count_profile
        >>> from airlam.models import AirlamConfig
        >>> inputs_of(count_profile(AirlamConfig()))["csi"].raw
        196608
    """
    return {
        "csi": Input(16 * 48 * 32 * 8, profile.tokens, profile.features),
        "pilots": Input(16 * 12 * 32 * 8, max(1, profile.tokens // 4), profile.features),
        "position": Input(16, 1, 5),
        "velocity": Input(16, 1, 5),
        "occupancy": Input(128 * 128, 16, 1024),
        "depth": Input(160 * 120 * 2, 75, 256),
    }


@dataclass(frozen=True)
class Encoding:
    """How an input gets to the backbone.

    Attributes:
        name: of the input. role: of its encoder. holder, encoder: names of devices; None: nobody holds it.
        form: ``tokens`` or ``raw`` is what is sent, ``local`` nothing. sent: bytes a step.
    """

    name: str
    role: str
    holder: str | None
    encoder: str | None
    form: str
    sent: float


@dataclass
class ModalityPlan:
    """Encodings of a plan, and what a step costs with and without regard to inputs and objective.

    Attributes:
        roles: of embedding, layers and head. without: devices that take part and hold none of the inputs.
        seconds, sent: of a step, inputs included. blind_seconds, blind_sent: of the same plan, where every input is
            sent as it is to where the backbone begins, and all modules train.
    """

    objective: str
    roles: Mapping[str, str]
    encodings: list[Encoding]
    without: list[str]
    seconds: float
    sent: float
    blind_seconds: float
    blind_sent: float
    why: str = field(default="", repr=False)


def plan_modalities(plan: Plan, aware: ModelProfile, whole: ModelProfile, pool: Pool, objective: str) -> ModalityPlan:
    """Where each input of an objective is encoded.

    Args:
        plan: of the training. aware: the profile with the objective's roles
            (:func:`~.objectives.with_roles`). whole: the one in which everything trains.
    """
    goal = OBJECTIVES[objective]
    sight = _Load(plan, aware, pool, goal)
    encodings = [sight.best(name) for name in goal.inputs]
    blind = _Load(plan, whole, pool, goal, blind=True)
    for name in goal.inputs:
        blind.best(name)
    costs = simulate(plan, aware, pool), simulate(plan, whole, pool)
    names = [pool.members[one].name for one in plan.devices]
    held = {name: set(pool.members[pool.names.index(name)].inputs) & set(goal.inputs) for name in names}
    return ModalityPlan(
        objective,
        goal.roles,
        encodings,
        [name for name in names if not held[name]],
        *_total(sight, costs[0]),
        *_total(blind, costs[1]),
        why=goal.why,
    )


def _total(load: _Load, cost: Cost) -> tuple[float, float]:
    """Seconds and bytes of a step with its inputs."""
    return cost.seconds + load.seconds(), cost.sent + sum(load.sent.values())


class _Load:
    """What encoding and sending inputs adds to devices and links."""

    def __init__(self, plan: Plan, profile: ModelProfile, pool: Pool, goal: Objective, blind: bool = False) -> None:
        self.plan, self.profile, self.pool, self.goal, self.blind = plan, profile, pool, goal, blind
        self.inputs = inputs_of(profile)
        self.computing: dict[int, float] = {}
        self.sent: dict[tuple[int, int], float] = {}
        # where the backbone begins, and for how many links
        self.consumers: dict[int, int] = {}
        for rank, (d, p, s, t) in enumerate(plan.places()):
            if p == s == t == 0:
                self.consumers[plan.devices[rank]] = plan.links[d]

    def seconds(self) -> float:
        """Encoders compute side by side, then links carry side by side."""
        links = [self.pool.seconds(a, b, size) for (a, b), size in self.sent.items() if size]
        return max(self.computing.values(), default=0.0) + max(links, default=0.0)

    def best(self, name: str) -> Encoding:
        """The way of an input that adds least, over its holders and forms; it is then taken."""
        role = self.goal.roles["embedding"] if name == "csi" else self.goal.encoders[name]
        role = "trained" if self.blind else role
        holders = [k for k, member in enumerate(self.pool.members) if name in member.inputs]
        if not holders:
            return Encoding(name, role, None, None, "missing", 0.0)
        ways = [(holder, form) for holder in holders for form in (("raw",) if self.blind else ("tokens", "raw"))]
        before = dict(self.computing), dict(self.sent)
        priced = []
        for holder, form in ways:
            self.computing, self.sent = dict(before[0]), dict(before[1])
            self._add(name, role, holder, form)
            more = {way: size - before[1].get(way, 0.0) for way, size in self.sent.items()}
            took = sum(self.computing.values()) - sum(before[0].values())
            took += sum(self.pool.seconds(*way, size) for way, size in more.items() if size)
            priced.append((took, sum(more.values()), holder, form, self.computing, self.sent))
        _, extra, holder, form, self.computing, self.sent = min(priced, key=lambda way: way[:2])
        only = next(iter(self.consumers)) if len(self.consumers) == 1 else None
        at = holder if form == "tokens" else only
        names = self.pool.names
        encoder = names[at] if at is not None else "every first rank"
        return Encoding(name, role, names[holder], encoder, form if extra else "local", extra)

    def _add(self, name: str, role: str, holder: int, form: str) -> None:
        """Take a way: its computing and bytes."""
        one = self.inputs[name]
        size = BYTES * one.tokens * self.profile.width
        for consumer, links in self.consumers.items():
            encoder = holder if form == "tokens" else consumer
            if not (name == "csi" and encoder == consumer):  # the plan's own first stage counts the CSI's there
                seconds = links * self._encode(name, one, encoder, role)
                self.computing[encoder] = self.computing.get(encoder, 0.0) + seconds
            if name == "csi" and encoder != consumer:  # and is spared what the holder does
                self.computing[consumer] = self.computing.get(consumer, 0.0) - links * self._encode(
                    name, one, consumer, role
                )
            if holder != consumer:
                way = (holder, consumer)
                self.sent[way] = self.sent.get(way, 0.0) + links * (size if form == "tokens" else one.raw)
                if form == "tokens" and role == "trained":
                    self.sent[way[::-1]] = self.sent.get(way[::-1], 0.0) + links * size

    def _encode(self, name: str, one: Input, number: int, role: str) -> float:
        """Seconds of a link's encoding: a network of two layers, of the CSI also its tokens."""
        device, profile = self.pool.device(number), self.profile
        if name == "csi":
            work = profile.seconds("tokens", "forward", 1, device) + profile.seconds("embedding", "forward", 1, device)
            return work + (profile.seconds("embedding", "backward", 1, device) if role == "trained" else 0.0)
        flops = 2 * one.tokens * profile.width * (one.features + profile.width) * (3 if role == "trained" else 1)
        return device.compute_seconds(flops)
