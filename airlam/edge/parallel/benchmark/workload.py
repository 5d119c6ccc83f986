"""The workload that every mechanism trains: the users of all owners, batches of them, and the test."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from airlam.edge.federated.learning.sites import TEST, TRAIN, Places, Site
from airlam.edge.federated.recipe.federation import Federation
from airlam.seeds import noise_seed
from airlam.tasks.objectives import forecast_error

CHUNK = 32  # users predicted together
Errors = dict[str, list[float]]  # owner -> NMSE in dB of each held-out user


class Workload:
    """Users by owner, drawn once.

    Args:
        federation: its sites are the owners; counts, CSI and seed of the test are its own.

    Attributes:
        places: the users that were drawn, for federated runs of the same owners.
    """

    def __init__(self, federation: Federation) -> None:
        self.federation, self.places = federation, Places()

    @property
    def owners(self) -> list[str]:
        """Names, in the order of their links in a batch."""
        return [site.label for site in self.federation.site_specs]

    @cached_property
    def sites(self) -> list[Site]:
        """The users of each owner."""
        return [self.places.site(self.federation, number) for number in range(len(self.owners))]

    @property
    def samples(self) -> int:
        """Links that a mechanism sees while it trains."""
        f = self.federation
        return len(self.owners) * f.rounds * f.local_steps * f.batch_size

    @property
    def steps(self) -> int:
        """Steps of a mechanism that trains one model."""
        return self.samples // self.federation.batch_size

    @property
    def raw_bytes(self) -> list[int]:
        """Size of each owner's raw data: complex CSI of the slots that are seen and of those to predict."""
        return [site.train.h.numel() * site.train.h.element_size() for site in self.sites]

    def batch(self, step: int, seed: int, owners: Sequence[int] | None = None) -> dict[str, Any]:
        """The links of a step, as many of each owner: a function of step and seed alone.

        Args:
            owners: numbers of those whose links are taken; None: all.
        """
        numbers = range(len(self.sites)) if owners is None else owners
        each = self.federation.batch_size // len(numbers)
        past, future = [], []
        for number in numbers:
            site, f = self.sites[number], self.federation
            users = drawn_users(len(site.train), each, step, noise_seed(seed, site.spec.seed))
            past.append(site.measured(site.train, users, TRAIN, seed, step))
            future.append(site.train.h[users, f.history : f.history + f.horizon])
        shape = self.sites[0].train.port_shape
        return {"h_past": torch.cat(past), "h_future": torch.cat(future), "port_shape": shape}

    @torch.no_grad()
    def judge(self, model: Any) -> Errors:
        """NMSE in dB of every held-out user of every owner, with the noise of the federated engine's own test."""
        model.eval()
        f, found = self.federation, {}
        for owner, site in zip(self.owners, self.sites, strict=True):
            errors = []
            for users in torch.arange(len(site.test)).split(CHUNK):
                past = site.measured(site.test, users, TEST, f.seed)
                future = site.test.h[users, f.history : f.history + f.horizon]
                errors.append(forecast_error(model, past, future, site.test.port_shape).nmse)
            found[owner] = (10 * torch.cat(errors).log10()).tolist()
        return found


def drawn_users(count: int, each: int, step: int, seed: int) -> Tensor:
    """``each`` users of ``count`` for a step: all of them in random order, again and again.

    Example:
        >>> sorted(torch.cat([drawn_users(6, 2, step, seed=1) for step in range(3)]).tolist())
        [0, 1, 2, 3, 4, 5]
    """
    found = []
    for position in range(step * each, (step + 1) * each):
        epoch, at = divmod(position, count)
        generator = torch.Generator().manual_seed(noise_seed(seed, epoch))
        found.append(int(torch.randperm(count, generator=generator)[at]))
    return torch.tensor(found)
