"""SINR and rates against hand-made channels; latency-charged SE."""

from __future__ import annotations

import math

import pytest
import torch

from airlam.metrics import (
    break_even_latency,
    five_percent_user_rate,
    hold_after_horizon,
    latency_charged_se,
    quantile,
    single_user_se,
    sinr,
    sum_rate,
    user_rates,
)


def random_complex(*shape: int, seed: int = 0, dtype=torch.complex128) -> torch.Tensor:
    return torch.randn(*shape, dtype=dtype, generator=torch.Generator().manual_seed(seed))


def test_sinr_by_hand():
    h = torch.tensor([[1.0, 0.5], [0.0, 2.0]], dtype=torch.complex128)
    w = torch.eye(2, dtype=torch.complex128)
    # user 0 gets 1, interference 0.25; user 1 gets 4, interference 0
    assert sinr(h, w, 0.25).tolist() == pytest.approx([1 / 0.5, 4 / 0.25])
    assert float(sum_rate(h, w, 0.25)) == pytest.approx(math.log2(3) + math.log2(17))


def test_rows_are_not_conjugated():
    h = torch.tensor([[1.0, 1j]], dtype=torch.complex128)
    w = torch.tensor([[1.0], [-1j]], dtype=torch.complex128)  # h w = 2
    assert float(sinr(h, w, 1.0)) == pytest.approx(4.0)


def test_one_receive_antenna_with_and_without_the_axis():
    h, w = random_complex(5, 3, 8), random_complex(5, 8, 3, seed=1)
    assert torch.allclose(sinr(h.unsqueeze(-2), w, 0.1), sinr(h, w, 0.1))


def test_mmse_combining_is_the_best_linear_receiver():
    h, w = random_complex(4, 3, 2, 8), random_complex(4, 8, 3, seed=1)
    best = sinr(h, w, 0.3)
    for seed in range(20):
        v = random_complex(4, 3, 1, 2, seed=seed)
        noise = 0.3 * v.abs().square().sum((-2, -1))
        seen = sinr((v @ h).squeeze(-2), w, noise)
        assert bool((seen <= best * (1 + 1e-12)).all())
    # and it is attained by v = a^H (R)^-1
    a = h @ w.unsqueeze(-3)
    own = a.diagonal(dim1=-3, dim2=-1).mT.unsqueeze(-1)
    others = a * (1 - torch.eye(3)).unsqueeze(-2)
    r = others @ others.mH + 0.3 * torch.eye(2)
    v = torch.linalg.solve(r, own).mH
    assert torch.allclose(sinr((v @ h).squeeze(-2), w, 0.3 * v.abs().square().sum((-2, -1))), best)


def test_noise_per_entry_and_per_user():
    h, w = random_complex(2, 3, 4), random_complex(2, 4, 3, seed=1)
    entry = torch.tensor([0.1, 0.2])
    assert torch.allclose(sinr(h, w, entry)[1], sinr(h[1], w[1], 0.2))
    user = torch.tensor([[0.1, 0.2, 0.3], [0.4, 0.5, 0.6]])
    assert torch.allclose(sinr(h, w, user)[1, 2], sinr(h[1], w[1], 0.6)[2])


def test_single_user_se_is_the_log_of_the_largest_singular_value():
    h = random_complex(7, 2, 8)
    s = torch.linalg.svdvals(h)[..., 0]
    assert torch.allclose(single_user_se(h, h, 2.0, 0.1), torch.log2(1 + 20 * s.square()))
    other = random_complex(7, 2, 8, seed=3)
    assert bool((single_user_se(other, h, 2.0, 0.1) <= single_user_se(h, h, 2.0, 0.1)).all())


def test_single_user_se_of_a_zero_estimate_is_finite():
    h = random_complex(2, 1, 4)
    assert torch.isfinite(single_user_se(torch.zeros_like(h), h)).all()


