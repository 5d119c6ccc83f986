"""Genies against brute force on the full covariance matrices, and against their own orderings."""

from __future__ import annotations

import math
from types import SimpleNamespace

import pytest
import torch

from airlam.baselines import HoldPredictor, cluster_genie, genie_lmmse, per_bin_genie
from airlam.csi import to_beam_delay
from airlam.metrics import nmse

GRID = {"slot_duration": 1e-3, "subcarrier_spacing": 100e3}
LINKS, ATOMS, SLOTS, FUTURE, TONES, RX, PORTS = 3, 7, 5, 2, 4, 2, (1, 2, 2)


def drop(seed: int = 0, links: int = LINKS, atoms: int = ATOMS):
    """Rays and, from random coefficients of their powers, the CSI that they make (frequency centred, on purpose)."""
    g = torch.Generator().manual_seed(seed)

    def uniform(*shape):
        return torch.rand(*shape, generator=g, dtype=torch.float64)

    rays = SimpleNamespace(
        delay=2e-6 * uniform(links, atoms),
        doppler=200 * (uniform(links, atoms) - 0.5),
        power=uniform(links, atoms),
        array=torch.randn(links, atoms, RX * 4, generator=g, dtype=torch.complex128),
        cluster=torch.arange(atoms).expand(links, -1) % 3,
    )
    rays.power[0, -2:] = 0  # padded atoms
    rays.delay = rays.delay.gather(1, rays.cluster)  # that of the cluster's first ray
    rays.power = rays.power / rays.power.sum(-1, keepdim=True)
    phase = torch.exp(2j * math.pi * uniform(links, atoms))
    t = torch.arange(SLOTS + FUTURE) * GRID["slot_duration"]
    f = (torch.arange(TONES) - TONES // 2) * GRID["subcarrier_spacing"]
    time = torch.exp(2j * math.pi * rays.doppler[..., None] * t)
    tone = torch.exp(-2j * math.pi * rays.delay[..., None] * f)
    h = torch.einsum("nr,nrt,nrf,nra->ntfa", phase * rays.power.sqrt(), time, tone, rays.array)
    return rays, h.unflatten(-1, (RX, 4)), time, tone


def noisy(h: torch.Tensor, variance: float) -> torch.Tensor:
    return h + variance**0.5 * torch.randn(h.shape, generator=torch.Generator().manual_seed(9), dtype=h.dtype)


def test_genie_is_the_lmmse_of_the_full_covariance():
    rays, h, time, tone = drop()
    h_past = noisy(h[:, :SLOTS], 0.01)
    found = genie_lmmse(rays, h_past, 0.01, FUTURE, **GRID)
    for n in range(LINKS):
        g = torch.einsum("rt,rf,ra->tfar", time[n], tone[n], rays.array[n]).flatten(1, 2)
        past, ahead = g[:SLOTS].flatten(0, 1), g[SLOTS:].flatten(0, 1)
        p = torch.diag(rays.power[n]).to(torch.complex128)
        covariance = past @ p @ past.mH + 0.01 * torch.eye(len(past))
        expected = ahead @ p @ past.mH @ torch.linalg.solve(covariance, h_past[n].flatten())
        assert torch.allclose(found[n].flatten(), expected, atol=1e-8)


def test_cluster_genie_is_the_lmmse_of_kronecker_products():
    rays, h, time, tone = drop()
    h_past = noisy(h[:, :SLOTS], 0.01)
    found = cluster_genie(rays, h_past, 0.01, FUTURE, **GRID)
    for n in range(LINKS):
        covariance = torch.zeros((SLOTS + FUTURE) * TONES * RX * 4, (SLOTS + FUTURE) * TONES * RX * 4).to(h.dtype)
        for cluster in range(3):
            own = rays.cluster[n] == cluster
            array, power = rays.array[n, own], rays.power[n, own].to(h.dtype)
            weight = power * array.abs().square().sum(-1)
            over_slots = torch.einsum("r,rt,rs->ts", weight / weight.sum(), time[n, own], time[n, own].conj())
            over_tones = tone[n, own][0, :, None] * tone[n, own][0].conj()
            over_array = torch.einsum("r,ra,rb->ab", power, array, array.conj())
            covariance += torch.kron(over_slots, torch.kron(over_tones, over_array))
        seen = SLOTS * TONES * RX * 4
        past = covariance[:seen, :seen] + 0.01 * torch.eye(seen)
        expected = covariance[seen:, :seen] @ torch.linalg.solve(past, h_past[n].flatten())
        # products of modes are left out that hold 1e-5 of the power together, noise is 1e-2
        assert torch.allclose(found[n].flatten(), expected, atol=2e-3)


def test_clusters_of_one_ray_each_are_the_rays():
    rays, h, *_ = drop()
    rays.cluster = torch.arange(ATOMS).expand(LINKS, -1)
    h_past = noisy(h[:, :SLOTS], 0.01)
    found = cluster_genie(rays, h_past, 0.01, FUTURE, **GRID)
    assert torch.allclose(found, genie_lmmse(rays, h_past, 0.01, FUTURE, **GRID), atol=2e-3)  # as above


def test_per_bin_genie_is_the_lmmse_of_each_bin():
    rays, h, time, tone = drop()
    h_past = noisy(h[:, :SLOTS], 0.01)
    found = to_beam_delay(per_bin_genie(rays, h_past, 0.01, FUTURE, port_shape=PORTS, **GRID), PORTS)
    y = to_beam_delay(h_past, PORTS)
    # the response of each ray, transformed slot by slot like any CSI
    each = torch.einsum("nrt,nrf,nra->nrtfa", time, tone, rays.array).unflatten(-1, (RX, 4))
    each = to_beam_delay(each, PORTS)
    covariance = torch.einsum("nr,nrtfxa,nrsfxa->nfxats", rays.power.to(each.dtype), each, each.conj())
    past = covariance[..., :SLOTS, :SLOTS] + 0.01 * torch.eye(SLOTS)
    series = y.permute(0, 2, 3, 4, 1)[..., None]
    expected = covariance[..., SLOTS:, :SLOTS] @ torch.linalg.solve(past, series)
    assert torch.allclose(found, expected.squeeze(-1).permute(0, 4, 1, 2, 3), atol=1e-8)


def test_without_noise_and_few_rays_the_joint_genie_is_exact():
    rays, h, *_ = drop(atoms=5)
    # loading of 1e-10 of the power is what noise 0 is taken as
    assert float(nmse(genie_lmmse(rays, h[:, :SLOTS], 0.0, FUTURE, **GRID), h[:, SLOTS:])) < 1e-7


def test_joint_beats_per_bin_beats_hold_on_average():
    rays, h, *_ = drop(links=200, atoms=30)
    h_past = noisy(h[:, :SLOTS], 0.05)
    joint = nmse(genie_lmmse(rays, h_past, 0.05, FUTURE, **GRID), h[:, SLOTS:])
    single = nmse(per_bin_genie(rays, h_past, 0.05, FUTURE, port_shape=PORTS, **GRID), h[:, SLOTS:])
    hold = nmse(HoldPredictor().predict(h_past, FUTURE), h[:, SLOTS:])
    assert float(joint) < float(single) < float(hold)


def test_dtype_and_noise_per_link():
    rays, h, *_ = drop()
    h_past = h[:, :SLOTS].to(torch.complex64)
    for genie in (genie_lmmse, cluster_genie, per_bin_genie):
        noise = torch.tensor([0.01, 0.1, 1.0])
        out = genie(rays, h_past, noise, FUTURE, **GRID)
        assert out.dtype == torch.complex64 and out.shape == (LINKS, FUTURE, TONES, RX, 4)
        one = SimpleNamespace(**{k: v[1:2] for k, v in vars(rays).items()})
        assert torch.allclose(genie(one, h_past[1:2], 0.1, FUTURE, **GRID), out[1:2], atol=1e-5)


def test_bad_input():
    rays, h, *_ = drop()
    with pytest.raises(ValueError, match="rays.delay"):
        genie_lmmse(rays, h[:2, :SLOTS], 0.1, FUTURE, **GRID)
    with pytest.raises(ValueError, match="noise_variance"):
        genie_lmmse(rays, h[:, :SLOTS], -0.1, FUTURE, **GRID)
    with pytest.raises(ValueError, match="num_future"):
        per_bin_genie(rays, h[:, :SLOTS], 0.1, 0, **GRID)
    with pytest.raises(ValueError, match="rays.array"):
        genie_lmmse(rays, h[:, :SLOTS, :, :1], 0.1, FUTURE, **GRID)
