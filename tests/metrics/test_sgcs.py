"""SGCS: closed forms, and what does not count."""

from __future__ import annotations

import math

import pytest
import torch

from airlam.metrics import sgcs


def test_angle_between_vectors():
    v = torch.tensor([[1.0], [0.0]], dtype=torch.complex64)
    w = torch.tensor([[math.cos(0.3)], [1j * math.sin(0.3)]], dtype=torch.complex64)
    assert float(sgcs(w, v)) == pytest.approx(math.cos(0.3) ** 2)


def test_length_and_phase_do_not_count_and_layers_stand_alone():
    v = torch.randn(5, 12, 8, 2, dtype=torch.complex64, generator=torch.Generator().manual_seed(0))
    assert torch.allclose(sgcs((3 - 4j) * v, v), torch.ones(5, 12, 2), atol=1e-5)
    mixed = v.clone()
    mixed[..., 1] = 0
    assert torch.equal(sgcs(mixed, v)[..., 1], torch.zeros(5, 12)) and sgcs(mixed, v)[..., 0].min() > 0.999


def test_random_vectors_have_the_mean_of_one_over_their_length():
    v, w = torch.randn(2, 20_000, 8, 1, dtype=torch.complex64, generator=torch.Generator().manual_seed(1))
    # beta(1, 7): mean 1/8, standard deviation 0.110; five standard errors
    assert float(sgcs(w, v).mean()) == pytest.approx(1 / 8, abs=5 * 0.110 / math.sqrt(20_000))


def test_mistakes():
    v = torch.ones(4, 2, dtype=torch.complex64)
    with pytest.raises(ValueError, match="same shape"):
        sgcs(v[:3], v)
    with pytest.raises(TypeError, match="complex"):
        sgcs(v.real, v)
