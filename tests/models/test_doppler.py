"""Doppler grid, periodogram, and the closed-form linear MMSE filter."""

import math

import pytest
import torch

from airlam.models.doppler import doppler_grid, periodogram, phasors, wiener


def test_grid_is_symmetric_and_denser_around_zero():
    grid = doppler_grid(129)
    assert torch.allclose(grid, -grid.flip(0), atol=1e-15, rtol=0)  # sinh is odd up to rounding
    assert abs(float(grid[0]) + 0.5) < 1e-15 and grid[64] == 0
    steps = grid.diff()
    assert steps[64] < 0.1 * steps[0]
    # Resolves a 3 km/h user at 2.4 GHz and 0.5 ms: maximum Doppler of 0.0033 cycles per slot.
    assert steps[64] < 0.0033 / 2


def test_periodogram_of_a_tone_is_one_at_its_frequency():
    tone = phasors(65, 0, 16)[40]
    p = periodogram(3.0 * tone, 65)
    assert p.argmax() == 40
    assert p[40] == pytest.approx(1.0, abs=1e-12)
    assert (p <= 1 + 1e-12).all()


def test_wiener_equals_dense_lmmse():
    """Against the textbook: x_hat = C_ty (C_yy + n I)^-1 y with covariances built sample by sample."""
    grid = doppler_grid(33)
    generator = torch.Generator().manual_seed(0)
    spectrum = torch.rand(33, generator=generator, dtype=torch.float64)
    y = torch.randn(10, dtype=torch.complex128, generator=generator)
    noise = torch.tensor(0.3, dtype=torch.float64)
    targets = torch.tensor([3, 10, 12])

    def r(k):
        return (spectrum * torch.exp(2j * math.pi * grid * k)).sum()

    covariance = torch.stack([torch.stack([r(i - k) for k in range(10)]) for i in range(10)])
    cross = torch.stack([torch.stack([r(int(t) - k) for k in range(10)]) for t in targets])
    eye = torch.eye(10, dtype=torch.float64)
    expected = cross @ torch.linalg.solve(covariance + 0.3 * eye, y)
    weights, variance = wiener(spectrum, noise, 10, targets)
    assert torch.allclose(weights @ y, expected, rtol=1e-9)
    left = cross @ torch.linalg.solve(covariance + 0.3 * eye, cross.mH)
    assert torch.allclose(variance, r(0).real - left.diagonal().real, rtol=1e-9)


def test_wiener_extrapolates_a_tone_without_noise():
    spectrum = torch.zeros(33, dtype=torch.float64)
    spectrum[20] = 1.0
    tone = phasors(33, 0, 20)[20]
    out = wiener(spectrum, torch.tensor(1e-9).double(), 16, torch.arange(16, 20))[0] @ tone[:16]
    assert torch.allclose(out, tone[16:], atol=1e-6)  # the loading of 1e-9 shrinks by that much


def test_unobserved_slots_have_no_influence():
    spectrum = torch.rand(33, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    y = torch.randn(12, dtype=torch.complex128, generator=torch.Generator().manual_seed(2))
    observed = torch.ones(12, dtype=torch.bool)
    observed[[2, 7]] = False
    other = y.clone()
    other[[2, 7]] = 5.0
    noise, targets = torch.tensor(0.1).double(), torch.tensor([2, 12])
    a, b = (wiener(spectrum, noise, 12, targets, observed)[0] @ x for x in (y, other))
    assert torch.allclose(a, b, atol=1e-5)  # an unobserved slot keeps a weight of about 1e-8


def test_gradient_of_wiener_is_exact():
    """The solve is done without a graph; its gradient comes from one Newton step."""
    generator = torch.Generator().manual_seed(3)
    y = torch.randn(2, 6, dtype=torch.complex128, generator=generator)
    logits = torch.randn(2, 17, dtype=torch.float64, generator=generator, requires_grad=True)
    noise = torch.tensor([0.2, 0.5], dtype=torch.float64, requires_grad=True)

    def loss(logits, noise):
        weights = wiener(torch.softmax(logits, -1), noise, 6, torch.tensor([2, 6, 8]))[0]
        return (weights @ y[..., None]).abs().square().sum()

    loss(logits, noise).backward()
    step = 1e-6
    for tensor in (logits, noise):
        flat = tensor.detach().flatten()
        for i in range(0, flat.numel(), 5):
            values = []
            for sign in (1, -1):
                moved = flat.clone()
                moved[i] += sign * step
                moved = moved.reshape(tensor.shape)
                values.append(loss(*((moved, noise) if tensor is logits else (logits, moved))).item())
            numeric = (values[0] - values[1]) / (2 * step)
            assert tensor.grad.flatten()[i].item() == pytest.approx(numeric, rel=1e-5, abs=1e-7)
