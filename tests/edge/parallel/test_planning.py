"""Plans: exact shares, exhaustive and large-pool search, memory, baselines, reasons, inputs and modules."""

from __future__ import annotations

import itertools
from dataclasses import replace
from functools import cache

import numpy as np
import pytest

from airlam.edge.parallel.cost_model.cost import simulate
from airlam.edge.parallel.cost_model.estimate import Estimator
from airlam.edge.parallel.cost_model.plan import Plan
from airlam.edge.parallel.cost_model.pool import Member, Pool
from airlam.edge.parallel.cost_model.profiling import count_profile
from airlam.edge.parallel.planning.balance import balance, compositions, thrifty
from airlam.edge.parallel.planning.candidates import Candidates
from airlam.edge.parallel.planning.decide import MODES, decide
from airlam.edge.parallel.planning.exhaustive import exhaustive, rings
from airlam.edge.parallel.planning.goals import Goal
from airlam.edge.parallel.planning.large import large
from airlam.edge.parallel.planning.modalities import plan_modalities
from airlam.edge.parallel.planning.objectives import OBJECTIVES, with_roles
from airlam.edge.parallel.planning.pipelines import shortest
from airlam.errors import RecipeError
from airlam.models import AirlamConfig
from airlam.resources import DEVICES

PROFILE = count_profile(AirlamConfig(num_tokens=64, num_groups=16))
BATCH = 8


def small_pool(seed, n=4, memory=(2e7, 2e8), rate=(8.0, 9.3)):
    rng = np.random.default_rng(seed)
    devices = [
        replace(
            DEVICES[str(rng.choice(["phone", "vehicle", "small-cell"]))],
            flops_per_second=float(2e10 * 4 ** rng.uniform(0, 1)),
            memory_bytes=float(rng.uniform(*memory)),
        )
        for _ in range(n)
    ]
    links = 10 ** rng.uniform(*rate, (n, n))
    return Pool.of(devices, rate=np.minimum(links, links.T), latency=5e-4)


@pytest.mark.parametrize("seed", range(6))
def test_balance_is_the_best_of_all_shares(seed):
    rng = np.random.default_rng(seed)
    n, total = 3, 11
    offsets, slopes = rng.uniform(0, 3, n).tolist(), rng.uniform(0.1, 2, n).tolist()
    caps = rng.integers(3, 9, n).tolist()

    def slowest(shares):
        return max(o + s * k for o, s, k in zip(offsets, slopes, shares, strict=True))

    every = [c for c in compositions(total, n) if all(k <= cap for k, cap in zip(c, caps, strict=True))]
    found = balance(total, offsets, slopes, caps)
    if not every:
        assert found is None
        return
    assert sum(found) == total and slowest(found) == pytest.approx(min(map(slowest, every)))
    joules = rng.uniform(0, 1, n).tolist()
    cheap = min(sum(k * j for k, j in zip(c, joules, strict=True)) for c in every)
    draws = [
        sum(k * j for k, j in zip(c, joules, strict=True)) for c in thrifty(total, offsets, slopes, caps, joules, 99)
    ]
    assert min(draws) == pytest.approx(cheap)


def test_rings_are_all_cyclic_orders_once():
    found = list(rings(range(5)))
    assert len(found) == 12  # (5 - 1)! / 2
    around = {frozenset(frozenset((a, r[(k + 1) % 5])) for k, a in enumerate(r)) for r in found}
    assert len(around) == 12


def test_dynamic_programming_finds_the_shortest_pipeline_of_a_row():
    rng = np.random.default_rng(0)
    n, layers = 5, 6
    took, sends = rng.uniform(1, 2, (n, layers + 1, 3)) * np.arange(layers + 1)[:, None], rng.uniform(0, 1, (n, n))
    took[2, 3:, 1] = np.inf  # memory
    lengths = {}
    for stages in range(2, 6):
        for members in itertools.combinations(range(n), stages):
            for cut in compositions(layers, stages):
                kinds = [0, *[1] * (stages - 2), 2]
                seconds = sum(took[d, c, k] for d, c, k in zip(members, cut, kinds, strict=True))
                seconds += sum(sends[a, b] for a, b in itertools.pairwise(members))
                lengths[members, cut] = seconds
    (members, cut), least = min(lengths.items(), key=lambda entry: entry[1])
    path = shortest(took, sends, layers)
    assert tuple(d for d, _ in path) == members and tuple(c for _, c in path) == cut
    assert np.isfinite(least)


