"""Noise and its accounting."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import integrate

from airlam.edge.federated.adapters import norm_of_change
from airlam.edge.federated.privacy import epsilon, privatise


def test_updates_are_clipped_and_noise_is_as_said():
    before = {"a": np.zeros((200, 300), np.float32), "b": np.ones(1000, np.float32)}
    after = {"a": np.full((200, 300), 0.5, np.float32), "b": np.zeros(1000, np.float32)}
    clean = privatise(after, before, clip=2.0, noise_multiplier=1e-12, seed=0)
    assert norm_of_change(clean, before) == pytest.approx(2.0, rel=1e-4)
    small = {name: before[name] + 1e-4 * (after[name] - before[name]) for name in before}
    assert norm_of_change(privatise(small, before, clip=2.0, noise_multiplier=1e-12, seed=0), small) < 1e-3
    noisy = privatise(after, before, clip=2.0, noise_multiplier=3.0, seed=1)
    noise = np.concatenate([(noisy[n] - clean[n]).ravel() for n in before])
    # 61,000 draws: the deviation is known to 0.3 %
    assert noise.std() == pytest.approx(6.0, rel=0.012) and abs(noise.mean()) < 0.1
    assert not np.array_equal(privatise(after, before, clip=2.0, noise_multiplier=3.0, seed=None)["b"], noisy["b"])


def test_what_has_no_norm_does_not_leave_the_device():
    before = {"a": np.zeros(4, np.float32)}
    broken = {"a": np.array([np.nan, 50.0, 60.0, 70.0], np.float32)}
    sent = privatise(broken, before, clip=0.5, noise_multiplier=1e-6, seed=0)
    assert np.abs(sent["a"]).max() < 1e-4


def gaussian_epsilon(noise: float, releases: int, delta: float) -> float:
    """Independent: Renyi divergence of the Gaussian mechanism in closed form, orders on a fine grid, the conversion of
    Balle et al. (arXiv 1905.09982, theorem 21)."""
    orders = np.concatenate([np.linspace(1.001, 20, 40000), np.arange(21, 4000)])
    rdp = releases * orders / (2 * noise**2)
    bound = rdp + np.log1p(-1 / orders) - (math.log(delta) + np.log(orders)) / (orders - 1)
    return float(bound.min())


@pytest.mark.parametrize("noise", [0.8, 2.0, 10.0])
@pytest.mark.parametrize("releases", [1, 12, 200])
def test_epsilon_within_one_percent_of_an_independent_accountant(noise, releases):
    assert epsilon(noise, releases, 1e-5) == pytest.approx(gaussian_epsilon(noise, releases, 1e-5), rel=0.01)


def sampled_rdp(q: float, noise: float, order: float) -> float:
    """Independent: the Renyi divergence of the sampled Gaussian mechanism (Mironov et al., arXiv 1908.10530) by
    numerical integration."""

    def integrand(x: float) -> float:
        ratio = np.logaddexp(math.log(1 - q), math.log(q) + (2 * x - 1) / (2 * noise**2))
        return math.exp(order * ratio - x**2 / (2 * noise**2)) / (noise * math.sqrt(2 * math.pi))

    value, _ = integrate.quad(integrand, -15 * noise, 15 * noise + order, limit=400)
    return math.log(value) / (order - 1)


def test_sampled_epsilon_within_one_percent_of_integration():
    q, noise, releases, delta = 0.1, 1.5, 50, 1e-5
    orders = np.arange(2, 40)
    rdp = np.array([releases * sampled_rdp(q, noise, float(order)) for order in orders])
    bound = rdp + np.log1p(-1 / orders) - (math.log(delta) + np.log(orders)) / (orders - 1)
    assert epsilon(noise, releases, delta, q) == pytest.approx(float(bound.min()), rel=0.01)


def test_no_release_costs_nothing_and_bad_arguments_are_refused():
    assert epsilon(1.0, 0, 1e-5) == 0.0
    for arguments in ((0.0, 1, 1e-5), (1.0, 1, 0.0), (1.0, 1, 1e-5, 1.5)):
        with pytest.raises(ValueError, match="noise_multiplier"):
            epsilon(*arguments)
