"""Kriged maps: a drift that geometry explains, and a Gaussian field through what was measured."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from airlam.baselines.radio_maps.estimate import MapEstimate, check_places, check_site
from airlam.baselines.radio_maps.geometry import Geometry
from airlam.baselines.radio_maps.profiles import neighbours_profile
from airlam.csi import HeightMap, SiteMap

LENGTHS = (8.0, 16.0, 32.0, 64.0, 128.0)  # m, correlation distances that are tried
NUGGETS = (0.01, 0.05, 0.2, 0.5)  # shares of the variance without correlation
_VAGUE = 1e4  # variance of a coefficient of which nothing is known, over that of the field


class Drift(NamedTuple):
    """What is known of a drift's coefficients before anything was measured: their mean and covariance, in dB."""

    mean: Tensor
    covariance: Tensor


class Kriging:
    """Universal kriging of the power, one station after another.

    Args:
        drift: ``"none"``, a constant; ``"distance"``, linear in its logarithm; ``"heights"``, also in what
            roofs do to the line of sight, the loss over a knife edge, and the antenna's pattern.
        prior: of the coefficients of ``drift``, from other sites; None: nothing is known of them.

    Correlation distance (exponential) and nugget maximise the marginal likelihood of what was measured at the station.
    """

    def __init__(self, drift: str = "heights", prior: Drift | None = None):
        if drift not in TERMS:
            raise ValueError(f"drift is {drift!r}, but must be one of {', '.join(TERMS)}")
        self.drift, self.prior = drift, prior

    def fit(self, known: SiteMap, stations: Tensor, heights: HeightMap | None = None) -> Kriging:
        """Choose the covariance of each station; returns itself."""
        self.known, self.stations, self.heights = known, check_site(known, stations), heights
        self.geometry = Geometry.of(self.stations, known.place, heights)
        trend = drift_terms(self.drift, self.geometry)
        place = known.place[:, :2].double()
        self.fields = [
            Field.of(place, known.power_db[:, s].double(), trend[:, s], self.prior) for s in range(len(stations))
        ]
        return self

    def at(self, place: Tensor, geometry: Geometry | None = None) -> MapEstimate:
        """What the map says of places ``[place, 3]`` m.

        Args:
            geometry: of these places, where it is known already.
        """
        place = check_places(place)
        trend = drift_terms(self.drift, geometry or Geometry.of(self.stations, place, self.heights))
        found = [field.at(place[:, :2].double(), trend[:, s]) for s, field in enumerate(self.fields)]
        mean, variance = (torch.stack(x, 1).float() for x in zip(*found, strict=True))
        return MapEstimate(mean, variance.sqrt(), neighbours_profile(self.known, place, self.stations))


def _constant(g: Geometry) -> list[Tensor]:
    return [torch.ones_like(g.distance)]


def _distance(g: Geometry) -> list[Tensor]:
    return [*_constant(g), 10 * g.distance.log10() - 20]


def _heights(g: Geometry) -> list[Tensor]:
    hidden = (~g.line_of_sight).float()
    worst = g.way.amax(-1)
    return [*_distance(g), hidden, hidden * (10 * g.distance.log10() - 20), g.knife_edge, worst, g.pattern]


TERMS = {"none": _constant, "distance": _distance, "heights": _heights}


# Of "heights": least squares over regions of Florence, Paris and San Francisco, 40 dB over the noise at the strongest
# station of the median place (benchmarks/radio_map_drift.py); the level itself is told by each site.
CITIES = Drift(
    torch.tensor([39.61, -1.79, -7.51, -2.05, -0.84, 0.44, 0.43], dtype=torch.float64),
    torch.diag(torch.tensor([20.0, 0.96, 1.69, 1.64, 0.38, 0.95, 0.35], dtype=torch.float64).square()),
)


def drift_terms(drift: str, geometry: Geometry) -> Tensor:
    """Terms of a drift ``float64 [place, station, term]``."""
    return torch.stack(TERMS[drift](geometry), -1).double()


class Field:
    """A Gaussian field with a drift: its likelihood, its posterior. See :class:`Kriging`."""

    def __init__(self, place: Tensor, z: Tensor, trend: Tensor, prior: Drift | None, length: float, nugget: float):
        self.place, self.trend, self.length, self.nugget = place, trend, length, nugget
        terms = trend.shape[1]
        self.mean = torch.zeros(terms).double() if prior is None else prior.mean.double()
        self.rest = z - trend @ self.mean
        known = self._correlation(place, place) + nugget * torch.eye(len(place)).double()
        self.variance, vague = max(float(self.rest.square().mean()), 1e-3), _VAGUE * torch.eye(terms).double()
        for _ in range(1 if prior is None else 3):  # a prior in dB asks for the variance that it helps to find
            # covariance of the coefficients, over the field's variance
            self.wide = vague if prior is None else prior.covariance.double() / self.variance
            self.factor = torch.linalg.cholesky(known + trend @ self.wide @ trend.mT)
            white = torch.linalg.solve_triangular(self.factor, self.rest[:, None], upper=False)
            self.variance = max(float(white.square().sum()) / len(z), 1e-3)
        self.score = 0.5 * len(z) * math.log(self.variance) + float(self.factor.diagonal().log().sum())
        self.weight = torch.cholesky_solve(self.rest[:, None], self.factor)

    @classmethod
    def of(cls, place: Tensor, z: Tensor, trend: Tensor, prior: Drift | None) -> Field:
        """The likeliest: values ``z [place]`` at ``place [place, 2]`` with drift terms ``trend [place, term]``."""
        tried = [cls(place, z, trend, prior, length, nugget) for length in LENGTHS for nugget in NUGGETS]
        return min(tried, key=lambda field: field.score)

    def at(self, place: Tensor, trend: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and variance of what would be measured at places."""
        cross = self._correlation(place, self.place) + trend @ self.wide @ self.trend.mT
        mean = trend @ self.mean + (cross @ self.weight)[:, 0]
        white = torch.linalg.solve_triangular(self.factor, cross.mT, upper=False)
        prior = 1 + ((trend @ self.wide) * trend).sum(-1)
        return mean, self.variance * (prior - white.square().sum(0)).clamp_min(1e-4)

    def _correlation(self, a: Tensor, b: Tensor) -> Tensor:
        return (1 - self.nugget) * torch.exp(-torch.cdist(a, b) / self.length)
