"""Least squares on the lengths of first paths."""

from __future__ import annotations

import torch
from torch import Tensor

from airlam.baselines.positioning.features import HALF_WIDTH, delay_angle, heard
from airlam.baselines.positioning.site import PositionEstimate, lengths
from airlam.constants import SPEED_OF_LIGHT
from airlam.csi import SiteCSI


class Multilateration:
    """The place whose distances to the stations fit the lengths of the first paths, in robust least squares.

    The cost of each station is Huber's; where labelled users are given, each station's median excess over the distance
    is taken off, and their mean and covariance are a weak prior. The start is the best of a grid over the area of the
    labelled users, or of the stations.

    Args:
        clock: users' clocks are off by an unknown, which is found, too (differences of arrival).
        huber: of the cost, in metres: beyond it errors count linearly.

    Raises:
        ValueError: fewer stations than unknowns.

    Example:
        >>> stations = torch.tensor([[0.0, 0, 8, 0], [50, 0, 8, 0], [0, 50, 8, 0], [50, 50, 8, 0]])
        >>> truth = torch.tensor([[20.0, 30.0]]).double()
        >>> solve(Multilateration(), lengths(stations, truth, 1.5) + 100, stations, clock=True).mean.round().tolist()
        [[20.0, 30.0]]
    """

    GRID = tuple({"huber": h, "clock": clock} for h in (1.0, 3.0, 10.0) for clock in (False,))

    def __init__(self, huber: float = 3.0, clock: bool = False):
        self.huber, self.clock = float(huber), bool(clock)
        self.bias: Tensor | None = None
        self.area: Tensor | None = None
        self.height = 1.5

    def fit(self, csi: SiteCSI) -> Multilateration:
        """The median excess of each station, and where users are; returns itself."""
        check_unknowns(csi.h.shape[1], self.clock)
        position, features = csi.known(), delay_angle(csi)
        self.height = float(position[:, 2].mean())
        excess = features[..., 0] - lengths(csi.stations, position[:, :2], self.height)
        excess = torch.where(heard(features), excess, torch.nan)
        self.bias = torch.nan_to_num(excess.nanmedian(0).values)
        low, high = position[:, :2].amin(0), position[:, :2].amax(0)
        self.area = torch.stack((low - 5, high + 5))
        return self

    def locate(self, csi: SiteCSI) -> PositionEstimate:
        """Where users are."""
        features = delay_angle(csi)
        half = HALF_WIDTH / (csi.h.shape[2] * csi.subcarrier_spacing) * SPEED_OF_LIGHT
        bias = torch.full((csi.h.shape[1],), -half).double() if self.bias is None else self.bias
        weight = heard(features).double()
        return solve(self, features[..., 0] - bias, csi.stations, weight=weight, clock=self.clock)


def check_unknowns(stations: int, clock: bool) -> None:
    """Raises ValueError where stations are fewer than unknowns."""
    unknowns = 2 + clock
    if stations < unknowns:
        raise ValueError(
            f"{stations} station{'s' * (stations > 1)} cannot tell {unknowns} unknowns (x, y"
            f"{', clock' if clock else ''}); multilateration needs at least as many stations"
        )


def solve(
    method: Multilateration, length: Tensor, stations: Tensor, *, weight: Tensor | None = None, clock: bool = False
) -> PositionEstimate:
    """Places from lengths ``[user, station]`` m; ``weight`` 0 leaves a station out."""
    check_unknowns(len(stations), clock)
    weight = torch.ones_like(length) if weight is None else weight
    area = method.area
    if area is None:
        area = torch.stack((stations[:, :2].amin(0) - 10, stations[:, :2].amax(0) + 10)).double()
    axes = [torch.linspace(float(area[0, i]), float(area[1, i]), 40, dtype=torch.float64) for i in range(2)]
    grid = torch.cartesian_prod(*axes)
    middle, far = area.mean(0), (area[1] - area[0]).square().sum() / 12
    error = length[:, None] - lengths(stations, grid, method.height)  # [user, place, station]
    offset = _centre(error, weight[:, None]) if clock else torch.zeros_like(error[..., 0])
    cost = (weight[:, None] * _huber(error - offset[..., None], method.huber)).sum(-1)
    best = cost.argmin(1)
    place, offset = grid[best], offset.gather(1, best[:, None])[:, 0]
    size = 3 if clock else 2
    prior = torch.diag(torch.tensor([1.0, 1.0] + [1e-9] * (size - 2), dtype=torch.float64)) * method.huber**2 / far
    for _ in range(10):
        there = torch.cat([lengths(stations, p[None], method.height) for p in place])
        miss = length - there - offset[:, None]
        slope = (place[:, None] - stations[:, :2].double()) / there[..., None]
        if clock:
            slope = torch.cat((slope, torch.ones_like(slope[..., :1])), -1)
        w = weight * (method.huber / miss.abs().clamp_min(method.huber))
        normal = slope.mT @ (w[..., None] * slope) + prior
        pull = (slope.mT @ (w * miss)[..., None])[..., 0]
        pull[:, :2] += prior[0, 0] * (middle - place)
        step = torch.linalg.solve(normal, pull)
        place = torch.minimum(torch.maximum(place + step[:, :2].clamp(-20, 20), area[0]), area[1])
        offset = offset + (step[:, 2] if clock else 0.0)
    covariance = torch.linalg.inv(normal)[:, :2, :2] * method.huber**2
    return PositionEstimate(place, covariance + 0.25 * torch.eye(2, dtype=torch.float64))


def _centre(error: Tensor, weight: Tensor) -> Tensor:
    return (weight * error).sum(-1) / weight.sum(-1).clamp_min(1e-9)


def _huber(error: Tensor, bend: float) -> Tensor:
    size = error.abs()
    return torch.where(size < bend, 0.5 * size.square(), bend * (size - 0.5 * bend))
