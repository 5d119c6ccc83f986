"""Users of one site: their CSI at all its stations, measured with noise.

Users of a data set of links stand in drops, and each drop of a statistical channel is another site. Here all users are
of one drop, so that what some of them tell holds for the others.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from airlam.channels import by_station, load_channel
from airlam.csi import SiteCSI
from airlam.errors import RecipeError

HEIGHT = {"umi": 10.0, "uma": 25.0, "rma": 35.0, "inh": 3.0}  # of stations, TR 38.901 clause 7.2
FACTORY = {"sl": 1.5, "dl": 1.5, "sh": 8.0, "dh": 8.0, "hh": 8.0}


def site_recipe(channel: str | dict[str, Any], overrides: dict[str, Any] | None = None, name: str = "") -> dict:
    """The resolved recipe of a site.

    Args:
        channel: a recipe with stations. overrides: keys of it to change.
        name: what errors begin with.

    Raises:
        RecipeError: a channel without stations, whose users have no places.

    Example:
        >>> len(site_recipe("inf_dh_site")["stations"])
        6
    """
    recipe = load_channel({**load_channel(channel).recipe, **(overrides or {})}).recipe
    if not recipe.get("stations"):
        raise RecipeError(
            f"{name}channel {channel} has no stations, so its users have no places at a site; name a recipe with "
            "stations, as inf_dh_site"
        )
    return recipe


def draw_users(recipe: dict[str, Any], users: int, seed: int) -> SiteCSI:
    """Users of one site in random order, without noise.

    Args:
        recipe: see :func:`site_recipe`.

    Raises:
        RecipeError: users with several antennas.
    """
    stations = torch.tensor(recipe["stations"])
    links = users * len(stations)
    if recipe["scenario"] != "ray_traced_site":  # one snapshot is one site
        recipe = {**recipe, "links_per_drop": links, "chunk": 4096, "spatial_consistency": True}
        height = FACTORY[recipe["factory"]] if recipe["scenario"] == "inf" else HEIGHT[recipe["scenario"]]
        stations = torch.cat((stations[:, :2], torch.full_like(stations[:, :1], height), stations[:, 2:]), 1)
    model = load_channel(recipe)
    batch = model.sample(links, 1, seed=seed)
    h, first = by_station(batch)
    if h.shape[4] > 1:
        raise RecipeError("users have several antennas, but one is judged here; override the channel's ut_panel")
    order = torch.randperm(users, generator=torch.Generator().manual_seed(seed))
    return SiteCSI(
        h[:, :, 0, :, 0],
        stations,
        recipe["subcarrier_spacing"],
        model.port_shape,
        batch.position[first],
        batch.los.view(-1, len(stations)),
    )[order]


def usual_power(csi: SiteCSI) -> Tensor:
    """Mean power of a tone and port at the strongest station of the median user."""
    return csi.h.abs().square().mean((2, 3)).amax(1).median()


def with_noise(csi: SiteCSI, power: Tensor, snr_db: float, seed: int) -> SiteCSI:
    """CSI in units of the noise, which is the same at all stations: ``snr_db`` below ``power``."""
    noise = torch.randn(csi.h.shape, dtype=csi.h.dtype, generator=torch.Generator().manual_seed(seed))
    return replace(csi, h=csi.h / power.sqrt() * 10 ** (snr_db / 20) + noise)
