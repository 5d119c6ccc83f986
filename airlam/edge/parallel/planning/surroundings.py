"""Devices of a large pool in the order in which they are worth trying."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from airlam.edge.parallel.planning.candidates import Candidates

CLOSE = 12  # devices tried at a time
SEEDS = 2  # searches begin with so many of the best devices, by speed and by worth
ROUNDS = 12  # of local search


class Surroundings:
    """Which devices of a pool are worth trying beside others."""

    def __init__(self, candidates: Candidates) -> None:
        self.c, self.n = candidates, len(candidates.pool)
        self.rate = candidates.estimate.network.byte_rate
        self.speed = np.array([1 / s for s in candidates.estimate.work.speed])
        self.memory = np.array([m.device.memory_bytes for m in candidates.pool.members])
        reach = np.median(self._others(), axis=1) if self.n > 1 else np.ones(1)
        # the seconds that a step's work and its traffic would take with this device alone
        work = candidates.profile.flops * candidates.batch / candidates.profile.flops_per_second
        traffic = 8.0 * candidates.profile.parameters
        self.worth = 1 / (work / self.speed / self.n + traffic / reach)
        self.took: dict[int, np.ndarray] = {}
        self.by_worth = list(np.argsort(-self.worth))
        self.by_speed = list(np.argsort(-self.speed))

    def _others(self) -> np.ndarray:
        rate = self.rate.copy()
        return rate[~np.eye(self.n, dtype=bool)].reshape(self.n, self.n - 1)

    def outsiders(self, group: Iterable[int], count: int = CLOSE) -> list[int]:
        """Devices worth trying that are not in a group: the fastest, and those with the best links to it."""
        members = list(group)
        out = [one for one in range(self.n) if one not in set(members)]
        if len(out) <= count:
            return out
        links = self.rate[np.ix_(out, members)].min(axis=1) if members else self.worth[out]
        near = [out[k] for k in np.argsort(-links)[: count // 3]]
        fast = [int(one) for one in self.by_speed if one not in set(members)][: count // 3]
        worth = [int(one) for one in self.by_worth if one not in set(members)]
        return list(dict.fromkeys([*near, *fast, *worth]))[:count]
