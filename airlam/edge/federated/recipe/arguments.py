"""The arguments of a federated run, as a recipe gives them."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

from airlam.edge.federated.recipe.options import check_whole
from airlam.edge.federated.recipe.sites import MODES
from airlam.edge.federated.wire import WIRES
from airlam.errors import RecipeError
from airlam.evaluation.engine.config import Arguments
from airlam.recipes import check_choice, check_number, check_positive

TASKS = ("prediction", "beamforming")
LEAST = {
    "rounds": 1,
    "local_steps": 1,
    "batch_size": 1,
    "num_train": 1,
    "num_val": 1,
    "num_test": 1,
    "history": 2,
    "horizon": 1,
    "evaluate_every": 1,
    "threads": 1,
    "split_layers": 0,
    "seed": 0,
}


@dataclass(frozen=True)
class FederationArguments(Arguments):
    """Arguments of :class:`airlam.edge.federated.Federation`.

    Attributes:
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
        wire: how adapters travel, both ways: ``float32``, or ``int8`` with a scale for each rank, see
            :mod:`airlam.edge.federated.wire`.
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
    """

    sites: dict[str, dict[str, Any]] | None = None
    model: str | dict[str, Any] = "airlam-tiny"
    task: str = "prediction"
    lora_rank: int | None = 4
    aggregation: str = "svd"
    strategy: str = "fedavg"
    strategy_args: dict[str, Any] | None = None
    mode: str = "local"
    split_layers: int = 0
    server: str | dict[str, Any] = "edge-server"
    rounds: int = 10
    local_steps: int = 10
    batch_size: int = 16
    learning_rate: float = 1e-2
    optimizer: str = "adamw"
    selection: dict[str, Any] | None = None
    wire: str = "float32"
    dropout: float = 0.0
    privacy: dict[str, float] | None = None
    secure_aggregation: bool = False
    max_update_norm: float | None = None
    attack: dict[str, Any] | None = None
    cell: dict[str, Any] | None = None
    num_train: int = 192
    num_val: int = 32
    num_test: int = 64
    history: int = 16
    horizon: int = 4
    csi_snr_db: float = 20.0
    feedback: dict[str, Any] | None = None
    channel_overrides: dict[str, Any] | None = None
    evaluate_every: int = 1
    precision: str = "float32"
    seed: int = 1
    threads: int = 1

    @cached_property
    def config(self) -> dict[str, Any]:
        """The arguments as they were given, for results, hashes and the processes of other engines."""
        return self.plain()

    def __post_init__(self) -> None:
        super().__post_init__()
        _ = self.config  # kept before numbers that stand in texts are read
        for name, low in LEAST.items():
            check_whole(name, getattr(self, name), low)
        check_choice("task", self.task, TASKS)
        check_choice("mode", self.mode, MODES)
        check_choice("wire", self.wire, WIRES)
        check_choice("optimizer", self.optimizer, ("adamw", "sgd"))
        check_choice("precision", self.precision, ("float32", "bfloat16"))
        self._set(
            learning_rate=check_number("learning_rate", self.learning_rate, 1e-9, 10),
            dropout=check_number("dropout", self.dropout, 0, 0.9999),
            csi_snr_db=check_number("csi_snr_db", self.csi_snr_db, -30, 100, unit="dB"),
        )
        rank = self.lora_rank
        if rank is not None and (isinstance(rank, bool) or not isinstance(rank, int) or not 1 <= rank <= 512):
            raise RecipeError(f"lora_rank is {rank!r}, but must be 1 to 512, or null: all weights")
        if self.max_update_norm is not None:
            self._set(max_update_norm=check_positive("max_update_norm", self.max_update_norm))
