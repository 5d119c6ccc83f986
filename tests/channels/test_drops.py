"""Where users stand."""

from __future__ import annotations

import math

import pytest
import torch

from airlam.channels.drops import draw_drops
from airlam.channels.recipe import resolve


def drops(scenario, state="random", num_drops=400, seed=0, **keys):
    recipe = resolve({"scenario": scenario, "state": state, **keys})
    return draw_drops(recipe, num_drops, torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("scenario, nearest, isd", [("umi", 10, 200), ("uma", 35, 500), ("rma", 35, 1732)])
def test_sector(scenario, nearest, isd):
    d = drops(scenario, links_per_drop=3)
    assert d.ut_position.shape == d.velocity.shape == (400, 3, 3)
    distance = d.ut_position[..., :2].norm(dim=-1)
    azimuth = torch.atan2(d.ut_position[..., 1], d.ut_position[..., 0])
    assert distance.min() >= nearest - 1e-3 and azimuth.abs().max() <= math.pi / 3 + 1e-5
    # the sector has the area of a third of a hexagon with that inter-site distance
    area = math.pi / 3 * float(distance.max()) ** 2
    assert area == pytest.approx(math.sqrt(3) / 2 * isd**2 / 3, rel=0.02)
    # uniform over the area: half of it lies within radius / sqrt(2) (and the hole in the middle)
    middle = math.sqrt((float(distance.max()) ** 2 + nearest**2) / 2)
    assert float((distance < middle).float().mean()) == pytest.approx(0.5, abs=0.06)


@pytest.mark.parametrize("state, share", [("los", 0), ("nlos", 0), ("indoor", 1), ("random", 0.8)])
def test_indoor_share_and_heights(state, share):
    d = drops("uma", state, num_drops=2000)
    assert float(d.indoor.float().mean()) == pytest.approx(share, abs=0.04)
    height = d.ut_position[..., 2]
    assert (height[~d.indoor] == 1.5).all()  # outdoor users stand on the street
    if share:
        floors = (height[d.indoor] - 1.5) / 3
        assert floors.min() == 0 and floors.max() == 7 and torch.equal(floors, floors.round())


def test_rma_cars():
    d = drops("rma", "random")
    assert torch.equal(d.in_car, ~d.indoor) and not drops("rma", "nlos").in_car.any()


@pytest.mark.parametrize(
    "keys, length, width, heights",
    [
        ({"scenario": "inh"}, 120, 50, (3.0, 1.0)),
        ({"scenario": "inf", "factory": "sl"}, 120, 60, (1.5, 1.5)),
        ({"scenario": "inf", "factory": "dh"}, 120, 60, (8.0, 1.5)),
        ({"scenario": "inf", "factory": "hh"}, 300, 150, (8.0, 8.0)),
    ],
)
def test_halls(keys, length, width, heights):
    d = drops(**keys, links_per_drop=4)
    assert d.indoor.all() and not d.in_car.any()
    assert (d.bs_position[..., 2] == heights[0]).all() and (d.ut_position[..., 2] == heights[1]).all()
    distance = d.ut_position[..., :2].norm(dim=-1)
    assert distance.min() > 1.0 and distance.max() < math.hypot(length, width)
    azimuth = torch.atan2(d.ut_position[..., 1], d.ut_position[..., 0])
    assert azimuth.abs().max() <= math.pi / 3


def test_velocities_are_horizontal_and_uniform():
    d = drops("umi", num_drops=3000, speed_kmh=[36, 72])
    speed = d.velocity.norm(dim=-1)
    assert (d.velocity[..., 2] == 0).all() and speed.min() >= 9.999 and speed.max() <= 20.001
    assert float(speed.mean()) == pytest.approx(15, abs=0.3)
    heading = torch.polar(torch.ones(3000, 1), torch.atan2(d.velocity[..., 1], d.velocity[..., 0]))
    assert abs(complex(heading.mean())) < 0.08  # 4 / sqrt(3000)


def test_a_fixed_speed_leaves_everything_else():
    a, b = drops("umi", speed_kmh=[3, 100]), drops("umi", speed_kmh=50)
    assert torch.equal(a.ut_position, b.ut_position) and torch.equal(a.ut_orientation, b.ut_orientation)
