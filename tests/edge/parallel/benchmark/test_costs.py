"""Costs of mechanisms against closed forms, on pools made for the purpose."""

from __future__ import annotations

from dataclasses import replace

import pytest

from airlam.edge.federated.server.record import RoundRecord
from airlam.edge.parallel.benchmark import costs, plans
from airlam.edge.parallel.benchmark.config import Mechanism, Server
from airlam.edge.parallel.benchmark.plans import Move
from airlam.edge.parallel.cost_model.cost import simulate
from airlam.edge.parallel.cost_model.energy import radio_watts
from airlam.edge.parallel.cost_model.pool import Pool
from airlam.edge.parallel.cost_model.profiling import count_profile
from airlam.errors import RecipeError
from airlam.models import AirlamConfig

BATCH = 16


@pytest.fixture(scope="module")
def profile():
    return count_profile(AirlamConfig(num_tokens=64, num_groups=16))


@pytest.fixture(scope="module")
def pool():
    return Pool.of(["vehicle", "phone", "phone", "gateway"], rate=8e7, latency=0.01, efficiency=1.0)


@pytest.fixture(scope="module")
def whole(pool):
    return plans.with_server(pool, Server(rate=8e6, latency=0.1))


def test_the_server_is_the_last_device_behind_every_uplink(pool, whole):
    assert whole.names == [*pool.names, "server"]
    assert set(whole.rate[4]) == set(whole.rate[:, 4]) == {8e6}
    assert (whole.rate[:4, :4] == pool.rate).all()


def test_raw_data_moves_at_the_rate_of_its_link_one_target_after_the_other(pool):
    """10 MB over 80 Mbit/s take a second; a radio draws its power meanwhile, a receiver less."""
    one = costs.moved([Move(1, 0, 10_000_000)], pool)
    assert one.seconds == one.prepare == pytest.approx(1.01)
    assert one.raw_bytes == one.link_bytes == 10e6
    phone, car = pool.device(1), pool.device(0)
    radio = radio_watts(phone, True, False) + radio_watts(car, False, True)
    assert one.total_joules == pytest.approx(radio + 1.01 * (phone.idle_watts + car.idle_watts))
    two = costs.moved([Move(1, 0, 10_000_000), Move(1, 2, 10_000_000)], pool)
    assert two.prepare == pytest.approx(2.01)
    assert costs.moved([], pool).seconds == 0


def test_one_device_sends_nothing_and_takes_its_steps_one_after_the_other(profile, pool):
    plan = plans.alone(profile, 0, BATCH)
    bill, step = costs.stepped(plan, profile, pool, [], 7), simulate(plan, profile, pool)
    assert bill.seconds == pytest.approx(7 * step.seconds)
    assert bill.total_joules == pytest.approx(7 * step.joules)
    assert bill.link_bytes == bill.raw_bytes == 0


def test_a_ring_of_gradients_carries_twice_the_weights_less_a_part_for_every_rank(profile, pool):
    plan = plans.plan_of(Mechanism("collaborative", shares="owners"), profile, pool, BATCH)
    assert costs.link_bytes(plan, profile, pool) == pytest.approx(2 * 3 * (4 * profile.parameters + 16))


def test_energy_of_steps_is_that_of_one_step_so_often(profile, pool):
    """By phase, too: nothing is lost between phases."""
    for mode in ("data", "tensor", "pipeline"):
        plan = plans.plan_of(Mechanism("collaborative", mode=mode), profile, pool, BATCH)
        bill, step = costs.stepped(plan, profile, pool, [], 5), simulate(plan, profile, pool)
        assert bill.total_joules == pytest.approx(5 * step.joules)
        assert bill.joules["compute"] == pytest.approx(5 * step.energy.phase("compute"))


def test_the_slowest_device_decides_a_federated_round(profile, whole):
    """1 MB each way over 8 Mbit/s, the gateway's steps between."""
    record = RoundRecord(
        1, [0, 1, 2, 3], down_bytes=dict.fromkeys(range(4), 10**6), up_bytes=dict.fromkeys(range(4), 10**6)
    )
    bill = costs.federated([record, record], profile, whole, BATCH, steps=3)
    step = simulate(plans.alone(profile, 3, BATCH), profile, whole).seconds
    payload = 8e6 / (8e6 * whole.efficiency)
    assert bill.seconds == pytest.approx(2 * (2 * (payload + 0.1) + 3 * step))
    assert bill.link_bytes == 2 * 8e6
    assert bill.raw_bytes == 0


