"""Paths: plane waves are found as closely as a bound allows, clusters are extrapolated as far as their spread lets."""

from __future__ import annotations

import math

import pytest
import torch

from airlam.baselines.path_fit import PathFit, Search
from airlam.baselines.path_receiver import port_gains, unrelated
from airlam.baselines.path_series import NODES, SHARES, Paths, Posterior, Statistics
from airlam.baselines.paths import PathPredictor
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
    _, _, after = fit._step(start, torch.zeros(3, dtype=torch.float64))
    assert float((after - shift).abs().max()) < 0.05 * float((start - shift).abs().max())


def test_static_and_moving_plane_waves_are_predicted():
    x, _, g = drawn(links=6, paths=4, slots=24)
    measured = noisy(x[:, :, :16], 0.01, g)
    found = PathPredictor(spread=0.0).predict(csi(measured), 8, port_shape=(2, 4, 2))
    assert float(nmse(found, csi(x[:, :, 16:]).to(found.dtype))) < 10**-3.3


def test_slots_that_were_not_measured_are_not_looked_at():
    x, _, g = drawn(links=4, paths=4, slots=20)
    past, future = csi(noisy(x[:, :, :16], 0.01, g)), csi(x[:, :, 16:])
    observed = torch.rand(4, 16, generator=g) > 0.3
    observed[0] = True
    lost = torch.where(observed[..., None, None, None], past, 5.0)
    predictor = PathPredictor(spread=0.0)
    found = predictor.predict(lost, 4, port_shape=(2, 4, 2), context={"observed": observed})
    assert float(nmse(found, future.to(found.dtype))) < 10**-2.8  # 70 % of the slots of the test above
    # a link of which all slots were measured is predicted as if there were no mask, up to rounding
    whole = predictor.predict(lost[:1], 4, port_shape=(2, 4, 2))
    torch.testing.assert_close(found[:1], whole, rtol=0, atol=1e-3)
    fit = PathFit.of(noisy(x[:, :, :16], 0.01, g), Search(most=8), observed)
    assert fit.noise.tolist() == pytest.approx([0.01] * 4, rel=0.1)  # 1,000 entries and more


def test_two_histories_give_the_mean_of_their_predictions():
    """A link that would lose more than a quarter of its measured slots keeps one history."""
    x, _, g = drawn(links=4, paths=6)
    h = csi(noisy(x, 0.1, g))
    observed = torch.ones(4, SIZES[0], dtype=torch.bool)
    observed[3, 4:] = False
    asked = dict(port_shape=(2, 4, 2), context={"observed": observed})
    one, variance = PathPredictor().predict_with_variance(h, 3, **asked)
    two, less = PathPredictor(views=2).predict_with_variance(h, 3, **asked)
    short = dict(port_shape=(2, 4, 2), context={"observed": observed[:, 2:]})
    later = PathPredictor().predict(h[:, 2:], 3, **short)
    # the search is in single precision and starts from histories of another scale
    torch.testing.assert_close(two[:3], (one[:3] + later[:3]) / 2, rtol=0, atol=1e-3)
    torch.testing.assert_close(two[3], one[3], rtol=0, atol=1e-5)
    torch.testing.assert_close(less[3], variance[3])
    assert bool((less[:3] < variance[:3] * 1.1).all())


def test_two_histories_help_where_paths_are_clusters():
    g = torch.Generator().manual_seed(4)
    shift = 0.6 * torch.rand(12, 8, 1, 4, generator=g, dtype=torch.float64) - 0.3
    shift = shift + torch.tensor([0.01, 0.004, 0.02, 0.02]) * torch.randn(12, 8, 12, 4, generator=g)
    gain = torch.randn(12, 96, 2, generator=g, dtype=torch.complex128) / math.sqrt(96)
    x = waves(shift.flatten(1, 2), gain, SIZES[0] + 4)
    h = csi(noisy(x, 0.01, g))
    ask = dict(num_future=4, port_shape=(2, 4, 2))
    one, two = (PathPredictor(views=views).predict(h[:, :-4], **ask) for views in (1, 2))
    truth = csi(x.to(torch.complex64))[:, -4:]
    assert float(nmse(two, truth)) < float(nmse(one, truth))


