"""A plan: which device of a pool takes which part of a training step."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from airlam.edge.parallel.cost_model.pool import Pool
from airlam.edge.parallel.cost_model.profiling import ModelProfile
from airlam.edge.parallel.shares import share_out

SCHEDULES = ("1f1b", "gpipe")


@dataclass(frozen=True)
class Plan:
    """Devices in the order of ranks, and what they share out. A dimension with one entry is not shared out.

    Ranks count through ``tensor`` first, then ``tokens``, ``layers``, ``links``.

    Attributes:
        devices: numbers in the pool.
        links: of the batch, for each rank of the data dimension. layers: of the backbone, for each stage. tokens: of
            a link, for each rank of the sequence dimension. tensor: weights by which heads and units are shared out.
        micro_batches: of a pipeline; divides all ``links``. schedule: of a pipeline.
        shard: weights, gradients and moments are shared out over the data dimension too. looped: the tensor dimension
            sums at a server, rank 0.

    Example:
        >>> plan = Plan((3, 0), links=(16,), layers=(3, 1), tokens=(80,))
        >>> plan.mode, plan.sizes
        ('pipeline', {'data': 1, 'pipeline': 2, 'sequence': 1, 'tensor': 1})
    """

    devices: tuple[int, ...]
    links: tuple[int, ...]
    layers: tuple[int, ...]
    tokens: tuple[int, ...]
    tensor: tuple[int, ...] = (1,)
    micro_batches: int = 1
    schedule: str = "1f1b"
    shard: bool = False
    looped: bool = False

    @cached_property
    def sizes(self) -> dict[str, int]:
        """Ranks of each dimension."""
        return {
            "data": len(self.links),
            "pipeline": len(self.layers),
            "sequence": len(self.tokens),
            "tensor": len(self.tensor),
        }

    @property
    def mode(self) -> str:
        """``single``, ``data``, ``sequence``, ``tensor``, ``pipeline``, ``looped``, or ``hybrid``."""
        shared = [name for name, size in self.sizes.items() if size > 1]
        if len(shared) > 1:
            return "hybrid"
        if self.looped:
            return "looped"
        return shared[0] if shared else "single"

    @property
    def batch(self) -> int:
        """Links of a step."""
        return sum(self.links)

    @property
    def ranks_in_stage(self) -> int:
        """Ranks that share out one stage of one replica."""
        return len(self.tokens) * len(self.tensor)

    def rank(self, data: int, stage: int, sequence: int, tensor: int) -> int:
        """The rank at a place of the mesh."""
        return ((data * len(self.layers) + stage) * len(self.tokens) + sequence) * len(self.tensor) + tensor

    def places(self) -> Iterator[tuple[int, int, int, int]]:
        """(data, stage, sequence, tensor) of each rank, in order."""
        for d in range(len(self.links)):
            for p in range(len(self.layers)):
                for s in range(len(self.tokens)):
                    for t in range(len(self.tensor)):
                        yield d, p, s, t

    def tensor_parts(self, profile: ModelProfile) -> tuple[list[float], list[float]]:
        """Part of the heads and of the hidden units of each rank of the tensor dimension."""
        heads = share_out(profile.key_heads, self.tensor, what="attention heads")
        units = share_out(profile.units, self.tensor, what="hidden units")
        return [h / profile.key_heads for h in heads], [u / profile.units for u in units]

    def describe(self) -> str:
        """One line: mode and shares.

        Example:
            >>> Plan((0, 1), links=(12, 4), layers=(4,), tokens=(80,)).describe()
            'data, links 12+4'
        """
        if self.mode == "single":
            return "one device"
        words = []
        for name, shares in (("links", self.links), ("layers", self.layers), ("tokens", self.tokens)):
            if len(shares) > 1:
                words.append(f"{name} {'+'.join(map(str, shares))}")
        if len(self.tensor) > 1:
            words.append(f"heads and units {'+'.join(map(str, self.tensor))}")
        if len(self.layers) > 1:
            words.append(f"{self.micro_batches} micro-batches")
        kind = " x ".join(name for name, size in self.sizes.items() if size > 1)
        kind = "looped" if self.looped else f"{kind} (sharded)" if self.shard else kind
        return f"{kind}, {', '.join(words)}"

    def arguments(self, pool: Pool) -> dict[str, Any]:
        """The arguments of :class:`airlam.edge.parallel.ParallelTraining` that this plan decides."""
        given = {"data": self.links, "pipeline": self.layers, "sequence": self.tokens, "tensor": self.tensor}
        shares = {name: list(value) for name, value in given.items() if len(value) > 1}
        made: dict[str, Any] = {
            "mode": "data" if self.mode == "single" else self.mode,
            "nproc": len(self.devices),
            "devices": [pool.members[n].name for n in self.devices],
            "shares": shares,
            "shard": self.shard,
        }
        if self.mode == "hybrid":
            made["mesh"] = {name: size for name, size in self.sizes.items() if size > 1}
        if len(self.layers) > 1:
            made |= {"micro_batches": self.micro_batches, "schedule": self.schedule}
        return made


def plan_from(arguments: Mapping[str, Any], pool: Pool, profile: ModelProfile, batch: int) -> Plan:
    """The inverse of :meth:`Plan.arguments`: the plan that a run's arguments describe on a pool.

    Args:
        arguments: of the run; ``devices`` are names in the pool, None: its first ones.
        batch: links of a step.
    """
    names: Sequence[str] = arguments.get("devices") or pool.names[: arguments["nproc"]]
    mode, shares = arguments.get("mode", "data"), dict(arguments.get("shares") or {})
    sizes = dict(arguments.get("mesh") or {"tensor" if mode == "looped" else mode: len(names)})
    whole = {"data": batch, "pipeline": profile.layers, "sequence": profile.tokens}
    parts: dict[str, tuple[int, ...]] = {}
    for name, total in whole.items():
        size = sizes.get(name, 1)
        parts[name] = tuple(share_out(total, shares.get(name) or [1] * size, what=name))
    return Plan(
        tuple(pool.names.index(name) for name in names),
        links=parts["data"],
        layers=parts["pipeline"],
        tokens=parts["sequence"],
        tensor=tuple(shares.get("tensor") or [1] * sizes.get("tensor", 1)),
        micro_batches=arguments.get("micro_batches", 4) if len(parts["pipeline"]) > 1 else 1,
        schedule=arguments.get("schedule", "1f1b"),
        shard=bool(arguments.get("shard", False)),
        looped=mode == "looped",
    )
