"""Precoders and bounds: closed forms in float64, orderings that hold for every sample.

Degenerate channels and the usual bad input are in :class:`airlam.testing.PrecoderContract` (tests/contracts).
"""

from __future__ import annotations

import math

import pytest
import torch

from airlam.baselines import (
    MRTPrecoder,
    RZFPrecoder,
    SLNRPrecoder,
    Type1Precoder,
    WMMSEPrecoder,
    ZFPrecoder,
    dpc_sum_capacity,
    effective_channel,
    mrt,
    rzf,
    slnr,
    svd_water_filling,
    type1_codebook,
    water_filling,
    water_filling_capacity,
    wmmse,
    zf,
    zf_water_filling,
)
from airlam.interfaces import Precoder
from airlam.metrics import sinr, sum_rate

PRECODERS = {
    "mrt": lambda h, power, no: mrt(h, power),
    "zf": lambda h, power, no: zf(h, power),
    "zf-wf": zf_water_filling,
    "rzf": rzf,
    "slnr": slnr,
    "wmmse": wmmse,
}


def iid(*shape: int, seed: int = 0, dtype=torch.complex128) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def sector(batch: int, users: int, antennas: int, seed: int = 0) -> torch.Tensor:
    """Correlated users: steering vectors within 15 degrees, a little scattering."""
    g = torch.Generator().manual_seed(seed)
    angle = 0.26 * torch.rand(batch, users, 1, generator=g, dtype=torch.float64)
    return torch.exp(1j * math.pi * torch.arange(antennas) * torch.sin(angle)) + 0.05 * iid(batch, users, antennas)


CHANNELS = {"iid": iid(40, 4, 8), "square": iid(40, 6, 6), "sector": sector(40, 8, 16), "one user": iid(40, 1, 4)}


def used_power(w: torch.Tensor) -> torch.Tensor:
    return w.abs().square().sum((-2, -1))


@pytest.mark.parametrize("name", PRECODERS)
@pytest.mark.parametrize("channel", CHANNELS)
def test_power_is_used_and_not_exceeded(name, channel):
    h = CHANNELS[channel]
    w = PRECODERS[name](h, 3.0, 0.05)
    assert w.shape == (40, h.shape[-1], h.shape[-2]) and w.dtype == h.dtype
    assert torch.allclose(used_power(w), torch.full((40,), 3.0, dtype=torch.float64))
    if name in ("mrt", "zf", "rzf", "slnr"):
        share = w.abs().square().sum(-2)
        assert torch.allclose(share, torch.full_like(share, 3.0 / h.shape[-2]))


def test_mrt_is_the_matched_beam():
    h = iid(3, 1, 5)
    assert torch.allclose(sinr(h, mrt(h, 2.0), 0.1).squeeze(-1), 2.0 * h.abs().square().sum((-2, -1)) / 0.1)


def test_zf_nulls_interference():
    h = iid(10, 4, 8)
    seen = h @ zf(h, 1.0)
    leak = seen.masked_fill(torch.eye(4, dtype=torch.bool), 0)
    assert float(leak.abs().max()) < 1e-12 * float(seen.abs().max())  # float64 rounding


def test_rzf_tends_to_zf_and_to_mrt():
    h = iid(10, 4, 8)
    assert torch.allclose(rzf(h, 1.0, 1e-12), zf(h, 1.0), atol=1e-9)
    assert torch.allclose(rzf(h, 1.0, 1e9), mrt(h, 1.0), atol=1e-6)


def test_rzf_by_the_textbook_formula():
    h, power, no = iid(5, 3, 6), 2.0, 0.3
    w = torch.linalg.solve(h.mH @ h + 3 * no / power * torch.eye(6), h.mH)
    w = w / torch.linalg.vector_norm(w, dim=-2, keepdim=True) * math.sqrt(power / 3)
    assert torch.allclose(rzf(h, power, no), w)


