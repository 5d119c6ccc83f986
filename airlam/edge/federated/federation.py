"""What a federated run is: sites, model, task, strategy, radio. Plain data, checked once, the same for every engine."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from airlam.csi import Feedback
from airlam.edge.selection import POLICIES
from airlam.interfaces import RecipeError
from airlam.recipes import as_number, check_choice, check_keys, check_number, check_positive
from airlam.resources import Cell, Device, device, path_loss_db

TASKS = ("prediction", "beamforming")
STRATEGIES = ("fedavg", "fedprox", "fedadam", "fedtrimmedavg", "fedmedian", "krum", "multikrum")
AGGREGATIONS = ("naive", "ffa", "svd", "stacking", "residual")
EXACT = ("svd", "stacking", "residual")  # these average products, so a strategy's own average has no place
DENSE = ("stacking", "residual")  # these change the weights beneath the adapters as well
ROBUST = ("fedtrimmedavg", "fedmedian", "krum", "multikrum")  # they compare the updates' entries
# arguments of Flower's strategies: lowest and highest value, and whether it is a whole number
ARGUMENTS: dict[str, dict[str, tuple[float, float, bool]]] = {
    "fedavg": {}, "fedmedian": {},
    "fedprox": {"proximal_mu": (1e-9, 1e3, False)},
    "fedadam": {"eta": (1e-9, 10, False), "eta_l": (1e-9, 10, False), "beta_1": (0, 0.9999, False),
                "beta_2": (0, 0.9999, False), "tau": (1e-12, 1, False)},
    "fedtrimmedavg": {"beta": (1e-3, 0.499, False)},
    "krum": {"num_malicious_nodes": (0, 1e3, True)},
    "multikrum": {"num_malicious_nodes": (0, 1e3, True), "num_nodes_to_select": (1, 1e3, True)},
}  # fmt: skip
MODES = ("local", "split")
ATTACKS = ("sign_flip", "noise", "nan", "shape", "huge")


@dataclass(frozen=True)
class SiteSpec:
    """One edge client: a place, its radio, its device.

    Attributes:
        label: its name in tables. channel: recipe's name, overrides: keys that replace those of the recipe.
        seed: of the place. links: how many of its ``num_train`` users train, None: all.
        device: what computes there. distance_m: from the edge server's base station.
        lora_rank: of its adapters, None: the run's.
        mode: ``local`` or ``split``. split_layers: layers of the backbone that stay on the device in split mode.
        feedback: how the base station knows the users' CSI, None: it measures.
    """

    label: str
    channel: str | dict[str, Any]
    overrides: dict[str, Any]
    seed: int
    links: int | None
    device: Device
    distance_m: float
    lora_rank: int | None
    mode: str
    split_layers: int
    feedback: Feedback | None


SITE_KEYS = (
    "channel", "device", "distance_m", "lora_rank", "mode", "split_layers", "feedback", "seed", "links", "copies",
)  # fmt: skip


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
        aggregation: of adapters. ``naive``: A and B are averaged, which is not the average of their products; ``ffa``:
            A is frozen and the same everywhere, B is averaged, exact; ``svd``: the average of the products,
            re-factorised to ``lora_rank``; ``stacking`` and ``residual``: exact, at the price of a dense down-link.
        strategy: ``fedavg``, ``fedprox``, ``fedadam``, ``fedtrimmedavg``, ``fedmedian``, ``krum``, ``multikrum``, all
            Flower's. strategy_args: arguments of its class (``proximal_mu``, ``beta``, ``eta``, ...).
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
        evaluate_every: rounds between two looks at the validation users of all sites.
        precision: ``float32`` or ``bfloat16`` (of matrix products), of predictors while training.
        seed: of everything. threads: CPU threads of each process.

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
        self.aggregation = check_choice("aggregation", aggregation, AGGREGATIONS)
        self.strategy = check_choice("strategy", strategy, STRATEGIES)
        self.strategy_args = dict(strategy_args or {})
        self.mode, self.split_layers = check_choice("mode", mode, MODES), split_layers
        self.server = device(server)
        self.rounds, self.local_steps, self.batch_size = rounds, local_steps, batch_size
        self.learning_rate = check_number("learning_rate", learning_rate, 1e-9, 10)
        self.optimizer = check_choice("optimizer", optimizer, ("adamw", "sgd"))
        self.precision = check_choice("precision", precision, ("float32", "bfloat16"))
        self.dropout = check_number("dropout", dropout, 0, 0.9999)
        self.privacy = None if privacy is None else self._privacy(privacy)
        self.secure_aggregation, self.max_update_norm = secure_aggregation, max_update_norm
        self.num_train, self.num_val, self.num_test = num_train, num_val, num_test
        self.history, self.horizon = history, horizon
        self.csi_snr_db = check_number("csi_snr_db", csi_snr_db, -30, 100, unit="dB")
        self.channel_overrides = dict(channel_overrides or {})
        self.evaluate_every, self.seed, self.threads = evaluate_every, seed, threads
        self._check_numbers()
        self.cell = made_of(Cell, cell or {}, "cell")
        self.sites = self._sites(sites or {}, feedback)
        self.selection = self._selection(dict(selection or {}))
        self.attack = self._attack(attack) if attack is not None else None
        self._check_combinations()

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
            ("rounds", 1), ("local_steps", 1), ("batch_size", 1), ("num_train", 1), ("num_val", 1), ("num_test", 1),
            ("history", 2), ("horizon", 1), ("evaluate_every", 1), ("threads", 1), ("split_layers", 0), ("seed", 0),
        ):  # fmt: skip
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < low:
                raise RecipeError(f"{name} is {value!r}, but must be a whole number of at least {low}")
        rank = self.lora_rank
        if rank is not None and (isinstance(rank, bool) or not isinstance(rank, int) or not 1 <= rank <= 512):
            raise RecipeError(f"lora_rank is {rank!r}, but must be 1 to 512, or null: all weights")
        if self.max_update_norm is not None:
            self.max_update_norm = check_positive("max_update_norm", self.max_update_norm)

    def _privacy(self, given: Any) -> dict[str, Any]:
        if not isinstance(given, Mapping) or not given:
            raise RecipeError(
                f"privacy is {given!r}, but must be {{clip: ..., noise_multiplier: ...}}, or null: without privacy"
            )
        check_keys("privacy", given, ("clip", "noise_multiplier", "delta", "noise_seed"))
        made = {"delta": 1e-5, "noise_seed": None, **given}
        for name in ("clip", "noise_multiplier", "delta"):
            made[name] = check_positive(f"privacy.{name}", made.get(name))
        if not made["delta"] < 1:
            raise RecipeError(f"privacy.delta is {made['delta']!r}, but must lie between 0 and 1")
        seed = made["noise_seed"]
        if seed is not None and (isinstance(seed, bool) or not isinstance(seed, int) or seed < 0):
            raise RecipeError(f"privacy.noise_seed is {seed!r}, but must be a whole number of at least 0, or null")
        return made

    def _sites(self, sites: Mapping[str, Mapping[str, Any]], feedback: dict[str, Any] | None) -> list[SiteSpec]:
        if not isinstance(sites, Mapping) or not sites:
            raise RecipeError("sites is empty: name at least one, like {street: {channel: umi_site}}")
        made: list[SiteSpec] = []
        for number, (label, given) in enumerate(sites.items()):
            if not isinstance(given, Mapping) or "channel" not in given:
                raise RecipeError(f"sites.{label} is {given!r}, but must name a channel recipe: channel: umi_site")
            copies, links, rank = given.get("copies", 1), given.get("links"), given.get("lora_rank")
            layers = given.get("split_layers", self.split_layers)
            counts = (("copies", copies, 1), ("links", links, 1), ("lora_rank", rank, 1), ("split_layers", layers, 0))
            for name, value, low in counts:
                if value is None and name in ("links", "lora_rank"):
                    continue
                if isinstance(value, bool) or not isinstance(value, int) or value < low:
                    raise RecipeError(
                        f"sites.{label}.{name} is {value!r}, but must be a whole number of at least {low}"
                    )
            if links is not None and links > self.num_train:
                raise RecipeError(f"sites.{label}.links is {links}, but must be at most num_train ({self.num_train})")
            mode = check_choice(f"sites.{label}.mode", given.get("mode", self.mode), MODES)
            heard, distance = given.get("feedback", feedback), given.get("distance_m", 150.0)
            distance = check_positive(f"sites.{label}.distance_m", distance)
            try:
                made_device = device(given.get("device", "phone"))
                path_loss_db(self.cell.scenario, self.cell.state, distance, self.cell.carrier_frequency)
            except RecipeError as error:
                raise RecipeError(f"sites.{label}: {error}") from None
            seed = given.get("seed", 0)
            if isinstance(seed, bool) or not isinstance(seed, int) or seed < 0:
                raise RecipeError(f"sites.{label}.seed is {given['seed']!r}, but must be a whole number of at least 0")
            for copy in range(copies):
                made.append(
                    SiteSpec(
                        label=label if copies == 1 else f"{label}-{copy + 1}",
                        channel=given["channel"],
                        overrides={key: value for key, value in given.items() if key not in SITE_KEYS},
                        seed=given.get("seed", 1000 * (number + 1)) + copy,
                        links=links,
                        device=made_device,
                        distance_m=distance,
                        lora_rank=rank,
                        mode=mode,
                        split_layers=layers if mode == "split" else 0,
                        feedback=made_of(Feedback, heard, f"sites.{label}.feedback") if heard else None,
                    )
                )
        labels = [site.label for site in made]
        if len(set(labels)) < len(labels):
            raise RecipeError(f"two sites have the same label; copies are numbered: {', '.join(labels)}")
        places: dict[int, str] = {}
        for site in made:
            if site.seed in places:
                raise RecipeError(
                    f"sites {places[site.seed]} and {site.label} have the same seed {site.seed}, and so the same place "
                    "and radio; give one of them another (copies count up from theirs)"
                )
            places[site.seed] = site.label
        return made

    def _selection(self, given: dict[str, Any]) -> dict[str, Any]:
        check_keys("selection", given, ("policy", "devices", "max_age", "max_joules"))
        policy = check_choice("selection.policy", given.get("policy", "all"), tuple(POLICIES))
        for key in given:
            if key in {"max_age", "max_joules"} and policy != "fastest" or key == "devices" and policy == "all":
                raise RecipeError(f"selection.{key} means nothing to policy {policy}; leave it out")
        for key in ("max_age", "max_joules"):
            if key in given:
                given[key] = check_positive(f"selection.{key}", given[key])
        count = given.get("devices", len(self.sites))
        if isinstance(count, bool) or not isinstance(count, int) or not 1 <= count <= len(self.sites):
            raise RecipeError(f"selection.devices is {count!r}, but must be 1 to {len(self.sites)}, the sites")
        return {**given, "policy": policy, "devices": count}

    def _attack(self, given: Any) -> dict[str, Any]:
        if not isinstance(given, Mapping):
            raise RecipeError(f"attack is {given!r}, but must be a mapping like {{sites: [street], kind: nan}}")
        check_keys("attack", given, ("sites", "kind", "scale"))
        made = {"kind": "sign_flip", "scale": 5.0, **given}
        check_choice("attack.kind", made["kind"], ATTACKS)
        if not isinstance(made.get("sites"), list) or not made["sites"]:
            raise RecipeError(f"attack.sites is {made.get('sites')!r}, but must be a list of the attackers' labels")
        made["scale"] = check_positive("attack.scale", made["scale"])
        for label in made["sites"]:
            check_choice("attack.sites", label, [site.label for site in self.sites])
        return made

    def _check_combinations(self) -> None:
        lora = self.lora_rank is not None
        if lora and self.aggregation in EXACT and self.strategy not in ("fedavg", "fedprox"):
            raise RecipeError(
                f"aggregation is {self.aggregation!r}, which averages products by itself, so {self.strategy!r} would "
                "never see them; take ffa (exact with any strategy), or strategy fedavg or fedprox"
            )
        if not lora and any(site.lora_rank for site in self.sites):
            raise RecipeError("a site has a lora_rank, but the run has none (null: all weights); give it one")
        split = [site for site in self.sites if site.mode == "split"]
        if split and (not lora or isinstance(self.model, dict) or self.task != "prediction"):
            raise RecipeError("mode split needs adapters (lora_rank), a backbone (no comparator), and task prediction")
        if split and (self.aggregation in DENSE or self.attack or self.privacy):
            raise RecipeError("mode split takes aggregation naive, ffa or svd, and neither attack nor privacy")
        if split and self.strategy == "fedprox":
            raise RecipeError("mode split has no proximal term; take strategy fedavg")
        self._check_strategy()
        if lora and isinstance(self.model, dict):
            raise RecipeError("a comparator starts from random weights, so all of them must be trained: lora_rank null")
        if self.task == "beamforming" and isinstance(self.model, dict):
            raise RecipeError("task beamforming needs a precoder's checkpoint, like airlam-precoder")
        if self.precision == "bfloat16" and self.task == "beamforming":
            raise RecipeError("precision bfloat16 is for task prediction; beamforming trains in float32")
        ranks = {self.rank_of(site) for site in self.sites}
        if len(ranks) > 1 and self.strategy in ROBUST:
            raise RecipeError(
                f"strategy {self.strategy} compares entries, and adapters of smaller ranks are padded with zeros: give "
                "all sites the same lora_rank, or take fedavg"
            )
        plain = lora and self.aggregation in ("naive", "ffa") and len(ranks) == 1
        if self.secure_aggregation and not (plain and self.strategy == "fedavg" and not self.split):
            raise RecipeError(
                "secure_aggregation sums arrays of one shape with values within +-8: take adapters (lora_rank), "
                "strategy fedavg, aggregation ffa (exact) or naive, the same lora_rank everywhere, and mode local"
            )
        if self.secure_aggregation and (len(self.sites) < 3 or self.strategy_args or self.evaluate_every != 1):
            raise RecipeError(
                "secure_aggregation needs three sites or more (from the sum of two, each knows the other's update), no "
                "strategy_args, and evaluate_every 1"
            )
        if self.secure_aggregation and self.selection["policy"] != "all":
            raise RecipeError("secure_aggregation takes all devices in every round: leave selection out")
        if self.secure_aggregation and (self.attack or self.dropout or self.max_update_norm or self.privacy):
            raise RecipeError(
                "with secure_aggregation the server sees sums alone: it can neither reject an update nor know who was "
                "lost; leave attack, dropout, privacy and max_update_norm out"
            )

    def _check_strategy(self) -> None:
        """The arguments of Flower's strategies, which check none of them."""
        known, given, count = ARGUMENTS[self.strategy], self.strategy_args, self.selection["devices"]
        if not known and given:
            raise RecipeError(
                f"strategy {self.strategy} takes no strategy_args, but there are {', '.join(given)} (who takes part is "
                "said by selection)"
            )
        check_keys("strategy_args", given, known)
        for key, value in given.items():
            low, high, whole = known[key]
            high = count if key == "num_nodes_to_select" else high
            given[key] = check_number(f"strategy_args.{key}", value, low, high, integer=whole)
        if self.strategy == "fedprox" and "proximal_mu" not in given:
            raise RecipeError("strategy fedprox is FedAvg without strategy_args: {proximal_mu: 0.01}")
        if self.strategy in ("krum", "multikrum") and count < needed_by_krum(self):
            raise RecipeError(
                f"{self.strategy} against {given.get('num_malicious_nodes', 0)} malicious devices needs 2 f + 3 "
                f"devices a round, but there are {count}"
            )
        if self.strategy == "fedtrimmedavg" and not trimmed_of(self, count):
            raise RecipeError(
                f"fedtrimmedavg with beta {given.get('beta', 0.2)} trims nobody out of {count} devices; beta must be "
                f"at least {1 / count:.3g}"
            )


def needed_by_krum(federation: Federation) -> int:
    """Devices a round that Krum's guarantee asks for."""
    return 2 * int(federation.strategy_args.get("num_malicious_nodes", 0)) + 3


def trimmed_of(federation: Federation, count: int) -> int:
    """Of ``count`` updates, how many the trimmed mean leaves out at either end."""
    return int(federation.strategy_args.get("beta", 0.2) * count)


def made_of(kind: Any, given: Any, name: str) -> Any:
    """A named tuple or dataclass from a recipe's mapping."""
    if not isinstance(given, Mapping):
        raise RecipeError(f"{name} is {given!r}, but must be a mapping with {', '.join(kind.__annotations__)}")
    check_keys(name, given, kind.__annotations__.keys())
    return kind(**{key: as_number(value) for key, value in given.items()})
