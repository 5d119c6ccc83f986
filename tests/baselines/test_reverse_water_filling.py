"""Reverse water-filling in closed form."""

from __future__ import annotations

import math

import pytest
import torch

from airlam.baselines import reverse_water_filling


def test_equal_variables_share_the_bits():
    assert reverse_water_filling(torch.full((8,), 3.0), 16).sum() == pytest.approx(8 * 3 / 4, rel=1e-6)


def test_weak_variables_get_none():
    variances = torch.tensor([8.0, 1.0, 0.1])
    # down to the level 1 the first alone takes 3 bits; two bits more are shared by the first two
    for bits, level in ((0, 8), (3, 1), (5, 0.5)):
        expected = [min(level, v) for v in variances.tolist()]
        assert reverse_water_filling(variances, bits).tolist() == pytest.approx(expected, rel=1e-5)


def test_batches_zeros_and_many_bits():
    variances = torch.rand(5, 7, generator=torch.Generator().manual_seed(0)) * torch.tensor([1, 1, 1, 1, 1, 1, 0])
    together = reverse_water_filling(variances, torch.tensor([0.0, 1, 5, 50, 500])).sum(-1)
    for value, row, bits in zip(together, variances, (0, 1, 5, 50, 500), strict=True):
        assert value == pytest.approx(float(reverse_water_filling(row, bits).sum()), rel=1e-6)
    assert together[0] == pytest.approx(float(variances[0].sum()), rel=1e-6) and together[4] < 1e-20
    assert reverse_water_filling(torch.zeros(3), 4).sum() == 0


def test_no_code_beats_it():
    """A quantiser of one bit for each part of a Gaussian variable: 1 - 2/pi of its variance, over the bound's 1/4."""
    assert reverse_water_filling(torch.tensor([1.0]), 2) == pytest.approx(0.25) and 1 - 2 / math.pi > 0.25


@pytest.mark.parametrize(("variances", "bits"), [([1.0, -1.0], 3.0), ([1.0], -2.0), ([math.nan], 1.0)])
def test_mistakes(variances, bits):
    with pytest.raises(ValueError, match="at least 0"):
        reverse_water_filling(torch.tensor(variances), bits)
