"""Devices, radio links, counted work."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from airlam.channels import load_channel
from airlam.errors import RecipeError
from airlam.resources import (
    DEVICES,
    Cell,
    Device,
    count_activations,
    count_flops,
    device,
    draw_link,
    path_loss_db,
    training_bytes,
)


@pytest.mark.parametrize("scenario", ["umi", "uma"])
@pytest.mark.parametrize("state", ["los", "nlos"])
def test_path_loss_is_sionnas(scenario, state):
    """Parity with the channel engine, user by user, at the heights of the table."""
    links = load_channel(
        {
            "scenario": scenario,
            "state": state,
            "carrier_frequency": 3.5e9,
            "num_subcarriers": 1,
            "bs_panel": {"rows": 1, "columns": 1},
        }
    ).sample(24, 1, seed=3)
    distance = links.position[:, :2].norm(dim=-1)
    ours = [path_loss_db(scenario, state, max(10.0, float(d)), 3.5e9) for d in distance]
    low = links.position[:, 2] < 1.6  # outdoor users; others stand higher, which the closed form leaves out
    outdoor = low & ~links.indoor & (distance >= 10)
    assert outdoor.any()
    # single precision, and the break point's random environment height of UMa users above 13 m does not occur here
    assert torch.allclose(torch.tensor(ours)[outdoor], links.path_loss_db[outdoor], atol=0.02)


def test_path_loss_by_hand():
    # TR 38.901 table 7.4.1-1, UMi NLOS at 100 m and 3.5 GHz: 35.3 log10(d3) + 22.4 + 21.3 log10(3.5)
    d3 = np.hypot(100, 8.5)
    assert path_loss_db("umi", "nlos", 100.0, 3.5e9) == pytest.approx(35.3 * np.log10(d3) + 22.4 + 21.3 * np.log10(3.5))


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("rma", "los", 100.0, 1e9), "rma"),
        (("umi", "los", 5.0, 1e9), "10 and 5000"),
        (("umi", "los", 100.0, 1e5), "5e+08"),
    ],
)
def test_path_loss_refuses(arguments, words):
    with pytest.raises(RecipeError, match=words.replace("+", r"\+")):
        path_loss_db(*arguments)


def test_rate_is_truncated_shannon():
    link = draw_link(Cell(shadowing=False), 200.0, 23.0, place_seed=0, round_seed=None)
    band = 20e6
    expected = 0.4 * np.log2(1 + link.snr("up", band)) * band
    assert float(link.rate("up", band)) == pytest.approx(min(expected, 2.0 * band))
    assert float(link.rate("down", band)) == pytest.approx(min(0.6 * np.log2(1 + link.snr("down", band)), 4.4) * band)
    far = draw_link(Cell(shadowing=False, carrier_frequency=28e9), 2000.0, 0.0, place_seed=0, round_seed=None)
    assert float(far.rate("up", band)) == 0.0 and far.in_outage


def test_fading_has_unit_mean_and_the_place_keeps_its_shadowing():
    cell = Cell(diversity=2.0)
    mean = draw_link(cell, 100.0, 23.0, place_seed=5, round_seed=None).up_gain
    drawn = [draw_link(cell, 100.0, 23.0, place_seed=5, round_seed=n).up_gain / mean for n in range(4000)]
    # Gamma(2, 1/2): mean 1, variance 1/2; the mean of 4000 has a standard deviation of 0.011
    assert np.mean(drawn) == pytest.approx(1.0, abs=0.045) and np.var(drawn) == pytest.approx(0.5, abs=0.08)
    others = {draw_link(cell, 100.0, 23.0, place_seed=n, round_seed=None).up_gain for n in range(5)}
    assert len(others) == 5


def test_energy_adds_up():
    one = Device("d", 1e9, 1e9, 2.0, transmit_dbm=30.0, amplifier_efficiency=0.5, radio_watts=0.25)
    assert one.compute_joules(3e9) == pytest.approx(6.0)
    assert one.transmit_joules(4.0) == pytest.approx(4 * (1 / 0.5 + 0.25))
    assert one.receive_joules(4.0) == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ("phon", "did you mean 'phone'"),
        (3, "profile's name or a mapping"),
        ({"profile": "phone", "memry_bytes": 1}, "did you mean 'memory_bytes'"),
        ({"profile": "phone", "memory_bytes": -1}, "must be positive"),
        ({"profile": "phone", "memory_bytes": "much"}, "must be a number"),
        ({"flops_per_second": 1e9}, "must give memory_bytes, compute_watts"),
        ({"profile": "phone", "amplifier_efficiency": 2.0}, "at most 1"),
        ({"profile": "phone", "transmit_dbm": 99}, "-40 to 60"),
    ],
)
def test_devices_refuse(spec, words):
    with pytest.raises(RecipeError, match=words):
        device(spec)


def test_profiles_differ():
    assert len({d.flops_per_second for d in DEVICES.values()}) == len(DEVICES)


def test_flops_of_a_training_step_by_hand():
    layer, x = nn.Linear(32, 16, bias=False), torch.randn(8, 32)
    # forward 2 * 8 * 32 * 16; backward of the weight alone as much again (x needs no gradient)
    assert count_flops(lambda: layer(x).sum().backward()) == 2 * 2 * 8 * 32 * 16


def test_attention_is_counted():
    q = torch.randn(1, 4, 10, 8)
    # two products of [10, 8] and [10, 10] in four heads
    assert count_flops(lambda: torch.nn.functional.scaled_dot_product_attention(q, q, q)) == 2 * 4 * 2 * 10 * 10 * 8


def test_memory_of_training():
    model = nn.Sequential(nn.Linear(10, 20), nn.Linear(20, 5))
    model[0].requires_grad_(False)
    weights, trained = 4 * (10 * 20 + 20 + 20 * 5 + 5), 4 * (20 * 5 + 5)
    assert training_bytes(model, 100.0) == weights + 3 * trained + 100.0
    x = torch.randn(7, 10)
    # kept: the first layer's output, 7 x 20, the input of the layer that is trained; no gradient goes further back
    assert count_activations(lambda: model(x)) == 4 * 7 * 20
