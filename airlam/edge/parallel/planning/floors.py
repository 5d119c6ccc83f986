"""What a plan's score cannot fall below, from its work and traffic alone: most hybrids need no closer look.

Left out, so that it is a lower bound: what a call costs beside its links, latencies, memory, and uneven shares.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from airlam.edge.parallel.cost_model.estimate import Estimator
from airlam.edge.parallel.cost_model.volume import BYTES
from airlam.edge.parallel.planning.goals import Goal


class Floors:
    """Lower bounds for one model on one pool; ``batch`` links a step."""

    def __init__(self, estimate: Estimator, batch: int, goal: Goal) -> None:
        self.estimate, self.batch, self.goal = estimate, batch, goal
        self.profile = profile = estimate.profile
        self.speed, self.watts = estimate.work.speed, estimate.watts
        self.rate = estimate.network.byte_rate

        def both(name: str) -> float:
            return profile.parts[name].forward_link + profile.parts[name].backward_link

        # seconds of a link on the profile's host
        self.read, self.embed, self.layer = both("tokens"), both("embedding"), both("layer")
        self.back = both("head") + both("tail")

    def mode(self, kind: str) -> float:
        """Of any plan that shares out heads or tokens of a whole batch over a ring: with the fastest link of the pool,
        and all devices computing."""
        rate = self.rate.copy()
        for k in range(len(rate)):
            rate[k, k] = 0
        seconds = self.batch * self.traffic(kind, 2) / rate.max()
        seconds += self.batch * self.layer * self.profile.depth / sum(1 / s for s in self.speed)
        cheapest = min(w[1] * s for w, s in zip(self.watts, self.speed, strict=True))
        idle = sum(sorted(w[0] for w in self.watts)[:2])
        joules = self.batch * (self.layer * self.profile.depth + self.embed + self.back) * cheapest
        return self.goal.score(seconds, joules + idle * seconds)

    def traffic(self, kind: str, ranks: int) -> float:
        """Bytes of a link that each hop of a ring carries at least."""
        p = self.profile
        share = (ranks - 1) / ranks
        if kind == "tensor":
            return 4 * p.depth * p.tokens * p.width * BYTES * 2 * share
        return p.depth * 2 * p.tokens * p.key_width * BYTES * (share + 2 * share)

    def grid(self, kind: str, rows: Sequence[Sequence[int]], inner: dict[str, Any]) -> float:
        """Of replicas (rows) that each share out ``kind``."""
        pace, joules = 0.0, float("inf")
        for row in rows:
            seconds, drawn = self.pipeline(row, inner) if kind == "pipeline" else self.ring(kind, row)
            pace += 1 / seconds
            joules = min(joules, drawn)
        seconds = self.batch / pace + self.gradients(kind, rows, inner)
        idle = sum(self.watts[one][0] for row in rows for one in row)
        return self.goal.score(seconds, self.batch * joules + idle * seconds)

    def pipeline(self, row: Sequence[int], inner: dict[str, Any]) -> tuple[float, float]:
        """(seconds, joules) of a link in a pipeline: what its slowest stage computes, and those before it at its
        beginning and end."""
        cut, micro = inner["layers"], inner["micro_batches"]
        last, before, most, joules = len(cut) - 1, 0.0, 0.0, 0.0
        for k, one in enumerate(row):
            seconds = self.layer * cut[k] * self.profile.loops
            if k == 0:
                seconds += self.embed
            if k == last:
                seconds += self.back
            seconds *= self.speed[one]
            read = self.read * self.speed[one] if k in (0, last) else 0.0
            most = max(most, read + seconds + before / micro)
            before += seconds
            joules += (read + seconds) * self.watts[one][1]
        return most, joules

    def ring(self, kind: str, row: Sequence[int]) -> tuple[float, float]:
        """(seconds, joules) of a link in a ring that shares out heads or tokens."""
        slowest = max(self.speed[one] for one in row)
        together = 1 / sum(1 / self.speed[one] for one in row)
        whole, shared = self.read, self.layer * self.profile.depth
        if kind == "tensor":
            whole += self.embed + self.back
        else:
            shared += self.embed + self.back
        hop = min(self.rate[a, row[(k + 1) % len(row)]] for k, a in enumerate(row))
        seconds = whole * slowest + shared * together + self.traffic(kind, len(row)) / hop
        drawn = [self.watts[one][1] * self.speed[one] for one in row]
        return seconds, whole * sum(drawn) + shared * min(drawn)

    def gradients(self, kind: str, rows: Sequence[Sequence[int]], inner: dict[str, Any]) -> float:
        """Seconds of the gradients' sum over replicas, the slowest column's."""
        meet, weights = self.estimate.network.collective, self.estimate.work.weights
        if kind != "pipeline":
            # heads: at least the weights that stand on every rank; tokens: all
            least = self.profile.parameters if kind == "sequence" else weights(0, True, True, 1.0, 1.0)[0]
            return meet("all_reduce", tuple(row[0] for row in rows), BYTES * least).seconds
        cut, most = inner["layers"], 0.0
        for k, count in enumerate(cut):
            trained = weights(count, k == 0, k == len(cut) - 1, 1.0, 1.0)[0]
            most = max(most, meet("all_reduce", tuple(row[k] for row in rows), BYTES * trained).seconds)
        return most
