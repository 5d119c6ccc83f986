"""Arguments of the benchmark of positioning."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from airlam.errors import RecipeError
from airlam.evaluation.engine.config import Arguments, at_least, finite
from airlam.recipes import check_keys

CLASSICS = {
    "nearest": "nearest fingerprints",
    "regression": "regression",
    "multilateration": "multilateration",
    "map": "kriged maps",
}
USUAL = ("nearest", "regression", "multilateration")  # the classics of publications
NETWORKS = {
    "network": "airlam-tiny's backbone, from maps",
    "network:random-start": "random weights, from maps",
    "network:no-map": "airlam-tiny's backbone, from CSI alone",
}
LABELS = CLASSICS | NETWORKS


@dataclass(frozen=True)
class PositioningSizes:
    """Users of a site.

    Attributes:
        num_train: whose positions may be known. num_val: others, who choose settings, the training step, and the size
            of ellipses. num_test: who judge. num_shift: of each shift.
    """

    num_train: int = 900
    num_val: int = 200
    num_test: int = 300
    num_shift: int = 128

    def __post_init__(self) -> None:
        for name in ("num_train", "num_val", "num_test", "num_shift"):
            at_least(f"sizes.{name}", getattr(self, name), 4)

    @property
    def num_users(self) -> int:
        """Without shifts."""
        return self.num_train + self.num_val + self.num_test


@dataclass(frozen=True)
class PositionTraining:
    """How networks are trained.

    Attributes:
        steps: of every share. batch_size: users. learning_rate: its peak. seeds: of weights and batches; ellipses are
            those of the first, errors of all.
    """

    steps: int = 150
    batch_size: int = 32
    learning_rate: float = 5e-4
    seeds: Sequence[int] = (0,)

    def __post_init__(self) -> None:
        at_least("training.steps", self.steps, 1)
        at_least("training.batch_size", self.batch_size, 1)
        finite("training.learning_rate", [self.learning_rate])


@dataclass(frozen=True)
class PositioningConfig(Arguments):
    """Arguments of :class:`airlam.evaluation.PositioningBenchmark`.

    Attributes:
        model: checkpoint whose backbone is the pretrained start.
        sites: label -> ``channel``, a recipe with stations, ``overrides`` of its keys, and ``shifts``: name -> keys
            that differ for users of the same site who judge, but never train (``user_height``, ``cars``).
        networks: whether networks are trained, too.
        sizes: users. training: of networks.
        shares: of the training users whose positions are known. headline_share: one of them.
        csi_snr_db: SNR of a tone and port at the strongest station of the median user; noise is alike everywhere.
        seed: of users and noise.
        threads: CPU threads.
        quick: a small version, for tests.
        title: of the report.
    """

    model: str = "airlam-tiny"
    sites: dict[str, dict[str, Any]] = field(default_factory=lambda: {"inf_dh_site": {"channel": "inf_dh_site"}})
    networks: bool = True
    sizes: PositioningSizes = PositioningSizes()
    training: PositionTraining = PositionTraining()
    shares: Sequence[float] = (0.01, 0.05, 0.1, 1.0)
    headline_share: float = 0.1
    csi_snr_db: float = 20.0
    seed: int = 11
    threads: int = 1
    quick: bool = False
    title: str = "Positioning"

    def __post_init__(self) -> None:
        super().__post_init__()
        at_least("threads", self.threads, 1)
        finite("csi_snr_db", [self.csi_snr_db])
        if not self.sites:
            raise RecipeError("sites is empty: name at least one, like {hall: {channel: inf_dh_site}}")
        for label, site in self.sites.items():
            if not isinstance(site, dict) or "channel" not in site:
                raise RecipeError(f"sites.{label} is {site!r}, but must name a channel recipe: channel: inf_dh_site")
            check_keys(f"sites.{label}", site, ("channel", "overrides", "shifts"))
        if self.quick:
            first = next(iter(self.sites))
            self._set(
                sites={first: self.sites[first]},
                sizes=PositioningSizes(96, 32, 48, 16),
                training=replace(self.training, steps=10),
                shares=[0.5],
                headline_share=0.5,
            )
        if self.headline_share not in self.shares:
            raise RecipeError(
                f"headline_share is {self.headline_share:g}, but must be one of shares {list(self.shares)}"
            )
        for share in self.shares:
            if not 0 < share <= 1 or self.count(share) < 4:
                raise RecipeError(
                    f"shares holds {share:g}: {self.count(share)} of {self.sizes.num_train} users, but "
                    "at least 4 and at most all are needed"
                )

    def count(self, share: float) -> int:
        """Users of a share."""
        return round(share * self.sizes.num_train)
