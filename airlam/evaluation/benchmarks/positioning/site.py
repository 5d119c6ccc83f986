"""Users of a site: their measured CSI, who trains, who judges, and those of shifts."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from airlam.baselines.positioning import SiteCSI
from airlam.channels import by_station, load_channel
from airlam.errors import RecipeError
from airlam.evaluation.benchmarks.positioning.config import PositioningConfig
from airlam.seeds import stream_seed

HEIGHT = {"umi": 10.0, "uma": 25.0, "rma": 35.0, "inh": 3.0}  # of stations, TR 38.901 clause 7.2
FACTORY = {"sl": 1.5, "dl": 1.5, "sh": 8.0, "dh": 8.0, "hh": 8.0}


@dataclass
class Users:
    """Measured CSI of each split, and of each shift by its name; the resolved recipe."""

    train: SiteCSI
    val: SiteCSI
    test: SiteCSI
    shifts: dict[str, SiteCSI]
    recipe: dict[str, Any]


def site_recipe(config: PositioningConfig, label: str) -> dict[str, Any]:
    """The resolved recipe of a site.

    Raises:
        RecipeError: a channel without stations, whose users have no places.
    """
    site = config.sites[label]
    recipe = load_channel({**load_channel(site["channel"]).recipe, **(site.get("overrides") or {})}).recipe
    if not recipe.get("stations"):
        raise RecipeError(
            f"sites.{label}: channel {site['channel']} has no stations, so its users have no places at a site; name a "
            "recipe with stations, as inf_dh_site"
        )
    return recipe


def site_users(config: PositioningConfig, label: str) -> Users:
    """All users of a site, measured. Users of a shift in ``user_height`` stand among the others in the same drop; those
    of any other shift are drawn anew where the site is traced by rays, and thus stays as it is."""
    recipe, sizes = site_recipe(config, label), config.sizes
    shifts: dict[str, dict[str, Any]] = dict(config.sites[label].get("shifts") or {})
    traced = recipe["scenario"] == "ray_traced_site"
    if traced:
        main, others = _sample(recipe, sizes.num_users, config.seed), {}
        for number, (name, change) in enumerate(shifts.items()):
            others[name] = _sample({**recipe, **change}, sizes.num_shift, config.seed + 1 + number)
    else:
        main, others = _same_drop(recipe, shifts, config, label)
    level = main.h.abs().square().mean((2, 3)).amax(1).median()
    measured = {name: _measured(csi, level, config, label, name) for name, csi in {"": main, **others}.items()}
    all_ = measured.pop("")
    ends = (sizes.num_train, sizes.num_train + sizes.num_val)
    return Users(all_[: ends[0]], all_[ends[0] : ends[1]], all_[ends[1] :], measured, recipe)


def _same_drop(
    recipe: dict[str, Any], shifts: dict[str, dict[str, Any]], config: PositioningConfig, label: str
) -> tuple[SiteCSI, dict[str, SiteCSI]]:
    usual, sizes = list(recipe.get("user_height") or [1.5]), config.sizes
    heights: list[float] = []
    for name, change in shifts.items():
        if set(change) != {"user_height"}:
            raise RecipeError(
                f"sites.{label}.shifts.{name} is {change!r}, but a statistical site shifts user_height alone"
            )
        heights.append(float(change["user_height"]))
    often = math.ceil(sizes.num_users / sizes.num_shift / len(usual))
    drawn = usual * often + heights if heights else usual
    users = math.ceil((sizes.num_users * len(drawn) / (len(usual) * often) if heights else sizes.num_users) * 1.05)
    every = _sample({**recipe, "user_height": drawn}, users, config.seed)
    assert every.position is not None
    at = every.position[:, 2]

    def standing(some: list[float], most: int) -> Tensor:
        return torch.isin(at, torch.tensor(some)).nonzero()[:most, 0]

    main = standing(usual, sizes.num_users)
    if len(main) < sizes.num_users:
        raise RecipeError(f"sites.{label} has {len(main)} users at its usual height, but {sizes.num_users} are needed")
    others = {name: every[standing([h], sizes.num_shift)] for name, h in zip(shifts, heights, strict=True)}
    return every[main], others


def _sample(recipe: dict[str, Any], users: int, seed: int) -> SiteCSI:
    """Users in random order, without noise."""
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
        raise RecipeError("users have several antennas, but one is judged here; set ut_panel in overrides")
    order = torch.randperm(users, generator=torch.Generator().manual_seed(seed))
    return SiteCSI(
        h[:, :, 0, :, 0],
        stations,
        recipe["subcarrier_spacing"],
        model.port_shape,
        batch.position[first],
        batch.los.view(-1, len(stations)),
    )[order]


def _measured(csi: SiteCSI, level: Tensor, config: PositioningConfig, label: str, purpose: str) -> SiteCSI:
    generator = torch.Generator().manual_seed(stream_seed(config.seed, label, purpose))
    noise = torch.randn(csi.h.shape, dtype=csi.h.dtype, generator=generator)
    h = csi.h / level.sqrt() * 10 ** (config.csi_snr_db / 20) + noise
    return SiteCSI(h, csi.stations, csi.subcarrier_spacing, csi.port_shape, csi.position, csi.los)