def test_aligned_slots_are_predicted_in_spite_of_phase_noise_and_jitter():
    x, _, g = drawn(links=6, paths=5, slots=20)
    phase = 0.3 * torch.randn(6, 16, 1, generator=g) + 0.03 * torch.randn(6, 16, 1, generator=g) * torch.arange(24)
    noise = torch.exp(1j * phase.double())[:, None, :, :, None, None]
    past, future = csi(noisy(x[:, :, :16] * noise, 0.01, g)), csi(x[:, :, 16:]).to(torch.complex64)
    plain, better = (PathPredictor(align=n).predict(past, 4, port_shape=(2, 4, 2)) for n in (0, 3))
    assert float(nmse(better, future)) < 0.25 * float(nmse(plain, future))


def test_ports_with_wrong_gains_and_phases_are_calibrated():
    x, _, g = drawn(links=12, paths=5)
    wrong = torch.exp(0.1 * torch.randn(12, 2, 4, 2, generator=g) + 0.2j * torch.randn(12, 2, 4, 2, generator=g))
    found = port_gains(csi(noisy(x * wrong[:, :, None, None], 0.01, g)), (2, 4, 2), None, 12)

    def spread(gains):  # about the mean of each polarisation, which belongs to the paths' gains
        gains = gains / gains.mean((2, 3), keepdim=True)
        return float((gains - 1).abs().square().mean())

    # what is linear over columns and rows is a change of the paths' directions
    assert spread(wrong / found.view(12, 2, 4, 2)) < 0.6 * spread(wrong)


def unrelated_antennas(links, taps, slots, g):
    """Each antenna sees the same delays, each fading by itself: no plane wave over the panel."""
    delay = (torch.arange(taps) + 0.5 * torch.rand(links, taps, generator=g)) / 12
    doppler = 0.1 * torch.rand(links, taps, 12, generator=g) - 0.05
    gain = torch.randn(links, taps, 12, 2, 4, 2, generator=g, dtype=torch.complex128) / math.sqrt(12 * taps)
    place = [torch.arange(n, dtype=torch.float64) for n in (slots, SIZES[1])]
    turns = [torch.exp(2j * math.pi * shift[..., None] * n) for shift, n in zip((doppler, delay), place, strict=True)]
    return torch.einsum("bkrpxy,bkrt,bkf->bptfxy", gain, *turns)


def test_antennas_without_common_waves_are_told_apart_and_predicted():
    plane, _, g = drawn(links=8, paths=6, slots=20)
    x = torch.cat([plane, unrelated_antennas(8, 3, 20, g)])
    past, future = csi(noisy(x[:, :, :16], 0.01, g)), csi(x[:, :, 16:]).to(torch.complex64)
    assert unrelated(past, (2, 4, 2)).tolist() == [False] * 8 + [True] * 8
    assert not unrelated(past, (8, 2, 1)).any()  # of two antennas nothing can be said
    found = PathPredictor().predict(past, 4, port_shape=(2, 4, 2))
    free = PathPredictor().predict(past[8:], 4, port_shape=(16, 1, 1))
    torch.testing.assert_close(found[8:], free, rtol=0, atol=1e-3)  # roundings of a batch of another size
    hold = float(nmse(past[8:, -1:].expand_as(free), future[8:]))
    assert float(nmse(found[8:], future[8:])) < 0.1 * hold


def test_slopes_are_derivatives_of_waves():
    x, shift, _ = drawn(links=2, paths=3)
    paths = Paths.at(x, shift, torch.ones(2, 3, dtype=torch.bool), torch.ones(2))
    step = 1e-6
    for axis, wave in enumerate(paths.waves(), 1):
        moved = shift.clone()
        moved[..., axis] += step
        after = Paths.at(x, moved, paths.live, paths.noise).waves()[axis - 1]
        slope = (after[:, :, 0] - wave[:, :, 0]) / step
        slope = slope * math.sqrt(SIZES[axis]) / slope.norm(dim=-1, keepdim=True)
        torch.testing.assert_close(wave[:, :, axis], slope, rtol=0, atol=1e-4)  # a finite difference


def brute_force(paths, statistics, num_future, gains):
    """The linear MMSE estimate of everything from everything, with covariances written out."""
    slots, count = paths.sizes[0], paths.live.shape[1]
    tones, columns, rows = paths.waves()
    times = torch.arange(slots + num_future, dtype=torch.float64) - (slots - 1) / 2
    covariance = 0
    for path in range(count):
        for kind in range(4):
            space = torch.einsum("f,c,r->fcr", tones[0, path, kind], columns[0, path, kind], rows[0, path, kind])
            nodes = zip(NODES, SHARES, strict=True) if kind == 0 else [(0.0, 1.0)]
            for node, share in nodes:
                turns = statistics.doppler[0, path] + node * statistics.width[0, path]
                atom = torch.einsum("t,x->tx", torch.exp(2j * math.pi * turns * times), space.flatten())
                atom = atom.flatten() * (statistics.power[0, kind, path] * share).sqrt()
                covariance = covariance + atom[:, None] * atom.conj()
    seen = slots * space.numel()
    noise = statistics.noise[0] * torch.eye(seen, dtype=covariance.dtype)
    gain = covariance[seen:, :seen] @ torch.linalg.inv(covariance[:seen, :seen] + noise)
    error = covariance[seen:, seen:] - gain @ covariance[:seen, seen:]
    variance = error.diagonal().real.unflatten(0, (num_future, -1)).mean(-1)
    return lambda x: (gain @ x.flatten(2)[0].mT).mT.unflatten(-1, (num_future, -1)), variance