def test_rzf_is_sionnas():
    """Sionna's columns have unit norm; ours contain the power."""
    mimo = pytest.importorskip("sionna.phy.mimo")
    h, power, no = iid(7, 4, 16), 2.5, 0.2
    theirs = mimo.rzf_precoding_matrix(h, alpha=4 * no / power, precision="double")
    torch.testing.assert_close(rzf(h, power, no), theirs * math.sqrt(power / 4))
    no_loading = mimo.rzf_precoding_matrix(h, precision="double")
    torch.testing.assert_close(zf(h, power), no_loading * math.sqrt(power / 4))


def test_slnr_maximises_the_signal_to_leakage_ratio():
    h, power, no = iid(6, 4, 8), 1.0, 0.2

    def ratio(w):
        seen = (h @ w).abs().square()
        signal = seen.diagonal(dim1=-2, dim2=-1)
        return signal / (seen.sum(-2) - signal + no)  # column k: what user k's beam does to all

    best = ratio(slnr(h, power, no))
    for seed in range(10):
        w = slnr(h, power, no) + 0.05 * iid(6, 8, 4, seed=seed)
        w = w / torch.linalg.vector_norm(w, dim=-2, keepdim=True) * 0.5
        assert bool((ratio(w) <= best * (1 + 1e-12)).all())
    assert torch.allclose(sum_rate(h, slnr(h, power, no), no), sum_rate(h, rzf(h, power, no), no))  # equal noise


def test_slnr_with_noise_per_user():
    h, no = iid(4, 3, 6), torch.tensor([0.1, 1.0, 3.0], dtype=torch.float64).expand(4, 3)
    w = slnr(h, 1.0, no)
    for k in range(3):
        others = [j for j in range(3) if j != k]
        leak = h[:, others].mH @ h[:, others] + 3 * no[0, k] * torch.eye(6)
        beam = torch.linalg.solve(leak, h[:, k, :, None].conj()).squeeze(-1)
        cosine = (beam.conj() * w[..., k]).sum(-1).abs() / (beam.norm(dim=-1) * w[..., k].norm(dim=-1))
        assert torch.allclose(cosine, torch.ones_like(cosine))


@pytest.mark.parametrize("channel", CHANNELS)
@pytest.mark.parametrize("no", [10.0, 0.1, 1e-3])
def test_orderings_that_hold_for_every_sample(channel, no):
    h = CHANNELS[channel]
    rate = {name: sum_rate(h, make(h, 1.0, no), no) for name, make in PRECODERS.items()}
    value, gap = dpc_sum_capacity(h, 1.0, no, return_gap=True)
    slack = 1e-9  # rounding in float64
    assert bool((rate["zf"] <= rate["zf-wf"] + slack).all())
    assert bool((rate["rzf"] <= rate["wmmse"] + slack).all())
    for name in PRECODERS:
        assert bool((rate[name] <= value + gap + slack).all()), name
    assert bool((value <= water_filling_capacity(h, 1.0, no) + slack).all())
    assert float(gap.max()) < 0.05  # bit/s/Hz: a certificate worth having


def test_wmmse_never_falls_with_more_iterations():
    h, no = sector(30, 8, 16), 0.01
    rates = [sum_rate(h, wmmse(h, 1.0, no, num_iterations=n), no) for n in (0, 1, 2, 5, 10, 50)]
    assert torch.allclose(rates[0], sum_rate(h, rzf(h, 1.0, no), no))
    for fewer, more in zip(rates, rates[1:], strict=False):
        assert bool((more >= fewer - 1e-9).all())
    assert float(rates[-1].mean()) > 1.02 * float(rates[0].mean())  # correlated users: there is something to gain


def certain_rate(h, w, c, no):
    """Sum-rate with what each user receives through its CSI error counted as noise."""
    power = (h @ w).abs().square()
    own = power.diagonal(dim1=-2, dim2=-1)
    lost = torch.einsum("...aj,...kab,...bj->...k", w.conj(), c, w).real
    return torch.log2(1 + own / (power.sum(-1) - own + lost + no)).sum(-1)


