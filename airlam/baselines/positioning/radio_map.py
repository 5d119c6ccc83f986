"""Kriged maps of what each station would report at each place, and Bayes' rule over places.

A regression from features to positions has to learn geometry from the labelled users. Here it is the other way round:
each feature is a function of the place, a trend of distance and angle plus a Gaussian field that labelled users pin
down nearby (TR 38.901's own statistics are of this kind). A user's place has a posterior: how well the maps explain
what is measured. Labels that lie tens of metres apart suffice, and the density has the shape that geometry gives it.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from airlam.baselines.positioning.features import NAMES, delay_angle, heard
from airlam.baselines.positioning.fingerprints import NearestFingerprints
from airlam.baselines.positioning.site import PositionEstimate, lengths
from airlam.csi import SiteCSI

LENGTHS = (4.0, 8.0, 16.0, 32.0)  # m, correlation distances that are tried
NUGGETS = (0.03, 0.1, 0.3, 0.6, 0.9)  # shares of a field's variance without correlation
DEGREES = 4.0  # of freedom of Student's density: one wrong feature must not rule a place out
NEAREST = 5  # fingerprints
OUTLIERS = 0.05  # share of users whose nearest fingerprints tell nothing
_MOST = 300  # labelled users that correlation distances are chosen on
_AT_ONCE = 16  # users
_MARGIN = 6.0  # m around the labelled users


class _Map(NamedTuple):
    """Of one feature: mean and variance of it ``[place, station]``."""

    mean: Tensor
    variance: Tensor


_Known = dict[tuple[int, int, float, float], Tensor]


class RadioMap:
    """Posterior over a grid of places, from maps of delays, angles and powers.

    Args:
        step: of the grid [m].
        temper: power of the maps' likelihood below 1: features of one station are no independent witnesses.
        prints: power of the evidence of nearest fingerprints; 0: none. The ``NEAREST`` labelled users with the most
            alike beam-delay powers are a mixture of Gaussians as wide as labels are apart, beside a uniform density.
    """

    GRID = tuple(
        {"temper": t, "prints": w} for w in (0.0, 0.5, 1.0, 2.0) for t in (0.05, 0.1, 0.2, 0.3, 0.5, 0.7, 1.0, 1.5)
    )

    def __init__(self, step: float = 1.5, temper: float = 0.5, prints: float = 0.0):
        self.step, self.temper, self.prints = float(step), float(temper), float(prints)

    def fit(self, csi: SiteCSI) -> RadioMap:
        """Krige every feature of labelled users; returns itself."""
        position, features = csi.known(), delay_angle(csi)
        place, self.height = position[:, :2], float(position[:, 2].mean())
        low, high = place.amin(0) - _MARGIN, place.amax(0) + _MARGIN
        axes = [torch.arange(float(low[i]), float(high[i]) + self.step, self.step) for i in range(2)]
        self.grid = torch.cartesian_prod(*axes).double()
        audible = heard(features)
        self.nearest = NearestFingerprints(NEAREST).fit(csi)
        self.maps: list[_Map] = []
        known: _Known = {}
        for number, name in enumerate(NAMES):
            here, grid = (_trend(name, csi.stations, where, self.height) for where in (place, self.grid))
            there = torch.ones_like(audible) if name == "power" else audible
            self.maps.append(_krige(_value(name, features[..., number]), there, place, self.grid, here, grid, known))
        return self

    def evidence(self, csi: SiteCSI) -> tuple[Tensor, Tensor]:
        """Log-likelihoods ``float64 [user, place]`` of maps and of fingerprints, without constants and powers."""
        return self._of_maps(csi), self._of_prints(csi)

    def _of_prints(self, csi: SiteCSI) -> Tensor:
        weight, index = self.nearest.neighbours_of(csi)
        gap = torch.cdist(self.grid, self.nearest.place).square().mT  # [labelled user, place]
        wide = max(self.nearest.floor, 1.0)
        near = (-0.5 * gap / wide).exp() / (2 * math.pi * wide)
        mixed = torch.stack([w @ near[i] for w, i in zip(weight, index, strict=True)])
        return ((1 - OUTLIERS) * mixed + OUTLIERS / (len(self.grid) * self.step**2)).log()

    def _of_maps(self, csi: SiteCSI) -> Tensor:
        features = delay_angle(csi)
        audible, out = heard(features), []
        for start in range(0, len(csi), _AT_ONCE):
            part, total = slice(start, start + _AT_ONCE), torch.tensor(0.0)
            for number, (name, one) in enumerate(zip(NAMES, self.maps, strict=True)):
                z = _value(name, features[part, :, number])[:, None]
                far = (z - one.mean).square() / one.variance
                score = -0.5 * ((DEGREES + 1) * (far / DEGREES).log1p() + one.variance.log())
                counts = audible[part, None] | (name == "power")
                total = total + torch.where(counts, score, 0.0).sum(-1)
            out.append(total)
        return torch.cat(out)

    def of_evidence(self, maps: Tensor, prints: Tensor) -> PositionEstimate:
        """Mean and covariance of the posterior over ``grid``."""
        weight = (self.temper * maps + self.prints * prints).softmax(-1)
        mean = weight @ self.grid
        second = torch.einsum("up,pi,pj->uij", weight, self.grid, self.grid)
        within = self.step**2 / 12 * torch.eye(2, dtype=torch.float64)  # of a place's own square
        spread = second - mean[:, :, None] * mean[:, None]
        return PositionEstimate(mean, 0.5 * (spread + spread.mT) + within)

    def locate(self, csi: SiteCSI) -> PositionEstimate:
        """Where users are."""
        return self.of_evidence(*self.evidence(csi))


def _value(name: str, x: Tensor) -> Tensor:
    return (x + 1).log() if name == "spread" else x


def _trend(name: str, stations: Tensor, place: Tensor, height: float) -> Tensor:
    """What geometry alone says of a feature ``[place, station, term]``."""
    far = lengths(stations, place, height)
    x, y = (place[:, i, None] - stations[:, i].double() for i in range(2))
    angle = torch.atan2(y, x) - torch.deg2rad(stations[:, 3].double())
    one = torch.ones_like(far)
    if name in ("first", "peak", "mean"):
        terms = [one, far]
    elif name == "power":
        terms = [one, far.log10(), angle.cos()]
    elif name == "spread":
        terms = [one, far.log10()]
    else:  # phase between columns half a wavelength apart
        terms = [one, (math.pi * angle.sin()).cos(), (math.pi * angle.sin()).sin()]
    return torch.stack(terms, -1)


def _krige(
    z: Tensor, there: Tensor, place: Tensor, grid: Tensor, trend: Tensor, trend_grid: Tensor, shared: _Known
) -> _Map:
    """One feature of all stations: a common trend, correlation distance and nugget, a field of each station.

    ``shared`` keeps shares of variance that are known, which features of equal settings have in common.
    """
    weights = torch.linalg.lstsq(trend[there], z[there][:, None]).solution[:, 0] if there.any() else trend[0, 0] * 0
    rest, stations = z - trend @ weights, range(z.shape[1])
    gap, best = torch.cdist(place, place), (math.inf, LENGTHS[0], NUGGETS[-1], 1.0)
    few = [there[:, s].nonzero()[:_MOST, 0] for s in stations]
    for length in LENGTHS:
        for nugget in NUGGETS:
            squares, logs, count = 0.0, 0.0, 0
            for s in stations:
                factor = _factor(gap[few[s]][:, few[s]], length, nugget)
                half = torch.linalg.solve_triangular(factor, rest[few[s], s, None], upper=False)
                squares, logs = squares + float(half.square().sum()), logs + 2 * float(factor.diagonal().log().sum())
                count += len(few[s])
            power = max(squares / max(count, 1), 1e-9)
            best = min(best, (count * math.log(power) + logs, length, nugget, power))
    _, length, nugget, power = best
    mean, variance = trend_grid @ weights, torch.full_like(trend_grid[..., 0], power)
    for s in stations:
        users = there[:, s].nonzero()[:, 0]
        if len(users):
            factor = _factor(gap[users][:, users], length, nugget)
            cross = (1 - nugget) * torch.exp(-torch.cdist(grid, place[users]) / length)
            mean[:, s] += (cross @ torch.cholesky_solve(rest[users, s, None], factor))[:, 0]
            key = (s, len(users), length, nugget)
            if key not in shared:
                shared[key] = torch.linalg.solve_triangular(factor, cross.mT, upper=False).square().sum(0)
            variance[:, s] = power * (1 - shared[key]).clamp_min(1e-4)
    return _Map(mean, variance)


def _factor(gap: Tensor, length: float, nugget: float) -> Tensor:
    return torch.linalg.cholesky((1 - nugget) * torch.exp(-gap / length) + nugget * torch.eye(len(gap)).double())