def test_five_percent_rate():
    assert float(five_percent_user_rate(torch.arange(101.0).reshape(1, 101))) == pytest.approx(5.0)


def test_user_rates_keep_every_axis():
    assert user_rates(random_complex(2, 5, 3, 4), random_complex(2, 5, 4, 3), 0.1).shape == (2, 5, 3)


@pytest.mark.parametrize("no", [0.0, -1.0, float("nan")])
def test_bad_noise(no):
    with pytest.raises(ValueError, match="no must be positive"):
        sinr(random_complex(2, 4), random_complex(4, 2), no)


def test_bad_shapes():
    with pytest.raises(ValueError, match="must be"):
        sinr(random_complex(2, 4), random_complex(5, 2), 0.1)
    with pytest.raises(ValueError, match="must be"):
        sinr(random_complex(3, 4), random_complex(4, 2), 0.1)


# ------------------------------------------------------------------------------------------- latency-charged SE


def test_hold_after_horizon_repeats_the_last_slot():
    h = random_complex(2, 4, 3, 1, 2)
    longer = hold_after_horizon(h, 7)
    assert longer.shape == (2, 7, 3, 1, 2)
    assert torch.equal(longer[:, 6], h[:, 3]) and torch.equal(longer[:, :4], h)


def test_latency_moves_to_later_steps():
    se = torch.tensor([5.0, 4.0, 3.0, 2.0, 1.0])
    curve = latency_charged_se(se, torch.tensor([0.0, 0.5e-3, 0.51e-3, 2.0e-3]), slot_duration=0.5e-3)
    assert curve.tolist() == [5.0, 5.0, 4.0, 2.0]
    assert float(latency_charged_se(se, 0.0, slot_duration=0.5e-3, csi_period=5)) == pytest.approx(3.0)
    batch = torch.stack([se, 2 * se])
    assert latency_charged_se(batch, torch.tensor([0.0, 1e-3]), slot_duration=0.5e-3).shape == (2, 2)


def test_latency_beyond_what_was_measured_is_refused():
    with pytest.raises(ValueError, match="hold_after_horizon"):
        latency_charged_se(torch.ones(4), 10e-3, slot_duration=0.5e-3)


def test_break_even():
    latency = torch.tensor([0.0, 1.0, 2.0, 3.0])
    curve = torch.tensor([4.0, 3.0, 2.0, 1.0])
    assert float(break_even_latency(curve, latency, 2.0)) == 2.0
    assert math.isnan(float(break_even_latency(curve, latency, 9.0)))


@pytest.mark.parametrize("count", [1, 2, 3, 20, 21, 1000, 12345])
@pytest.mark.parametrize("q", [0.0, 0.05, 0.1, 0.37, 0.5, 0.99, 1.0])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_quantiles_are_those_of_torch_to_the_bit(count, q, dtype):
    x = torch.randn(3, count, dtype=dtype, generator=torch.Generator().manual_seed(count))
    assert torch.equal(quantile(x, q), torch.quantile(x, q, dim=-1))
    assert torch.equal(quantile(x, q, dim=0, keepdim=True), torch.quantile(x, q, dim=0, keepdim=True))


def test_a_quantile_of_nan_is_nan_and_of_nothing_refused():
    assert quantile(torch.tensor([[1.0, math.nan], [1.0, 2.0]]), 0.5).isnan().tolist() == [True, False]
    with pytest.raises(ValueError, match="a quantile needs at least one"):
        five_percent_user_rate(torch.zeros(0))
    with pytest.raises(ValueError, match=r"q is 1.5, but must lie in \[0, 1\]"):
        quantile(torch.ones(3), 1.5)


def test_five_percent_of_more_rates_than_torch_sorts():
    """torch.quantile stops at 2^24 entries; rank 0.05 (n - 1) is whole here, and the value at a rank is the rank."""
    rates = torch.arange(2**24 + 5, dtype=torch.float64).flip(0)
    assert float(five_percent_user_rate(rates)) == (2**24 + 4) / 20
