"""What clients train for: a model, a loss on a batch of their users, and a figure of validation users."""

from __future__ import annotations

from typing import Any, Protocol

import torch
from torch import Tensor, nn

from airlam.channels import LinkBatch
from airlam.edge.federated.learning.sites import TRAIN, VAL, Site
from airlam.edge.federated.recipe.federation import Federation
from airlam.errors import RecipeError
from airlam.models import add_lora, load_checkpoint
from airlam.models.checkpoint import read_config
from airlam.models.comparators import Comparator, build_comparator
from airlam.recipes import find_checkpoint
from airlam.seeds import noise_seed
from airlam.tasks import Beamforming
from airlam.tasks.objectives import energy, forecast_error

CHUNK = 32  # users predicted together


class Objective(Protocol):
    """See the module's docstring.

    Attributes:
        model: with adapters, or trained as a whole. figure, unit: name and unit of what :meth:`score` gives.
        larger: whether a larger figure is better.
    """

    model: Any
    figure: str
    unit: str
    larger: bool

    def loss(self, site: Site, users: Tensor, *key: int) -> Tensor:
        """The loss of a batch of a site's training users; ``key`` seeds whatever is drawn."""

    def score(self, site: Site, links: LinkBatch, *key: int) -> Tensor:
        """The figure of each user ``[user]`` (or of each draw of groups of users)."""


class Prediction:
    """Mean over users of log NMSE; scored by the mean of NMSE in dB."""

    figure, unit, larger = "nmse_db", "dB", False

    def __init__(self, federation: Federation, rank: int | None):
        f = federation
        self.horizon, self.fast = f.horizon, f.precision == "bfloat16"
        if isinstance(f.model, dict):
            arguments = {"history": f.history, "horizon": f.horizon, **f.model}
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(f.seed)
                try:
                    self.model: Any = build_comparator(**arguments)
                except (TypeError, ValueError, RuntimeError, ZeroDivisionError) as error:
                    raise RecipeError(f"model is {f.model!r}, but: {error}") from None
        else:
            base = load_checkpoint(find_checkpoint(f.model))
            base.config._name_or_path = f.model  # adapters name their base as the user did
            if base.tracker is not None:
                base.tracker.requires_grad_(False)  # no gradient reaches it
            if self.fast:
                base.backbone.set_attn_implementation("eager")  # the fused one is slow backwards in bfloat16
            self.model = base if rank is None else add_lora(base, rank)

    def error(self, site: Site, links: LinkBatch, users: Tensor, *key: int) -> Tensor:
        """NMSE of each user, linear."""
        past, future = site.measured(links, users, *key), links.h[users][:, site.history : site.history + self.horizon]
        if isinstance(self.model, Comparator):
            wrong = self.model(past, future.shape[1], port_shape=links.port_shape) - future
            return energy(wrong) / energy(future).clamp_min(torch.finfo(torch.float32).tiny)
        return forecast_error(self.model, past, future, links.port_shape).nmse

    def loss(self, site: Site, users: Tensor, *key: int) -> Tensor:
        """See :class:`Objective`."""
        with torch.autocast("cpu", torch.bfloat16, enabled=self.fast):
            return self.error(site, site.train, users, TRAIN, *key).log().mean()

    @torch.no_grad()
    def score(self, site: Site, links: LinkBatch, *key: int) -> Tensor:
        """See :class:`Objective`."""
        parts = torch.arange(len(links)).split(CHUNK)
        return 10 * torch.cat([self.error(site, links, users, *key) for users in parts]).log10()


class Precoding:
    """Utility of the users' rates on the true channel, from predicted, denoised, or raw CSI."""

    figure, unit, larger = "utility", "bit/s/Hz a user", True

    def __init__(self, federation: Federation, rank: int | None):
        assert isinstance(federation.model, str)
        utility = read_config(find_checkpoint(federation.model)).get("utility", "sum_rate")
        self.task = Beamforming(checkpoint=federation.model, lora_rank=rank, groups=32, users=(2, 8), utility=utility)
        self.model, self.horizon, self.csi_snr_db = self.task.model, federation.horizon, federation.csi_snr_db

    def batch(self, site: Site, links: LinkBatch, users: Tensor, *key: int) -> dict[str, Any]:
        """A site's users as the task's batch."""
        past = links.h[users, : site.history]
        return {
            "h_past": site.measured(links, users, *key),
            "h_past_true": past,
            "h_future": links.h[users, site.history : site.history + self.horizon],
            "csi_snr_db": torch.full((len(users),), float(self.csi_snr_db)),
            "drop": links.drop[users],
            "port_shape": links.port_shape,
        }

    def loss(self, site: Site, users: Tensor, *key: int) -> Tensor:
        """See :class:`Objective`."""
        generator = torch.Generator().manual_seed(noise_seed(site.spec.seed, *key))
        return self.task.loss_of(self.task.worth(self.batch(site, site.train, users, TRAIN, *key), generator))

    def score(self, site: Site, links: LinkBatch, *key: int) -> Tensor:
        """See :class:`Objective`; one value for each of four draws of groups."""
        everyone = self.batch(site, links, torch.arange(len(links)), VAL, *key)
        draws = [torch.Generator().manual_seed(n) for n in range(4)]
        return torch.stack([self.task.compare(everyone, "predicted", generator)[0] for generator in draws])


def make_objective(federation: Federation, rank: int | None) -> Objective:
    """The objective of a run's task, with adapters of ``rank`` (None: all weights)."""
    return Precoding(federation, rank) if federation.task == "beamforming" else Prediction(federation, rank)


def trained(model: nn.Module) -> dict[str, nn.Parameter]:
    """The parameters that are trained, by name."""
    return {name: p for name, p in model.named_parameters() if p.requires_grad}
