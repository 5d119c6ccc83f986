"""What each mechanism costs on the pool: seconds, joules, bytes. Modelled by the events of a step, or of a round."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from airlam.edge.federated.server.record import RoundRecord
from airlam.edge.parallel.benchmark.plans import SERVER, Move, alone
from airlam.edge.parallel.cost_model.cost import simulate
from airlam.edge.parallel.cost_model.energy import PHASES, Span, length, merged, modelled
from airlam.edge.parallel.cost_model.network import Network
from airlam.edge.parallel.cost_model.plan import Plan
from airlam.edge.parallel.cost_model.pool import Pool
from airlam.edge.parallel.cost_model.profiling import ModelProfile
from airlam.edge.parallel.cost_model.programs import Collective, Send, programs
from airlam.edge.parallel.cost_model.volume import wire_bytes
from airlam.edge.parallel.cost_model.work import Pieces, Work

PARTS = ("layer", "embedding")  # whose weights' gradients adapters do without


@dataclass
class Bill:
    """Of a whole training.

    Attributes:
        seconds: of it, ``prepare`` included: moving raw data. joules: by phase, of all that take part.
        link_bytes: that cross the links, raw data included. raw_bytes: of raw data that leaves its owner.
        devices: names, in the order of the trace's ranks. trace: one step, or one round; span: its seconds.
        memory: bytes of the fullest device; lacking: that it does not have, zero where all fit.
    """

    seconds: float = 0.0
    prepare: float = 0.0
    joules: dict[str, float] = field(default_factory=lambda: dict.fromkeys(PHASES, 0.0))
    link_bytes: float = 0.0
    raw_bytes: float = 0.0
    devices: list[str] = field(default_factory=list)
    trace: list[Span] = field(default_factory=list)
    span: float = 0.0
    memory: float = 0.0
    lacking: float = 0.0

    @property
    def total_joules(self) -> float:
        """Of all phases."""
        return sum(self.joules.values())

    def add(
        self, trace: Sequence[Span], numbers: Sequence[int], pool: Pool, seconds: float, times: float = 1.0
    ) -> None:
        """Add the joules of a trace that happens so often.

        The server serves others too: its idle power counts only while it computes.
        """
        devices = [pool.device(number) for number in numbers]
        idle = [device.idle_watts * (pool.names[n] == SERVER) for n, device in zip(numbers, devices, strict=True)]
        charged = [replace(d, idle_watts=0.0) if watts else d for d, watts in zip(devices, idle, strict=True)]
        energy = modelled(trace, charged, seconds)
        for rank, phases in enumerate(energy.joules):
            for phase in PHASES:
                self.joules[phase] += times * phases[phase]
            computes = ((s.start, s.stop) for s in trace if s.rank == rank and s.phase == "compute")
            self.joules["compute"] += times * idle[rank] * length(merged(computes))


def moved(moves: Sequence[Move], pool: Pool) -> Bill:
    """Raw data moves before training: every owner sends to one device after the other, all owners at once."""
    bill, network = Bill(), Network(pool)
    numbers = sorted({move.source for move in moves} | {move.target for move in moves})
    trace, clocks = [], dict.fromkeys(numbers, 0.0)
    for move in moves:
        wire, latency = network.seconds(move.source, move.target, move.size)
        start = clocks[move.source]
        trace.append(Span(numbers.index(move.source), "send", start, start + wire, "raw data"))
        trace.append(Span(numbers.index(move.target), "receive", start, start + wire, "raw data"))
        clocks[move.source] = start + wire
        bill.prepare = max(bill.prepare, start + wire + latency)
    bill.seconds = bill.prepare
    bill.raw_bytes = bill.link_bytes = float(sum(move.size for move in moves))
    bill.add(trace, numbers, pool, bill.prepare)
    return bill


def stepped(plan: Plan, profile: ModelProfile, pool: Pool, moves: Sequence[Move], steps: int) -> Bill:
    """A training in steps of all devices of a plan."""
    bill, cost = moved(moves, pool), simulate(plan, profile, pool)
    bill.seconds += steps * cost.seconds
    bill.add(cost.trace, plan.devices, pool, cost.seconds, steps)
    bill.link_bytes += steps * link_bytes(plan, profile, pool)
    bill.devices, bill.trace, bill.span = [pool.names[n] for n in plan.devices], cost.trace, cost.seconds
    bill.memory, bill.lacking = max(cost.memory), max(0.0, cost.missing)
    return bill


def link_bytes(plan: Plan, profile: ModelProfile, pool: Pool) -> float:
    """Bytes that cross the links in a step, with gloo's rings; a broadcast is sent by the first rank of its group.

    Example:
        >>> from airlam.edge.parallel.cost_model.profiling import count_profile
        >>> from airlam.models import AirlamConfig
        >>> profile, pool = count_profile(AirlamConfig()), Pool.of(["phone", "phone"], rate=1e8)
        >>> link_bytes(alone(profile, 0, 4), profile, pool)
        0.0
    """
    total = 0.0
    for rank, operations in enumerate(programs(Work(profile, pool), plan)):
        for one in operations:
            if isinstance(one, Send):
                total += one.payload
            elif isinstance(one, Collective):
                sends = one.kind != "broadcast" or rank == one.ranks[0]
                total += sends * wire_bytes(one.kind, one.payload, len(one.ranks))
    return total


def federated(records: Sequence[RoundRecord], profile: ModelProfile, pool: Pool, batch: int, steps: int) -> Bill:
    """Federated training: the engine's measured bytes, on the pool's links; every device at its own pace.

    Args:
        pool: owners, then the server. profile: of what each device trains. steps: of a round.
    """
    bill, server = Bill(), len(pool) - 1
    numbers, network = list(range(len(pool))), Network(pool)
    for record in records:
        trace, end = [], 0.0
        for site in record.chosen:
            wire, latency = network.seconds(server, site, record.down_bytes[site])
            begin = wire + latency
            cost = simulate(alone(profile, site, batch), profile, pool)
            stop = begin + steps * cost.seconds
            up, late = network.seconds(site, server, record.up_bytes[site])
            trace += [Span(site, "receive", latency, begin, "weights"), Span(server, "send", 0.0, wire, "weights")]
            trace.append(Span(site, "compute", begin, stop, "local steps"))
            trace += [Span(site, "send", stop, stop + up, "update"), Span(server, "receive", stop, stop + up, "update")]
            end = max(end, stop + up + late)
            bill.memory = max(bill.memory, cost.memory[0])
            bill.lacking = max(bill.lacking, cost.missing)
        bill.seconds += end
        bill.link_bytes += record.bytes
        bill.add(trace, numbers, pool, end)
        bill.trace, bill.span = trace, end
    bill.devices = pool.names
    return bill


def split(records: Sequence[RoundRecord], profile: ModelProfile, pool: Pool, batch: int, steps: int) -> Bill:
    """Split federated training: embedding, head and loss on the devices, the backbone on the server for all of them at
    once; the engine's measured bytes of a round, in four equal parts a step.

    Args: as :func:`federated`'s.
    """
    bill, server, work = Bill(), len(pool) - 1, Work(profile, pool)
    numbers, network = list(range(len(pool))), Network(pool)
    for record in records:
        sites = record.chosen
        pieces: dict[int, Pieces] = {n: work.of(alone(profile, n, batch), 0, (0, 0, 0, 0)) for n in sites}
        behind = work.of(alone(profile, server, batch * len(sites)), 0, (0, 0, 0, 0))
        trace: list[Span] = []
        clock = 0.0

        def exchange(way: int, seconds: dict[int, float], trace=trace, record=record, sites=sites) -> float:
            """The devices compute, then send (way 1), or receive and then compute (way -1)."""
            nonlocal clock
            end = clock
            for site in sites:
                payload = (record.up_bytes if way > 0 else record.down_bytes)[site] / steps / 2
                pair = (site, server) if way > 0 else (server, site)
                wire, latency = network.seconds(pair[0], pair[1], payload)
                start = clock + (seconds[site] if way > 0 else 0.0)
                at = clock if way > 0 else clock + wire + latency
                trace.append(Span(site, "compute", at, at + seconds[site], "own part"))
                trace.append(Span(pair[0], "send", start, start + wire, "activations"))
                trace.append(Span(pair[1], "receive", start, start + wire, "activations"))
                end = max(end, clock + seconds[site] + wire + latency)
            clock = end
            return end

        def serve(seconds: float, trace=trace) -> None:
            nonlocal clock
            trace.append(Span(server, "compute", clock, clock + seconds, "backbone"))
            clock += seconds

        exchange(1, {n: pieces[n].tokens + pieces[n].embed[0] for n in sites})
        serve(behind.layers * behind.layer[0])
        exchange(-1, {n: sum(pieces[n].back) for n in sites})
        exchange(1, dict.fromkeys(sites, 0.0))
        serve(behind.layers * behind.layer[1])
        exchange(-1, {n: pieces[n].embed[1] for n in sites})
        bill.seconds += steps * clock
        bill.link_bytes += record.bytes
        bill.add(trace, numbers, pool, clock, steps)
        bill.trace, bill.span = trace, clock
    bill.devices = pool.names
    return bill


def with_adapters(profile: ModelProfile, trained: int) -> ModelProfile:
    """The profile of a model whose adapters alone train: gradients of the other weights are not computed.

    Half of the operations of a layer's backward pass are those of its weights; the embedding's first half reads inputs
    that need no gradient.

    Args:
        trained: weights, shared out over the layers for the optimiser.
    """
    parts = dict(profile.parts)
    for name in PARTS:
        part = parts[name]
        half = {key: getattr(part, key) / 2 for key in ("backward_flops", "backward_link", "backward_call")}
        parts[name] = replace(part, frozen=part.frozen + part.parameters, parameters=0, **half)
    head = parts["head"]
    parts["head"] = replace(head, parameters=trained, frozen=head.frozen + head.parameters)
    return replace(profile, parts=parts)
