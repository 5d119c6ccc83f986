"""Covariance of a classical predictor's errors, of each user by itself."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass
class UserErrors:
    """Covariance of a classical predictor's errors, of each user by itself: ``share * R + floor * I`` of every slot,
    where ``R`` is the covariance of the user's measured history.

    Errors from ageing lie where the user's channel lies, those from noise anywhere; both shares are fitted to other
    users' errors, by least squares between covariances.

    Attributes:
        share, floor: ``[slot]``, not negative. mean: covariance of the errors of all fitted users ``[slot, tx_ant,
            tx_ant]``.
    """

    share: Tensor
    floor: Tensor
    mean: Tensor

    @classmethod
    def fit(cls, error: Tensor, history: Tensor) -> UserErrors:
        """From errors ``[user, slot, tone, rx_ant, tx_ant]`` and measured histories of the same users."""
        count = error.shape[2] * error.shape[3]
        each = torch.einsum("ltfra,ltfrb->ltab", error.conj(), error) / count
        white = torch.eye(error.shape[-1], dtype=error.dtype)
        share, floor = [], []
        for target in each.unbind(1):
            a, b = _nonnegative_fit(target, _spatial_covariance(history), white.expand_as(target))
            share.append(a)
            floor.append(b)
        return cls(torch.tensor(share), torch.tensor(floor), each.mean(0))

    def __call__(self, history: Tensor) -> Tensor:
        """Of users with these measured histories: ``[user, slot, 1, 1, tx_ant, tx_ant]``."""
        own = _spatial_covariance(history)[:, None]
        white = torch.eye(own.shape[-1], dtype=own.dtype)
        return (self.share[:, None, None] * own + self.floor[:, None, None] * white)[:, :, None, None]


def _spatial_covariance(history: Tensor) -> Tensor:
    """Mean over slots, tones and receive antennas: ``[user, tx_ant, tx_ant]``."""
    return torch.einsum("ltfra,ltfrb->lab", history.conj(), history) / (history[0].numel() / history.shape[-1])


def _nonnegative_fit(target: Tensor, first: Tensor, second: Tensor) -> tuple[float, float]:
    """``a, b >= 0`` that minimise ``|target - a first - b second|^2``."""

    def dot(x: Tensor, y: Tensor) -> float:
        return float((x.conj() * y).real.sum(dtype=torch.float64))

    xx, xy, yy = dot(first, first), dot(first, second), dot(second, second)
    xt, yt = dot(first, target), dot(second, target)
    det = xx * yy - xy**2
    if det > 1e-9 * xx * yy:
        a, b = (xt * yy - yt * xy) / det, (yt * xx - xt * xy) / det
        if a >= 0 and b >= 0:
            return a, b
    # an end of the range: one of the two alone; that with the smaller error explains more
    alone = max(xt, 0.0) / max(xx, 1e-30), max(yt, 0.0) / max(yy, 1e-30)
    return (alone[0], 0.0) if max(xt, 0.0) * alone[0] >= max(yt, 0.0) * alone[1] else (0.0, alone[1])
