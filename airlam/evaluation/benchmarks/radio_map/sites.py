"""Regions and sites: users' true and measured CSI, and the height map where there is one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

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
    true = SiteCSI(csi.h * scale, csi.stations, csi.subcarrier_spacing, csi.port_shape, csi.position, csi.los)
    return Site(true, measured, heights, recipe)


def heard_stations(true: SiteCSI) -> torch.Tensor:
    """Numbers of the stations that enough users hear to map them."""
    from airlam.csi import SiteMap
    from airlam.tasks.radio_mapping import worth_mapping

    return worth_mapping(SiteMap.of(true, noise=False))
