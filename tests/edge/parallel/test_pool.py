"""Device files."""

from __future__ import annotations

import pytest

from airlam.edge.parallel.cost_model.pool import Pool, make_pool
from airlam.errors import RecipeError
from airlam.resources import DEVICES

GOOD = {
    "devices": {"desk": "small-cell", "phone-1": {"profile": "phone", "memory_bytes": 5e8, "inputs": ["csi"]}},
    "links": {"rate": 1e8, "latency": 0.001, "between": [{"devices": ["phone-1", "desk"], "rate": 2e7}]},
}


def test_a_link_between_two_devices_goes_both_ways_and_keeps_the_default_latency():
    pool = make_pool(GOOD)
    assert pool.names == ["desk", "phone-1"]
    assert pool.rate[0, 1] == pool.rate[1, 0] == 2e7
    assert pool.latency[0, 1] == 0.001
    assert pool.device(1).memory_bytes == 5e8 and pool.members[1].inputs == ("csi",)
    assert pool.seconds(0, 1, 1e6) == pytest.approx(0.001 + 8e6 / (0.8 * 2e7))


def test_a_part_of_a_pool_keeps_its_links():
    rate = [[1, 2, 3], [4, 5, 6], [7, 8, 9]]
    pool = Pool.of(["phone", "gateway", "vehicle"], rate=rate).part([2, 0])
    assert [member.device.name for member in pool.members] == ["vehicle", "phone"]
    assert pool.rate.tolist() == [[9, 7], [3, 1]]


def changed(**changes):
    return {**GOOD, **changes}


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (changed(devces=1), "did you mean 'devices'"),
        (changed(devices={"a": "fone"}), "devices: a: no device 'fone'; did you mean 'phone'"),
        (changed(devices={"a": {"profile": "phone", "memory_byte": 1}}), "did you mean 'memory_bytes'"),
        (changed(devices={"a": {"profile": "phone", "input": ["csi"]}}), "did you mean 'inputs'"),
        (changed(devices={"a": {"profile": "phone", "inputs": ["pozition"]}}), "did you mean 'position'"),
        (changed(devices={"a": {"profile": "phone", "idle_watts": -1}}), "idle_watts is -1"),
        (changed(devices={}), "mapping from names to devices"),
        (changed(links={"latency": 1}), "with a rate"),
        (changed(links={"rate": "fast"}), "rate is 'fast'"),
        (changed(links={"rate": 1e8, "between": [{"devices": ["desk", "phone1"]}]}), "did you mean 'phone-1'"),
        (changed(links={"rate": 1e8, "between": [{"devices": ["desk", "moon"]}]}), "'moon', which is no device"),
        (changed(links={"rate": 1e8, "between": [{"devices": ["desk", "desk"]}]}), "two devices"),
        (changed(links={"rate": 1e8, "between": [{"devices": ["desk", "phone-1"], "rat": 1}]}), "did you mean 'rate'"),
    ],
)
def test_mistakes_are_one_line_that_names_the_fix(data, words):
    with pytest.raises(RecipeError, match=words) as raised:
        make_pool(data, "mine.yaml")
    assert str(raised.value).startswith("mine.yaml") and "\n" not in str(raised.value)


def test_every_profile_says_what_it_draws_when_idle():
    assert all(0 < one.idle_watts < one.compute_watts for one in DEVICES.values())
