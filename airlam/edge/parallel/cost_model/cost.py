"""The cost of one training step of a plan on a pool, by simulating its events: seconds, joules, bytes, memory, a trace.

Every rank runs its program (:mod:`airlam.edge.parallel.cost_model.programs`) as a SimPy process. A collective begins
when its last rank has come; a message when its sender and its receiver are ready (so gloo does it) and its link is
free. *Modelled* throughout; how close it comes to real processes is measured by ``benchmarks/parallel_model.py``. Left
out: overlap of gradients' sums with the backward pass, and other traffic on the links.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Generator, Sequence
from dataclasses import dataclass, field
from typing import Any

from airlam.edge.parallel.cost_model.energy import Energy, Span, grams, modelled
from airlam.edge.parallel.cost_model.network import Network
from airlam.edge.parallel.cost_model.plan import Plan
from airlam.edge.parallel.cost_model.pool import Pool
from airlam.edge.parallel.cost_model.profiling import ModelProfile
from airlam.edge.parallel.cost_model.programs import Collective, Compute, Operation, Receive, Send, programs
from airlam.edge.parallel.cost_model.work import Work


@dataclass
class Cost:
    """Of one training step.

    Attributes:
        seconds: until the last rank is done. joules: of all taking part. batch: links. memory: bytes of each rank at
            the peak; limits: what its device has. payload: bytes of each rank by kind of collective. energy: by rank
            and phase. trace: who does what when; empty in an estimate.
    """

    seconds: float
    joules: float
    batch: int
    memory: list[float]
    limits: list[float]
    payload: list[dict[str, float]] = field(default_factory=list)
    energy: Energy | None = None
    trace: list[Span] = field(default_factory=list, repr=False)

    @property
    def missing(self) -> float:
        """Bytes that the worst rank lacks; zero or less where all fit."""
        return max(need - has for need, has in zip(self.memory, self.limits, strict=True))

    @property
    def fits(self) -> bool:
        """Whether no rank exceeds its device's memory."""
        return self.missing <= 0

    @property
    def joules_per_sample(self) -> float:
        """A link's part."""
        return self.joules / self.batch

    def grams(self, grid_intensity: float) -> float:
        """gCO2e of the step at a grid intensity in gCO2e/kWh."""
        return grams(self.joules, grid_intensity)

    @property
    def sent(self) -> float:
        """Bytes that all ranks hand to their collectives."""
        return sum(sum(kinds.values()) for kinds in self.payload)


def simulate(plan: Plan, profile: ModelProfile, pool: Pool) -> Cost:
    """Run the events of a step.

    Example:
        >>> from airlam.edge.parallel.cost_model.profiling import count_profile
        >>> from airlam.models import AirlamConfig
        >>> profile, pool = count_profile(AirlamConfig()), Pool.of(["vehicle", "phone"], rate=1e8)
        >>> plan = Plan((0, 1), links=(15, 1), layers=(4,), tokens=(128,))
        >>> cost = simulate(plan, profile, pool)
        >>> cost.seconds < simulate(Plan((0,), (16,), (4,), (128,)), profile, pool).seconds
        False
    """
    work = Work(profile, pool)
    run = _Run(plan, programs(work, plan), Network(pool))
    devices = [pool.device(number) for number in plan.devices]
    energy = modelled(run.trace, devices, run.seconds)
    return Cost(
        seconds=run.seconds,
        joules=energy.total,
        batch=plan.batch,
        memory=[work.memory(plan, place) for place in plan.places()],
        limits=[device.memory_bytes for device in devices],
        payload=[dict(one) for one in run.payload],
        energy=energy,
        trace=run.trace,
    )


@dataclass(frozen=True)
class _Message:
    """Events of a message: its sender is ready (with the payload), its receiver is, it has left, it has arrived."""

    sender: Any
    receiver: Any
    left: Any
    arrived: Any


class _Run:
    """One simulation."""

    def __init__(self, plan: Plan, programs: Sequence[list[Operation]], network: Network) -> None:
        import simpy

        self.plan, self.network = plan, network
        self.simpy, self.env = simpy, simpy.Environment()
        self.trace: list[Span] = []
        self.payload: list[dict[str, float]] = [defaultdict(float) for _ in programs]
        self.meetings: dict[tuple, tuple[list[int], Any]] = {}
        self.links: dict[tuple[int, int], Any] = {}
        self.messages: dict[tuple, _Message] = {}
        ranks = [self.env.process(self._rank(rank, program)) for rank, program in enumerate(programs)]
        self.env.run(until=self.env.all_of(ranks))
        self.seconds = float(self.env.now)
        if any(not process.triggered for process in ranks):
            raise RuntimeError("a rank waits for what nobody sends")

    def _span(self, rank: int, phase: str, start: float, stop: float, what: str) -> None:
        if stop > start:
            self.trace.append(Span(rank, phase, start, stop, what))

    def _rank(self, rank: int, program: list[Operation]) -> Generator:
        env: Any = self.env
        for step in program:
            start = env.now
            if isinstance(step, Compute):
                yield env.timeout(step.seconds)
                self._span(rank, "compute", start, env.now, step.what)
            elif isinstance(step, Collective):
                self.payload[rank][step.kind] += step.payload
                yield from self._meet(rank, step)
            elif isinstance(step, Send):
                self.payload[rank]["send"] += step.payload
                self._message(rank, step.target, step.tag).sender.succeed(step.payload)
            elif isinstance(step, Receive):
                message = self._message(step.source, rank, step.tag)
                message.receiver.succeed()
                yield message.arrived
                self._span(rank, "wait", start, env.now, "message")
            else:
                yield self._message(rank, step.target, step.tag).left
                self._span(rank, "wait", start, env.now, "message")

    def _meet(self, rank: int, step: Collective) -> Generator:
        env: Any = self.env
        start = env.now
        come, ready = self.meetings.setdefault(step.key, ([], env.event()))
        come.append(rank)
        if len(come) == len(step.ranks):
            ready.succeed()
        yield ready
        self._span(rank, "wait", start, env.now, step.what)
        begin = env.now
        devices = tuple(self.plan.devices[one] for one in step.ranks)
        transfer = self.network.collective(step.kind, devices, step.payload)
        for phase, (first, stop) in zip(("send", "receive"), transfer.busy[step.ranks.index(rank)], strict=True):
            self._span(rank, phase, begin + first, begin + stop, step.what)
        yield env.timeout(transfer.seconds)

    def _message(self, source: int, target: int, tag: tuple) -> _Message:
        key = (source, target, tag)
        if key not in self.messages:
            made = self.messages[key] = _Message(*(self.env.event() for _ in range(4)))
            self.env.process(self._transfer(source, target, made))
        return self.messages[key]

    def _transfer(self, source: int, target: int, message: _Message) -> Generator:
        env: Any = self.env
        yield message.sender & message.receiver
        devices = self.plan.devices
        wire, latency = self.network.seconds(devices[source], devices[target], message.sender.value)
        link = self.links.setdefault((source, target), self.simpy.Resource(env))
        with link.request() as turn:
            yield turn
            start = env.now
            yield env.timeout(wire)
        self._span(source, "send", start, env.now, "message")
        self._span(target, "receive", start + latency, env.now + latency, "message")
        message.left.succeed()
        yield env.timeout(latency)
        message.arrived.succeed()
