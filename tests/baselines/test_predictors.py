"""Prony, Wiener, Kalman, tuning: closed forms and facts of their own."""

from __future__ import annotations

import math

import pytest
import torch

from airlam.baselines import (
    ARPredictor,
    HoldPredictor,
    JakesWienerPredictor,
    KalmanPredictor,
    PADPredictor,
    VectorPronyPredictor,
    WienerPredictor,
    tune,
)
from airlam.baselines.bins import bin_energy, bin_series
from airlam.baselines.prony import within_energy
from airlam.baselines.wiener import normalised_toeplitz, toeplitz
from airlam.csi import from_beam_delay, measure, to_beam_delay
from airlam.metrics import nmse

PORTS = (2, 2, 2)


def bins_with_own_doppler(links: int = 2, slots: int = 20, seed: int = 0) -> torch.Tensor:
    """complex128 CSI in which every beam-delay bin is one exponential of its own frequency."""
    g = torch.Generator().manual_seed(seed)
    omega = 2 * torch.rand(links, 1, 16, 1, 8, generator=g, dtype=torch.float64) - 1
    c = torch.randn(links, 1, 16, 1, 8, generator=g, dtype=torch.complex128)
    t = torch.arange(slots)[:, None, None, None]
    return from_beam_delay(c * torch.exp(1j * omega * t), PORTS)


def clarke(links: int = 32, slots: int = 20, phase: float = 0.3, seed: int = 0) -> torch.Tensor:
    """Isotropic scattering: 60 rays, Doppler phases ``phase * cos(angle)`` a slot, over 16 tones and 8 ports."""
    g = torch.Generator().manual_seed(seed)

    def draw(width):
        return width * (2 * torch.rand(links, 60, 1, generator=g, dtype=torch.float64) - 1)

    time = torch.exp(1j * phase * torch.cos(draw(math.pi)) * torch.arange(slots))
    tone = torch.exp(1j * draw(1.5) * torch.arange(16))
    port = torch.exp(1j * draw(3.0) * torch.arange(8))
    c = torch.randn(links, 60, generator=g, dtype=torch.complex128) / math.sqrt(60)
    return torch.einsum("lr,lrt,lrf,lra->ltfa", c, time, tone, port).unsqueeze(-2)


def test_true_pad_has_coefficients_per_element():
    """One exponential per bin: PAD of order 1 is exact, one shared polynomial of order 1 cannot be."""
    h = bins_with_own_doppler()
    pad = PADPredictor(order=1, ridge=0.0).predict(h[:, :16], 4, port_shape=PORTS)
    assert torch.allclose(pad, h[:, 16:], atol=1e-8)  # loading of 1e-12 in double precision
    vector = VectorPronyPredictor(order=1, ridge=0.0).predict(h[:, :16], 4, port_shape=PORTS)
    assert float(nmse(vector, h[:, 16:])) > 0.1


def test_vector_prony_does_not_see_a_unitary_transform():
    h = measure(clarke(links=3), 20.0, torch.Generator().manual_seed(0))
    plain = VectorPronyPredictor(order=4).predict(h[:, :16], 4)
    turned = VectorPronyPredictor(order=4).predict(to_beam_delay(h[:, :16], PORTS), 4)
    assert torch.allclose(from_beam_delay(turned, PORTS), plain, atol=1e-9)


def test_pad_energy_keeps_just_enough():
    series = bin_series(clarke(links=4)[:, :16], PORTS)
    energy = bin_energy(series)
    for fraction in (0.5, 0.9, 0.99):
        keep = within_energy(series, fraction)
        share = (energy * keep).sum(-1) / energy.sum(-1)
        assert bool((share >= fraction).all())
        weakest = torch.where(keep, energy, torch.inf).amin(-1)
        assert bool((share - weakest / energy.sum(-1) < fraction).all())  # one fewer would not do
    assert bool(within_energy(series, 1.0).all())


def test_toeplitz():
    lags = torch.tensor([2.0, 1 + 1j, 0.5j], dtype=torch.complex128)
    t = toeplitz(lags)
    assert torch.equal(t, t.mH) and t[1, 0] == lags[1] and t[2, 0] == lags[2]
    indefinite = torch.tensor([1.0, 1.5, 0.0], dtype=torch.complex128)
    fixed = normalised_toeplitz(indefinite)
    assert float(torch.linalg.eigvalsh(fixed).min()) > -1e-12
    assert float(fixed.diagonal().real.mean()) == pytest.approx(1.0)


