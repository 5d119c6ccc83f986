"""The users of a site: their channels, who trains and who judges, and which of them are neighbours."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from airlam.channels import LinkBatch, load_channel
from airlam.csi import normalise
from airlam.errors import RecipeError
from airlam.evaluation.benchmarks.sites.config import SiteArguments

# Side of the blocks whose users are resampled together [m]: the largest correlation distance of the large-scale
# parameters of a scenario, TR 38.901 table 7.5-6; ray-traced scenes have none and take that of UMa.
BLOCK_M = {"uma": 50.0, "umi": 15.0, "rma": 120.0, "inh": 10.0, "inf": 10.0, "ray_traced": 50.0}


@dataclass
class SiteLinks:
    """Links of one site's users.

    Attributes:
        train: users who adapt. val: users who choose settings and when to stop. test: users who judge.
    """

    train: LinkBatch
    val: LinkBatch
    test: LinkBatch


def site_recipe(arguments: SiteArguments, label: str) -> dict[str, Any]:
    """The resolved channel recipe of a site.

    Raises:
        RecipeError: a channel without spatial consistency, which is no site.
    """
    assert arguments.sites is not None  # the arguments fill it in
    site = {key: value for key, value in arguments.sites[label].items() if key != "channel"}
    base = load_channel(arguments.sites[label]["channel"]).recipe
    conditions = arguments.conditions
    recipe = {**base, "speed_kmh": conditions.speed_kmh, **conditions.channel_overrides, **site}
    if recipe["scenario"] != "ray_traced":
        if "spatial_consistency" not in base:
            raise RecipeError(f"sites.{label}: {base['scenario']} has no spatial consistency, so it is no site")
        users = arguments.sizes.num_users
        recipe |= {"spatial_consistency": True, "links_per_drop": users, "chunk": min(users, 4096)}
    return load_channel(recipe).recipe


def site_links(arguments: SiteArguments, label: str) -> SiteLinks:
    """All users of a site, split at random."""
    sizes, recipe = arguments.sizes, site_recipe(arguments, label)
    whole = -(-sizes.num_users // recipe["links_per_drop"]) * recipe["links_per_drop"]  # drops are never split
    links = load_channel(recipe).sample(whole, sizes.history + sizes.horizon, seed=arguments.seed)
    order = torch.randperm(len(links), generator=torch.Generator().manual_seed(arguments.seed))
    links = links[order[: sizes.num_users]]
    links.h = normalise(links.h)[0]
    ends = (sizes.num_train, sizes.num_train + sizes.num_val)
    return SiteLinks(links[: ends[0]], links[ends[0] : ends[1]], links[ends[1] :])


def user_blocks(position: Tensor, side: float) -> Tensor:
    """The square of ``side`` metres that each user stands in, numbered from 0, ``int64 [user]``.

    Args:
        position: ``[user, 3]`` m, as in :class:`airlam.channels.LinkBatch`; height does not count.

    Example:
        >>> user_blocks(torch.tensor([[1.0, 1.0, 1.5], [61.0, 2.0, 1.5], [9.0, 9.0, 4.5]]), 10.0).tolist()
        [0, 1, 0]
    """
    return (position[:, :2] / side).floor().unique(dim=0, return_inverse=True)[1]
