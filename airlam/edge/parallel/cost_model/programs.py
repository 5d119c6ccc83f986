"""A training step of a plan as one list of operations a rank: compute, take part in a collective, send, receive."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

from airlam.edge.parallel.cost_model.plan import Plan
from airlam.edge.parallel.cost_model.volume import BYTES, CONTROL_BYTES
from airlam.edge.parallel.cost_model.work import Pieces, Work


@dataclass(frozen=True)
class Compute:
    """Compute for so long."""

    seconds: float
    what: str


@dataclass(frozen=True)
class Collective:
    """Take part in a collective of ``ranks``; ``payload`` in bytes. All of them meet at the same ``key``."""

    key: tuple
    kind: str
    ranks: tuple[int, ...]
    payload: float
    what: str


@dataclass(frozen=True)
class Send:
    """Begin to send, and go on."""

    target: int
    payload: float
    tag: tuple


@dataclass(frozen=True)
class Receive:
    """Ask for what ``source`` sends under ``tag``, and wait for it. The transfer begins when both are ready."""

    source: int
    tag: tuple


@dataclass(frozen=True)
class Sent:
    """Wait until what was sent to ``target`` under ``tag`` has left."""

    target: int
    tag: tuple


Operation = Compute | Collective | Send | Receive | Sent


def schedule(name: str, stage: int, stages: int, micro: int) -> list[tuple[str, int]]:
    """Order of the forward (F) and backward (B) passes of a stage.

    Example:
        >>> schedule("1f1b", 1, 2, 2)
        [('F', 0), ('B', 0), ('F', 1), ('B', 1)]
        >>> schedule("gpipe", 1, 2, 2)
        [('F', 0), ('F', 1), ('B', 0), ('B', 1)]
    """
    if name == "gpipe":
        return [("F", n) for n in range(micro)] + [("B", n) for n in range(micro)]
    ahead = min(micro, stages - stage)
    order = [("F", n) for n in range(ahead)]
    for n in range(micro):
        order.append(("B", n))
        if ahead + n < micro:
            order.append(("F", ahead + n))
    return order


@lru_cache(maxsize=10_000)
def passes(name: str, stage: int, stages: int, micro: int) -> tuple[tuple[str, str, int], ...]:
    """What a stage does with its micro-batches, as torch's schedules do it: (verb, way, micro-batch).

    Verbs: ``receive`` (ask and wait), ``compute``, ``send`` (begin), ``sent`` (wait until it has left). In 1F1B what is
    to be sent when the next pass goes the other way leaves together with what that pass asks for.

    Example:
        >>> [f"{verb} {way}{n}" for verb, way, n in passes("1f1b", 0, 2, 1)]
        ['compute F0', 'send F0', 'receive B0', 'sent F0', 'compute B0']
    """
    out: list[tuple[str, str, int]] = []
    order = schedule(name, stage, stages, micro)
    on_the_way: list[tuple[str, int]] = []
    held: tuple[str, int] | None = None

    def wait() -> None:
        out.extend(("sent", *one) for one in on_the_way)
        on_the_way.clear()

    for number, (way, n) in enumerate(order):
        turns = number + 1 < len(order) and order[number + 1][0] != way
        if held:
            out.append(("send", *held))
        if stage > 0 if way == "F" else stage < stages - 1:
            out.append(("receive", way, n))
        if held:
            out.append(("sent", *held))
            held = None
        out.append(("compute", way, n))
        if name == "1f1b":
            wait()
        if stage < stages - 1 if way == "F" else stage > 0:
            if name == "1f1b" and turns:
                held = (way, n)
            else:
                out.append(("send", way, n))
                on_the_way.append((way, n))
        if turns and name == "gpipe":
            wait()
    wait()
    return tuple(out)


class _Rank:
    """Writes the operations of one rank."""

    def __init__(self, work: Work, plan: Plan, rank: int, place: tuple[int, int, int, int]) -> None:
        self.plan, self.profile, self.rank, self.place = plan, work.profile, rank, place
        self.pieces: Pieces = work.of(plan, rank, place)
        self.trained = work.trained(plan, place)
        self.layer_weights = work.profile.parts["layer"].parameters
        self.out: list[Operation] = []
        d, p, s, t = place
        self.replicas = tuple(plan.rank(x, p, s, t) for x in range(len(plan.links)))
        self.data = tuple(plan.rank(x, p, y, t) for x in range(len(plan.links)) for y in range(len(plan.tokens)))
        self.sequence = tuple(plan.rank(d, p, y, t) for y in range(len(plan.tokens)))
        self.tensor = tuple(plan.rank(d, p, s, y) for y in range(len(plan.tensor)))
        self.calls: dict[tuple, int] = {}

    def compute(self, seconds: float, what: str) -> None:
        if seconds > 0:
            self.out.append(Compute(seconds, what))

    def meet(self, kind: str, ranks: tuple[int, ...], payload: float, what: str) -> None:
        if len(ranks) > 1:
            number = self.calls[ranks] = self.calls.get(ranks, 0) + 1
            self.out.append(Collective((ranks, number), kind, ranks, payload, what))

    def total(self, payload: float, what: str) -> None:
        """Sum over the tensor dimension."""
        if self.plan.looped:
            self.meet("reduce", self.tensor, payload, what)
            self.meet("broadcast", self.tensor, payload, what)
        else:
            self.meet("all_reduce", self.tensor, payload, what)

    def gather(self, weights: float, kind: str = "all_gather") -> None:
        """Of sharded weights: all-gather of parts, or reduce-scatter of gradients."""
        if self.plan.shard:
            part = weights / len(self.replicas) if kind == "all_gather" else weights
            self.meet(kind, self.replicas, BYTES * part, "weights" if kind == "all_gather" else "gradients")

    def activation(self) -> float:
        """Bytes of the hidden states of a micro-batch that this rank holds."""
        plan = self.plan
        links = plan.links[self.place[0]] / plan.micro_batches
        return BYTES * links * plan.tokens[self.place[2]] * self.profile.width

    def forward(self) -> None:
        p, x = self.pieces, self.activation()
        links = self.plan.links[self.place[0]] / self.plan.micro_batches
        keys = 2 * BYTES * links * max(self.plan.tokens) * self.profile.key_width / len(self.tensor)
        self.compute(p.embed[0], "embedding")
        if self.plan.looped:
            self.total(x, "embedding")
        for _ in range(p.layers):
            self.gather(self.layer_weights)
            self.meet("all_gather", self.sequence, keys, "keys and values")
            self.compute(p.attention[0], "layers")
            self.total(x, "attention")
            self.compute(p.feed[0], "layers")
            self.total(x, "feed-forward")
        self.compute(p.back[0], "head and tail")
        if p.back[0]:
            self.meet("all_reduce", self.sequence, links * BYTES, "energies")

    def backward(self) -> None:
        p, x = self.pieces, self.activation()
        links = self.plan.links[self.place[0]] / self.plan.micro_batches
        keys = 2 * BYTES * links * self.profile.tokens * self.profile.key_width / len(self.tensor)
        self.compute(p.back[1], "head and tail")
        for _ in range(p.layers):
            self.gather(self.layer_weights)
            self.compute(p.feed[1], "layers")
            self.total(x, "feed-forward")
            self.compute(p.attention[1], "layers")
            self.total(x, "attention")
            self.meet("all_reduce", self.sequence, keys, "keys and values")
            self.gather(self.layer_weights, "reduce_scatter")
        self.compute(p.embed[1], "embedding")

    def write(self) -> list[Operation]:
        plan = self.plan
        d, p, s, t = self.place
        stages = len(plan.layers)
        self.compute(self.pieces.tokens, "tokens")
        rest = self.trained - self.layer_weights * self.pieces.layers / self.profile.loops
        self.gather(rest)
        for verb, way, n in passes(plan.schedule, p, stages, plan.micro_batches):
            before, after = (plan.rank(d, q, s, t) for q in (p - 1, p + 1))
            source, target = (before, after) if way == "F" else (after, before)
            if verb == "compute":
                self.forward() if way == "F" else self.backward()
            elif verb == "receive":
                self.out.append(Receive(source, (way, n)))
            elif verb == "send":
                self.out.append(Send(target, self.activation(), (way, n)))
            else:
                self.out.append(Sent(target, (way, n)))
        self.gather(rest, "reduce_scatter")
        if not plan.shard:
            self.meet("all_reduce", self.data, BYTES * self.trained, "gradients")
        self.meet("control", tuple(range(len(plan.devices))), CONTROL_BYTES, "loss and norm")
        self.compute(self.pieces.optimiser, "optimiser")
        return self.out


def programs(work: Work, plan: Plan) -> list[list[Operation]]:
    """The operations of every rank of a plan."""
    return [_Rank(work, plan, rank, place).write() for rank, place in enumerate(plan.places())]
