"""The sparse AR with per-bin shrinkage against closed forms in float64."""

from __future__ import annotations

import math

import pytest
import torch

from airlam.baselines import ARPredictor, ar_filters, rollout
from airlam.baselines.ar import effective_order
from airlam.baselines.bins import bin_series, csi_of, noise_variance, stable_filter, strongest
from airlam.csi import mean_power, measure
from airlam.metrics import nmse


def exponentials(omegas: list[float], bins: int = 3, slots: int = 16, seed: int = 0) -> torch.Tensor:
    """complex128 ``[bin, slot]``: the same frequencies in every bin, random complex amplitudes."""
    g = torch.Generator().manual_seed(seed)
    t = torch.arange(slots, dtype=torch.float64)
    waves = torch.exp(1j * torch.tensor(omegas, dtype=torch.float64)[:, None] * t)
    return torch.randn(bins, len(omegas), generator=g, dtype=torch.complex128) @ waves


def plane_waves(links: int = 4, slots: int = 20, seed: int = 0) -> torch.Tensor:
    """complex128 CSI of eight plane waves over 16 tones and 8 ports."""
    g = torch.Generator().manual_seed(seed)

    def waves(n, width):
        slope = width * (2 * torch.rand(links, 8, 1, generator=g, dtype=torch.float64) - 1)
        return torch.exp(1j * slope * torch.arange(n))

    c = torch.randn(links, 8, generator=g, dtype=torch.complex128)
    h = torch.einsum("lr,lrt,lrf,lra->ltfa", c, waves(slots, 0.5), waves(16, 1.5), waves(8, 3.0))
    return h.unsqueeze(-2)


# 1e-6: what a ridge of 1e-12 leaves; rounding alone is far below
@pytest.mark.parametrize("shrinkage", [math.inf, 3.0])
@pytest.mark.parametrize("omegas", [[0.3], [0.3, -1.1], [0.1, 0.2, 2.0]])
def test_noise_free_exponentials_are_predicted_exactly(omegas, shrinkage):
    x = exponentials(omegas, slots=24)
    found = ar_filters(x[:, :16], order=len(omegas), ridge=1e-14, shrinkage=shrinkage)
    assert torch.allclose(rollout(x[:, :16], found.weights, 8), x[:, 16:], atol=1e-6)


def test_pooled_filter_of_two_exponentials_is_their_polynomial():
    a, b = 0.4, -0.9
    found = ar_filters(exponentials([a, b], bins=5), order=2, ridge=0.0, shrinkage=math.inf)
    za, zb = complex(math.cos(a), math.sin(a)), complex(math.cos(b), math.sin(b))
    expected = torch.tensor([-za * zb, za + zb], dtype=torch.complex128)  # newest slot last
    assert torch.allclose(found.pooled, expected, atol=1e-8)


@pytest.mark.parametrize("order", [3, 12])  # more equations than taps, and fewer: both forms of the inversion lemma
def test_shrinkage_is_the_formula(order):
    g = torch.Generator().manual_seed(1)
    x = torch.randn(7, 16, generator=g, dtype=torch.complex128)
    x = x / x.abs().square().mean().sqrt()
    kappa, ridge, bins = 2.5, 1e-3, 7
    rows = torch.stack([x[:, t - order : t] for t in range(order, 16)], 1)  # D_b
    target = x[:, order:, None]
    r = sum(rows[b].mH @ rows[b] for b in range(bins))
    r = r + ridge * r.diagonal().real.mean() * torch.eye(order)
    w = torch.linalg.solve(r, sum(rows[b].mH @ target[b] for b in range(bins)))
    found = ar_filters(x, order, ridge, kappa)
    assert torch.allclose(found.pooled, w.squeeze(-1))
    for b in range(bins):
        update = torch.linalg.solve(rows[b].mH @ rows[b] + kappa * r / bins, rows[b].mH @ (target[b] - rows[b] @ w))
        assert torch.allclose(found.weights[b], (w + update).squeeze(-1), atol=1e-10)


def test_limits_of_shrinkage():
    x = torch.randn(9, 16, generator=torch.Generator().manual_seed(2), dtype=torch.complex128)
    pooled = ar_filters(x, 4, 1e-4, math.inf)
    assert torch.equal(pooled.weights, pooled.pooled.expand(9, 4))
    assert torch.allclose(ar_filters(x, 4, 1e-4, 1e9).weights, pooled.weights, atol=1e-6)
    alone = ar_filters(x, 4, 1e-10, 0.0).weights
    for b in range(9):  # each bin as if it were the only one
        assert torch.allclose(alone[b], ar_filters(x[b : b + 1], 4, 1e-10, math.inf).pooled, atol=1e-6)
    # more equations than taps: kappa -> 0 leaves each bin's own least squares, whatever the pooled filter was
    assert torch.allclose(ar_filters(x, 4, 1e-10, 1e-9).weights, alone, atol=1e-6)


def test_single_precision_agrees_with_double():
    h_past = measure(plane_waves(), 20.0, torch.Generator().manual_seed(0))[:, :16]
    wide = ARPredictor(num_bins=64).predict(h_past, 4, port_shape=(2, 2, 2))
    narrow = ARPredictor(num_bins=64).predict(h_past.to(torch.complex64), 4, port_shape=(2, 2, 2))
    # -60 dB: single-precision Gram matrices with a ridge of 1e-4
    assert float(nmse(narrow.to(torch.complex128), wide)) < 1e-6


