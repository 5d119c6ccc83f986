"""Regression of positions on delays, angles and powers: a Gaussian process with a fitted kernel."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from airlam.baselines.positioning.features import delay_angle
from airlam.baselines.positioning.site import PositionEstimate
from airlam.csi import SiteCSI


class FeatureRegression:
    """Gaussian-process regression from delay-angle features to x and y: a linear part (ridge regression) and a Matern
    part (kernel regression), whose shares, length and noise maximise the marginal likelihood of the labelled users.

    Args:
        steps: of Adam on the kernel's parameters.
    """

    GRID = ({"steps": 60},)
    most = 400  # labelled users that the kernel is fitted on; all of them make the estimate

    def __init__(self, steps: int = 60):
        self.steps = steps

    def fit(self, csi: SiteCSI) -> FeatureRegression:
        """Fit to labelled users; returns itself."""
        raw = delay_angle(csi).flatten(1)
        self.centre, self.spread = raw.mean(0), raw.std(0).clamp_min(1e-6) if len(csi) > 1 else torch.ones(raw.shape[1])
        place = csi.known()[:, :2]
        self.middle, self.size = place.mean(0), place.std().clamp_min(1e-3) if len(csi) > 1 else torch.tensor(1.0)
        x, y = self._scaled(raw), (place - self.middle) / self.size
        gap = torch.cdist(x, x)
        typical = float(gap[gap > 0].median()) if len(csi) > 1 else 1.0
        theta = torch.tensor([-1.0, math.log(typical), -1.0, -3.0], dtype=torch.float64, requires_grad=True)
        few = slice(0, self.most)
        optimizer = torch.optim.Adam([theta], lr=0.1)
        with torch.enable_grad():
            for _ in range(self.steps):
                optimizer.zero_grad()
                factor = torch.linalg.cholesky(_kernel(theta, x[few], x[few]) + _noise(theta, len(x[few])))
                alpha = torch.cholesky_solve(y[few], factor)
                (0.5 * (y[few] * alpha).sum() + 2 * factor.diagonal().log().sum()).backward()
                optimizer.step()
        self.theta, self.x = theta.detach(), x
        self.factor = torch.linalg.cholesky(_kernel(self.theta, x, x) + _noise(self.theta, len(x)))
        self.alpha = torch.cholesky_solve(y, self.factor)
        return self

    def locate(self, csi: SiteCSI) -> PositionEstimate:
        """Where users are."""
        x = self._scaled(delay_angle(csi).flatten(1))
        cross = _kernel(self.theta, x, self.x)
        known = torch.linalg.solve_triangular(self.factor, cross.mT, upper=False).square().sum(0)
        own = self.theta[0].exp() + self.theta[2].exp() * x.square().sum(1) + self.theta[3].exp()
        variance = (own - known).clamp_min(1e-9) * self.size.square()
        return PositionEstimate(
            (cross @ self.alpha) * self.size + self.middle,
            variance[:, None, None] * torch.eye(2, dtype=torch.float64),
        )

    def _scaled(self, raw: Tensor) -> Tensor:
        return (raw - self.centre) / self.spread / math.sqrt(raw.shape[1])


def _kernel(theta: Tensor, a: Tensor, b: Tensor) -> Tensor:
    r = math.sqrt(3) * torch.cdist(a, b) / theta[1].exp()
    return theta[0].exp() * (1 + r) * (-r).exp() + theta[2].exp() * a @ b.mT


def _noise(theta: Tensor, count: int) -> Tensor:
    return (theta[3].exp() + 1e-6) * torch.eye(count, dtype=torch.float64)
