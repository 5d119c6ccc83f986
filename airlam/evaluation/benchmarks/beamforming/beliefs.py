"""What a base station believes of the channel, and of how wrong it is: the left side of a chain."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from airlam.channels import LinkBatch
from airlam.evaluation.engine.cell import Cell


@dataclass
class Belief:
    """What the base station believes: CSI ``[link, slot, tone, rx_ant, tx_ant]`` of some tones, and the covariance of
    its errors with one more ``tx_ant`` (None where nobody knows it), broadcastable over links, slots and tones.
    ``user_covariance``: another estimate of it, of each user by itself, where ``covariance`` is one for all users."""

    csi: Tensor
    covariance: Tensor | None = None
    user_covariance: Tensor | None = None


@dataclass
class Source:
    """A source of CSI in one cell: what is believed of the test links, and (classical ones) of the validation drops;
    ``once(told)`` does it for one user, with the covariance if ``told``: what is timed."""

    test: Belief
    tune: Belief | None = None
    settings: dict[str, Any] = field(default_factory=dict)
    parameters: int = 0
    once: Callable[[bool], Any] | None = None


def tones_of(cell: Cell, num_subcarriers: int) -> Tensor:
    """The subcarriers on which rates are taken."""
    return torch.arange(0, num_subcarriers, cell.tone_step)


def halves(links: LinkBatch) -> tuple[Tensor, Tensor]:
    """Links of the first half of the drops, and of the others; all of them twice where there is one drop."""
    drops = links.drop.unique()
    first = torch.isin(links.drop, drops[: max(1, len(drops) // 2)])
    return (first.nonzero()[:, 0], (~first if len(drops) > 1 else first).nonzero()[:, 0])