def test_rollout_feeds_predictions_back_and_bounds_them():
    x = torch.tensor([[1.0, 2.0]], dtype=torch.complex128)
    weights = torch.tensor([[0.0, 2.0]], dtype=torch.complex128)
    assert rollout(x, weights, 3).real.tolist() == [[4.0, 8.0, 16.0]]
    assert rollout(x, weights, 3, limit=1.5).real.tolist() == [[3.0, 3.0, 3.0]]
    turn = rollout(x, torch.tensor([[0.0, 3j]], dtype=torch.complex128), 2, limit=1.0)
    assert torch.allclose(turn, torch.tensor([[2j, -2.0]], dtype=torch.complex128))  # phase is kept


def test_it_beats_hold_and_the_pooled_filter_on_plane_waves():
    h = plane_waves(links=16)
    h_past = measure(h[:, :16], 20.0, torch.Generator().manual_seed(1))
    score = {
        s: float(nmse(ARPredictor(num_bins=64, shrinkage=s).predict(h_past, 4, port_shape=(2, 2, 2)), h[:, 16:]))
        for s in (3.0, math.inf)
    }
    hold = float(nmse(h_past[:, -1:].expand(-1, 4, -1, -1, -1), h[:, 16:]))
    assert score[3.0] < score[math.inf] < hold / 3


def test_filters_are_what_predict_uses():
    h_past = measure(plane_waves(), 20.0, torch.Generator().manual_seed(2))[:, :16]
    ar = ARPredictor(num_bins=32)
    bins, series, found = ar.filters(h_past, port_shape=(2, 2, 2))
    assert bins.shape == (4, 32) and series.shape == (4, 32, 16) and found.weights.shape == (4, 32, 12)
    future = torch.zeros(4, 128, 4, dtype=torch.complex128)
    future.scatter_(1, bins[..., None].expand(-1, -1, 4), rollout(series, found.weights, 4, ar.limit))
    assert torch.allclose(csi_of(future, (16, 1, 8), (2, 2, 2)), ar.predict(h_past, 4, port_shape=(2, 2, 2)))


@pytest.mark.parametrize("tail", ["zero", "pooled", "hold"])
def test_tails(tail):
    h_past = plane_waves()[:, :16]
    out = ARPredictor(num_bins=8, tail=tail).predict(h_past, 2, port_shape=(2, 2, 2))
    series, future = bin_series(h_past, (2, 2, 2)), bin_series(out, (2, 2, 2))
    rest = torch.ones(4, 128, dtype=torch.bool).scatter(1, strongest(series, 8), False)
    if tail == "zero":
        assert float(future[rest].abs().max()) < 1e-12
    elif tail == "hold":
        assert torch.allclose(future[rest], series[rest][:, -1:].expand(-1, 2))
    else:
        assert float(future[rest].abs().max()) > 1e-3


def test_order_shrinks_for_short_histories():
    assert [effective_order(12, t) for t in (1, 2, 4, 8, 16, 100)] == [1, 1, 3, 6, 12, 12]


def test_one_slot_is_held():
    h_past = plane_waves()[:, :1]
    assert torch.allclose(ARPredictor(num_bins=None).predict(h_past, 2), h_past.expand(-1, 2, -1, -1, -1))


def test_stable_filter_moves_only_what_is_outside():
    inside = torch.tensor([-0.25, 1.0], dtype=torch.complex128)  # double pole at 0.5
    assert torch.allclose(stable_filter(inside), inside)
    outside = torch.tensor([[-3.0, 3.5]], dtype=torch.complex128)  # poles 1.5 and 2 -> both 1: z^2 - 2 z + 1
    assert torch.allclose(stable_filter(outside), torch.tensor([[-1.0, 2.0]], dtype=torch.complex128))
    mixed = torch.tensor([-0.5j * 2, 0.5j + 2], dtype=torch.complex128)  # poles 2 and 0.5j
    assert torch.allclose(stable_filter(mixed), torch.tensor([-0.5j, 0.5j + 1], dtype=torch.complex128))


def test_noise_variance_of_a_sparse_link():
    h = plane_waves(links=32)
    noisy = measure(h, 10.0, torch.Generator().manual_seed(0))
    ratio = noise_variance(bin_series(noisy, (2, 2, 2))) / (0.1 * mean_power(h))
    # eight plane waves leak into every bin, so the guess lies somewhat above: within 3 dB in the median
    assert 0.5 < float(ratio.median()) < 2.0


@pytest.mark.parametrize(
    "kwargs, message",
    [
        ({"order": 0}, "order"),
        ({"ridge": -1.0}, "ridge"),
        ({"shrinkage": -1.0}, "shrinkage"),
        ({"num_bins": 0}, "num_bins"),
        ({"tail": "none"}, "tail"),
    ],
)
def test_bad_arguments(kwargs, message):
    with pytest.raises(ValueError, match=message):
        ARPredictor(**kwargs)