def test_the_joint_estimate_is_the_linear_mmse_estimate():
    g = torch.Generator().manual_seed(5)
    sizes = (6, 4, 3, 2)
    shift = 0.6 * torch.rand(1, 3, 4, generator=g, dtype=torch.float64) - 0.3
    x = torch.randn(1, 2, *sizes, generator=g, dtype=torch.complex128)
    truth = torch.randn(1, 2, 3, *sizes[1:], generator=g, dtype=torch.complex128)
    paths = Paths.at(x, shift, torch.ones(1, 3, dtype=torch.bool), torch.full((1,), 0.1, dtype=torch.float64), truth)
    power = torch.rand(1, 4, 3, generator=g, dtype=torch.float64)
    statistics = Statistics(
        power,
        shift[..., 0] + 0.01,
        torch.full((1, 3), 0.02, dtype=torch.float64),
        torch.full((1,), 0.1, dtype=torch.float64),
    )
    posterior = Posterior.of(paths, statistics, 3, most=100)
    told = paths.synthesise(posterior.series(), 1)  # [link, slot, subcarrier, rx_ant, tx_ant], both gains as ports
    told = told.unflatten(-1, (2, 3, 2)).permute(0, 4, 1, 2, 3, 5, 6).flatten(3)
    estimate, variance = brute_force(paths, statistics, 3, 2)
    torch.testing.assert_close(told[0], estimate(x), rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(posterior.variance()[0], variance, rtol=1e-9, atol=1e-9)
    error = (told - truth.flatten(3)).abs().square().sum((1, 3))
    torch.testing.assert_close(paths.error(posterior.series()), error, rtol=1e-9, atol=1e-9)


def test_fewer_atoms_are_the_strongest_ones():
    x, shift, _ = drawn(links=1, paths=4)
    paths = Paths.at(x, shift, torch.ones(1, 4, dtype=torch.bool), torch.full((1,), 0.01))
    power = torch.zeros(1, 4, 4, dtype=torch.float64)
    power[0, 0] = torch.tensor([1.0, 0.5, 1e-12, 1e-12])
    statistics = Statistics(power, shift[..., 0], torch.zeros(1, 4), paths.noise)
    few, all_ = (Posterior.of(paths, statistics, 4, most).series() for most in (6, 100))
    torch.testing.assert_close(few, all_, rtol=0, atol=1e-5)


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


def test_slopes_help_where_clusters_are_wide():
    """Six clusters whose rays spread over half a beam: a point has no room for them."""
    g = torch.Generator().manual_seed(4)
    centre = 0.8 * torch.rand(12, 6, 1, 4, generator=g, dtype=torch.float64) - 0.4
    around = torch.tensor([0.005, 0.002, 0.05, 0.05], dtype=torch.float64)
    rays = (centre + around * torch.randn(12, 6, 20, 4, generator=g, dtype=torch.float64)).flatten(1, 2)
    gain = torch.randn(12, 120, 2, generator=g, dtype=torch.complex128) / math.sqrt(120)
    x = waves(rays, gain, 20)
    measured = csi(noisy(x[:, :, :16], 0.01, g))
    error = {
        slopes: float(
            nmse(
                PathPredictor(0.05, slopes=slopes, num_paths=8).predict(measured, 4, port_shape=(2, 4, 2)),
                csi(x[:, :, 16:]),
            )
        )
        for slopes in (0.0, 1.0)
    }
    assert error[1.0] < 0.8 * error[0.0]


@pytest.mark.parametrize(
    "bad",
    [
        {"spread": -0.1},
        {"spread": math.nan},
        {"threshold": 1.0},
        {"num_paths": 0},
        {"slopes": -1},
        {"learn": -1},
        {"views": 0},
    ],
)
def test_arguments_out_of_bounds_are_refused(bad):
    with pytest.raises(ValueError, match="needed, got"):
        PathPredictor(**bad)