@pytest.mark.parametrize("goal", ["time", "energy", "mix"])
def test_exhaustive_search_beats_every_plan_drawn_at_random(goal):
    """Structures and shares drawn at random: none that fits may be better than what was found."""
    pool = small_pool(1)
    candidates = Candidates(PROFILE, pool, BATCH, Goal(goal))
    exhaustive(candidates, MODES)
    best = candidates.best
    rng, estimate, drawn = np.random.default_rng(0), Estimator(PROFILE, pool), 0
    every = cache(lambda total, parts: list(compositions(total, parts)))
    for _ in range(1500):
        n = int(rng.integers(1, 5))
        devices = tuple(map(int, rng.permutation(4)[:n]))
        cuts = {"links": (BATCH, BATCH), "layers": (4, 4), "tokens": (80, 80), "tensor": (4, 4)}
        name = str(rng.choice(list(cuts)))
        share = every(cuts[name][0], n)
        fields = {"links": (BATCH,), "layers": (4,), "tokens": (80,)}
        if n > 1:
            fields[name] = share[int(rng.integers(len(share)))]
        if name == "layers" and n > 1:
            fields["micro_batches"] = int(rng.choice([1, 2, 4, 8]))
        cost = estimate(Plan(devices, **fields))
        if cost.fits:
            drawn += 1
            assert best.score <= Goal(goal).of(cost) * (1 + 1e-9)
    assert drawn > 100


@pytest.mark.parametrize("seed", range(4))
def test_the_large_solver_comes_close_to_exhaustive_search(seed):
    pool = small_pool(seed)
    scores = []
    for solve in (exhaustive, large):
        candidates = Candidates(PROFILE, pool, BATCH, Goal())
        solve(candidates, MODES)
        scores.append(candidates.best.score)
    assert scores[0] <= scores[1] <= 1.05 * scores[0]


def test_lower_bounds_hold():
    """A floor never exceeds the score of a plan that it stands for: else pruning would lose the best."""
    pool = small_pool(2, memory=(1e9, 2e9))
    for goal in ("time", "energy"):
        candidates = Candidates(PROFILE, pool, BATCH, Goal(goal))
        for rows in ([[0, 1], [2, 3]], [[0, 2], [1, 3]]):
            flat = [one for row in rows for one in row]
            for links in compositions(BATCH, 2):
                inner = {"layers": (3, 1), "micro_batches": 1}
                score = Goal(goal).of(candidates.estimate(candidates.plan(flat, links=links, **inner)))
                assert candidates.floors.grid("pipeline", rows, inner) <= score
                for kind, share in (("tokens", (50, 30)), ("tensor", (3, 1))):
                    plan = candidates.plan(flat, links=links, **{kind: share})
                    name = "sequence" if kind == "tokens" else kind
                    assert candidates.floors.grid(name, rows, {}) <= Goal(goal).of(candidates.estimate(plan))
        for order in itertools.permutations(range(3)):
            inner = {"layers": (1, 2, 1), "micro_batches": 4}
            score = Goal(goal).of(candidates.estimate(candidates.plan(order, **inner)))
            assert candidates.floors.grid("pipeline", [order], inner) <= score
        for plan in (candidates.plan((0, 1), tokens=(40, 40)), candidates.plan((2, 3), tensor=(2, 2))):
            assert candidates.floors.mode(plan.mode) <= Goal(goal).of(candidates.estimate(plan))


def test_a_plan_never_exceeds_memory_and_takes_more_devices_when_one_is_too_small():
    pool = small_pool(3, n=3, memory=(2.2e7, 2.6e7))
    decision = decide(PROFILE, pool, BATCH)
    assert decision.cost.fits and len(decision.plan.devices) > 1
    single = decision.beside[1]
    assert single.plan is None and "lacks" in single.why and "MB" in single.why


def test_a_pool_too_small_says_how_much_memory_is_missing():
    pool = Pool.of([replace(DEVICES["phone"], memory_bytes=3e6)] * 2, rate=1e9)
    with pytest.raises(RecipeError, match=r"too small for the model.* lacks \d+\.\d MB: it has 3.0 MB"):
        decide(PROFILE, pool, BATCH)


def test_a_number_of_ranks_that_no_cut_fits():
    pool = small_pool(0, n=6)
    with pytest.raises(RecipeError, match="no cut fits 5 ranks: there are 4 layers"):
        decide(PROFILE, pool, BATCH, modes=["pipeline"], ranks=5)
    with pytest.raises(RecipeError, match="ranks is 9, but the pool has 6 devices"):
        decide(PROFILE, pool, BATCH, ranks=9)
    decision = decide(PROFILE, pool, BATCH, modes=["pipeline"], ranks=3, solver="large")
    assert len(decision.plan.devices) == 3 and decision.plan.mode == "pipeline"


