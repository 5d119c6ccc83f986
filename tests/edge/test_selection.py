"""Selection and bandwidth: against brute force, closed forms, constraints."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from airlam.edge.selection import Candidate, allocate, choose, equal_shares, fastest, least_bandwidth
from airlam.errors import RecipeError
from airlam.resources import Cell, device, draw_link

PROFILES = ("gateway", "phone", "vehicle", "small-cell")


def candidates(seed: int, count: int = 6, cell: Cell | None = None) -> list[Candidate]:
    rng = np.random.default_rng(seed)
    made = []
    for number in range(count):
        d = device(PROFILES[rng.integers(len(PROFILES))])
        link = draw_link(
            cell or Cell(), float(rng.uniform(30, 400)), d.transmit_dbm, place_seed=100 * seed + number, round_seed=seed
        )
        sizes = rng.uniform(1e5, 5e6, 2)
        made.append(Candidate(d, link, float(rng.uniform(1e9, 5e10)), *map(float, sizes), int(rng.integers(50, 300))))
    return made


def brute_force(every: list[Candidate], devices: int, samples: int) -> float:
    sets = [s for n in range(devices, len(every) + 1) for s in itertools.combinations(range(len(every)), n)]
    enough = [s for s in sets if sum(every[n].samples for n in s) >= samples]
    return min(allocate(every, s).seconds for s in enough)


@pytest.mark.parametrize("seed", range(6))
def test_within_five_percent_of_brute_force(seed):
    every = candidates(seed)
    samples = sum(c.samples for c in every) // 2
    found = fastest(every, 3, min_samples=samples)
    assert len(found.chosen) >= 3 and sum(every[n].samples for n in found.chosen) >= samples
    assert found.seconds <= 1.05 * brute_force(every, 3, samples)


@pytest.mark.parametrize("seed", range(4))
def test_best_shares_end_together_and_beat_equal_ones(seed):
    every = candidates(seed, cell=Cell(bandwidth=5e6))
    chosen = tuple(range(len(every)))
    found = allocate(every, chosen)
    assert sum(found.bandwidth) <= every[0].link.cell.bandwidth * (1 + 1e-6)
    took = [sum(every[n].seconds(b)) for n, b in zip(found.chosen, found.bandwidth, strict=True)]
    assert max(took) <= found.seconds * (1 + 1e-6)
    assert found.seconds <= equal_shares(every, chosen).seconds * (1 + 1e-3)


def test_least_bandwidth_is_least():
    one = candidates(1)[0]
    bandwidth = least_bandwidth(one, 30.0)
    assert sum(one.seconds(bandwidth)) <= 30.0 < sum(one.seconds(0.99 * bandwidth))
    assert least_bandwidth(one, 1e-6) == np.inf


def test_a_device_that_must_take_part_does():
    every = candidates(2)
    free = fastest(every, 2)
    slow = next(n for n in range(len(every)) if n not in free.chosen)
    forced = [c if n != slow else Candidate(**{**vars(c), "must": True}) for n, c in enumerate(every)]
    assert slow in fastest(forced, 2).chosen


def test_energy_limit_leaves_devices_out():
    every = candidates(3)
    free = fastest(every, 3)
    spent = [every[n].joules(b) for n, b in zip(free.chosen, free.bandwidth, strict=True)]
    limit = 0.9 * max(spent)
    found = fastest(every, 3, max_joules=limit)
    assert all(every[n].joules(b) <= limit for n, b in zip(found.chosen, found.bandwidth, strict=True))
    assert choose("fastest", every, 3, server_round=1, seed=0, max_joules=1e-9).chosen == ()
    with pytest.raises(RecipeError, match="raise max_joules"):
        fastest(every, 2, max_joules=1e-9)


def test_policies():
    every = candidates(4)
    pick = {p: choose(p, every, 2, server_round=1, seed=1) for p in ("all", "random", "round_robin", "fastest")}
    assert pick["all"].chosen == tuple(range(6)) and pick["round_robin"].chosen == (0, 1)
    assert choose("round_robin", every, 2, server_round=4, seed=1).chosen == (0, 1)
    assert pick["random"].chosen == choose("random", every, 2, server_round=1, seed=1).chosen
    assert {choose("random", every, 2, server_round=n, seed=1).chosen for n in range(9)} != {pick["random"].chosen}
    assert pick["fastest"].seconds <= min(p.seconds for p in pick.values()) * (1 + 1e-3)
