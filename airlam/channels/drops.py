"""Where users stand and how they move: one base station per drop, users in its sector, office or factory hall."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from airlam.channels.stations import draw_heights, draw_places

# TR 38.901 tables 7.2-1, 7.2-3, 7.8-1: inter-site distance, height of the base station, least distance [m],
# and the share of indoor users.
_SECTORS = {
    "umi": (200.0, 10.0, 10.0, 0.8),
    "uma": (500.0, 25.0, 35.0, 0.8),
    "rma": (1732.0, 35.0, 35.0, 0.5),
}
# Tables 7.2-2, 7.8-1 and 7.2-4, 7.8-7: length, width, distance between sites, height of base station and of user [m].
# InF-HH is in no calibration table: both ends above the clutter, in the hall of SH.
_HALLS = {
    "inh": (120.0, 50.0, 20.0, 3.0, 1.0),
    "inf-sl": (120.0, 60.0, 20.0, 1.5, 1.5),
    "inf-dl": (300.0, 150.0, 50.0, 1.5, 1.5),
    "inf-sh": (300.0, 150.0, 50.0, 8.0, 1.5),
    "inf-dh": (120.0, 60.0, 20.0, 8.0, 1.5),
    "inf-hh": (300.0, 150.0, 50.0, 8.0, 8.0),
}
_CANDIDATES = 64  # per user, of which the first inside the hall is taken


@dataclass
class Drops:
    """Topologies: ``bs_* [drop, station, 3]``, ``ut_*, velocity [drop, user, 3]``, ``indoor, in_car [drop, user]``.

    A single base station stands at x = y = 0. Orientations are (bearing, downtilt, slant) in radians.
    """

    bs_position: Tensor
    bs_orientation: Tensor
    ut_position: Tensor
    ut_orientation: Tensor
    velocity: Tensor
    indoor: Tensor
    in_car: Tensor
    track: Tensor | None = None  # int64 [user], which track a user is a point of

    def along_tracks(self, points: int, interval: float) -> Drops:
        """Every user as ``points`` users, one after another on its path, ``interval`` seconds apart."""

        def repeated(x: Tensor) -> Tensor:
            return x.repeat_interleave(points, dim=1)

        users = self.velocity.shape[1]
        step = interval * torch.arange(points, dtype=self.velocity.dtype).repeat(users)
        velocity = repeated(self.velocity)
        return Drops(
            bs_position=self.bs_position,
            bs_orientation=self.bs_orientation,
            ut_position=repeated(self.ut_position) + step[:, None] * velocity,
            ut_orientation=repeated(self.ut_orientation),
            velocity=velocity,
            indoor=repeated(self.indoor),
            in_car=repeated(self.in_car),
            track=torch.arange(users).repeat_interleave(points),
        )


def draw_uniform(value, shape, generator: torch.Generator, *, log: bool = False) -> Tensor:
    """A number, or one draw per entry from ``[min, max]`` (uniform, or uniform in the logarithm)."""
    u = torch.rand(shape, generator=generator)  # drawn in either case: a fixed speed leaves all else as it was
    if not isinstance(value, (list, tuple)):
        return torch.full(shape, float(value))
    low, high = value
    return low * (high / low) ** u if log else low + (high - low) * u


def draw_velocity(speed_kmh, shape, generator: torch.Generator) -> Tensor:
    """Velocity vectors ``[*shape, 3]`` m/s: horizontal, in a uniform direction."""
    speed = draw_uniform(speed_kmh, shape, generator) / 3.6
    heading = 2 * math.pi * torch.rand(shape, generator=generator)
    return torch.stack((speed * heading.cos(), speed * heading.sin(), torch.zeros(shape)), -1)


def draw_drops(recipe: dict, num_drops: int, generator: torch.Generator) -> Drops:
    """Draw topologies for an outdoor or indoor scenario (a resolved recipe)."""
    shape = (num_drops, recipe["links_per_drop"])
    velocity = draw_velocity(recipe["speed_kmh"], shape, generator)
    # A device held in any way: bearing, downtilt and slant within +-90 degrees
    ut_orientation = math.pi * (torch.rand(*shape, 3, generator=generator) - 0.5)
    if recipe.get("stations"):
        return _site(recipe, shape, velocity, ut_orientation, generator)
    if recipe["scenario"] in _SECTORS:
        bs_height, tilt, position, indoor = _sector(recipe, shape, generator)
    else:
        bs_height, tilt, position = _hall(recipe, shape, generator)
        indoor = torch.ones(shape, dtype=torch.bool)
    # TR 38.901 table 7.2-3: RMa users that are not indoors sit in cars. A forced los or nlos means outdoors.
    in_car = ~indoor if recipe["scenario"] == "rma" and recipe["state"] == "random" else torch.zeros_like(indoor)
    origin = torch.zeros(num_drops, 1, 1)
    return Drops(
        bs_position=torch.cat((origin, origin, origin + bs_height), -1),
        bs_orientation=torch.cat((origin, origin + tilt, origin), -1),
        ut_position=position,
        ut_orientation=ut_orientation,
        velocity=velocity,
        indoor=indoor,
        in_car=in_car,
    )


def hall_of(recipe: dict) -> tuple[float, float, float, float, float] | None:
    """Length, width, distance between sites, height of base station and of user [m]; None outdoors."""
    if recipe["scenario"] in _SECTORS:
        return None
    return _HALLS["inh" if recipe["scenario"] == "inh" else f"inf-{recipe['factory']}"]


def _site(recipe: dict, shape, velocity: Tensor, ut_orientation: Tensor, generator: torch.Generator) -> Drops:
    """All stations of a site; every user is outdoors, or in the hall. ``shape`` counts links."""
    stations = torch.tensor(recipe["stations"])  # x, y, bearing
    shape = (shape[0], shape[1] // len(stations))
    hall = hall_of(recipe)
    if hall is None:
        inter_site, bs_height, nearest, _ = _SECTORS[recipe["scenario"]]
        ut_height, tilt = 1.5, _sector_tilt(inter_site, bs_height, nearest)
    else:
        bs_height, ut_height, nearest = *hall[3:], 1.0
        tilt = math.radians(20.0) if bs_height > ut_height else 0.0
    place = draw_places(recipe["area"], stations[:, :2], nearest, shape, generator)
    height = draw_heights(recipe.get("user_height") or [ut_height], shape, generator)
    level = torch.full_like(stations[:, :1], bs_height)
    bearing = torch.deg2rad(stations[:, 2:])
    orientation = torch.cat((bearing, torch.full_like(bearing, tilt), torch.zeros_like(bearing)), 1)
    indoor = torch.full(shape, hall is not None)
    return Drops(
        bs_position=torch.cat((stations[:, :2], level), 1).expand(shape[0], -1, -1),
        bs_orientation=orientation.expand(shape[0], -1, -1),
        ut_position=torch.cat((place, height[..., None]), -1),
        ut_orientation=ut_orientation[:, : shape[1]],
        velocity=velocity[:, : shape[1]],
        indoor=indoor,
        in_car=torch.zeros_like(indoor),
    )


def _sector_tilt(inter_site: float, bs_height: float, nearest: float) -> float:
    """At the middle of the sector."""
    return math.pi / 2 - math.atan(0.5 * (nearest + 0.5 * inter_site) / bs_height)


def _sector(recipe: dict, shape, generator):
    """Users uniform over a 120 degree sector that looks along +x, with the area of a hexagonal cell's sector."""
    inter_site, bs_height, nearest, indoor_share = _SECTORS[recipe["scenario"]]
    radius = inter_site * math.sqrt(math.sqrt(3) / (2 * math.pi))
    distance = (nearest**2 + (radius**2 - nearest**2) * torch.rand(shape, generator=generator)).sqrt()
    azimuth = (torch.rand(shape, generator=generator) - 0.5) * 2 * math.pi / 3
    share = {"indoor": 1.0, "random": indoor_share}.get(recipe["state"], 0.0)
    indoor = torch.rand(shape, generator=generator) < share
    # Table 7.2-1: a house has 4 to 8 floors, an indoor user is on any of them; outdoor users are at 1.5 m
    num_floors = 4 + (5 * torch.rand(shape, generator=generator)).floor()
    floor = (num_floors * torch.rand(shape, generator=generator)).floor()
    floor = torch.zeros_like(floor) if recipe["scenario"] == "rma" else floor
    height = torch.where(indoor, 3 * floor + 1.5, torch.full(shape, 1.5))
    tilt = _sector_tilt(inter_site, bs_height, nearest)
    position = torch.stack((distance * azimuth.cos(), distance * azimuth.sin(), height), -1)
    return bs_height, tilt, position, indoor


