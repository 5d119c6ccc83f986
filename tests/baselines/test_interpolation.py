"""Classical interpolators: exact where they must be, ordered as theory says, equivariant."""

import math

import pytest
import torch

from airlam.baselines import (
    ARPredictor,
    DelayInterpolator,
    EigenLMMSEInterpolator,
    EigenPowerDelayInterpolator,
    LinearInterpolator,
    LMMSEInterpolator,
    PowerDelayInterpolator,
    PredictorExtrapolator,
    axis_covariance,
    link_features,
    ray_covariance,
    tune_estimator,
)
from airlam.csi import measure
from airlam.metrics import nmse

TONES = 32
COMB = torch.arange(TONES) % 4 == 0
DELAY = torch.tensor([0.0, 0.02, 0.05, 0.09])  # cycles per tone
POWER = torch.tensor([0.5, 0.3, 0.15, 0.05])


def channels(links=64, seed=0):
    """Rayleigh taps of known powers, independent on every antenna."""
    generator = torch.Generator().manual_seed(seed)
    taps = torch.randn(links, 4, len(DELAY), dtype=torch.complex64, generator=generator) * POWER.sqrt()
    tones = torch.exp(-2j * math.pi * DELAY[:, None] * torch.arange(TONES)).to(torch.complex64)
    return (taps @ tones).mT[:, None, :, None]  # one slot, one receive antenna


def true_covariance():
    tones = torch.exp(-2j * math.pi * DELAY[:, None] * torch.arange(TONES)).to(torch.complex128)
    return torch.einsum("d,da,db->ab", POWER.to(tones.dtype), tones, tones.conj())


METHODS = [
    LinearInterpolator(),
    LMMSEInterpolator(true_covariance(), 0.01),
    EigenLMMSEInterpolator(true_covariance(), 0.01),
    DelayInterpolator(0.2, 0.01),
    PowerDelayInterpolator(0.3, 0.01),
    EigenPowerDelayInterpolator(0.3, 0.01),
]


def test_the_test_channel():
    h = channels()
    assert h.shape == (64, 1, TONES, 1, 4)
    # 256 independent draws: the sample covariance is good to about 1 / 16
    assert (axis_covariance(h, "subcarrier") - true_covariance()).abs().amax() < 0.3


def test_least_squares_is_exact_on_noise_free_pilots():
    h = channels()
    assert torch.equal(LinearInterpolator().estimate(h, COMB, axis="subcarrier")[:, :, COMB], h[:, :, COMB])


@pytest.mark.parametrize("method", [METHODS[1], METHODS[2], METHODS[3]], ids=lambda m: m.name)
def test_noise_free_pilots_give_every_tone_where_the_covariance_is_known(method):
    """Four delays, eight pilots: without noise the taps are determined."""
    quiet = type(method)(**({"width": 0.2} if method.name == "dft" else {"covariance": true_covariance()}), noise=0.0)
    h = channels().to(torch.complex128)
    error = float(nmse(quiet.estimate(h, COMB, axis="subcarrier"), h))
    # a window of delays is not those four: it interpolates to a per cent
    assert error < (0.02 if method.name == "dft" else 1e-6)


def test_lmmse_with_the_true_covariance_is_best():
    h = channels(256)
    y = measure(h, 10.0, torch.Generator().manual_seed(1))
    best = float(nmse(LMMSEInterpolator(true_covariance(), 0.1).estimate(y, COMB, axis="subcarrier"), h))
    for method in (LinearInterpolator(), DelayInterpolator(0.2, 0.1), PowerDelayInterpolator(0.3, 0.1)):
        assert best < float(nmse(method.estimate(y, COMB, axis="subcarrier"), h))
    # the analytic mean squared error of LMMSE; 256 links of 4 antennas: good to a few per cent
    r, o = true_covariance(), COMB.nonzero()[:, 0]
    gain = r[:, o] @ torch.linalg.solve(r[o][:, o] + 0.1 * torch.eye(len(o)), r[:, o].mH)
    assert best == pytest.approx(float((r - gain).diagonal().real.mean()), rel=0.25)


