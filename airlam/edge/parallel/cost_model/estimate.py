"""The cost of a step in closed form, for searches.

It is what :func:`airlam.edge.parallel.cost_model.cost.simulate` finds, faster.

Where all ranks of a replica meet after every piece of work, a step is a sum of slowest pieces and transfers. A pipeline
is followed pass by pass. Seconds equal the simulation's to rounding; joules differ where a pipeline's device sends and
receives at once, whose radio is then counted twice.
"""

from __future__ import annotations

from collections.abc import Iterable

from airlam.edge.parallel.cost_model.cost import Cost, simulate
from airlam.edge.parallel.cost_model.energy import radio_watts
from airlam.edge.parallel.cost_model.network import Network
from airlam.edge.parallel.cost_model.plan import Plan
from airlam.edge.parallel.cost_model.pool import Pool
from airlam.edge.parallel.cost_model.profiling import ModelProfile
from airlam.edge.parallel.cost_model.programs import passes
from airlam.edge.parallel.cost_model.volume import BYTES, CONTROL_BYTES
from airlam.edge.parallel.cost_model.work import Pieces, Work


class Estimator:
    """Costs of plans for one model on one pool.

    Attributes:
        calls: how many plans were estimated.
    """

    def __init__(self, profile: ModelProfile, pool: Pool) -> None:
        self.profile, self.pool = profile, pool
        self.work, self.network = Work(profile, pool), Network(pool)
        self.calls = 0
        self.watts = []
        for member in pool.members:
            one = member.device
            receives = radio_watts(one, False, True)
            self.watts.append((one.idle_watts, one.compute_watts, radio_watts(one, True, False) - receives, receives))

    def __call__(self, plan: Plan) -> Cost:
        """The cost of a plan; without trace, payload and energy by phase."""
        self.calls += 1
        if len(plan.tokens) > 1 and len(plan.tensor) > 1 or len(plan.layers) > 1 and plan.ranks_in_stage > 1:
            return simulate(plan, self.profile, self.pool)
        places = list(plan.places())
        step = _Step(self, plan, [self.work.of(plan, rank, place) for rank, place in enumerate(places)])
        seconds = step.run()
        joules = 0.0
        for rank, number in enumerate(plan.devices):
            idle, compute, sends, receives = self.watts[number]
            joules += idle * seconds + compute * step.computing[rank]
            joules += sends * step.sending[rank] + receives * step.radio[rank]
        return Cost(
            seconds,
            joules,
            plan.batch,
            [self.work.memory(plan, place) for place in places],
            [self.pool.device(number).memory_bytes for number in plan.devices],
        )


