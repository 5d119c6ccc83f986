"""The model of a step: closed forms, the simulation beside the estimate, bytes, memory, energy."""

from __future__ import annotations

import numpy as np
import pytest

from airlam.edge.parallel.cost_model.cost import simulate
from airlam.edge.parallel.cost_model.energy import grams, modelled, power
from airlam.edge.parallel.cost_model.estimate import Estimator
from airlam.edge.parallel.cost_model.network import Network
from airlam.edge.parallel.cost_model.plan import Plan, plan_from
from airlam.edge.parallel.cost_model.pool import Pool
from airlam.edge.parallel.cost_model.profiling import count_profile
from airlam.edge.parallel.cost_model.programs import schedule
from airlam.edge.parallel.cost_model.volume import (
    BYTES,
    data_volume,
    hybrid_volume,
    looped_volume,
    pipeline_volume,
    sequence_volume,
    tensor_volume,
    wire_bytes,
)
from airlam.edge.parallel.cost_model.work import Work
from airlam.models import AirlamConfig

PROFILE = count_profile(AirlamConfig(num_tokens=64, num_groups=16))
T, L = PROFILE.tokens, PROFILE.layers


def pool(seed=0, rate=None):
    rng = np.random.default_rng(seed)
    names = ["vehicle", "phone", "vehicle", "phone", "gateway", "small-cell"]
    rates = rng.uniform(1e7, 1e9, (6, 6)) if rate is None else rate
    return Pool.of(names, rate=rates, latency=rng.uniform(0, 5e-3, (6, 6)))


def plan(devices, **changes):
    return Plan(tuple(devices), **{"links": (16,), "layers": (L,), "tokens": (T,), **changes})


PLANS = [
    plan([0]),
    plan([0, 1], links=(15, 1)),
    plan([0, 1, 5], links=(10, 1, 5), shard=True),
    plan([0, 1], tokens=(60, 20)),
    plan([0, 4, 1], tensor=(2, 1, 1)),
    plan([0, 4, 1], tensor=(2, 1, 1), looped=True),
    plan([0, 2, 3], layers=(2, 1, 1), micro_batches=4),
    plan([5, 1, 4, 0], layers=(1, 1, 1, 1), micro_batches=16),
    plan([5, 1, 4, 0], layers=(1, 1, 1, 1), micro_batches=8, schedule="gpipe"),
    plan([0, 1, 2, 3], links=(12, 4), layers=(3, 1), micro_batches=4),
    plan([0, 1, 2, 3], links=(10, 6), tensor=(3, 1)),
    plan([0, 1, 2, 3], links=(10, 6), tokens=(60, 20)),
    plan([0, 1, 2, 3], layers=(2, 2), tensor=(3, 1), micro_batches=4),
]


@pytest.mark.parametrize("one", PLANS, ids=lambda one: one.describe())
def test_estimate_is_the_simulation(one):
    simulated, estimated = simulate(one, PROFILE, pool()), Estimator(PROFILE, pool())(one)
    assert estimated.seconds == pytest.approx(simulated.seconds, rel=1e-9)
    assert estimated.memory == simulated.memory
    # the estimate counts the radio of a pipeline's device that sends and receives at once twice
    assert simulated.joules * (1 - 1e-9) <= estimated.joules <= 1.02 * simulated.joules


@pytest.mark.parametrize("one", PLANS, ids=lambda one: one.describe())
def test_energy_is_the_integral_of_the_power(one):
    here = pool()
    cost = simulate(one, PROFILE, here)
    times = (np.arange(200_000) + 0.5) / 200_000 * cost.seconds
    for rank, number in enumerate(one.devices):
        integral = power(cost.trace, here.device(number), rank, times).mean() * cost.seconds
        assert sum(cost.energy.joules[rank].values()) == pytest.approx(integral, rel=0.01)
        assert min(cost.energy.joules[rank].values()) >= -1e-12
    assert cost.joules == pytest.approx(cost.energy.total)