@pytest.mark.parametrize("method", METHODS, ids=lambda m: m.name)
def test_equivariance_and_batch_independence(method):
    y = measure(channels(6), 10.0, torch.Generator().manual_seed(1))
    out = method.estimate(y, COMB, axis="subcarrier")
    for factor in (1j, 1e-18, 1e18):
        other = method.estimate(y * factor, COMB, axis="subcarrier") / factor
        assert torch.allclose(other, out, atol=1e-3)  # single precision, eigenvectors
    assert torch.allclose(method.estimate(y[2], COMB, axis="subcarrier"), out[2], atol=1e-3)
    assert method.estimate(torch.zeros_like(y), COMB, axis="subcarrier").isfinite().all()
    hidden = torch.where(COMB[:, None, None], y, torch.full((), float("nan"), dtype=y.dtype))
    assert torch.equal(method.estimate(hidden, COMB, axis="subcarrier"), out)


def test_linear_prediction_over_tones_continues_a_ray():
    f = torch.exp(-2j * math.pi * 0.03 * torch.arange(TONES)).to(torch.complex64)
    h = f[None, None, :, None, None].expand(2, 4, -1, 1, 4).contiguous()
    first = torch.arange(TONES) < 24
    method = PredictorExtrapolator(ARPredictor(order=2, ridge=1e-6))
    assert float(nmse(method.estimate(h, first, axis="subcarrier"), h)) < 1e-3
    with pytest.raises(ValueError, match="must be the first ones"):
        method.estimate(h, COMB, axis="subcarrier")


def test_the_rays_covariance_is_that_of_many_links():
    class Rays:
        delay = DELAY[None] / 1e5
        doppler = torch.zeros(1, 4)
        power = POWER[None]
        array = torch.ones(1, 4, 4, dtype=torch.complex64)

    r = ray_covariance(Rays, "subcarrier", TONES, port_shape=(1, 4, 1), slot_duration=1e-3, subcarrier_spacing=1e5)
    assert torch.allclose(r[0] / 4, true_covariance(), atol=1e-6)
    h = channels(2)
    context = {"axis_covariance": r.expand(2, -1, -1)}
    out = LMMSEInterpolator(None, 0.01).estimate(h, COMB, axis="subcarrier", context=context)
    assert torch.allclose(out, METHODS[1].estimate(h, COMB, axis="subcarrier"), atol=1e-4)


def test_tuning_finds_the_noise():
    h = channels(64)
    y = measure(h, 0.0, torch.Generator().manual_seed(1))
    every = torch.ones(TONES, dtype=torch.bool)
    found = tune_estimator(
        lambda **a: LMMSEInterpolator(true_covariance(), **a),
        {"noise": (1e-3, 1.0, 1e3)},
        y,
        h,
        COMB,
        every,
        axis="subcarrier",
    )
    assert found == {"noise": 1.0}


def test_errors():
    h = channels(2)
    with pytest.raises(ValueError, match="needs a covariance"):
        LMMSEInterpolator().estimate(h, COMB, axis="subcarrier")
    with pytest.raises(ValueError, match="but the axis has 32 samples"):
        LMMSEInterpolator(torch.eye(8)).estimate(h, COMB, axis="subcarrier")
    for wrong in (
        lambda: LMMSEInterpolator(None, -1.0),
        lambda: DelayInterpolator(0.0),
        lambda: DelayInterpolator(2.0),
        lambda: PowerDelayInterpolator(1.0),
    ):
        with pytest.raises(ValueError):
            wrong()


def test_features_ignore_phase_and_scale():
    h = torch.randn(3, 8, 12, 1, 4, dtype=torch.complex64, generator=torch.Generator().manual_seed(0))
    a, b = link_features(h), link_features(-2j * h)
    assert torch.allclose(a, b, atol=1e-4) and a.isfinite().all()
    steady = link_features(torch.ones(1, 8, 12, 1, 4, dtype=torch.complex64))
    assert torch.allclose(steady[0, :4], torch.ones(4)) and float(steady[0, 6]) > 5  # full correlation, large K
