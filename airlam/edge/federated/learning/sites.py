"""The data of edge clients: each has the users of its own place and sends none of their channels to anyone."""

from __future__ import annotations

import functools
import json
from dataclasses import dataclass

import torch
from torch import Tensor

from airlam.channels import LinkBatch, load_channel
from airlam.csi import feed_back, measure
from airlam.edge.federated.recipe.federation import Federation
from airlam.edge.federated.recipe.sites import SITE_KEYS, SiteSpec
from airlam.errors import RecipeError
from airlam.recipes import nearest
from airlam.seeds import noise_seed

TRAIN, VAL, TEST = 0, 1, 2


@dataclass
class Site:
    """Users of one place: for training, for validation between rounds, and for the test at the end."""

    spec: SiteSpec
    train: LinkBatch
    val: LinkBatch
    test: LinkBatch
    history: int
    csi_snr_db: float

    def measured(self, links: LinkBatch, users: Tensor, *key: int) -> Tensor:
        """The histories of ``users`` as the base station knows them, ``complex64 [user, history, ...]``.

        The noise of a user depends on the site, ``key`` and its number alone, not on who else is asked for.
        """
        noises = [torch.Generator().manual_seed(noise_seed(self.spec.seed, *key, int(user))) for user in users]
        past = links.h[users, : self.history]
        noisy = torch.stack([measure(h, self.csi_snr_db, noise) for h, noise in zip(past, noises, strict=True)])
        return noisy if self.spec.feedback is None else feed_back(noisy, self.spec.feedback, links.port_shape)


class Places:
    """Sites whose users are drawn once and kept for as long as this object lives.

    The object belongs to whoever needs sites again and again: a client app, a benchmark, a plan.

    Args:
        kept: places that are kept; the one that was asked for longest ago is dropped first.
    """

    def __init__(self, kept: int = 128):
        self._users = functools.lru_cache(maxsize=kept)(draw_users)

    def site(self, federation: Federation, number: int) -> Site:
        """The site of client ``number``: the same bits in every process that asks.

        Raises:
            RecipeError: the site's channel recipe cannot be used; the site is named.
        """
        f, spec = federation, federation.site_specs[number]
        counts = (f.num_train, f.num_val, f.num_test)
        try:
            recipe = {**load_channel(spec.channel).recipe, **(f.channel_overrides or {}), **spec.overrides}
            used = (f.users_of(number), f.num_val, f.num_test)
            text = json.dumps(recipe, sort_keys=True)
            train, val, test = self._users(text, counts, used, f.history + f.horizon, spec.seed)
        except RecipeError as error:
            hints = (nearest(key, SITE_KEYS) for key in spec.overrides if f"no key {key!r}" in str(error))
            raise RecipeError(f"sites.{spec.label}: {error}{next(filter(None, hints), '')}") from None
        return Site(spec, train, val, test, f.history, f.csi_snr_db)


def draw_users(
    recipe: str, counts: tuple[int, int, int], used: tuple[int, int, int], slots: int, seed: int
) -> list[LinkBatch]:
    """Training, validation and test users of one place.

    Args:
        recipe: of the channel, as JSON. counts: users of each kind at the place. used: so many of each are returned.
    """
    users = sum(counts)
    channel = json.loads(recipe)
    if "spatial_consistency" in channel:  # a place is one snapshot of all its users
        channel |= {"spatial_consistency": True, "links_per_drop": users}
    links = load_channel(channel).sample(users, slots, seed=seed)
    shuffled = torch.randperm(users, generator=torch.Generator().manual_seed(seed))
    return [links[part[:keep]] for part, keep in zip(shuffled.split(list(counts)), used, strict=True)]
