"""Absolute time of arrival, and several base stations at one site."""

from __future__ import annotations

import math

import pytest
import torch

from airlam.channels import by_station, load_channel
from airlam.channels.arrival import EXCESS, arrival_delay, excess_delay
from airlam.constants import SPEED_OF_LIGHT
from airlam.errors import RecipeError

STATIONS = [[-40.0, -15.0, 90.0], [40.0, 15.0, -90.0], [0.0, -15.0, 90.0]]
SITE = {
    "scenario": "inf",
    "factory": "sh",
    "state": "random",
    "carrier_frequency": 3.5e9,
    "num_subcarriers": 64,
    "subcarrier_spacing": 1.5e6,
    "bs_panel": {"rows": 1, "columns": 4, "polarisation": "dual", "pattern": "38.901"},
    "stations": STATIONS,
    "links_per_drop": 3 * 48,
    "chunk": 3 * 48,
}
STREET = {
    **{k: v for k, v in SITE.items() if k != "factory"},
    "scenario": "umi",
    "state": "los",
    "stations": [[0.0, 0.0, 0.0], [60.0, 40.0, 180.0]],
    "area": [10.0, 60.0, -20.0, 40.0],
    "links_per_drop": 2 * 40,
    "chunk": 2 * 40,
}


def first_peaks(h, spacing):
    """Length [m] of the first path: where the delay profile first comes within 6 dB of its top, and 0.603 taps more,
    the half width of a tap's sinc at that level; in steps of 1/16 tap."""
    tones = h.shape[-3]
    profile = torch.fft.ifft(h[..., 0, :, 0, :], 16 * tones, dim=-2).abs().square().sum(-1)
    high = profile > profile.amax(-1, keepdim=True) / 4
    return (high.int().argmax(-1) / 16 + 0.603) / (tones * spacing) * SPEED_OF_LIGHT


def distances(links):
    stations = torch.tensor(links.recipe["stations"])[:, :2]
    height = {"umi": 10.0, "inf": 8.0}[links.recipe["scenario"]]
    place = torch.cat((stations, torch.full_like(stations[:, :1], height)), 1)
    return torch.cdist(links.position[:: len(stations)], place)


def test_with_a_line_of_sight_the_first_path_comes_after_distance_over_c():
    links = load_channel({**STREET, "absolute_delay": True}).sample(80, 1, seed=1)
    h, _ = by_station(links)
    error = first_peaks(h, 1.5e6) - distances(links)
    # A tap of 96 MHz is 3.1 m, a step a sixteenth of that; later paths that overlap with the first one bend its flank
    assert error.abs().median() < 0.2 and error.abs().max() < 1.6


def test_without_the_option_the_first_path_comes_at_once_and_only_delays_change():
    with_, without = (load_channel(r).sample(144, 1, seed=2) for r in ({**SITE, "absolute_delay": True}, SITE))
    assert "absolute_delay" not in without.recipe and "stations" not in load_channel("uma_nlos").recipe
    assert torch.equal(with_.los, without.los) and torch.equal(with_.position, without.position)
    torch.testing.assert_close(with_.gain_db, without.gain_db, atol=1e-4, rtol=0)
    # one delay for all paths of a link is a phase over tones: magnitudes stay, to float32 phases of many turns
    torch.testing.assert_close(with_.h.abs(), without.h.abs(), atol=2e-4, rtol=0)
    assert not torch.allclose(with_.h, without.h, atol=0.1)


def test_the_excess_delay_is_log_normal_and_alike_for_neighbours():
    generator = torch.Generator().manual_seed(0)
    place = torch.rand(1, 1500, 3, generator=generator) * torch.tensor([600.0, 600.0, 5.0])
    place[0, 1] = place[0, 0] + torch.tensor([11.0, 0.0, 0.0])
    logs = excess_delay("inf-dh", place, 8, generator)[0].log10()
    mean, deviation, _ = EXCESS["inf-dh"]
    # 1500 users on (600 m)^2 see some hundreds of independent patches of 11 m, times 8 stations
    assert logs.mean() == pytest.approx(mean, abs=0.05) and logs.std() == pytest.approx(deviation, rel=0.07)
    many = torch.cat([excess_delay("inf-dh", place[:, :2], 500, generator)[0].log10() for _ in range(8)], 1)
    # one correlation distance apart: exp(-1) = 0.37; 4000 pairs give it to 0.014
    assert torch.corrcoef(many)[0, 1] == pytest.approx(math.exp(-1), abs=0.05)
    assert len(torch.unique(logs[0])) == 8  # a field of its own for each station


