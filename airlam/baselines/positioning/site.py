"""What positioning gives: a mean and an ellipse."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

INSIDE_90 = 4.605170185988092  # 90 % point of chi-square with two degrees of freedom: -2 log(0.1)


@dataclass
class PositionEstimate:
    """Where users are: ``mean [user, 2]`` m and ``covariance [user, 2, 2]`` m^2."""

    mean: Tensor
    covariance: Tensor

    def distance(self, position: Tensor) -> Tensor:
        """Squared Mahalanobis distance of the true positions ``[user, 2 or 3]``; below ``INSIDE_90`` is inside the
        90 % ellipse."""
        miss = (position[:, :2].double() - self.mean)[..., None]
        return (miss.mT @ torch.linalg.solve(self.covariance, miss))[:, 0, 0]

    def scaled(self, factor: float) -> PositionEstimate:
        """Ellipses of ``factor`` times the area."""
        return PositionEstimate(self.mean, factor * self.covariance)


def calibration(estimate: PositionEstimate, position: Tensor) -> float:
    """The factor of the covariance with which the 90 % ellipses hold 90 % of these users.

    Example:
        >>> exact = PositionEstimate(torch.zeros(999, 2).double(), torch.eye(2).double().expand(999, 2, 2))
        >>> abs(calibration(exact, torch.randn(999, 2, generator=torch.Generator().manual_seed(0))) - 1) < 0.15
        True
    """
    distance = estimate.distance(position).sort().values
    rank = min(len(distance) - 1, int(0.9 * (len(distance) + 1)))  # of a split conformal set
    return max(float(distance[rank]) / INSIDE_90, 1e-6)


def lengths(stations: Tensor, place: Tensor, height: float) -> Tensor:
    """Distances ``float64 [place, station]`` m from places on the ground ``[place, 2]`` at a height of the users."""
    return (
        (place[:, None].double() - stations[:, :2].double())
        .square()
        .sum(-1)
        .add((height - stations[:, 2].double()).square())
        .sqrt()
    )
