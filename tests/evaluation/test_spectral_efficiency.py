"""Groups of one drop, and what predicted CSI is worth to them."""

import math

import pytest
import torch

from airlam.evaluation.engine.spectral_efficiency import group_rates, group_users, link_se


def channels(links=8, slots=2, tones=6, rx=1, tx=16, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(links, slots, tones, rx, tx, dtype=torch.complex64, generator=generator)


def test_groups_never_cross_a_drop():
    drop = torch.tensor([3, 3, 3, 3, 3, 7, 7, 7, 7, 7])
    groups = group_users(drop, 2)
    assert groups.users.tolist() == [[0, 1], [2, 3], [5, 6], [7, 8]]
    assert groups.drop.tolist() == [3, 3, 7, 7]
    assert torch.equal(drop[groups.users], groups.drop[:, None].expand(-1, 2))


def test_no_drop_large_enough_says_so():
    with pytest.raises(ValueError, match="links_per_drop"):
        group_users(torch.arange(8), 2)


def test_orthogonal_users_reach_the_closed_form():
    # Two users on two antennas with unit gains: RZF leaves each log2(1 + snr / 2), half the power each.
    h = torch.eye(2, dtype=torch.complex64)[:, None, None, None, :].expand(2, 1, 3, 1, 2)
    rates = group_rates(h, h, group_users(torch.zeros(2, dtype=torch.int64), 2), 20.0)
    assert rates.shape == (1, 2, 1)
    torch.testing.assert_close(rates, torch.full_like(rates, math.log2(1 + 50)), rtol=1e-5, atol=0)  # float32


def test_perfect_csi_beats_wrong_csi_and_the_phase_of_a_user_does_not_matter():
    h, groups = channels(), group_users(torch.arange(8) // 4, 4)
    perfect = group_rates(h, h, groups, 20.0).sum(1).mean()
    wrong = group_rates(channels(seed=1), h, groups, 20.0).sum(1).mean()
    turned = h * torch.polar(torch.ones(8), torch.arange(8.0))[:, None, None, None, None]
    assert perfect > 3 * wrong
    # single precision; the precoder itself is computed in double
    torch.testing.assert_close(group_rates(turned, h, groups, 20.0).sum(1).mean(), perfect, rtol=1e-4, atol=0)


def test_several_receive_antennas_help():
    h, groups = channels(rx=2), group_users(torch.arange(8) // 4, 4)
    two = group_rates(h, h, groups, 20.0).sum(1).mean()
    one = group_rates(h[..., :1, :], h[..., :1, :], groups, 20.0).sum(1).mean()
    assert two > one


def test_every_nth_tone_is_used():
    h, groups = channels(), group_users(torch.arange(8) // 4, 4)
    some = group_rates(h[:, :, ::3], h[:, :, ::3], groups, 10.0)
    torch.testing.assert_close(group_rates(h, h, groups, 10.0, tone_step=3), some)


def test_single_user_closed_form():
    h = torch.ones(3, 2, 4, 1, 16, dtype=torch.complex64)
    torch.testing.assert_close(link_se(h, h, 10.0), torch.full((3,), math.log2(1 + 160)), rtol=1e-5, atol=0)  # float32
