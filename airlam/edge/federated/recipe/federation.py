"""What a federated run is: sites, model, task, strategy, radio. Plain data, checked once, the same for every engine."""

from __future__ import annotations

import copy
import json
from collections.abc import Sequence
from functools import cached_property
from typing import Any

from airlam.edge.federated.aggregation import SCHEMES, STRATEGIES, Scheme, ServerStrategy
from airlam.edge.federated.recipe.arguments import FederationArguments
from airlam.edge.federated.recipe.combinations import check_combinations
from airlam.edge.federated.recipe.options import (
    Attack,
    Privacy,
    Selection,
    made_of,
    read_attack,
    read_privacy,
    read_selection,
)
from airlam.edge.federated.recipe.sites import SiteDefaults, SiteSpec, read_sites
from airlam.resources import Cell, Device, device

READ = ("scheme", "edge_server", "protection", "site_specs", "participation", "attacker", "server_strategy")


class Federation(FederationArguments):
    """A run: its arguments, see :class:`FederationArguments`, and what they stand for.

    Raises:
        RecipeError: names the argument, its value, and the bound.
    """

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in READ:
            getattr(self, name)  # what cannot be read is refused
        check_combinations(self)

    @cached_property
    def scheme(self) -> Scheme:
        """The aggregation scheme."""
        return SCHEMES.find(self.aggregation)()

    @cached_property
    def server_strategy(self) -> ServerStrategy:
        """The strategy with its arguments."""
        return STRATEGIES.find(self.strategy)(self.strategy_args or {}, self.participation.devices)

    @cached_property
    def edge_server(self) -> Device:
        """The device of the argument ``server``."""
        return device(self.server)

    @cached_property
    def radio(self) -> Cell:
        """The radio of the argument ``cell``."""
        return made_of(Cell, self.cell or {}, "cell")

    @cached_property
    def site_specs(self) -> list[SiteSpec]:
        """The sites, copies one by one."""
        defaults = SiteDefaults(self.mode, self.split_layers, self.num_train, self.radio, self.feedback)
        return read_sites(self.sites or {}, defaults)

    @cached_property
    def participation(self) -> Selection:
        """Who takes part in a round: the argument ``selection``."""
        return read_selection(self.selection or {}, len(self.site_specs))

    @cached_property
    def protection(self) -> Privacy | None:
        """Clipping and noise: the argument ``privacy``."""
        return None if self.privacy is None else read_privacy(self.privacy)

    @cached_property
    def attacker(self) -> Attack | None:
        """Who poisons updates, and how: the argument ``attack``."""
        return None if self.attack is None else read_attack(self.attack, [site.label for site in self.site_specs])

    def with_sites(self, specs: Sequence[SiteSpec], **changes: Any) -> Federation:
        """This run at other sites, with other arguments; both are taken as they are. ``config`` stays."""
        made = copy.copy(self)
        vars(made).update(changes, site_specs=list(specs))
        return made

    def to_json(self) -> str:
        """For the processes of other engines; the inverse of :meth:`from_json`."""
        return json.dumps(self.config)  # keys in their order: it numbers the sites

    @classmethod
    def from_json(cls, text: str) -> Federation:
        """See :meth:`to_json`."""
        return cls(**json.loads(text))

    def rank_of(self, site: SiteSpec) -> int | None:
        """The rank of a site's adapters; None where all weights are trained."""
        return None if self.lora_rank is None else site.lora_rank or self.lora_rank

    def users_of(self, number: int) -> int:
        """How many users site ``number`` trains on."""
        return self.site_specs[number].links or self.num_train

    @property
    def largest_rank(self) -> int:
        """Of all sites' adapters; 0 where all weights are trained."""
        return max((self.rank_of(site) or 0 for site in self.site_specs), default=0)

    @property
    def split(self) -> bool:
        """Whether any site is split."""
        return any(site.mode == "split" for site in self.site_specs)

    @property
    def label(self) -> str:
        """Of the model, for tables."""
        return str(self.model["kind"]) if isinstance(self.model, dict) else str(self.model).rstrip("/").split("/")[-1]
