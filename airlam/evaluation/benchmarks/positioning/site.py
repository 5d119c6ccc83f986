"""Users of a site: their measured CSI, who trains, who judges, and those of shifts."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from airlam.csi import SiteCSI
from airlam.data.site import draw_users, usual_power, with_noise
from airlam.data.site import site_recipe as resolved
from airlam.errors import RecipeError
from airlam.evaluation.benchmarks.positioning.config import PositioningConfig
from airlam.seeds import stream_seed


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
    return resolved(site["channel"], site.get("overrides"), f"sites.{label}: ")


def site_users(config: PositioningConfig, label: str) -> Users:
    """All users of a site, measured. Users of a shift in ``user_height`` stand among the others in the same drop; those
    of any other shift are drawn anew where the site is traced by rays, and thus stays as it is."""
    recipe, sizes = site_recipe(config, label), config.sizes
    shifts: dict[str, dict[str, Any]] = dict(config.sites[label].get("shifts") or {})
    traced = recipe["scenario"] == "ray_traced_site"
    if traced:
        main, others = draw_users(recipe, sizes.num_users, config.seed), {}
        for number, (name, change) in enumerate(shifts.items()):
            others[name] = draw_users({**recipe, **change}, sizes.num_shift, config.seed + 1 + number)
    else:
        main, others = _same_drop(recipe, shifts, config, label)
    power = usual_power(main)
    measured = {name: _measured(csi, power, config, label, name) for name, csi in {"": main, **others}.items()}
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
    every = draw_users({**recipe, "user_height": drawn}, users, config.seed)
    assert every.position is not None
    at = every.position[:, 2]

    def standing(some: list[float], most: int) -> Tensor:
        return torch.isin(at, torch.tensor(some)).nonzero()[:most, 0]

    main = standing(usual, sizes.num_users)
    if len(main) < sizes.num_users:
        raise RecipeError(f"sites.{label} has {len(main)} users at its usual height, but {sizes.num_users} are needed")
    others = {name: every[standing([h], sizes.num_shift)] for name, h in zip(shifts, heights, strict=True)}
    return every[main], others


def _measured(csi: SiteCSI, power: Tensor, config: PositioningConfig, label: str, purpose: str) -> SiteCSI:
    return with_noise(csi, power, config.csi_snr_db, stream_seed(config.seed, label, purpose))
