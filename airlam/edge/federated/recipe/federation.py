"""What a federated run is: sites, model, task, strategy, radio. Plain data, checked once, the same for every engine."""

from __future__ import annotations

import json
from typing import Any

from airlam.edge.federated.aggregation import SCHEMES, STRATEGIES, Scheme, ServerStrategy
from airlam.edge.federated.recipe.combinations import check_combinations
from airlam.edge.federated.recipe.options import (
    check_whole,
    made_of,
    read_attack,
    read_privacy,
    read_selection,
)
from airlam.edge.federated.recipe.sites import MODES, SiteDefaults, SiteSpec, read_sites
from airlam.interfaces import RecipeError
from airlam.recipes import check_choice, check_number, check_positive
from airlam.resources import Cell, device

TASKS = ("prediction", "beamforming")


class Federation:
    """All arguments of a run.

    Args:
        model: a shipped checkpoint's name or a checkpoint folder; or a comparator from random weights,
            ``{kind: gru, width: 64}``.
        task: ``prediction`` of channels, or ``beamforming`` (``model`` is then a precoder).
        sites: label -> ``channel`` (a recipe's name) with, if wanted, ``device`` (a profile's name or fields),
            ``distance_m``, ``lora_rank``, ``mode``, ``split_layers``, ``feedback`` (fields of
            :class:`airlam.csi.Feedback`), ``seed``, ``links``, ``copies`` (so many places of this kind); any other key
            replaces that of the channel recipe.
        lora_rank: of the adapters; None: all weights are trained and travel.
        aggregation: scheme of adapters. ``naive``: A and B are averaged, which is not the average of their products;
            ``ffa``: A is frozen and the same everywhere, B is averaged, exact; ``svd``: the average of the products,
            factorised again to ``lora_rank``; ``stacking`` and ``residual``: exact, and the whole change is sent down.
            Or one registered from outside, or a class path; see :mod:`airlam.edge.federated.aggregation`.
        strategy: ``fedavg``, ``fedprox``, ``fedadam``, ``fedtrimmedavg``, ``fedmedian``, ``krum``, ``multikrum``, all
            Flower's, or one of your own, likewise. strategy_args: its arguments (``proximal_mu``, ``beta``, ...).
        mode: ``local``: the whole model on each device; ``split``: the backbone on the edge server. Of sites that have
            none of their own.
        split_layers: layers of the backbone that stay on a device in split mode; likewise.
        server: device profile of the edge server, which computes the backbone in split mode.
        rounds, local_steps, batch_size, learning_rate, optimizer: of the training; ``adamw`` or ``sgd``. The rate falls
            to a tenth by a cosine over the rounds.
        selection: ``policy``, one of all, random, round_robin, fastest; ``devices``: how many a round; for fastest also
            ``max_age`` (rounds after which a device must take part) and ``max_joules`` a round.
        dropout: probability that a device's reply is lost.
        privacy: ``clip`` (L2 norm of an update), ``noise_multiplier`` (noise over clip), ``delta``; and ``noise_seed``
            for experiments that are to be repeated: a server that knows it can take the noise away again.
        secure_aggregation: Flower's SecAgg+; only where its grid supports it.
        max_update_norm: an update of a larger norm is rejected; None: ten times the median of the round.
        attack: ``sites`` (labels), ``kind`` (sign_flip, noise, nan, shape, huge) and ``scale``: for trials of defences.
        cell: fields of :class:`airlam.resources.Cell`, the radio between devices and edge server.
        num_train, num_val, num_test: users of a site.
        history, horizon, csi_snr_db: of the CSI; feedback: of all sites that have none of their own.
        channel_overrides: keys that replace those of every channel recipe.
        evaluate_every: rounds between two validation passes over all sites.
        precision: ``float32`` or ``bfloat16`` (of matrix products), of predictors while training.
        seed: of everything. threads: CPU threads of each process.

    Attributes:
        scheme: the aggregation scheme, an object. server_strategy: the strategy with its arguments, an object.

    Raises:
        RecipeError: names the argument, its value, and the bound.
    """

    def __init__(
        self,
        sites: dict[str, dict[str, Any]] | None = None,
        model: str | dict[str, Any] = "airlam-tiny",
        task: str = "prediction",
        lora_rank: int | None = 4,
        aggregation: str = "svd",
        strategy: str = "fedavg",
        strategy_args: dict[str, Any] | None = None,
        mode: str = "local",
        split_layers: int = 0,
        server: str | dict[str, Any] = "edge-server",
        rounds: int = 10,
        local_steps: int = 10,
        batch_size: int = 16,
        learning_rate: float = 1e-2,
        optimizer: str = "adamw",
        selection: dict[str, Any] | None = None,
        dropout: float = 0.0,
        privacy: dict[str, float] | None = None,
        secure_aggregation: bool = False,
        max_update_norm: float | None = None,
        attack: dict[str, Any] | None = None,
        cell: dict[str, Any] | None = None,
        num_train: int = 192,
        num_val: int = 32,
        num_test: int = 64,
        history: int = 16,
        horizon: int = 4,
        csi_snr_db: float = 20.0,
        feedback: dict[str, Any] | None = None,
        channel_overrides: dict[str, Any] | None = None,
        evaluate_every: int = 1,
        precision: str = "float32",
        seed: int = 1,
        threads: int = 1,
    ):
        self.config: dict[str, Any] = {name: value for name, value in locals().items() if name != "self"}
        self.model, self.task, self.lora_rank = model, check_choice("task", task, TASKS), lora_rank
        self.aggregation, self.strategy = aggregation, strategy
        self.scheme: Scheme = SCHEMES.find(aggregation)()
        make_strategy = STRATEGIES.find(strategy)
        self.mode, self.split_layers = check_choice("mode", mode, MODES), split_layers
        self.server = device(server)
        self.rounds, self.local_steps, self.batch_size = rounds, local_steps, batch_size
        self.learning_rate = check_number("learning_rate", learning_rate, 1e-9, 10)
        self.optimizer = check_choice("optimizer", optimizer, ("adamw", "sgd"))
        self.precision = check_choice("precision", precision, ("float32", "bfloat16"))
        self.dropout = check_number("dropout", dropout, 0, 0.9999)
        self.privacy = None if privacy is None else read_privacy(privacy)
        self.secure_aggregation, self.max_update_norm = secure_aggregation, max_update_norm
        self.num_train, self.num_val, self.num_test = num_train, num_val, num_test
        self.history, self.horizon = history, horizon
        self.csi_snr_db = check_number("csi_snr_db", csi_snr_db, -30, 100, unit="dB")
        self.channel_overrides = dict(channel_overrides or {})
        self.evaluate_every, self.seed, self.threads = evaluate_every, seed, threads
        self._check_numbers()
        self.cell = made_of(Cell, cell or {}, "cell")
        self.sites = read_sites(sites or {}, SiteDefaults(mode, split_layers, num_train, self.cell, feedback))
        self.selection = read_selection(selection or {}, len(self.sites))
        self.attack = None if attack is None else read_attack(attack, [site.label for site in self.sites])
        self.server_strategy: ServerStrategy = make_strategy(strategy_args or {}, self.selection.devices)
        self.strategy_args = self.server_strategy.arguments
        check_combinations(self)

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
        return self.sites[number].links or self.num_train

    @property
    def largest_rank(self) -> int:
        """Of all sites' adapters; 0 where all weights are trained."""
        return max((self.rank_of(site) or 0 for site in self.sites), default=0)

    @property
    def split(self) -> bool:
        """Whether any site is split."""
        return any(site.mode == "split" for site in self.sites)

    @property
    def label(self) -> str:
        """Of the model, for tables."""
        return str(self.model["kind"]) if isinstance(self.model, dict) else str(self.model).rstrip("/").split("/")[-1]

    def _check_numbers(self) -> None:
        for name, low in (
            ("rounds", 1),
            ("local_steps", 1),
            ("batch_size", 1),
            ("num_train", 1),
            ("num_val", 1),
            ("num_test", 1),
            ("history", 2),
            ("horizon", 1),
            ("evaluate_every", 1),
            ("threads", 1),
            ("split_layers", 0),
            ("seed", 0),
        ):
            check_whole(name, getattr(self, name), low)
        rank = self.lora_rank
        if rank is not None and (isinstance(rank, bool) or not isinstance(rank, int) or not 1 <= rank <= 512):
            raise RecipeError(f"lora_rank is {rank!r}, but must be 1 to 512, or null: all weights")
        if self.max_update_norm is not None:
            self.max_update_norm = check_positive("max_update_norm", self.max_update_norm)