def test_equal_devices_on_fast_links_share_the_batch_almost_in_equal_parts():
    decision = decide(PROFILE, Pool.of(["phone"] * 4, rate=1e12), BATCH, modes=["data"])
    assert decision.plan.links == (2, 2, 2, 2)
    # the same split; that of the moments too (sharded) spares some of the optimiser's work
    assert decision.cost.seconds <= decision.beside[0].cost.seconds <= 1.05 * decision.cost.seconds
    assert not decision.left_out


def test_slow_links_leave_one_device_and_say_why():
    pool = Pool.of(["phone", "vehicle", "phone"], rate=1e5)
    decision = decide(PROFILE, pool, BATCH)
    assert decision.plan.devices == (1,) and decision.plan.mode == "single"
    assert set(decision.left_out) == {"phone-0", "phone-2"}
    assert all("instead of" in why for why in decision.left_out.values())


def test_energy_and_time_pull_apart():
    pool = Pool.of(["phone", "vehicle", "small-cell", "small-cell"], rate=1e9)
    fast, thrift = (decide(PROFILE, pool, BATCH, Goal(name), explain=False) for name in ("time", "energy"))
    assert fast.cost.seconds <= thrift.cost.seconds and thrift.cost.joules <= fast.cost.joules
    assert len(thrift.plan.devices) == 1
    both = decide(PROFILE, pool, BATCH, Goal("mix"), explain=False).cost
    assert both.seconds * both.joules <= min(c.seconds * c.joules for c in (fast.cost, thrift.cost)) * (1 + 1e-9)


def test_looped_models_are_planned_as_looped():
    profile = count_profile(AirlamConfig(num_tokens=64, num_groups=16, loops=2))
    decision = decide(profile, small_pool(0), BATCH, looped=True, ranks=3, explain=False)
    assert decision.plan.mode == "looped" and len(decision.plan.tensor) == 3


@pytest.mark.slow
def test_sixty_four_devices():
    decision = decide(PROFILE, small_pool(5, n=64, memory=(2e7, 2e9)), 32, solver="auto")
    assert decision.solver == "large" and decision.cost.fits
    assert decision.cost.seconds <= decision.beside[1].cost.seconds


def test_frozen_and_adapted_modules_cost_less():
    roles = OBJECTIVES["prediction"].roles
    adapted, whole = with_roles(PROFILE, roles), PROFILE
    assert with_roles(PROFILE, OBJECTIVES["masked"].roles) == whole
    assert adapted.parameters < 0.25 * whole.parameters
    assert adapted.parameters + adapted.frozen >= whole.parameters + whole.frozen  # nothing is lost
    pool = small_pool(0, memory=(1e9, 2e9))
    plan = Plan((0, 1), links=(4, 4), layers=(4,), tokens=(80,))
    small, large_ = simulate(plan, adapted, pool), simulate(plan, whole, pool)
    assert small.seconds < large_.seconds and small.sent < large_.sent and max(small.memory) < max(large_.memory)
    with pytest.raises(RecipeError, match="did you mean 'frozen'"):
        with_roles(PROFILE, {**roles, "head": "frosen"})


def sensing_pool():
    names = {"cell": ("csi", "pilots"), "car": ("position", "velocity", "depth"), "mast": ()}
    members = [Member(name, DEVICES["vehicle"], inputs) for name, inputs in names.items()]
    return Pool.of(members, rate=1e8, latency=1e-3)


def test_inputs_are_encoded_where_that_sends_less():
    pool = sensing_pool()
    roles = with_roles(PROFILE, OBJECTIVES["beams"].roles)
    plan = Plan((2, 0), links=(8,), layers=(2, 2), tokens=(80,), micro_batches=4)  # the backbone begins at the mast
    made = plan_modalities(plan, roles, PROFILE, pool, "beams")
    found = {one.name: one for one in made.encodings}
    assert found["csi"].form == "tokens" and found["csi"].encoder == "cell"  # 41 kB of tokens, 197 kB of CSI
    assert found["position"].form == "raw" and found["position"].sent == 8 * 16
    assert found["occupancy"].form == "missing" and found["occupancy"].holder is None
    assert made.without == ["mast"]
    assert made.seconds < made.blind_seconds and made.sent < made.blind_sent


def test_an_input_that_is_held_where_the_backbone_begins_is_not_sent():
    plan = Plan((0,), links=(8,), layers=(4,), tokens=(80,))
    made = plan_modalities(plan, PROFILE, PROFILE, sensing_pool(), "masked")
    assert [one.form for one in made.encodings] == ["local", "local"] and made.sent == 0
    assert made.without == []
