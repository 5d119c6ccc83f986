"""Channels against what the specification and theory say about them."""

from __future__ import annotations

import math

import pytest
import torch

from airlam.channels import load_channel, recipe_names, rt_available
from airlam.csi import mean_power

OMNI = {"rows": 1, "columns": 1, "polarisation": "single", "pattern": "omni"}


def undo_scaling(batch):
    return batch.h * (10 ** (batch.gain_db / 20)).reshape(-1, 1, 1, 1, 1)


@pytest.mark.parametrize("recipe", [{"scenario": "uma", "state": "nlos"}, {"scenario": "cdl_d"}, {"scenario": "tdl_b"}])
def test_unit_mean_power_per_link(recipe):
    batch = load_channel({**recipe, "num_subcarriers": 12}).sample(10, 9, seed=0)
    torch.testing.assert_close(mean_power(batch.h), torch.ones(10), atol=1e-5, rtol=0)  # float32 sums of 3456 values


@pytest.mark.parametrize("scenario", ["cdl_a", "cdl_c", "tdl_b", "tdl_e"])
def test_power_of_delay_lines_is_one_on_average(scenario):
    """Powers are normalised to one (clause 7.7); V-polarised omni elements have no gain of their own."""
    recipe = {"scenario": scenario, "bs_panel": OMNI, "ut_panel": OMNI, "num_subcarriers": 48, "speed_kmh": 100}
    batch = load_channel({**recipe, "delay_spread": 1e-6, "slot_duration": 2e-3}).sample(512, 8, seed=4)
    # Rayleigh powers averaged over 512 links and some of time and frequency: standard deviation below 0.03
    assert float((10 ** (batch.gain_db / 10)).mean()) == pytest.approx(1.0, abs=0.1)


@pytest.mark.parametrize("letter", "abcde")
@pytest.mark.parametrize("family", ["cdl", "tdl"])
def test_delay_spread_is_the_requested_one(family, letter):
    batch = load_channel({"scenario": f"{family}_{letter}", "num_subcarriers": 2, "delay_spread": 100e-9}).sample(
        4, 1, seed=0
    )
    # tables 7.7.1 and 7.7.2 print delays and powers with four and one decimals: within 1.5 %
    torch.testing.assert_close(batch.delay_spread, torch.full((4,), 100e-9), atol=0, rtol=0.015)


def test_delay_spread_range_is_drawn_per_link_in_the_logarithm():
    recipe = {"scenario": "cdl_b", "bs_panel": OMNI, "num_subcarriers": 1, "delay_spread": [10e-9, 1000e-9]}
    spread = load_channel({**recipe, "chunk": 512}).sample(512, 1, seed=0).delay_spread
    assert 9.8e-9 < spread.min() < 12e-9 and 800e-9 < spread.max() < 1.02e-6
    assert float(spread.log10().mean()) == pytest.approx(-7.0, abs=0.1)  # uniform over two decades: sigma 0.026


def test_frequency_correlation_matches_the_power_delay_profile():
    """E[h(f) h*(f + d)] is the Fourier transform of the profile: the delays are really in the CSI."""
    recipe = {"scenario": "tdl_a", "num_subcarriers": 24, "delay_spread": 300e-9, "subcarrier_spacing": 60e3}
    model = load_channel({**recipe, "speed_kmh": 0})
    h = undo_scaling(model.sample(256, 1, seed=8))
    from sionna.phy.channel.tr38901 import TDL

    profile = TDL("A", 300e-9, 2.4e9, device="cpu")
    delay, power = profile.delays.double(), profile.mean_powers.double()
    for lag in (1, 4, 12):
        measured = (h[:, :, :-lag].conj() * h[:, :, lag:]).mean()
        exact = (power * torch.polar(torch.ones_like(delay), -2 * math.pi * 60e3 * lag * delay)).sum()
        assert abs(complex(measured) - complex(exact)) < 0.03  # 256 x 32 independent channels: sigma about 0.01


