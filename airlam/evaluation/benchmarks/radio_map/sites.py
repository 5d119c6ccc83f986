"""Regions and sites: users' true and measured CSI, and the height map where there is one."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from airlam.channels.city import City
from airlam.csi import HeightMap, SiteCSI
from airlam.data.site import draw_users, site_recipe, usual_power, with_noise
from airlam.evaluation.benchmarks.radio_map.config import RadioMapConfig
from airlam.seeds import stream_seed


@dataclass
class Site:
    """Users of a region: CSI in units of the noise, true and measured."""

    true: SiteCSI
    measured: SiteCSI
    heights: HeightMap | None
    recipe: dict[str, Any]


def draw_site(config: RadioMapConfig, label: str, seed: int, city: City | None) -> Site:
    """One region of ``city``, or one site of the statistical channel that ``label`` names."""
    place = config.places[label]
    if city is not None:
        region = city.region(seed, config.stations)
        recipe, heights = region.recipe, region.heights
    else:
        recipe = site_recipe(place["channel"], place.get("overrides"), f"places.{label}: ")
        heights = None
    csi = draw_users(recipe, config.users, seed)
    power = usual_power(csi)
    measured = with_noise(csi, power, config.csi_snr_db, stream_seed(config.seed, label, seed))
    scale = 10 ** (config.csi_snr_db / 20) / power.sqrt()
    true = replace(csi, h=csi.h * scale)
    return Site(true, measured, heights, recipe)
