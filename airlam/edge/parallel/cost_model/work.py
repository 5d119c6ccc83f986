"""What a rank of a plan computes and holds: seconds of its pieces of a step, and bytes at the peak."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

from airlam.edge.parallel.cost_model.plan import Plan
from airlam.edge.parallel.cost_model.pool import Pool
from airlam.edge.parallel.cost_model.profiling import ModelProfile
from airlam.edge.parallel.cost_model.volume import BYTES

MOMENTS = 2  # AdamW's, of every trained weight


@dataclass(frozen=True)
class Pieces:
    """Seconds of one rank. Those of ``attention`` to ``back`` are of one micro-batch, and of one layer where they are a
    layer's.

    Attributes:
        tokens: CSI to features, of the whole batch. embed: forward, backward. attention, feed: forward, backward of the
            two halves of a layer. back: forward, backward of head and tail. optimiser: of all weights.
        layers: that the rank runs in each pass.
    """

    tokens: float
    embed: tuple[float, float]
    attention: tuple[float, float]
    feed: tuple[float, float]
    back: tuple[float, float]
    optimiser: float
    layers: int

    @property
    def layer(self) -> tuple[float, float]:
        """Forward, backward of a whole layer."""
        return self.attention[0] + self.feed[0], self.attention[1] + self.feed[1]


class Work:
    """Work and memory of the ranks of plans for one model on one pool."""

    def __init__(self, profile: ModelProfile, pool: Pool) -> None:
        self.profile, self.pool = profile, pool
        self.speed = [profile.flops_per_second / member.device.flops_per_second for member in pool.members]
        self.pieces = lru_cache(maxsize=200_000)(self._pieces)
        self.tensor_parts = lru_cache(maxsize=20_000)(self._tensor_parts)
        # weights of a layer: of attention's matrices, of the feed-forward network's, and the rest
        keys = profile.key_width
        w, u = profile.width, profile.units
        in_attention = 2 * w * w + 2 * w * keys
        shapes = profile.shapes["layer"]
        in_feed = sum(a * b for a, b in (s for s in shapes if len(s) == 2) if u in (a, b) and (a, b) != (w, w))
        total = profile.parts["layer"].parameters
        in_feed = min(in_feed, total - min(in_attention, total))
        self.layer_weights = (min(in_attention, total), in_feed, total - min(in_attention, total) - in_feed)
        # of what a layer keeps, its inputs and those of its norms stand on every rank of a tensor dimension
        layer = profile.parts["layer"].activation_bytes
        self.kept_by_all = min(0.5, 4 * w * profile.tokens * BYTES / layer) if layer else 0.0

    def _tensor_parts(self, weights: tuple[int, ...]) -> tuple[list[float], list[float]]:
        plan = Plan((0,) * len(weights), (1,), (self.profile.layers,), (self.profile.tokens,), weights)
        return plan.tensor_parts(self.profile)

    def of(self, plan: Plan, rank: int, place: tuple[int, int, int, int]) -> Pieces:
        """Of one rank of a plan."""
        d, p, s, t = place
        heads = units = 1.0
        if len(plan.tensor) > 1:
            parts = self.tensor_parts(plan.tensor)
            heads, units = parts[0][t], parts[1][t]
        depth = plan.layers[p] * self.profile.loops
        return self.pieces(
            plan.devices[rank],
            plan.links[d],
            plan.micro_batches,
            depth,
            p == 0,
            p == len(plan.layers) - 1,
            plan.tokens[s] / self.profile.tokens if len(plan.tokens) > 1 else 1.0,
            heads,
            units,
            plan.looped,
            1.0 / len(plan.links) if plan.shard else 1.0,
        )

    def _pieces(
        self,
        device: int,
        links: int,
        micro: int,
        depth: int,
        first: bool,
        last: bool,
        tokens: float,
        heads: float,
        units: float,
        looped: bool,
        kept: float,
    ) -> Pieces:
        parts, speed = self.profile.parts, self.speed[device]
        calls = links / micro

        def both(name: str, share: float) -> tuple[float, float]:
            part = parts[name]
            return (
                speed * (part.forward_call + part.forward_link * calls * share),
                speed * (part.backward_call + part.backward_link * calls * share),
            )

        layer, common, ours = parts["layer"], self.profile.common, self.profile.attention
        scale = (
            common / 2 + (1 - common) * ours * heads,
            common / 2 + (1 - common) * (1 - ours) * units,
        )
        halves = [
            (
                speed * (layer.forward_call / 2 + layer.forward_link * calls * tokens * part),
                speed * (layer.backward_call / 2 + layer.backward_link * calls * tokens * part),
            )
            for part in scale
        ]
        read = parts["tokens"]
        head, tail = both("head", tokens), both("tail", tokens)
        weights = self.weights(depth // self.profile.loops, first, last, heads, units)[0]
        return Pieces(
            tokens=speed * (read.forward_call + read.forward_link * links) if first or last else 0.0,
            embed=both("embedding", tokens * (heads if looped else 1.0)) if first else (0.0, 0.0),
            attention=halves[0],
            feed=halves[1],
            back=(head[0] + tail[0], head[1] + tail[1]) if last else (0.0, 0.0),
            optimiser=speed * parts["optimiser"].forward_link * weights * kept,
            layers=depth,
        )

    def weights(self, layers: int, first: bool, last: bool, heads: float, units: float) -> tuple[float, float]:
        """Trained and frozen weights on a rank."""
        parts = self.profile.parts
        attention, feed, rest = self.layer_weights
        trained = layers * (attention * heads + feed * units + rest)
        frozen = layers * parts["layer"].frozen
        for name, here in (("embedding", first), ("head", last)):
            trained += here * parts[name].parameters
            frozen += here * parts[name].frozen
        return trained, frozen

    def trained(self, plan: Plan, place: tuple[int, int, int, int]) -> float:
        """Trained weights on a rank, before sharding."""
        _, p, _, t = place
        heads, units = (part[t] for part in self.tensor_parts(plan.tensor)) if len(plan.tensor) > 1 else (1.0, 1.0)
        return self.weights(plan.layers[p], p == 0, p == len(plan.layers) - 1, heads, units)[0]

    def memory(self, plan: Plan, place: tuple[int, int, int, int]) -> float:
        """Bytes at the peak of a step: weights, gradients, AdamW's moments, kept activations, working memory."""
        d, p, s, t = place
        parts, stages = self.profile.parts, len(plan.layers)
        first, last = p == 0, p == stages - 1
        heads, units = (part[t] for part in self.tensor_parts(plan.tensor)) if len(plan.tensor) > 1 else (1.0, 1.0)
        trained, frozen = self.weights(plan.layers[p], first, last, heads, units)
        if plan.shard:  # own parts of everything, and a layer's or the rest's gathered weights and gradients
            rest = sum(parts[name].parameters for name in ("embedding", "head"))
            gathered = BYTES * (rest + 2 * max(parts["layer"].parameters, rest))
            state = BYTES * ((2 + MOMENTS) * trained / len(plan.links) + frozen) + gathered
        else:
            state = BYTES * ((2 + MOMENTS) * trained + frozen)
        micro = plan.micro_batches
        flying = min(micro, stages - p) if plan.schedule == "1f1b" else micro
        part = plan.tokens[s] / self.profile.tokens if len(plan.tokens) > 1 else 1.0
        own = self.profile.attention * heads + (1 - self.profile.attention) * units
        layer = self.kept_by_all + (1 - self.kept_by_all) * own
        depth = plan.layers[p] * self.profile.loops
        kept = parts["layer"].activation_bytes * depth * layer
        kept += first * parts["embedding"].activation_bytes
        kept += last * (parts["head"].activation_bytes + parts["tail"].activation_bytes)
        working = max(
            parts["layer"].working_bytes,
            first * parts["embedding"].working_bytes,
            last * max(parts["head"].working_bytes, parts["tail"].working_bytes),
        )
        links = plan.links[d]
        batch = (first or last) * parts["tokens"].activation_bytes * links
        read = (first or last) * parts["tokens"].working_bytes * links
        return state + batch + max(read, (kept * flying + working) * part * links / micro)