@pytest.mark.parametrize("kmh", [30.0, 120.0])
def test_tdl_autocorrelation_is_clarkes(kmh):
    """Clause 7.7.2: Jakes spectrum, so E[h(t) h*(t + s)] = J0(2 pi f_D s)."""
    recipe = {"scenario": "tdl_a", "num_subcarriers": 1, "speed_kmh": kmh, "delay_spread": 300e-9}
    model = load_channel(recipe)
    h = undo_scaling(model.sample(256, 12, seed=1))
    doppler = kmh / 3.6 * model.carrier_frequency / 299792458.0
    for lag in range(12):
        measured = (h[:, : 12 - lag].conj() * h[:, lag:]).mean()
        exact = torch.special.bessel_j0(torch.tensor(2 * math.pi * doppler * lag * model.slot_duration))
        assert abs(complex(measured) - float(exact)) < 0.03  # 256 x 32 channels share 20 angles per tap


@pytest.mark.parametrize("scenario", ["uma", "umi", "inf", "cdl_c"])
def test_doppler_stays_within_speed_over_wavelength(scenario):
    model = load_channel({"scenario": scenario, "num_subcarriers": 1, "speed_kmh": [3, 100]})
    batch = model.sample(16, 2, seed=2, return_rays=True)
    largest = batch.speed * model.carrier_frequency / 299792458.0
    assert (batch.rays.doppler.abs() <= largest[:, None] * 1.0001).all()
    assert (batch.rays.doppler.abs().amax(1) > 0.5 * largest).all()  # with so many rays some come from ahead or behind


def test_a_user_at_rest_sees_a_constant_channel():
    for scenario in ("umi", "cdl_a", "tdl_d"):
        h = load_channel({"scenario": scenario, "speed_kmh": 0, "num_subcarriers": 4}).sample(3, 5, seed=0).h
        torch.testing.assert_close(h, h[:, :1].expand_as(h))


def test_spatial_consistency_makes_neighbours_alike():
    """Delay spreads of users within 5 m of each other differ less than those far apart (clause 7.6.3)."""
    recipe = {"scenario": "umi", "state": "nlos", "links_per_drop": 128, "spatial_consistency": True}
    batch = load_channel({**recipe, "num_subcarriers": 1, "bs_panel": OMNI}).sample(512, 1, seed=0)
    assert batch.drop.tolist() == [n // 128 for n in range(512)]
    near, far = [], []
    for drop in range(4):
        mine = batch.drop == drop
        distance = torch.cdist(batch.position[mine], batch.position[mine])
        spread = batch.delay_spread[mine].log10()
        difference = (spread[:, None] - spread).abs()
        pairs = torch.triu(torch.ones_like(distance), 1).bool()
        near.append(difference[pairs & (distance < 5)])
        far.append(difference[pairs & (distance > 50)])
    assert torch.cat(near).mean() < 0.75 * torch.cat(far).mean()


def others_than_the_headline(name: str) -> bool:
    return name != "mixture_headline" and (name.startswith("mixture") or "_tracks_" in name or name.endswith("_site"))


@pytest.mark.parametrize("name", [n for n in recipe_names() if not others_than_the_headline(n)])
def test_every_recipe_makes_the_headline_array(name):
    if name.startswith("rt_") and not rt_available():
        pytest.skip(rt_available().reason)
    model = load_channel(name)
    batch = model.sample(2, 20, seed=0)
    assert batch.h.shape == (2, 20, 48, 1, 32) and batch.h.dtype == torch.complex64
    assert model.port_shape == batch.port_shape == (2, 4, 4)
    assert torch.isfinite(torch.view_as_real(batch.h)).all() and torch.isfinite(batch.gain_db).all()
    assert batch.carrier_frequency == 2.4e9 and batch.slot_duration == 0.5e-3 and batch.subcarrier_spacing == 180e3
    for field in ("gain_db", "path_loss_db", "speed", "los", "indoor", "delay_spread", "drop"):
        assert getattr(batch, field).shape == (2,)
    assert batch.position.shape == batch.velocity.shape == (2, 3)


def test_the_site_recipe_is_one_drop():
    batch = load_channel("umi_site").sample(256, 2, seed=0)
    assert len(batch) == 256 and (batch.drop == 0).all()
