"""Regions of a ray-traced city with base stations at random places: sites without number, to learn maps from."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch

from airlam.channels.loading import load_channel
from airlam.channels.ray_traced_site import SiteTracer
from airlam.csi import HeightMap
from airlam.errors import RecipeError

SIDE = 240.0  # m, of a region
STREETS = (0.3, 0.8)  # share of a region that is outdoors
POLE, ROOF = (4.0, 12.0), 3.0  # m, heights of stations above the street and above a roof
TALLEST = 40.0  # m, no station stands on a higher roof
ON_ROOFS = 0.4  # share of the places on roofs that are taken
TURN = 40.0  # m, about so far beside the region's middle a station looks
_NEAR_MIDDLE = 0.75  # share of the region's side where stations stand
_MARGIN, _STEP = 40.0, 2.0  # m, of the height map
_TRIES = 1000
RECIPE: dict[str, Any] = {
    "scenario": "ray_traced_site",
    "carrier_frequency": 3.5e9,
    "num_subcarriers": 96,
    "subcarrier_spacing": 1e6,
    "speed_kmh": 0,
    "num_samples": 20_000,
    "bs_panel": {"rows": 1, "columns": 4, "polarisation": "dual", "pattern": "38.901"},
    "ut_panel": {"rows": 1, "columns": 1, "polarisation": "single", "pattern": "omni"},
}


@dataclass
class Region:
    """A part of a city: the recipe of a ray-traced site with ``stations``, and what it looks like from above."""

    recipe: dict[str, Any]
    heights: HeightMap


class City:
    """One of Sionna RT's cities.

    Args:
        scene: its name, see :data:`airlam.channels.ray_tracing.SCENES`.
        recipe: keys of the channel recipe to change.

    Raises:
        RayTracingError: ray tracing cannot run here.
        RecipeError: no such scene, or a value out of bounds.

    Example:
        >>> region = City("florence").region(seed=1)                                   # doctest: +SKIP
        >>> len(region.recipe["stations"]), region.heights.height.shape                # doctest: +SKIP
        (8, torch.Size([160, 160]))
    """

    def __init__(self, scene: str, recipe: dict[str, Any] | None = None) -> None:
        nowhere = {"stations": [[0.0, 0.0, 10.0, 0.0]], "area": [-50.0, 50.0, -50.0, 50.0], "links_per_drop": 1}
        self.recipe = {**RECIPE, **(recipe or {}), "scene": scene}
        self.tracer = SiteTracer(load_channel({**self.recipe, **nowhere}).recipe)

    def region(self, seed: int, stations: int = 8) -> Region:
        """A region that is partly built up, with stations in its streets and on its roofs.

        Raises:
            RecipeError: the city has none.
        """
        generator = torch.Generator().manual_seed(seed)
        low, high = self.tracer.bounds()
        room = SIDE / 2 + _MARGIN
        for _ in range(_TRIES):
            middle = low + room + (high - low - 2 * room).clamp_min(0) * torch.rand(2, generator=generator)
            heights, outdoors = self.tracer.seen_from_above(middle, SIDE / 2 + _MARGIN, _STEP)
            edge = int(_MARGIN / _STEP)
            share = float(outdoors[edge:-edge, edge:-edge].float().mean())
            if not STREETS[0] <= share <= STREETS[1]:
                continue
            found = self._stations(middle, heights, outdoors, stations, generator)
            if len(found) == stations:
                x, y = middle.tolist()
                area = [x - SIDE / 2, x + SIDE / 2, y - SIDE / 2, y + SIDE / 2]
                many = {"stations": found, "area": area, "links_per_drop": stations, "chunk": 256 * stations}
                return Region({**self.recipe, **many}, heights)
        raise RecipeError(f"no region of {self.recipe['scene']} has {STREETS[0]:.0%} to {STREETS[1]:.0%} of streets")

    def _stations(self, middle, heights, outdoors, count: int, generator: torch.Generator) -> list[list[float]]:
        found: list[list[float]] = []
        for _ in range(_TRIES):
            place = middle + _NEAR_MIDDLE * SIDE * (torch.rand(2, generator=generator) - 0.5)
            cell = ((place - torch.tensor(heights.corner)) / heights.step).long()
            height, street = float(heights.height[cell[1], cell[0]]), bool(outdoors[cell[1], cell[0]])
            pole = POLE[0] + (POLE[1] - POLE[0]) * float(torch.rand((), generator=generator))
            taken = float(torch.rand((), generator=generator)) < ON_ROOFS
            looks = middle + TURN * torch.randn(2, generator=generator) - place
            if street or (taken and height <= TALLEST):
                bearing = math.degrees(math.atan2(float(looks[1]), float(looks[0])))
                found.append([*place.tolist(), height + (pole if street else ROOF), bearing])
            if len(found) == count:
                break
        return found
