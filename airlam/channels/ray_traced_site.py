"""A ray-traced scene with several base stations and users who stand in it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from airlam.channels.channel_model import Chunk, write_normalised
from airlam.channels.drops import draw_velocity
from airlam.channels.ray_traced import RayTracedChannel, TracedPaths, Tracer, Tracks, is_los, rms_spread
from airlam.channels.ray_tracing import RAY_TRACED_KEYS, check_ray_traced
from airlam.channels.stations import STATION_KEYS, check_stations, draw_heights, draw_places
from airlam.csi import HeightMap
from airlam.errors import RecipeError
from airlam.recipes import check_number

USER_HEIGHT = 1.5  # m above ground
NEAREST = 5.0  # m on the ground from every station
_ROUNDS = 40
_AT_ONCE = 256  # users traced together
_CAR_METAL_M = 0.1  # thickness is of no importance for metal
_KEYS = ("bs_position", "bs_bearing_deg", "max_distance", "key_distance")  # of a scene with one station on tracks


class RayTracedSite(RayTracedChannel):
    """Links of standing users to several stations. All seeds share the *site*; a seed draws users.

    Users are outdoors, uniform over ``area``, and reached by at least one station. CSI holds one instant: only Doppler
    phases advance over slots. ``cars`` puts large metal boxes into the streets, scatterers that can be moved: the same
    recipe with other cars is the same place on another day. Positions are in the scene's coordinates, heights included.

    Example:
        >>> from airlam.channels import load_channel
        >>> load_channel("rt_positioning").sample(6, 1, seed=1).h.shape    # doctest: +SKIP
        torch.Size([6, 1, 96, 1, 8])
    """

    keys = {k: v for k, v in RAY_TRACED_KEYS.items() if k not in _KEYS} | STATION_KEYS | {"cars": None}

    @classmethod
    def check_recipe(cls, recipe: Mapping[str, Any]) -> dict[str, Any]:
        if recipe["state"] != "random":
            raise RecipeError(
                f"state is {recipe['state']!r}, but a site has users as the place gives them; write random"
            )
        traced = check_ray_traced({**RAY_TRACED_KEYS, **recipe})
        per_drop = check_number("links_per_drop", recipe["links_per_drop"], 1, 10_000, integer=True)
        site = check_stations({**recipe, "links_per_drop": per_drop}, coordinates=3)
        if not site:
            raise RecipeError("stations is missing: a site needs at least one, [x, y, z, bearing_deg]")
        out = {k: v for k, v in traced.items() if k not in _KEYS}
        if recipe["cars"] is not None:
            out["cars"] = [
                [check_number(f"cars[{i}][{j}]", v, -1e5, 1e5) for j, v in enumerate(car)]
                for i, car in enumerate(recipe["cars"])
                if _is_car(car, i)
            ]
        return {"state": "random", "links_per_drop": per_drop} | out | site

    def make_chunk(self, h, power, generator, sionna_seed, return_rays):
        if return_rays:
            raise ValueError("ray-traced links have no rays to return: their phases and powers are not random")
        self._tracer = self._tracer or SiteTracer(self.recipe)
        panels = station_orientations(self.recipe)
        stations = len(panels)
        users = self.drops_per_chunk * self.links_per_drop // stations
        tracks, found = self._standing(users, stations, generator)
        links = slice(0, len(h))
        response = torch.stack(
            [
                self._response(tracks[[n // stations]], paths, h.shape[1], panels[n % stations])
                for n, paths in enumerate(found[links])
            ]
        )
        write_normalised(response, h, power)
        strength = [paths.gain[0].abs().square().sum((-2, -1)) for paths in found[links]]

        def of_links(x: Tensor) -> Tensor:
            return x.repeat_interleave(stations, 0)[links]

        return Chunk(
            gain=torch.ones(len(h)),
            path_loss_db=torch.zeros(len(h)),
            los=torch.stack([is_los(paths) for paths in found[links]]),
            indoor=torch.zeros(len(h), dtype=torch.bool),
            delay_spread=torch.stack(
                [rms_spread(p.delay[0], w) for p, w in zip(found[links], strength, strict=True)]
            ).float(),
            position=of_links(tracks.start),
            velocity=of_links(tracks.heading * tracks.speed[:, None]),
        ), None

    def _standing(self, users: int, stations: int, generator: torch.Generator) -> tuple[Tracks, list[TracedPaths]]:
        """The first ``users`` that any station reaches, with the paths of each user and station."""
        assert self._tracer is not None
        kept: list[Tracks] = []
        found: list[TracedPaths] = []
        for _ in range(_ROUNDS + users // _AT_ONCE):
            # as many are drawn as are traced together, however many are wanted: no user depends on that number
            tracks = self._tracer.draw(_AT_ONCE, 0.0, generator)
            traced = self._tracer.trace(tracks.start[:, None], tracks.orientation, stations)
            for user in range(len(tracks.start)):
                paths = traced[user * stations : (user + 1) * stations]
                if any(bool((p.gain.abs() > 0).any()) for p in paths):
                    kept.append(tracks[[user]])
                    found += paths
                if len(kept) == users:
                    whole = (torch.cat([getattr(t, name) for t in kept]) for name in Tracks.__dataclass_fields__)
                    return Tracks(*whole), found
        raise RecipeError(
            f"only {len(kept)} of {users} users were found: rays reach too few places outdoors; enlarge area, or raise "
            "max_depth"
        )


class SiteTracer(Tracer):
    """Sionna RT on one scene with all stations of a recipe, and its cars."""

    def add_stations(self) -> None:
        panels = station_orientations(self.recipe)
        for number, (station, panel) in enumerate(zip(self.recipe["stations"], panels, strict=True)):
            self.scene.add(self.rt.Transmitter(f"bs{number}", station[:3], orientation=panel.tolist()))
        if not self.recipe.get("cars"):
            return
        metal = self.rt.ITURadioMaterial("car-metal", "metal", thickness=_CAR_METAL_M)
        cars = [
            self.rt.SceneObject(fname=self.rt.scene.low_poly_car, name=f"car{number}", radio_material=metal)
            for number in range(len(self.recipe["cars"]))
        ]
        self.scene.edit(add=cars)
        for car, (x, y, bearing) in zip(cars, self.recipe["cars"], strict=True):
            car.scaling = 2.0  # a lorry: about 9 m long and 3 m high
            car.position = [x, y, 0.0]
            car.orientation = [math.radians(bearing), 0.0, 0.0]

    def bounds(self) -> tuple[Tensor, Tensor]:
        """(x, y) m of two opposite corners of the scene."""
        box = self.scene.mi_scene.bbox()
        return tuple(torch.tensor([float(corner.x), float(corner.y)]) for corner in (box.min, box.max))  # type: ignore

    def seen_from_above(self, middle: Tensor, reach: float, step: float) -> tuple[HeightMap, Tensor]:
        """Heights on a square of twice ``reach``, in cells of ``step`` [m], and which cells are ground ``[y, x]``."""
        cells = round(2 * reach / step)
        axis = (torch.arange(cells) + 0.5) * step - reach
        y, x = torch.meshgrid(float(middle[1]) + axis, float(middle[0]) + axis, indexing="ij")
        height, ground = self.look_down(x.flatten(), y.flatten())
        corner = (float(middle[0]) - reach, float(middle[1]) - reach)
        return HeightMap(height.view(cells, cells), corner, step), ground.view(cells, cells)

    def draw(self, num_users: int, length: float, generator: torch.Generator) -> Tracks:
        """Users outdoors; fewer than asked for where places are not."""
        stations = torch.tensor(self.recipe["stations"])[:, :2]
        place = draw_places(self.recipe["area"], stations, NEAREST, (1, num_users), generator)[0]
        heights = draw_heights(self.recipe.get("user_height") or [USER_HEIGHT], (num_users,), generator)
        velocity = draw_velocity(self.recipe["speed_kmh"], (num_users,), generator)
        orientation = math.pi * (torch.rand(num_users, 3, generator=generator) - 0.5)
        ground, outdoors = self.look_down(place[:, 0], place[:, 1])
        start = torch.cat((place, (ground + heights)[:, None]), 1)
        speed = torch.linalg.vector_norm(velocity, dim=1)
        heading = velocity / speed.clamp_min(1e-12)[:, None]
        return Tracks(start, heading, speed, orientation)[outdoors]


def station_orientations(recipe: Mapping[str, Any]) -> Tensor:
    """(bearing, downtilt, slant) of each station's panel ``[station, 3]`` rad."""
    bearing = torch.tensor([math.radians(station[-1]) for station in recipe["stations"]])
    tilt = torch.full_like(bearing, math.radians(recipe["bs_downtilt_deg"]))
    return torch.stack((bearing, tilt, torch.zeros_like(bearing)), 1)


def _is_car(car: object, number: int) -> bool:
    if not isinstance(car, (list, tuple)) or len(car) != 3:
        raise RecipeError(f"cars[{number}] is {car!r}, but must be [x, y, bearing_deg]")
    return True