def test_robust_wmmse_without_errors_is_wmmse():
    h, no = sector(20, 6, 16), 0.01
    none = torch.zeros(20, 6, 16, 16, dtype=h.dtype)
    robust, plain = wmmse(h, 1.0, no, error_covariance=none), wmmse(h, 1.0, no)
    assert torch.allclose(robust, plain, atol=1e-6)


def test_robust_wmmse_never_falls_below_its_start():
    h, no = sector(30, 8, 16), 0.01
    a = iid(30, 8, 16, 3, seed=1)
    c = 0.02 * a @ a.mH  # errors in three directions
    rates = [certain_rate(h, wmmse(h, 1.0, no, num_iterations=n, error_covariance=c), c, no) for n in (0, 1, 5, 20)]
    assert torch.allclose(rates[0], certain_rate(h, rzf(h, 1.0, no, error_covariance=c), c, no))
    for fewer, more in zip(rates, rates[1:], strict=False):
        assert bool((more >= fewer - 1e-9).all())
    assert bool((rates[-1] >= certain_rate(h, wmmse(h, 1.0, no), c, no) - 1e-6).all())


def test_robust_wmmse_pays_on_the_true_channel():
    """Errors drawn from the covariance it was told: better on average than the beams that do not know it."""
    h_hat, no = iid(200, 4, 8), 0.01
    a = iid(200, 4, 8, 2, seed=1)
    h = h_hat + (0.3 * a @ iid(200, 4, 2, 1, seed=2)).squeeze(-1).conj()
    c = 0.09 * (a @ a.mH)  # e = (A z)^*, so E[e^H e] = A A^H
    w = wmmse(h_hat, 2.0, no, error_covariance=c)
    assert torch.allclose(w.abs().square().sum((-2, -1)), torch.full((200,), 2.0, dtype=torch.float64))
    told, untold = (sum_rate(h, x, no).mean() for x in (w, wmmse(h_hat, 2.0, no)))
    assert float(told) > 1.05 * float(untold)


def test_wmmse_stationary_point_of_two_orthogonal_users_is_water_filling():
    h = torch.diag(torch.tensor([1.0, 0.6], dtype=torch.complex128))
    best = water_filling_capacity(h, 4.0, 1.0)  # orthogonal rows: cooperation brings nothing
    found = sum_rate(h, wmmse(h, 4.0, 1.0, num_iterations=200), 1.0)
    assert float(found) == pytest.approx(float(best), abs=1e-4)  # WMMSE converges sublinearly in the powers


def test_svd_water_filling_reaches_capacity():
    h = iid(6, 3, 8)
    no = torch.logspace(-2, 1, 6, dtype=torch.float64)
    w = svd_water_filling(h, 2.0, no)
    torch.testing.assert_close(w.abs().square().sum((-2, -1)), torch.full((6,), 2.0, dtype=torch.float64))
    seen = h @ w
    rate = torch.linalg.slogdet(torch.eye(3) + seen @ seen.mH / no[:, None, None])[1] / math.log(2)
    reached = water_filling_capacity(h[:, None], 2.0, no, rx_axis=True)
    torch.testing.assert_close(rate, reached)


def test_type1_codebook_is_the_standards():
    """TS 38.214 clause 5.2.2.2.1, N1 = 2, N2 = 2, O1 = O2 = 4: one codeword by its own formula."""
    book = type1_codebook((2, 2, 2))
    assert book.shape == (8, 8 * 8 * 4)
    torch.testing.assert_close(book.abs(), torch.full_like(book.abs(), 8**-0.5))
    column, row, n = 3, 5, 2
    u = torch.polar(torch.ones(2), 2 * math.pi * row / 8 * torch.arange(2))
    v = torch.cat([u, u * torch.polar(torch.ones(()), torch.tensor(2 * math.pi * column / 8))])
    word = torch.cat([v, 1j**n * v]) / 8**0.5
    assert float((book.T.conj() @ word).abs().max()) == pytest.approx(1.0, abs=1e-5)


