"""Maps by nearest neighbour and by inverse distance."""

from __future__ import annotations

import torch
from torch import Tensor

from airlam.baselines.radio_maps.estimate import MapEstimate, check_places, check_site
from airlam.baselines.radio_maps.profiles import neighbours_profile
from airlam.csi import HeightMap, SiteMap


class InverseDistance:
    """Means of what was measured, weighted by a power of the distance on the ground.

    Args:
        exponent: of the weights; ``inf``: the nearest measured place alone; 0: the mean of all.

    The spread is the weighted deviation of what was measured from the mean.
    """

    def __init__(self, exponent: float = 2.0):
        self.exponent = exponent

    def fit(self, known: SiteMap, stations: Tensor, heights: HeightMap | None = None) -> InverseDistance:
        """Remember what was measured; returns itself."""
        self.known, self.stations = known, check_site(known, stations)
        return self

    def at(self, place: Tensor) -> MapEstimate:
        """What the map says of places ``[place, 3]`` m."""
        place = check_places(place)
        gap = torch.cdist(place[:, :2], self.known.place[:, :2]).clamp_min(1.0)
        nearest = self.exponent == torch.inf
        weight = torch.zeros_like(gap) if nearest else gap**-self.exponent
        if nearest:
            weight[torch.arange(len(gap)), gap.argmin(1)] = 1.0
        weight = weight / weight.sum(1, keepdim=True)
        power = self.known.power_db
        mean = weight @ power
        spread = (weight @ power.square() - mean.square()).clamp_min(1.0).sqrt()
        reach, most = (torch.inf, len(self.known)) if self.exponent == 0 else (0.0 if nearest else 10.0, 16)
        profile = neighbours_profile(self.known, place, self.stations, reach, most)
        return MapEstimate(mean, spread, profile)
