"""Lost slots: filled in by linear interpolation, and reported."""

import pytest
import torch

from airlam.csi import lose_slots, observe_pilots, phase_combiner


def test_a_linear_history_survives_any_loss():
    ramp = torch.arange(16.0)[:, None, None, None] * torch.tensor(1 - 2j) + 3
    h = ramp.expand(50, 16, 2, 1, 3)
    filled, observed = lose_slots(h, 0.5, torch.Generator().manual_seed(0))
    assert torch.allclose(filled, h, atol=1e-5)  # float32 rounding of values up to 34
    assert observed[:, 0].all() and observed[:, -1].all()
    assert 0.4 < float(observed[:, 1:-1].float().mean()) < 0.6  # 700 draws: standard error 0.02


def test_measured_slots_stay_as_they_are_and_lost_ones_do_not_count():
    generator = torch.Generator().manual_seed(1)
    h = torch.randn(5, 8, 2, 1, 1, dtype=torch.complex64, generator=generator)
    filled, observed = lose_slots(h, 0.4, torch.Generator().manual_seed(2))
    assert torch.equal(filled[observed], h[observed]) and not observed.all()
    other = torch.where(observed[..., None, None, None], h, 9.0)
    assert torch.equal(lose_slots(other, 0.4, torch.Generator().manual_seed(2))[0], filled)


def test_pilots_that_cannot_be():
    h, combiner = torch.ones(2, 3, 8, dtype=torch.complex64), phase_combiner(4, 8)
    with pytest.raises(ValueError, match="noise must not be negative"):
        observe_pilots(h, combiner, -1.0)
    with pytest.raises(ValueError, match="must be .pilot, tx_ant."):
        observe_pilots(h, phase_combiner(4, 7), 0.1)