def test_type1_precoder_picks_the_beam_of_a_lone_ray():
    book = type1_codebook((2, 4, 1))
    h = book[:, [9, 40]].mH * 3
    w = Type1Precoder(port_shape=(2, 4, 1)).precode(h, 2.0, 0.1)
    torch.testing.assert_close((h @ w).diagonal(dim1=-2, dim2=-1).abs(), torch.tensor([3.0, 3.0]))


def test_water_filling_by_hand():
    powers = water_filling(torch.tensor([1.0, 0.5, 0.1]), torch.tensor(3.0))  # levels 1, 2, 10: water at 3
    assert powers.tolist() == pytest.approx([2.0, 1.0, 0.0])
    assert water_filling(torch.zeros(4), torch.tensor(2.0)).tolist() == pytest.approx([0.5] * 4)


def test_water_filling_beats_random_allocations():
    gains = iid(50, 5).abs().square()
    power = torch.full((50,), 2.0, dtype=torch.float64)
    best = torch.log2(1 + gains * water_filling(gains, power)).sum(-1)
    for seed in range(20):
        share = torch.rand(50, 5, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
        share = 2.0 * share / share.sum(-1, keepdim=True)
        assert bool((torch.log2(1 + gains * share).sum(-1) <= best + 1e-12).all())


def test_one_user_all_bounds_are_its_capacity():
    h = iid(20, 1, 6)
    expected = torch.log2(1 + 2.0 / 0.1 * h.abs().square().sum((-2, -1)))
    assert torch.allclose(water_filling_capacity(h, 2.0, 0.1), expected)
    assert torch.allclose(dpc_sum_capacity(h, 2.0, 0.1), expected)
    for make in PRECODERS.values():
        assert torch.allclose(sum_rate(h, make(h, 2.0, 0.1), 0.1), expected)


def test_one_user_with_two_antennas_reaches_mimo_capacity():
    h = iid(20, 1, 2, 6)
    s = torch.linalg.svdvals(h.squeeze(1)).square() / 0.1
    power = torch.full((20,), 2.0, dtype=torch.float64)
    expected = torch.log2(1 + s * water_filling(s, power)).sum(-1)
    assert torch.allclose(water_filling_capacity(h, 2.0, 0.1, rx_axis=True), expected)
    value, gap = dpc_sum_capacity(h, 2.0, 0.1, rx_axis=True, return_gap=True)
    assert bool((value <= expected + 1e-9).all()) and bool((value + gap >= expected - 1e-9).all())


def test_dpc_of_two_users_by_exhaustive_search():
    h, power, no = iid(8, 2, 3), 1.0, 0.1
    share = torch.linspace(0, 1, 20001, dtype=torch.float64)
    g = h @ h.mH / no
    # det(I + Q G) of 2 x 2
    a, b, c = g[:, 0, 0].real, g[:, 1, 1].real, g[:, 0, 1].abs().square()
    q1, q2 = power * share, power * (1 - share)
    best = torch.log2(1 + q1 * a[:, None] + q2 * b[:, None] + q1 * q2 * (a * b - c)[:, None]).amax(-1)
    value, gap = dpc_sum_capacity(h, power, no, tolerance=1e-8, return_gap=True)
    assert torch.allclose(value, best, atol=1e-6)  # grid of 5e-5: error of second order
    assert float(gap.max()) < 1e-6


def test_several_receive_antennas():
    h = iid(10, 3, 2, 8)
    u = effective_channel(h)
    assert torch.allclose(u.norm(dim=-1), torch.linalg.svdvals(h)[..., 0])
    for make in (rzf, wmmse, slnr, zf_water_filling):
        w = make(h, 1.0, 0.1, rx_axis=True)
        assert torch.allclose(w, make(u, 1.0, 0.1))
        with_mmse = sum_rate(h, w, 0.1)
        assert bool((with_mmse >= sum_rate(u, w, 0.1) - 1e-12).all())
        value, gap = dpc_sum_capacity(h, 1.0, 0.1, rx_axis=True, return_gap=True)
        assert bool((with_mmse <= value + gap + 1e-9).all())


def test_robust_rzf():
    h = iid(4, 3, 6)
    nothing = torch.zeros(4, 3, 6, 6, dtype=torch.complex128)
    assert torch.allclose(rzf(h, 1.0, 0.1, error_covariance=nothing), rzf(h, 1.0, 0.1))
    white = 0.2 * torch.eye(6, dtype=torch.complex128).expand(4, 3, 6, 6)  # K * 0.2 more loading = no larger by 0.2
    assert torch.allclose(rzf(h, 1.0, 0.1, error_covariance=white), rzf(h, 1.0, 0.3))
    assert torch.allclose(slnr(h, 1.0, 0.1, error_covariance=white), rzf(h, 1.0, 0.3))
    with pytest.raises(ValueError, match="error_covariance"):
        rzf(h, 1.0, 0.1, error_covariance=white[:, :2])


def test_power_and_noise_per_entry():
    h = iid(2, 3, 6)
    power, no = torch.tensor([1.0, 2.0]), torch.tensor([0.1, 0.3])
    for name, make in PRECODERS.items():
        w = make(h, power, no)
        assert torch.allclose(w[1], make(h[1], 2.0, 0.3), atol=1e-6), name  # 0.3 in single precision


@pytest.mark.parametrize("name", PRECODERS)
def test_batch_independence_and_leading_axes(name):
    h = iid(6, 3, 5)
    w = PRECODERS[name](h, 1.0, 0.1)
    others = h.clone()
    others[1:] = 0
    assert torch.allclose(PRECODERS[name](others, 1.0, 0.1)[0], w[0])
    assert torch.allclose(PRECODERS[name](h.unflatten(0, (2, 3)), 1.0, 0.1).flatten(0, 1), w)
    assert torch.allclose(PRECODERS[name](h[0], 1.0, 0.1), w[0])


@pytest.mark.parametrize("make", [zf, lambda h, power: zf_water_filling(h, power, 0.1)])
def test_more_users_than_antennas(make):
    with pytest.raises(ValueError, match="at most 4 users"):
        make(iid(2, 5, 4), 1.0)
    assert rzf(iid(2, 5, 4), 1.0, 0.1).shape == (2, 4, 5)
    assert wmmse(iid(2, 5, 4), 1.0, 0.1).shape == (2, 4, 5)


@pytest.mark.parametrize(
    "change, message",
    [
        ({"no": float("nan")}, "no must be positive"),
        ({"power": torch.ones(2, 3)}, "one per batch entry"),
    ],
)
def test_bad_input(change, message):
    request = {"h": iid(2, 3, 4), "power": 1.0, "no": 0.1, **change}
    for make in (rzf, slnr, wmmse, zf_water_filling):
        with pytest.raises(ValueError, match=message):
            make(**request)


@pytest.mark.parametrize(
    "precoder",
    [MRTPrecoder(), ZFPrecoder(), ZFPrecoder(water_filling=True), RZFPrecoder(), SLNRPrecoder(), WMMSEPrecoder()],
)
def test_classes_are_precoders(precoder):
    assert isinstance(precoder, Precoder) and precoder.name in PRECODERS
    h = iid(2, 3, 6)
    assert torch.equal(precoder.precode(h, 1.0, 0.1), PRECODERS[precoder.name](h, 1.0, 0.1))
    many = type(precoder)(rx_axis=True)
    assert many.precode(iid(2, 3, 2, 6), 1.0, 0.1).shape == (2, 6, 3)