def test_an_excess_is_bounded_by_the_hall_and_zero_in_line_of_sight():
    tau = arrival_delay(torch.tensor([30.0, 30.0]), torch.tensor([True, False]), torch.tensor([1.0, 1.0]), 120.0)
    assert tau.tolist() == pytest.approx([30 / SPEED_OF_LIGHT, 270 / SPEED_OF_LIGHT])
    assert bool((excess_delay("inf-hh", torch.zeros(1, 2, 3), 1, torch.Generator()) == 0).all())


def test_links_run_over_users_then_stations_as_sionna_itself_evaluates_them():
    recipe = {**SITE, "spatial_consistency": True}
    fast, stock = (load_channel({**recipe, "fast": f}).sample(144, 1, seed=3) for f in ("auto", "stock"))
    # float32 sums in another order, as in test_parity.py
    assert float((fast.h - stock.h).norm() / stock.h.norm()) < 1e-5
    torch.testing.assert_close(fast.gain_db, stock.gain_db, atol=1e-4, rtol=0)
    h, first = by_station(fast)
    assert h.shape == (48, 3, 1, 64, 1, 8) and torch.equal(first, torch.arange(0, 144, 3))
    assert torch.equal(fast.position[::3], fast.position[1::3]) and fast.drop.max() == 0
    # nearer stations have less path loss: so stations are not mixed up
    assert torch.corrcoef(torch.stack((distances(fast).flatten().log10(), fast.path_loss_db)))[0, 1] > 0.9
    assert not torch.equal(fast.los[::3], fast.los[1::3])  # a state of its own for each station
    assert (fast.position[:, 0].abs() <= 150).all() and fast.position[:, 0].max() > 100  # the whole hall of InF-SH


def test_user_heights():
    links = load_channel({**STREET, "user_height": [1.5, 9.0]}).sample(80, 1, seed=4)
    assert set(links.position[:, 2].tolist()) == {1.5, 9.0}


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"absolute_delay": "yes"}, "absolute_delay is 'yes'"),
        ({"absolute_delay": True, "fast": "stock"}, "needs airlam's evaluation"),
        ({"stations": [[1.0, 2.0]]}, r"must be \[x, y, bearing_deg\]"),
        ({"stations": [[1.0, 2.0, float("nan")]]}, "bearing_deg"),
        ({"stations": None, "area": [0, 1, 0, 1]}, "add the key stations"),
        ({"area": [5, 1, 0, 1]}, "x_min must be below"),
        ({"links_per_drop": 4}, "multiple of the 3 stations"),
        ({"user_height": 50}, "user_height"),
        ({"tracks": True, "spatial_consistency": True}, "one base station"),
        ({"scenario": "umi", "area": [0, 90, 0, 90]}, "outdoors; write los"),
        ({"scenario": "umi", "state": "los"}, "no area"),
    ],
)
def test_bad_recipes(changes, words):
    recipe = {**SITE, **changes}
    if recipe["scenario"] == "umi":
        del recipe["factory"]
    with pytest.raises(RecipeError, match=words):
        load_channel(recipe)


def test_an_area_within_reach_of_a_station_only_is_refused():
    with pytest.raises(RecipeError, match="nearly all of it"):
        load_channel({**STREET, "area": [-2.0, 2.0, -2.0, 2.0]}).sample(80, 1, seed=1)


def test_by_station_needs_stations():
    with pytest.raises(ValueError, match="without stations"):
        by_station(load_channel({"scenario": "cdl_a", "num_subcarriers": 4}).sample(2, 1, seed=1))