def _hall(recipe: dict, shape, generator):
    """Users uniform over the 120 degrees in front of a base station at one site of the hall's lattice."""
    hall = hall_of(recipe)
    assert hall is not None  # for the type checker: only indoor recipes come here
    length, width, spacing, bs_height, ut_height = hall
    num_drops, num_users = shape
    columns, rows = int(length // spacing), int(width // spacing)
    site = torch.rand(num_drops, 1, 1, 2, generator=generator)
    site_x = ((site[..., 0] * columns).floor() + 0.5 - columns / 2) * spacing
    site_y = ((site[..., 1] * rows).floor() + 0.5 - rows / 2) * spacing
    # Within 60 degrees of the hall's middle: so at least a quarter of the hall lies in front, wherever the site is
    bearing = torch.atan2(-site_y, -site_x) + 2 * math.pi / 3 * (torch.rand(num_drops, 1, 1, generator=generator) - 0.5)
    spot = torch.rand(num_drops, num_users, _CANDIDATES, 2, generator=generator) - 0.5
    x, y = spot[..., 0] * length - site_x, spot[..., 1] * width - site_y
    x, y = x * bearing.cos() + y * bearing.sin(), y * bearing.cos() - x * bearing.sin()  # the panel looks along +x
    in_front = (x.abs() > 0) & (torch.atan2(y, x).abs() < math.pi / 3) & (torch.hypot(x, y) > 1.0)
    first = in_front.int().argmax(-1, keepdim=True)
    x, y = x.gather(-1, first)[..., 0], y.gather(-1, first)[..., 0]
    tilt = math.radians(20.0) if bs_height > ut_height else 0.0  # table 7.8-1: 110 degrees from the zenith
    return bs_height, tilt, torch.stack((x, y, torch.full(shape, ut_height)), -1)
