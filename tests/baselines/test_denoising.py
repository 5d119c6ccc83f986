"""Denoisers against dense linear algebra, and certain rates against their definition."""

from __future__ import annotations

import pytest
import torch

from airlam.baselines import BeamDelayThreshold, TrainingLMMSE, rzf
from airlam.baselines.robust import certain_rates
from airlam.csi import measure, to_beam_delay
from airlam.metrics import user_rates


def positive(size: int, seed: int) -> torch.Tensor:
    root = torch.randn(size, size, dtype=torch.complex128, generator=torch.Generator().manual_seed(seed))
    matrix = root @ root.mH + 0.1 * torch.eye(size)
    return matrix / matrix.diagonal().real.mean()


def test_training_lmmse_is_the_dense_estimate():
    frequency, antenna, noise = positive(6, 0), positive(4, 1), 0.3
    whole, eye = torch.kron(frequency, antenna), torch.eye(24, dtype=torch.complex128)
    y = torch.randn(24, dtype=torch.complex128, generator=torch.Generator().manual_seed(2))
    filters = TrainingLMMSE(frequency, antenna)
    found = filters.denoise(y.reshape(1, 1, 6, 1, 4), noise)
    torch.testing.assert_close(found.flatten(), whole @ torch.linalg.solve(whole + noise * eye, y))
    error = whole - whole @ torch.linalg.solve(whole + noise * eye, whole)  # E[e e^H]; of rows its conjugate
    blocks = error.reshape(6, 4, 6, 4)
    for tone in range(6):
        torch.testing.assert_close(filters.covariance(noise)[0, tone, 0], blocks[tone, :, tone].conj())


def test_training_lmmse_denoises_what_it_was_trained_on():
    generator = torch.Generator().manual_seed(3)
    beams = torch.randn(64, 1, 8, 1, 2, dtype=torch.complex64, generator=generator)
    h = torch.cat([beams, 1j * beams], -1)  # two antennas follow the two others
    filters = TrainingLMMSE.of(h[:32])
    noisy = measure(h[32:], 0.0, generator)
    before, after = ((x - h[32:]).abs().square().mean() for x in (noisy, filters.denoise(noisy, 1.0)))
    assert float(after) < 0.5 * float(before)


def test_threshold_keeps_strong_bins_alone():
    h = torch.randn(2, 1, 8, 1, 4, dtype=torch.complex64, generator=torch.Generator().manual_seed(4))
    bins = to_beam_delay(h, (1, 4, 1)).abs().square()
    kept = (
        to_beam_delay(BeamDelayThreshold(1.0).denoise(h, torch.tensor([0.5, 2.0]), (1, 4, 1)), (1, 4, 1)).abs() > 1e-4
    )
    assert torch.equal(kept, bins > torch.tensor([0.5, 2.0])[:, None, None, None, None])
    with pytest.raises(ValueError, match="negative"):
        BeamDelayThreshold(-1.0)


def test_certain_rates_without_errors_are_the_rates_and_with_them_a_lower_bound():
    generator = torch.Generator().manual_seed(5)
    h, no = torch.randn(3, 8, dtype=torch.complex128, generator=generator), torch.full((3,), 0.1, dtype=torch.float64)
    root = 0.1 * torch.randn(3, 8, 8, dtype=torch.complex128, generator=generator)
    spread = root.mH @ root  # of rows e = g root with white g: E[e^H e]
    w = rzf(h, 1.0, no, error_covariance=spread)
    torch.testing.assert_close(certain_rates(h, w, no), user_rates(h, w, no))
    white = torch.randn(4000, 3, 1, 8, dtype=torch.complex128, generator=generator)
    drawn = h + (white @ root).squeeze(-2)
    ergodic = user_rates(drawn, w.expand(4000, -1, -1), no.expand(4000, -1)).mean(0)
    sure = certain_rates(h, w, no, spread)
    assert bool((sure < ergodic + 0.02).all()) and bool((sure > 0.5 * ergodic).all())
