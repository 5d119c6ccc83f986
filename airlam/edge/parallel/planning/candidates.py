"""The best plan of given devices in given places: shares, cuts and micro-batches."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from airlam.edge.parallel.cost_model.plan import Plan
from airlam.edge.parallel.planning.balance import balance, compositions
from airlam.edge.parallel.planning.judge import MOST_CUTS, SMALL, Found, Judge


class Candidates(Judge):
    """Best shares for devices in places; see :class:`Judge` for the arguments."""

    def data(self, devices: Sequence[int], shard: bool = False) -> Found | None:
        """Links shared out."""
        n = len(devices)
        if n == 1:
            return self.judge(self.plan(devices))
        lines = [self.line(one, "links") for one in devices]
        caps = [self.cap_links(one, n if shard else 1) for one in devices]
        shares = self._shares(devices, self.batch, lines, caps)
        return self.least(self.plan(devices, links=tuple(s), shard=shard) for s in shares)

    def sequence(self, devices: Sequence[int]) -> Found | None:
        """Tokens shared out. Keys and values are padded to the largest share, so even shares may win."""
        n, total = len(devices), self.profile.tokens
        if not 1 < n <= total:
            return None
        lines = [self.line(one, "tokens") for one in devices]
        caps = [self.cap_tokens(one) for one in devices]
        least = -(-total // n)
        bounds = 16 if self.goal.name == "time" and len(self.pool) <= SMALL else 4 if len(self.pool) <= SMALL else 2
        steps = sorted({total, *(least + round((total - least) * k / bounds) for k in range(bounds))})
        found = []
        for most in steps:
            found += self._shares(devices, total, lines, [min(cap, most) for cap in caps])
        return self.least(self.plan(devices, tokens=tuple(s)) for s in sorted(set(map(tuple, found))))

    def tensor(self, devices: Sequence[int], looped: bool = False) -> Found | None:
        """Heads and hidden units shared out."""
        if not 1 < len(devices) <= self.profile.key_heads:
            return None
        weights = self.tensor_weights([1 / self.estimate.work.speed[one] for one in devices])
        return self.least(self.plan(devices, tensor=one, looped=looped) for one in weights)

    def pipeline(self, devices: Sequence[int], cuts: Iterable[tuple[int, ...]] | None = None) -> Found | None:
        """Layers shared out, all cuts unless some are given, every number of micro-batches."""
        n, layers = len(devices), self.profile.layers
        if not 1 < n <= layers or len(set(devices)) < n:
            return None
        best: Found | None = None
        for cut in compositions(layers, n) if cuts is None else cuts:
            for micro in self.micro:
                inner: dict[str, Any] = {"layers": cut, "micro_batches": micro}
                if self.hopeless(self.floors.grid("pipeline", [devices], inner)):
                    continue
                found = self.judge(self.plan(devices, **inner))
                if found is not None and (best is None or found.score < best.score):
                    best = found
        return best

    def grid(
        self, kind: str, rows: Sequence[Sequence[int]], cuts: Iterable[tuple[int, ...]] | None = None
    ) -> Found | None:
        """Replicas (rows) of equal structure: ``kind`` (pipeline, sequence, tensor) within each, links between them."""
        devices = [one for row in rows for one in row]
        columns = [max(self.estimate.work.speed[row[k]] for row in rows) for k in range(len(rows[0]))]
        width = len(columns)
        if len(set(devices)) < len(devices) or self.batch < len(rows):
            return None
        inner: list[dict[str, Any]] = []
        if kind == "pipeline":
            if width > self.profile.layers:
                return None
            for cut in self.near_cuts(columns) if cuts is None else cuts:
                inner += [{"layers": cut, "micro_batches": m} for m in self.micro if self.batch // m >= len(rows)]
        elif kind == "tensor":
            if width > self.profile.key_heads:
                return None
            inner = [{"tensor": one} for one in self.tensor_weights([1 / c for c in columns])]
        else:
            total = self.profile.tokens
            if width > total:
                return None
            least = -(-total // width)
            for most in sorted({total, *(least + round((total - least) * k / 4) for k in range(4))}):
                shares = balance(total, [0.0] * width, columns, [most] * width)
                if shares is not None and {"tokens": tuple(shares)} not in inner:
                    inner.append({"tokens": tuple(shares)})
        hopeful = (one for one in inner if not self.hopeless(self.floors.grid(kind, rows, one)))
        return self.least(plan for one in hopeful for plan in self._with_links(rows, devices, one))

    def _with_links(self, rows: Sequence[Sequence[int]], devices: list[int], inner: dict[str, Any]) -> Iterator[Plan]:
        """Plans with the batch shared out over replicas by the time that each takes alone."""
        unit = inner.get("micro_batches", 1)
        total = self.batch // unit
        lines = [self._replica(tuple(row), unit, tuple(sorted(inner.items()))) for row in rows]
        offsets, slopes = [a for a, _ in lines], [b for _, b in lines]
        shares = balance(total, offsets, slopes, [total] * len(rows))
        if shares is None:
            return
        yield self.plan(devices, links=tuple(unit * s for s in shares), **inner)
        even = tuple(unit * (total // len(rows) + (k < total % len(rows))) for k in range(len(rows)))
        if even != tuple(unit * s for s in shares):  # where memory binds
            yield self.plan(devices, links=even, **inner)

    def _replica(self, row: tuple[int, ...], unit: int, inner: tuple) -> tuple[float, float]:
        """(offset, slope) of a replica's seconds in units of links."""
        key = (row, unit, inner)
        if key not in self._replicas:
            few, many = (
                self.estimate(self.plan(row, links=(unit * k,), **dict(inner))).seconds
                for k in (1, max(2, self.batch // unit))
            )
            slope = (many - few) / (max(2, self.batch // unit) - 1)
            self._replicas[key] = (few - slope, slope)
        return self._replicas[key]

    @property
    def _replicas(self) -> dict[tuple, tuple[float, float]]:
        return self.__dict__.setdefault("_known_replicas", {})

    def near_cuts(self, slowness: Sequence[float]) -> list[tuple[int, ...]]:
        """All cuts where they are few; else those with at most one layer more or less than the balanced ones."""
        n, layers = len(slowness), self.profile.layers
        every = []
        for cut in compositions(layers, n):
            every.append(cut)
            if len(every) > MOST_CUTS:
                break
        else:
            return every
        shares = balance(layers, [0.0] * n, list(slowness), [layers] * n)
        assert shares is not None
        found = {tuple(shares)}
        for a in range(n):
            for b in range(n):
                if a != b and shares[b] > 1:
                    found.add(tuple(s + (k == a) - (k == b) for k, s in enumerate(shares)))
        return sorted(found)