class _Step:
    """One plan's step: when each rank is done, and how long each computes, sends, has its radio on."""

    def __init__(self, estimator: Estimator, plan: Plan, pieces: list[Pieces]) -> None:
        self.plan, self.pieces, self.profile = plan, pieces, estimator.profile
        self.network, self.work = estimator.network, estimator.work
        n, micro = len(pieces), plan.micro_batches
        self.sending, self.radio = [0.0] * n, [0.0] * n
        self.computing = [
            p.tokens + p.optimiser + micro * (sum(p.embed) + sum(p.back) + p.layers * (sum(p.attention) + sum(p.feed)))
            for p in pieces
        ]

    def meet(self, kind: str, ranks: tuple[int, ...], payload: float, times: int = 1) -> float:
        """Seconds of so many collectives."""
        if len(ranks) == 1:
            return 0.0
        transfer = self.network.collective(kind, tuple(self.plan.devices[rank] for rank in ranks), payload)
        for member, rank in enumerate(ranks):
            sends, on = transfer.on(member)
            self.sending[rank] += times * sends
            self.radio[rank] += times * on
        return times * transfer.seconds

    def run(self) -> float:
        plan = self.plan
        data, stages, tensor = len(plan.links), len(plan.layers), len(plan.tensor)
        within = len(plan.devices) // data
        if plan.shard:
            done = [self.sharded()] * len(plan.devices)
        else:
            done = []
            for d in range(data):
                ranks = tuple(range(d * within, (d + 1) * within))
                done += self.pipeline(d, ranks) if stages > 1 else self.replica(d, ranks)
            for p in range(stages):
                for t in range(tensor):
                    group = tuple(plan.rank(d, p, s, t) for d in range(data) for s in range(len(plan.tokens)))
                    if len(group) > 1:
                        trained = self.work.trained(plan, (0, p, 0, t))
                        stop = max(done[rank] for rank in group) + self.meet("all_reduce", group, BYTES * trained)
                        for rank in group:
                            done[rank] = stop
        clipped = max(done) + self.meet("control", tuple(range(len(plan.devices))), CONTROL_BYTES)
        return clipped + max(p.optimiser for p in self.pieces)

    def replica(self, d: int, ranks: tuple[int, ...]) -> list[float]:
        """When the ranks of a replica without stages have their gradients."""
        plan, ps = self.plan, [self.pieces[rank] for rank in ranks]
        depth = ps[0].layers
        links, profile = plan.links[d], self.profile
        if len(plan.tensor) > 1:
            x = BYTES * links * profile.tokens * profile.width
            kinds = ("reduce", "broadcast") if plan.looped else ("all_reduce",)
            sums = sum(self.meet(kind, ranks, x, 4 * depth + plan.looped) for kind in kinds)
            first = [p.tokens + p.embed[0] for p in ps]
            attention = [p.attention[0] for p in ps]
            together = [a + b for a, b in zip(first, attention, strict=True)]
            start = _most(first) + _most(attention) if plan.looped else _most(together)
            middle = _most(p.back[0] + p.back[1] + p.feed[1] for p in ps)
            rest = _most(attention) + _most(p.feed[1] for p in ps)
            every = _most(p.feed[0] for p in ps) + _most(p.attention[1] for p in ps)
            base = start + middle + (depth - 1) * rest + depth * every + sums
        elif len(plan.tokens) > 1:
            both = 2 * BYTES * links * profile.key_width
            sums = self.meet("all_gather", ranks, both * max(plan.tokens), depth)
            sums += self.meet("all_reduce", ranks, both * profile.tokens, depth)
            sums += self.meet("all_reduce", ranks, links * BYTES)
            forward, backward = [p.layer[0] for p in ps], [p.layer[1] for p in ps]
            base = sums + _most(p.tokens + p.embed[0] for p in ps)
            base += (depth - 1) * (_most(forward) + _most(backward))
            base += _most(p.layer[0] + p.back[0] for p in ps) + _most(p.layer[1] + p.back[1] for p in ps)
        else:
            p = ps[0]
            return [p.tokens + sum(p.embed) + depth * sum(p.layer) + sum(p.back)]
        return [base + p.embed[1] for p in ps]

    def sharded(self) -> float:
        """When all replicas have their parts of the summed gradients, where weights are shared out too."""
        ps, ranks = self.pieces, tuple(range(len(self.pieces)))
        depth, n = ps[0].layers, len(self.pieces)
        layer = BYTES * self.profile.parts["layer"].parameters
        rest = BYTES * self.work.trained(self.plan, (0, 0, 0, 0)) - layer * self.profile.layers
        meets = self.meet("all_gather", ranks, rest / n) + self.meet("reduce_scatter", ranks, rest)
        meets += self.meet("all_gather", ranks, layer / n, 2 * depth) + self.meet("reduce_scatter", ranks, layer, depth)
        out = meets + _most(p.tokens for p in ps) + _most(p.embed[0] for p in ps) + _most(p.embed[1] for p in ps)
        out += (depth - 1) * _most(p.layer[0] for p in ps) + _most(p.layer[0] + sum(p.back) for p in ps)
        return out + depth * _most(p.layer[1] for p in ps)

    def pipeline(self, d: int, ranks: tuple[int, ...]) -> list[float]:
        """When the stages of a replica have their gradients: its passes, one after the other."""
        plan, stages, micro = self.plan, len(ranks), self.plan.micro_batches
        ps = [self.pieces[rank] for rank in ranks]
        payload = BYTES * plan.links[d] / micro * self.profile.tokens * self.profile.width
        ways = []  # (wire, latency) to the next stage, and back
        for a, b in zip(ranks, ranks[1:], strict=False):
            there, back = plan.devices[a], plan.devices[b]
            ways.append((self.network.seconds(there, back, payload), self.network.seconds(back, there, payload)))
            for source, target, way in ((a, b, ways[-1][0]), (b, a, ways[-1][1])):
                self.sending[source] += micro * way[0]
                self.radio[source] += micro * way[0]
                self.radio[target] += micro * way[0]
        took = [
            (p.embed[0] + p.layers * p.layer[0] + p.back[0], p.embed[1] + p.layers * p.layer[1] + p.back[1]) for p in ps
        ]
        clock = [p.tokens for p in ps]
        orders = [passes(plan.schedule, p, stages, micro) for p in range(stages)]
        at, left = [0] * stages, sum(len(order) for order in orders)
        sender: dict[tuple, float] = {}  # (from, way, micro-batch) -> when it was ready
        receiver: dict[tuple, float] = {}
        gone: dict[tuple, float] = {}  # when the message had left
        free = [[0.0, 0.0] for _ in ways]  # when a link's directions are free
        while left:
            for p in range(stages):
                order = orders[p]
                while at[p] < len(order):
                    verb, way, n = order[at[p]]
                    if verb == "compute":
                        clock[p] += took[p][way == "B"]
                    elif verb == "send":
                        sender[p, way, n] = clock[p]
                    else:
                        key = (p if verb == "sent" else p - 1 if way == "F" else p + 1, way, n)
                        if verb == "receive":
                            receiver.setdefault(key, clock[p])
                        if key not in sender or key not in receiver:
                            break
                        link, back = (key[0], 0) if way == "F" else (key[0] - 1, 1)
                        wire, latency = ways[link][back]
                        if key not in gone:
                            gone[key] = free[link][back] = max(free[link][back], sender[key], receiver[key]) + wire
                        clock[p] = max(clock[p], gone[key] + (latency if verb == "receive" else 0.0))
                    at[p] += 1
                    left -= 1
        return clock


def _most(values: Iterable[float]) -> float:
    return max(values)