def test_a_server_that_waits_is_not_charged(profile, whole):
    """Its idle power counts while it computes, and its radio whenever it is on."""
    move = Move(0, 4, 10**6)
    dear = replace(whole.members[4], device=replace(whole.device(4), idle_watts=1e6))
    other = replace(whole, members=(*whole.members[:4], dear))
    assert costs.moved([move], whole).total_joules == costs.moved([move], other).total_joules
    plan = plans.alone(profile, 4, BATCH)
    seconds = simulate(plan, profile, whole).seconds
    more = (
        costs.stepped(plan, profile, other, [], 1).total_joules
        - costs.stepped(plan, profile, whole, [], 1).total_joules
    )
    assert more == pytest.approx((1e6 - whole.device(4).idle_watts) * seconds)


def test_split_training_sends_a_part_of_its_bytes_four_times_a_step(profile, whole):
    """The link of one device carries all its bytes; the rest of the round is computation."""
    record = RoundRecord(1, [1], down_bytes={1: 10**6}, up_bytes={1: 10**6})
    bill = costs.split([record], profile, whole, BATCH, steps=1)
    work = simulate(plans.alone(profile, 1, BATCH), profile, whole).seconds
    wire = 2 / whole.efficiency + 4 * 0.1
    assert wire < bill.seconds < wire + work
    assert bill.raw_bytes == 0


def test_adapters_compute_less_and_train_what_they_have(profile, whole):
    fewer = costs.with_adapters(profile, 41_308)
    assert fewer.parameters == 41_308
    assert fewer.parameters + fewer.frozen == profile.parameters + profile.frozen + 41_308
    assert profile.flops / 2 < fewer.flops < profile.flops


@pytest.mark.parametrize(
    ("mechanism", "raw"),
    [
        (Mechanism("collaborative", shares="owners"), 0),
        (Mechanism("collaborative", shares="owners", shard=True), 0),
        (Mechanism("collaborative", mode="tensor"), 12),
        (Mechanism("collaborative", mode="sequence"), 12),
        (Mechanism("collaborative", mode="looped"), 12),
        (Mechanism("collaborative", mode="pipeline"), 6),
        (Mechanism("collaborative", mode="hybrid", mesh={"data": 2, "pipeline": 2}), 4),
    ],
)
def test_raw_data_goes_where_a_mode_reads_it(profile, pool, mechanism, raw):
    """Of four owners: to every other rank, to both ends of a pipeline, to those of its replica, or nowhere."""
    plan = plans.plan_of(mechanism, profile, pool, BATCH)
    assert sum(move.size for move in plans.moves_of(plan, [1, 1, 1, 1])) == raw


def test_links_by_speed_leave_their_slow_owners(profile, pool):
    plan = plans.plan_of(Mechanism("collaborative"), profile, pool, BATCH)
    assert plan.links[0] == max(plan.links)
    assert {move.target for move in plans.moves_of(plan, [1, 1, 1, 1])} == {0}


def test_the_fastest_device_that_can_hold_the_model_trains_alone(profile, pool):
    assert plans.fastest(profile, pool, BATCH) == 0
    tiny = replace(pool.members[0], device=replace(pool.device(0), memory_bytes=1e6))
    assert plans.fastest(profile, replace(pool, members=(tiny, *pool.members[1:])), BATCH) == 1
    with pytest.raises(RecipeError, match="lacks"):
        plans.fastest(profile, replace(pool, members=(tiny,) * 4), BATCH)


def test_owners_and_devices_are_named(profile, pool):
    with pytest.raises(RecipeError, match="owners names 'moon'"):
        plans.owners_pool(pool, ["moon"])
    with pytest.raises(RecipeError, match="devices names 'moon'"):
        plans.plan_of(Mechanism("collaborative", devices=("moon",)), profile, pool, BATCH)


def test_a_looped_step_sums_in_rings_and_sends_from_its_server(profile, pool):
    """Of 4 ranks a sum of x bytes carries 2 * 3 * x, a broadcast 3 * x."""
    plan = plans.plan_of(Mechanism("collaborative", mode="looped", shares="equal"), profile, pool, BATCH)
    x = 4 * BATCH * profile.tokens * profile.width
    sums = 4 * profile.depth + 1
    assert costs.link_bytes(plan, profile, pool) == pytest.approx(sums * (6 + 3) * x + 6 * 16)