@pytest.mark.parametrize("one", PLANS, ids=lambda one: one.describe())
def test_nobody_computes_twice_at_once(one):
    cost = simulate(one, PROFILE, pool())
    for rank in range(len(one.devices)):
        spans = sorted((s.start, s.stop) for s in cost.trace if s.rank == rank and s.phase in ("compute", "wait"))
        assert all(a[1] <= b[0] + 1e-12 for a, b in zip(spans, spans[1:], strict=False))
    assert max(span.stop for span in cost.trace) <= cost.seconds * (1 + 1e-9)


def test_one_device_takes_the_sum_of_its_parts():
    device, parts = pool().device(0), PROFILE.parts
    work = 16 * (parts["tokens"].forward_link + sum(
        (L if name == "layer" else 1) * (parts[name].forward_link + parts[name].backward_link)
        for name in ("embedding", "layer", "head", "tail")
    )) + PROFILE.parameters * parts["optimiser"].forward_link  # fmt: skip
    expected = work * PROFILE.flops_per_second / device.flops_per_second
    cost = simulate(plan([0]), PROFILE, pool())
    assert cost.seconds == pytest.approx(expected)
    assert cost.joules == pytest.approx(expected * (device.idle_watts + device.compute_watts))


def test_bytes_of_the_simulation_are_the_closed_forms():
    here, width, p = pool(), PROFILE.width, PROFILE.parameters
    sizes = {"links": 16, "tokens": T, "width": width}
    found = simulate(plan([0, 1], links=(15, 1)), PROFILE, here).payload
    assert found == [data_volume(parameters=p, ranks=2)] * 2
    found = simulate(plan([0, 1], tokens=(60, 20)), PROFILE, here).payload
    assert found[1] == sequence_volume(links=16, tokens=[60, 20], key_width=width, layers=L, parameters=p)
    found = simulate(plan([0, 1], tensor=(3, 1)), PROFILE, here).payload
    assert found[0] == tensor_volume(**sizes, layers=L, ranks=2)
    found = simulate(plan([0, 1], tensor=(3, 1), looped=True), PROFILE, here).payload
    assert found[0] == looped_volume(**sizes, loops=L, ranks=2)
    found = simulate(plan([0, 1], layers=(3, 1), micro_batches=4), PROFILE, here).payload
    assert found == [pipeline_volume(**sizes, stage=s, stages=2) for s in range(2)]


@pytest.mark.parametrize("one", [p for p in PLANS if p.mode == "hybrid"], ids=lambda one: one.describe())
def test_bytes_of_a_hybrid_are_the_closed_form(one):
    found, work = simulate(one, PROFILE, pool()), Work(PROFILE, pool())
    for rank, (d, stage, s, t) in enumerate(one.places()):
        expected = hybrid_volume(
            links=one.links[d],
            tokens=one.tokens,
            place=s,
            width=PROFILE.width,
            key_width=PROFILE.key_width,
            layers=one.layers[stage],
            parameters=0,
            data=len(one.links),
            tensor=len(one.tensor),
            stage=stage,
            stages=len(one.layers),
        )
        trained = work.trained(one, (d, stage, s, t)) if len(one.links) * len(one.tokens) > 1 else 0.0
        expected["all_reduce"] += BYTES * trained  # type: ignore[assignment]
        assert found.payload[rank] == pytest.approx({kind: count for kind, count in expected.items() if count})


def test_loops_cost_time_and_no_weights():
    once, often = (count_profile(AirlamConfig(num_tokens=64, num_groups=16, loops=n)) for n in (1, 3))
    assert once.parameters == often.parameters
    costs = [simulate(plan([0, 1], tensor=(3, 1), looped=True), profile, pool()) for profile in (once, often)]
    assert costs[1].payload[0] == looped_volume(links=16, tokens=T, width=PROFILE.width, loops=3 * L, ranks=2)
    assert costs[1].seconds > 2 * costs[0].seconds


