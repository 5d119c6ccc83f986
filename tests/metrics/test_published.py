"""Published conventions on predictions of known error: what each scores, worked out by hand."""

import math

import pytest
import torch

from airlam.metrics import CONVENTIONS, nmse, nmse_llm4cp, nmse_wifo, noisy_target, published_scores, se_llm4cp

SHAPE = (64, 4, 12, 1, 16)


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def links(seed=0, shape=SHAPE):
    """CSI of unit mean power."""
    h = torch.randn(shape, dtype=torch.complex64, generator=seeded(seed))
    return h / h.abs().square().mean((1, 2, 3, 4), keepdim=True).sqrt()


def gain(*powers):
    return torch.tensor(powers).sqrt()[:, None, None, None, None]


@pytest.mark.parametrize("name", CONVENTIONS)
def test_perfect_prediction_scores_the_noise_of_the_target(name):
    h = links()
    found = published_scores(name, h, h, generator=seeded(1))["nmse"]
    assert float(nmse(h, h)) == 0
    # 49,152 complex draws: the mean of |n|^2 lies within 4 / sqrt(49152) = 2 % of its variance
    assert found == pytest.approx(CONVENTIONS[name].floor, rel=0.02)


@pytest.mark.parametrize("name", CONVENTIONS)
def test_a_prediction_of_known_error(name):
    """(1 + a) h misses the noisy target by a h - n: energies add up, since noise is independent of h."""
    h, a = links(), 0.3
    noise = 10 ** (-CONVENTIONS[name].target_snr_db / 10)
    found = published_scores(name, (1 + a) * h, h, generator=seeded(1))["nmse"]
    # the cross term 2 a Re<h, n> has deviation a sqrt(2 noise / 49152), below 0.1 % of the sum
    assert found == pytest.approx((a**2 + noise) / (1 + noise), rel=0.01)
    assert float(nmse((1 + a) * h, h)) == pytest.approx(a**2, rel=1e-5)


def test_sums_against_ratios():
    """Two links of power 100 and 1, missed by 1 and 0.5 of energy: three ways to average."""
    h = gain(100.0, 1.0) * torch.ones(2, 2, 3, 1, 4, dtype=torch.complex64)
    h_hat = h + gain(1.0, 0.5)
    assert float(nmse_llm4cp(h_hat, h)) == pytest.approx(1.5 / 101, rel=1e-5)
    assert float(nmse_wifo(h_hat, h)) == pytest.approx((1 / 100 + 0.5) / 2, rel=1e-5)
    assert float(nmse_llm4cp(h_hat, h, batch=1)) == pytest.approx((1 / 100 + 0.5) / 2, rel=1e-5)


def test_polarisations_are_samples_and_the_last_batch_is_left_out():
    """Three links of two polarisations are six samples in the order of LLM4CP's loader: a link's two are neighbours."""
    h = torch.ones(3, 1, 1, 1, 4, dtype=torch.complex64)
    error = torch.tensor([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]]).repeat_interleave(2, 1)  # of each polarisation
    h_hat = h + error[:, None, None, None]
    batches = [(1 + 4 + 9 + 16) / 4]  # samples 1 to 4; 5 and 6 make no batch of four
    assert float(nmse_llm4cp(h_hat, h, polarisations=2, batch=4)) == pytest.approx(sum(batches) / len(batches))
    assert float(nmse_llm4cp(h_hat, h, polarisations=2, batch=64)) == pytest.approx(sum(k * k for k in range(1, 7)) / 6)


def test_noise_has_the_level_of_all_links_together():
    """A link 20 dB below the mean keeps -2 dB of its 18 dB SNR: the noise is as strong as elsewhere."""
    h = gain(1.0, 0.01) * links(shape=(2, 8, 24, 1, 32))
    noise = (noisy_target(h, 18.0, seeded()) - h).abs().square().mean((1, 2, 3, 4))
    expected = 10**-1.8 * (1.0 + 0.01) / 2
    # 6,144 complex draws a link: 4 / sqrt(6144) = 5 %
    assert noise.tolist() == pytest.approx([expected, expected], rel=0.05)
    each = noisy_target(h, 18.0, seeded(), batch=1) - h
    assert each[1].abs().square().mean() == pytest.approx(10**-1.8 * 0.01, rel=0.05)


def test_weak_links_dominate_wifo_and_vanish_in_llm4cp():
    """With gains the same perfect prediction scores otherwise: WiFo's weak link drowns in the noise of the strong."""
    h, gains = links(shape=(2, 4, 24, 1, 32)), torch.tensor([0.0, -30.0])
    llm4cp = published_scores("llm4cp", h, h, gains, generator=seeded(1))["nmse"]
    wifo = published_scores("wifo", h, h, gains, generator=seeded(1))["nmse"]
    assert llm4cp == pytest.approx(CONVENTIONS["llm4cp"].floor, rel=0.05)
    noise = 0.01 * 1.001 / 2  # per link; the weak one has power 0.001
    assert wifo == pytest.approx((noise / (1 + noise) + noise / (0.001 + noise)) / 2, rel=0.05)
    # a common gain changes nothing, however small: to rounding
    small = published_scores("wifo", h, h, gains - 130, generator=seeded(1))["nmse"]
    assert small == pytest.approx(wifo, rel=1e-5)


def test_se_of_a_perfect_prediction_is_the_published_limit():
    h = links()
    for scrambled in (True, False):
        assert float(se_llm4cp(h, h, scrambled=scrambled)) == pytest.approx(math.log2(161), rel=1e-6)  # 7.33
    assert float(se_llm4cp(h, h, polarisations=2)) == pytest.approx(math.log2(81), rel=1e-6)
    assert float(se_llm4cp(torch.zeros_like(h), h)) == 0


def test_se_code_punishes_a_phase_that_no_beam_feels():
    """h = (1, 0) and its quarter turn (j, 0): written as (1, 0 | 0, 0) and (0, 0 | 1, 0), read as (1, 0) and (0, 1)."""
    h = torch.tensor([1.0 + 0j, 0]).reshape(1, 1, 1, 1, 2)
    assert float(se_llm4cp(1j * h, h, scrambled=False)) == pytest.approx(math.log2(21), rel=1e-6)
    assert float(se_llm4cp(1j * h, h)) == pytest.approx(0, abs=1e-6)
    assert float(se_llm4cp(-h, h)) == pytest.approx(math.log2(21), rel=1e-6)  # a half turn stays a half turn


def test_errors():
    h = links(shape=(2, 4, 6, 1, 6))
    with pytest.raises(ValueError, match="convention is 'ours', but must be one of llm4cp, wifo"):
        published_scores("ours", h, h)
    with pytest.raises(ValueError, match="must both be"):
        nmse_wifo(h, h[0])
    with pytest.raises(TypeError, match="must be complex"):
        nmse_llm4cp(h.real, h.real)
    with pytest.raises(ValueError, match="do not divide into 4 polarisations"):
        nmse_llm4cp(h, h, polarisations=4)
