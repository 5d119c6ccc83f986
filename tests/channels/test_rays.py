"""Rays for the genie: with their true phases they are the channel; without, its covariance."""

from __future__ import annotations

import math

import pytest
import torch

from airlam.channels import load_channel

BASE = {
    "num_subcarriers": 9,
    "bs_panel": {"rows": 2, "columns": 2, "polarisation": "dual"},
    "ut_panel": {"rows": 1, "columns": 1, "polarisation": "single"},
}
DUAL_USER = {"ut_panel": {"rows": 1, "columns": 2, "polarisation": "dual"}}
SINGLE_BS = {"bs_panel": {"rows": 2, "columns": 2, "polarisation": "single"}}
CASES = [
    {"scenario": "uma", "state": "nlos"},
    {"scenario": "umi", "state": "random", **DUAL_USER},
    {"scenario": "umi", "state": "los", **SINGLE_BS},
    {"scenario": "inh", "state": "los", **DUAL_USER, **SINGLE_BS},
    {"scenario": "cdl_c"},
    {"scenario": "cdl_e", **DUAL_USER},
    {"scenario": "uma", "state": "nlos", "fast": "stock"},
    {"scenario": "umi", "state": "nlos", "links_per_drop": 4, "spatial_consistency": True},
    {"scenario": "uma", "state": "nlos", "ray_delay_spread": 10e-9},
    {"scenario": "cdl_c", "array_errors": {"gain_std_db": 2.0, "phase_std": 0.5, "coupling_db": -10.0}},
]


def phasors(rays, model, num_slots):
    slot = torch.arange(num_slots) * model.slot_duration
    tone = (torch.arange(model.num_subcarriers) - model.num_subcarriers // 2) * model.subcarrier_spacing
    time = torch.polar(torch.ones(()), 2 * math.pi * rays.doppler[..., None] * slot)
    return time, torch.polar(torch.ones(()), -2 * math.pi * rays.delay[..., None] * tone)


@pytest.mark.parametrize("case", CASES, ids=lambda c: "-".join(str(v) for v in c.values() if not isinstance(v, dict)))
def test_rays_with_their_phases_are_the_channel(case):
    model = load_channel({**BASE, **case})
    batch = model.sample(12, 6, seed=1, return_rays=True)
    rays = batch.rays
    time, tone = phasors(rays, model, 6)
    h = torch.einsum("na,nat,naf,nac->ntfc", rays.coefficient, time, tone, rays.array)
    error = h.unflatten(-1, batch.h.shape[-2:]) - batch.h
    # atoms are dropped while they hold less than 1e-6 of the expected power; what is realised may be some dB more
    assert error.abs().square().mean((1, 2, 3, 4)).max() < 2e-5
    assert torch.equal(batch.h, model.sample(12, 6, seed=1).h)  # asking for rays changes nothing


@pytest.mark.parametrize("case", CASES[:6], ids=lambda c: c["scenario"] + "-" + c.get("state", ""))
def test_power_is_the_mean_square_of_the_coefficients(case):
    model = load_channel({**BASE, **case})
    rays = model.sample(64, 1, seed=2, return_rays=True).rays
    weight = rays.array.abs().square().mean(-1)
    ratio = (rays.coefficient.abs().square() * weight).sum() / (rays.power * weight).sum()
    assert float(ratio) == pytest.approx(1.0, abs=0.05)  # thousands of rays; those of one phase are exact
    silent = rays.power == 0
    assert (rays.coefficient[silent] == 0).all()


def test_single_polarisation_gives_one_atom_per_ray_and_dual_users_four():
    counts = {}
    for name, panels in {"single": {**SINGLE_BS}, "mixed": {}, "dual": DUAL_USER}.items():
        rays = load_channel({**BASE, "scenario": "cdl_c", **panels}).sample(1, 1, seed=0, return_rays=True).rays
        counts[name] = rays.power.shape[1]
    assert counts["single"] <= 24 * 20 and counts["mixed"] <= 2 * 24 * 20 and counts["dual"] <= 4 * 24 * 20
    assert counts["single"] < counts["mixed"] < counts["dual"]


def test_atoms_come_strongest_first_and_are_padded_in_silence():
    rays = (
        load_channel({**BASE, "scenario": "umi", "state": "random", "chunk": 4})
        .sample(16, 1, seed=3, return_rays=True)
        .rays
    )
    weight = rays.power * rays.array.abs().square().mean(-1)
    assert (weight[:, 1:] <= weight[:, :-1] * (1 + 1e-5)).all()
    assert (rays.power[:, -1] == 0).any() and (rays.power[:, 0] > 0).all()


def test_rays_are_indexed_with_their_links():
    batch = load_channel({**BASE, "scenario": "cdl_a"}).sample(6, 2, seed=0, return_rays=True)
    part = batch[[1, 4]]
    assert torch.equal(part.rays.array, batch.rays.array[[1, 4]]) and torch.equal(part.h, batch.h[[1, 4]])
    assert len(part) == 2 and part.rays.power.shape[0] == 2


def test_tdl_has_no_rays():
    with pytest.raises(ValueError, match="tdl_a has no rays"):
        load_channel({**BASE, "scenario": "tdl_a"}).sample(2, 2, seed=0, return_rays=True)
