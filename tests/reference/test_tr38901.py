"""TR 38.901 V19.2: path loss (table 7.4.1-1) and LOS probability (table 7.4.2-1), written out and compared."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from airlam.channels import load_channel

C = 299792458.0
BS_HEIGHT = {"umi": 10.0, "uma": 25.0, "rma": 35.0, "inh": 3.0, "inf": 8.0}


def umi(d2, d3, f, h_bs, h_ut):
    breakpoint_distance = 4 * (h_bs - 1) * (h_ut - 1) * f * 1e9 / C
    near = 32.4 + 21 * d3.log10() + 20 * math.log10(f)
    far = 32.4 + 40 * d3.log10() + 20 * math.log10(f)
    far = far - 9.5 * (breakpoint_distance**2 + (h_bs - h_ut) ** 2).log10()
    los = torch.where(d2 <= breakpoint_distance, near, far)
    nlos = 22.4 + 35.3 * d3.log10() + 21.3 * math.log10(f) - 0.3 * (h_ut - 1.5)
    return los, torch.maximum(los, nlos)


def uma(d2, d3, f, h_bs, h_ut):
    breakpoint_distance = 4 * (h_bs - 1) * (h_ut - 1) * f * 1e9 / C  # h_E = 1 m for users below 13 m
    near = 28.0 + 22 * d3.log10() + 20 * math.log10(f)
    far = 28.0 + 40 * d3.log10() + 20 * math.log10(f)
    far = far - 9 * (breakpoint_distance**2 + (h_bs - h_ut) ** 2).log10()
    los = torch.where(d2 <= breakpoint_distance, near, far)
    nlos = 13.54 + 39.08 * d3.log10() + 20 * math.log10(f) - 0.6 * (h_ut - 1.5)
    return los, torch.maximum(los, nlos)


def rma(d2, d3, f, h_bs, h_ut, h=5.0, w=20.0):
    def near(d):
        return (
            20 * (40 * math.pi * d * f / 3).log10()
            + min(0.03 * h**1.72, 10) * d.log10()
            - min(0.044 * h**1.72, 14.77)
            + 0.002 * math.log10(h) * d
        )

    breakpoint_distance = 2 * math.pi * h_bs * h_ut * f * 1e9 / C
    far = near(breakpoint_distance) + 40 * (d3 / breakpoint_distance).log10()
    los = torch.where(d2 <= breakpoint_distance, near(d3), far)
    nlos = (
        161.04
        - 7.1 * math.log10(w)
        + 7.5 * math.log10(h)
        - (24.37 - 3.7 * (h / h_bs) ** 2) * math.log10(h_bs)
        + (43.42 - 3.1 * math.log10(h_bs)) * (d3.log10() - 3)
        + 20 * math.log10(f)
        - (3.2 * (11.75 * h_ut).log10() ** 2 - 4.97)
    )
    return los, torch.maximum(los, nlos)


def inh(d2, d3, f, h_bs, h_ut):
    los = 32.4 + 17.3 * d3.log10() + 20 * math.log10(f)
    return los, torch.maximum(los, 38.3 * d3.log10() + 17.30 + 24.9 * math.log10(f))


def inf_sh(d2, d3, f, h_bs, h_ut):
    los = 31.84 + 21.50 * d3.log10() + 19.00 * math.log10(f)
    return los, torch.maximum(los, 32.4 + 23.0 * d3.log10() + 20 * math.log10(f))


PATH_LOSS = {"umi": umi, "uma": uma, "rma": rma, "inh": inh, "inf": inf_sh}


def tiny(scenario: str, **keys):
    """One antenna, one tone: only the truth about the links matters."""
    panel = {"rows": 1, "columns": 1, "polarisation": "single", "pattern": "omni"}
    return load_channel(
        {"scenario": scenario, "bs_panel": panel, "ut_panel": panel, "num_subcarriers": 1, "chunk": 512, **keys}
    )


def distances(position: Tensor, h_bs: float):
    position = position.double()
    d2 = torch.linalg.vector_norm(position[:, :2], dim=1)
    return d2, torch.hypot(d2, position[:, 2] - h_bs), position[:, 2]


@pytest.mark.parametrize("carrier", [0.9e9, 2.4e9, 28e9])
@pytest.mark.parametrize("state", ["los", "nlos"])
@pytest.mark.parametrize("scenario", PATH_LOSS)
def test_path_loss_follows_table_7_4_1_1(scenario, state, carrier):
    batch = tiny(scenario, state=state, carrier_frequency=carrier).sample(200, 1, seed=1)
    h_bs = BS_HEIGHT[scenario]
    d2, d3, h_ut = distances(batch.position, h_bs)
    los, nlos = PATH_LOSS[scenario](d2, d3, carrier / 1e9, h_bs, h_ut)
    # float32 in Sionna: 150 dB have a resolution of 2e-5 dB, logarithms of products lose a few of them
    torch.testing.assert_close(batch.path_loss_db.double(), los if state == "los" else nlos, atol=5e-4, rtol=0)
    assert bool(batch.los.all()) == (state == "los")


def los_probability(scenario: str, d: Tensor) -> Tensor:
    """Table 7.4.2-1 for users at 1.5 m (UMa: C' = 0 below 13 m) and the open office."""
    if scenario in ("umi", "uma"):
        decay = {"umi": 36.0, "uma": 63.0}[scenario]
        return torch.where(d <= 18, torch.ones_like(d), 18 / d + (-d / decay).exp() * (1 - 18 / d))
    if scenario == "rma":
        return torch.where(d <= 10, torch.ones_like(d), (-(d - 10) / 1000).exp())
    far = (-(d - 49) / 211.7).exp() * 0.54
    return torch.where(d <= 5, torch.ones_like(d), torch.where(d <= 49, (-(d - 5) / 70.8).exp(), far))


@pytest.mark.parametrize("scenario", ["umi", "uma", "rma", "inh"])
def test_los_probability_follows_table_7_4_2_1(scenario):
    batch = tiny(scenario, state="random").sample(4096, 1, seed=2)
    outdoor = torch.ones_like(batch.los) if scenario == "inh" else ~batch.indoor
    d2 = distances(batch.position, BS_HEIGHT[scenario])[0][outdoor]
    los, p = batch.los[outdoor].double(), los_probability(scenario, d2)
    for near, far in ((0, 40), (40, 100), (100, 1e4)):
        ring = (d2 > near) & (d2 <= far)
        if ring.sum() < 30:
            continue
        # four standard deviations of a sum of independent coins
        sigma = (p[ring] * (1 - p[ring])).sum().sqrt()
        assert (los[ring] - p[ring]).sum().abs() <= 4 * sigma + 1e-9, (near, far)
    assert not batch.los[batch.indoor & ~outdoor].any()  # behind a wall there is no line of sight


@pytest.mark.parametrize("letter, db", [("d", 8.98), ("e", 9.27)])
def test_k_factor_of_cdl(letter, db):
    """Power of the LOS path over all the rest: CDL-D 8.98 dB, CDL-E 9.27 dB (tables 7.7.1-4, 7.7.1-5)."""
    rays = tiny(f"cdl_{letter}").sample(4, 1, seed=3, return_rays=True).rays
    power = rays.power * rays.array.abs().square().mean(-1)
    k = power[:, 0] / power[:, 1:].sum(1)
    torch.testing.assert_close(10 * k.log10(), torch.full((4,), db), atol=0.01, rtol=0)  # two printed decimals