def test_a_ring_is_as_slow_as_its_slowest_hop():
    rate = np.full((3, 3), 8e6)
    rate[1, 2] = rate[2, 1] = 8e5
    network = Network(Pool.of(["phone"] * 3, rate=rate, latency=0.01, efficiency=1.0))
    one = network.collective("all_reduce", (0, 1, 2), 3e5)
    assert one.seconds == pytest.approx(4 * 0.01 + wire_bytes("all_reduce", 3e5, 3) / 1e5)
    assert one.on(0)[0] == pytest.approx(wire_bytes("all_reduce", 3e5, 3) / 1e6)  # its own hop is ten times faster
    for kind in ("reduce", "reduce_scatter"):  # gloo sums over the ring whoever wants the result
        assert network.collective(kind, (0, 1, 2), 3e5) == one
    star = network.collective("broadcast", (0, 1, 2), 3e5)
    assert star.seconds == pytest.approx(0.01 + wire_bytes("broadcast", 3e5, 3) / 1e6)
    assert star.on(0) == pytest.approx((0.6, 0.6)) and star.on(2) == pytest.approx((0.0, 0.3))


@pytest.mark.parametrize("name", ["1f1b", "gpipe"])
@pytest.mark.parametrize(("stages", "micro"), [(2, 1), (3, 8), (4, 3)])
def test_a_schedule_runs_every_pass_once_forward_first(name, stages, micro):
    for stage in range(stages):
        order = schedule(name, stage, stages, micro)
        assert sorted(order) == sorted([(way, n) for way in "FB" for n in range(micro)])
        assert all(order.index(("F", n)) < order.index(("B", n)) for n in range(micro))


def test_balanced_pipelines_have_the_bubble_of_the_formula():
    """Equal stages, no transfer time: (micro-batches + stages - 1) passes, of which ``stages - 1`` are the bubble."""
    here = Pool.of(["phone"] * 4, rate=1e15)
    bare = {name: {**vars(part), "forward_call": 0.0, "backward_call": 0.0} for name, part in PROFILE.parts.items()}
    for name in ("tokens", "embedding", "head", "tail", "optimiser"):
        bare[name] |= {"forward_link": 0.0, "backward_link": 0.0}
    profile = type(PROFILE)(
        **{**vars(PROFILE), "parts": {name: type(PROFILE.parts[name])(**part) for name, part in bare.items()}}
    )
    one = profile.seconds("layer", "forward", 1, here.device(0)) + profile.seconds(
        "layer", "backward", 1, here.device(0)
    )
    cost = simulate(plan(range(4), layers=(1, 1, 1, 1), micro_batches=16), profile, here)
    assert cost.seconds == pytest.approx((16 + 4 - 1) * one, rel=1e-6)


def test_memory_falls_where_it_should():
    def peak(one):
        return max(simulate(one, PROFILE, pool()).memory)

    whole = peak(plan([0]))
    assert peak(plan([0, 2], links=(8, 8))) < whole
    assert peak(plan([0, 2], layers=(2, 2), micro_batches=8)) < peak(plan([0, 2], layers=(2, 2), micro_batches=2))
    one, four = (plan([0, 2], layers=(2, 2), micro_batches=8, schedule=s) for s in ("1f1b", "gpipe"))
    assert peak(one) < peak(four)
    assert peak(plan([0, 2], links=(8, 8), shard=True)) < peak(plan([0, 2], links=(8, 8)))
    assert peak(plan([0, 2], tensor=(1, 1))) < whole


def test_energy_counts_waiting_at_idle_power():
    devices = [pool().device(0)]
    alone = modelled([], devices, 10.0)
    assert alone.joules == [{"compute": 0.0, "send": 0.0, "wait": 10 * devices[0].idle_watts}]
    assert alone.grams(400.0) == grams(alone.total, 400.0) == pytest.approx(alone.total / 3.6e6 * 400)


@pytest.mark.parametrize("one", [p for p in PLANS if p.mode != "single"], ids=lambda one: one.describe())
def test_a_plan_survives_the_trip_through_a_recipe(one):
    assert plan_from(one.arguments(pool()), pool(), PROFILE, one.batch) == one
