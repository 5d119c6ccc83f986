"""Paths: plane waves are found as closely as a bound allows, clusters are extrapolated as far as their spread lets."""

from __future__ import annotations

import math

import pytest
import torch

from airlam.baselines.path_fit import PathFit, Search
from airlam.baselines.paths import PathPredictor, cluster_modes
from airlam.metrics import nmse

SIZES = (16, 24, 4, 2)  # slots, subcarriers, columns, rows


def waves(shift, gain, slots=SIZES[0]):
    """``[link, gain, slot, subcarrier, column, row]`` of ``shift [link, path, axis]``, ``gain [link, path, gain]``."""
    axes = [
        torch.exp(2j * math.pi * shift[..., i : i + 1] * torch.arange(n, dtype=torch.float64))
        for i, n in enumerate((slots, *SIZES[1:]))
    ]
    return torch.einsum("bkg,bkt,bkf,bkc,bkr->bgtfcr", gain, *axes)


def drawn(links, paths, seed=0, slots=SIZES[0]):
    """Random plane waves, of which no two are near each other: their shifts along slots differ by a bin or more."""
    g = torch.Generator().manual_seed(seed)
    shift = 0.8 * torch.rand(links, paths, 4, generator=g, dtype=torch.float64) - 0.4
    shift[..., 0] = (torch.arange(paths) + 0.5 * torch.rand(links, paths, generator=g)) / 8 - 0.4
    gain = torch.randn(links, paths, 2, generator=g, dtype=torch.complex128)
    gain = gain / gain.abs() / math.sqrt(paths)
    x = waves(shift, gain, slots)
    return x, shift, g


def noisy(x, variance, g):
    return (x + math.sqrt(variance) * torch.randn(x.shape, generator=g, dtype=x.dtype)).to(torch.complex64)


def csi(x):
    """``[link, slot, subcarrier, rx_ant = 1, tx_ant]``."""
    return x.permute(0, 2, 3, 1, 4, 5).flatten(3)[:, :, :, None]


def test_a_single_path_is_found_as_closely_as_the_cramer_rao_bound_allows():
    x, shift, g = drawn(links=200, paths=1)
    fit = PathFit.of(noisy(x, 0.1, g), Search(most=1))
    entries = math.prod(SIZES)
    for axis, size in enumerate(SIZES):
        # of a frequency in turns: 6 noise / ((2 pi)^2 energy (n^2 - 1)), two gains of unit power (Kay 1993, 3.11)
        bound = 6 * 0.1 / ((2 * math.pi) ** 2 * 2 * entries * (size**2 - 1))
        wrapped = (fit.shift[:, 0, axis] - shift[:, 0, axis] + 0.5) % 1 - 0.5
        error = wrapped.square().mean()
        assert 0.7 * bound < float(error) < 1.4 * bound  # 200 links: a variance is known to 10 %, three of them


def test_separate_paths_are_all_found_and_the_noise_is_known():
    x, shift, g = drawn(links=4, paths=5)
    fit = PathFit.of(noisy(x, 0.01, g), Search())
    for link in range(4):
        found = fit.shift[link][fit.live[link]]
        nearest = torch.cdist(shift[link], found).amin(1)
        assert float(nearest.max()) < 2e-3
    torch.testing.assert_close(fit.noise, torch.full((4,), 0.01, dtype=torch.float64), rtol=0.1, atol=0)


def test_gains_are_those_of_least_squares():
    x, shift, _ = drawn(links=2, paths=4)
    fit = PathFit(x)
    fit.shift, fit.live, fit.noise = shift, torch.ones(2, 4, dtype=torch.bool), torch.zeros(2, dtype=torch.float64)
    energy, gain = fit.gains_of(shift)
    # 1e-4: the load of a Gram matrix without noise is some thousand roundings of double precision, far below
    torch.testing.assert_close(energy, x.abs().square().sum((1, 2, 3, 4, 5)), rtol=1e-4, atol=0)
    torch.testing.assert_close(fit.synthesise(gain), x, rtol=0, atol=1e-4)


def test_a_step_is_that_of_gauss_newton():
    """From near the truth, noise-free: the error falls quadratically."""
    x, shift, g = drawn(links=3, paths=4)
    fit = PathFit(x)
    fit.live, fit.noise = torch.ones(3, 4, dtype=torch.bool), torch.full((3,), 1e-5, dtype=torch.float64)
    start = shift + 2e-3 * torch.randn(shift.shape, generator=g, dtype=shift.dtype)
    _, after = fit._step(start, torch.zeros(3, dtype=torch.float64))
    assert float((after - shift).abs().max()) < 0.05 * float((start - shift).abs().max())


def test_static_and_moving_plane_waves_are_predicted():
    x, _, g = drawn(links=6, paths=4, slots=24)
    measured = noisy(x[:, :, :16], 0.01, g)
    found = PathPredictor(spread=0.0).predict(csi(measured), 8, port_shape=(2, 4, 2))
    assert float(nmse(found, csi(x[:, :, 16:]).to(found.dtype))) < 10**-3.3


def test_the_shapes_of_a_cluster_have_its_doppler_spectrum():
    modes = cluster_modes(16, 4, 0.008)
    times = torch.arange(20, dtype=torch.float64)
    wanted = torch.exp(-0.5 * (2 * math.pi * 0.008 * (times[:, None] - times)) ** 2)
    torch.testing.assert_close(modes @ modes.mT, wanted, rtol=0, atol=1e-3)  # three modes of twenty


def test_a_spread_helps_where_paths_are_clusters():
    """Eight clusters of 20 rays within 0.02 turns: points extrapolate what no point does."""
    g = torch.Generator().manual_seed(3)
    centre = 0.8 * torch.rand(12, 8, 1, 4, generator=g, dtype=torch.float64) - 0.4
    around = torch.tensor([0.02, 0.0005, 0.002, 0.002], dtype=torch.float64)
    rays = (centre + around * torch.randn(12, 8, 20, 4, generator=g, dtype=torch.float64)).flatten(1, 2)
    gain = torch.randn(12, 160, 2, generator=g, dtype=torch.complex128) / math.sqrt(160)
    x = waves(rays, gain, 20)
    measured = csi(noisy(x[:, :, :16], 0.01, g))
    error = {
        spread: float(nmse(PathPredictor(spread).predict(measured, 4, port_shape=(2, 4, 2)), csi(x[:, :, 16:])))
        for spread in (0.0, 0.05)
    }
    assert error[0.05] < 0.7 * error[0.0]


@pytest.mark.parametrize("bad", [{"spread": -0.1}, {"spread": math.nan}, {"threshold": 1.0}, {"num_paths": 0}])
def test_arguments_out_of_bounds_are_refused(bad):
    with pytest.raises(ValueError, match="are needed, got"):
        PathPredictor(**bad)
