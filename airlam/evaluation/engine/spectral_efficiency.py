"""Spectral efficiency that predicted CSI is worth: groups of users, RZF from the prediction, judged on the truth."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from airlam.baselines import rzf
from airlam.metrics import single_user_se, user_rates


class Groups(NamedTuple):
    """Users that one base station serves together.

    Attributes:
        users: int ``[group, user]``, indices of links.
        drop: int ``[group]``.
    """

    users: Tensor
    drop: Tensor


def group_users(drop: Tensor, num_users: int) -> Groups:
    """Groups of ``num_users`` links of *one* drop each, in the order of the links; what remains of a drop is left out.

    Args:
        drop: int ``[link]``.
        num_users: users of a group.

    Raises:
        ValueError: no drop has that many links.

    Example:
        >>> group_users(torch.tensor([0, 0, 0, 1, 1]), 2).users.tolist()
        [[0, 1], [3, 4]]
    """
    groups, drops = [], []
    for value in drop.unique().tolist():
        links = (drop == value).nonzero().flatten()
        whole = links[: len(links) // num_users * num_users].reshape(-1, num_users)
        groups.append(whole)
        drops += [value] * len(whole)
    if not drops:
        raise ValueError(
            f"no drop holds {num_users} links, so there is no group of {num_users} users; raise links_per_drop of the "
            "channel recipe to a multiple of the group size"
        )
    return Groups(torch.cat(groups), torch.tensor(drops))


def group_rates(h_hat: Tensor, h: Tensor, groups: Groups, transmit_snr_db: float, *, tone_step: int = 1) -> Tensor:
    """Rate of each user at each slot under RZF with equal-power beams computed from ``h_hat``.

    Args:
        h_hat, h: predicted and true CSI ``complex [link, slot, subcarrier, rx_ant, tx_ant]``.
        groups: see :func:`group_users`.
        transmit_snr_db: transmit power over noise variance, per resource element [dB].
        tone_step: use every n-th subcarrier: rates of neighbouring ones are nearly alike.

    Returns:
        ``[group, user, slot]`` bit/s/Hz, averaged over subcarriers.
    """
    no = 10 ** (-transmit_snr_db / 10)
    seen, true = (_by_group(x, groups.users, tone_step) for x in (h_hat, h))
    precoder = rzf(seen, 1.0, no, rx_axis=seen.dim() == 6)
    rates = user_rates(true, precoder, no)  # [group, slot, tone, user]
    return rates.mean(2).mT


def link_se(h_hat: Tensor, h: Tensor, transmit_snr_db: float, *, tone_step: int = 1) -> Tensor:
    """Single-user spectral efficiency of the matched beam ``[link]``, averaged over slots and subcarriers."""
    no = 10 ** (-transmit_snr_db / 10)
    return single_user_se(h_hat[:, :, ::tone_step], h[:, :, ::tone_step], 1.0, no).mean((-2, -1))


def _by_group(h: Tensor, users: Tensor, tone_step: int) -> Tensor:
    """``[group, slot, tone, user, tx_ant]``, or ``[..., user, rx_ant, tx_ant]`` with several receive antennas."""
    grouped = h[:, :, ::tone_step][users].permute(0, 2, 3, 1, 4, 5)
    return grouped.squeeze(-2) if grouped.shape[-2] == 1 else grouped
