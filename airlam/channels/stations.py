"""Several base stations at one site: where they stand, which users they see, and whose link is whose.

Links of such a recipe run over users, then stations: link ``user * stations + station``. ``links_per_drop`` counts
links. Positions are in the site's own coordinates.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from airlam.channels.link_batch import LinkBatch
from airlam.errors import RecipeError
from airlam.recipes import check_number

STATION_KEYS: dict[str, Any] = {"stations": None, "area": None, "user_height": None}
_CANDIDATES = 64  # spots drawn for each user, of which the first that is far enough from all stations is taken


def check_stations(recipe: Mapping[str, Any], *, coordinates: int, area: list[float] | None = None) -> dict[str, Any]:
    """The values of :data:`STATION_KEYS` in a recipe; empty where no stations are named.

    Args:
        recipe: no key missing.
        coordinates: of a station before its bearing: 2, or 3 with the height.
        area: used where the recipe has none; None: it must have one.

    Raises:
        RecipeError: names the key, its value and the bound.
    """
    given = recipe["stations"]
    if given is None:
        for key in ("area", "user_height"):
            if recipe[key] is not None:
                raise RecipeError(f"{key} is {recipe[key]!r}, but holds for a site with stations; add the key stations")
        return {}
    names = [*"xyz"[:coordinates], "bearing_deg"]
    if not isinstance(given, (list, tuple)) or not given:
        raise RecipeError(f"stations is {given!r}, but must be a list of [{', '.join(names)}]")
    stations = [_numbers(f"stations[{i}]", station, names) for i, station in enumerate(given)]
    if recipe["area"] is not None:
        area = _numbers("area", recipe["area"], ["x_min", "x_max", "y_min", "y_max"])
    if area is None:
        raise RecipeError("stations are named, but no area: write area: [x_min, x_max, y_min, y_max], where users are")
    if area[0] >= area[1] or area[2] >= area[3]:
        raise RecipeError(f"area is {area}, but x_min must be below x_max and y_min below y_max")
    heights = recipe["user_height"]
    heights = [] if heights is None else list(heights) if isinstance(heights, (list, tuple)) else [heights]
    heights = [check_number(f"user_height[{i}]", v, 0.5, 22.5, unit="m") for i, v in enumerate(heights)]
    if recipe["links_per_drop"] % len(stations):
        raise RecipeError(
            f"links_per_drop is {recipe['links_per_drop']}, but must be a multiple of the {len(stations)} stations: "
            "it counts links, one for each user and station"
        )
    found: dict[str, Any] = {"stations": stations, "area": area}
    return found | ({"user_height": heights} if heights else {})


def _numbers(name: str, value: object, names: list[str]) -> list[float]:
    if not isinstance(value, (list, tuple)) or len(value) != len(names):
        raise RecipeError(f"{name} is {value!r}, but must be [{', '.join(names)}]")
    return [check_number(f"{name}, {what},", v, -1e5, 1e5) for what, v in zip(names, value, strict=True)]


def draw_places(
    area: list[float], stations: Tensor, nearest: float, shape: tuple[int, int], generator: torch.Generator
) -> Tensor:
    """Users uniform over a rectangle, at least ``nearest`` m from each station on the ground: ``[*shape, 2]`` m.

    Args:
        stations: ``[station, 2]`` m.

    Raises:
        RecipeError: hardly any place of the area is that far away.
    """
    low, size = torch.tensor(area[::2]), torch.tensor(area[1::2]) - torch.tensor(area[::2])
    spot = low + size * torch.rand(*shape, _CANDIDATES, 2, generator=generator)
    far = (torch.cdist(spot.flatten(0, 2), stations) >= nearest).all(1).view(*shape, _CANDIDATES)
    if not far.any(-1).all():
        raise RecipeError(f"area is {area}, but nearly all of it is within {nearest:g} m of a station; enlarge it")
    first = far.int().argmax(-1)
    return spot.gather(2, first[..., None, None].expand(-1, -1, 1, 2))[:, :, 0]


def draw_heights(heights: list[float], shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    """One of the heights for each user ``[*shape]``."""
    return torch.tensor(heights)[torch.randint(len(heights), shape, generator=generator)]


def by_station(links: LinkBatch) -> tuple[Tensor, Tensor]:
    """CSI of each user at all stations, with the levels that it arrives at.

    Args:
        links: of a recipe with ``stations``.

    Returns:
        ``complex64 [user, station, slot, subcarrier, rx_ant, tx_ant]``, path loss included (zero where a station is not
        heard), and the number of the first link of each user ``int64 [user]``: ``links.position[first]``.

    Raises:
        ValueError: a recipe without stations.
    """
    stations = links.recipe.get("stations")
    if not stations:
        raise ValueError("these links are of a recipe without stations; add the key, or use links.h")
    amplitude = 10 ** (links.gain_db / 20)
    h = torch.where(amplitude > 0, amplitude, 0.0)[:, None, None, None, None] * torch.nan_to_num(links.h)
    return h.unflatten(0, (-1, len(stations))), torch.arange(0, len(links), len(stations))