def test_jakes_wiener_reaches_its_own_error_bound():
    """On isotropic scattering of the stated speed the error is what the LMMSE formula says (within a factor 1.5)."""
    phase = 0.3
    context = {"speed": phase / (2 * math.pi) / 1e-3 * 0.1, "carrier_frequency": 2_997_924_580.0, "slot_duration": 1e-3}
    h = clarke(links=128, phase=phase)
    h_past = measure(h[:, :16], 10.0, torch.Generator().manual_seed(1))
    h_hat, variance = JakesWienerPredictor(order=12, ridge=0.0).predict_with_variance(
        h_past, 4, port_shape=PORTS, context=context
    )
    error = (h_hat - h[:, 16:]).abs().square().mean((0, 2, 3, 4))
    stated = variance.mean((0, 2, 3, 4))
    assert bool((error < 1.5 * stated).all()) and bool((stated < 1.5 * error).all())


def test_jakes_wiener_needs_the_speed():
    with pytest.raises(ValueError, match="speed"):
        JakesWienerPredictor().predict(clarke(links=1)[:, :16], 4, context={"slot_duration": 1e-3})


@pytest.mark.parametrize("predictor", [WienerPredictor(), KalmanPredictor(), ARPredictor(num_bins=128)])
def test_statistics_from_the_history_beat_hold(predictor):
    h = clarke(links=32)
    h_past = measure(h[:, :16], 10.0, torch.Generator().manual_seed(1))
    hold = nmse(HoldPredictor().predict(h_past, 4), h[:, 16:])
    assert float(nmse(predictor.predict(h_past, 4, port_shape=PORTS), h[:, 16:])) < 0.5 * float(hold)  # by 3 dB


def test_tuning_finds_the_best_of_a_full_grid():
    h = clarke(links=12)
    h_past = measure(h[:, :16], 10.0, torch.Generator().manual_seed(1))
    grid = {"shrinkage": [1.0, 10.0], "num_bins": [16, 128]}
    tried: dict[tuple, float] = {}
    best = tune(
        ARPredictor,
        h_past,
        h[:, 16:],
        grid=grid,
        port_shape=PORTS,
        search="full",
        progress=lambda kwargs, value: tried.__setitem__(tuple(kwargs.values()), value),
    )
    assert len(tried) == 4 and tried[tuple(best.values())] == min(tried.values())
    score = nmse(ARPredictor(**best).predict(h_past, 4, port_shape=PORTS), h[:, 16:])
    assert float(score) == pytest.approx(min(tried.values()))


def test_tuning_is_never_worse_than_the_default():
    h = clarke(links=12)
    h_past = measure(h[:, :16], 0.0, torch.Generator().manual_seed(1))
    for predictor_class in (ARPredictor, PADPredictor, WienerPredictor, KalmanPredictor, HoldPredictor):
        best = tune(predictor_class, h_past, h[:, 16:], port_shape=PORTS, max_sweeps=1)
        tuned, default = predictor_class(**best), predictor_class()
        score = [float(nmse(p.predict(h_past, 4, port_shape=PORTS), h[:, 16:])) for p in (tuned, default)]
        assert score[0] <= score[1] * (1 + 1e-9)


def test_tuning_splits_context_with_the_links():
    h = clarke(links=5)
    context = {"speed": torch.linspace(1, 10, 5), "slot_duration": 0.5e-3, "carrier_frequency": 2.4e9}
    best = tune(JakesWienerPredictor, h[:, :16], h[:, 16:], context=context, batch_size=2, grid={"order": [4, 8]})
    assert best["order"] in (4, 8, 12)


def test_tuning_bad_input():
    h = clarke(links=2)
    with pytest.raises(ValueError, match="search"):
        tune(ARPredictor, h[:, :16], h[:, 16:], search="random")
    with pytest.raises(ValueError, match="same links"):
        tune(ARPredictor, h[:1, :16], h[:, 16:])
    with pytest.raises(ValueError, match="default grid"):
        tune(object, h[:, :16], h[:, 16:])
