"""Arguments of the benchmark of adaptation to a site: dataclasses that check their own values."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from airlam.errors import RecipeError
from airlam.evaluation.engine.config import Arguments, at_least, finite, not_empty
from airlam.evaluation.engine.training import Choice
from airlam.recipes import check_choice


@dataclass(frozen=True)
class SiteSizes:
    """Slots, and users of a site.

    Attributes:
        history: slots that a method sees.
        horizon: slots that it predicts.
        num_train: users who may adapt a model.
        num_val: users who choose how to adapt and when to stop.
        num_test: held-out users on whom all methods are judged; a multiple of num_speed_classes x group_size.
        num_tune: training users, of like speed, that tune the classical methods of a speed class.
        num_speed_classes: classes that the test users are split into by speed.
        group_size: users served together.
    """

    history: int = 16
    horizon: int = 4
    num_train: int = 1000
    num_val: int = 64
    num_test: int = 192
    num_tune: int = 48
    num_speed_classes: int = 3
    group_size: int = 4

    def __post_init__(self) -> None:
        for name in ("history", "horizon", "num_train", "num_val", "num_tune", "num_speed_classes", "group_size"):
            at_least(f"sizes.{name}", getattr(self, name), 1)
        if self.num_tune > self.num_train:
            raise RecipeError(f"sizes.num_tune is {self.num_tune}, but must be at most num_train ({self.num_train})")
        if self.num_test < 1 or self.num_test % (self.num_speed_classes * self.group_size):
            raise RecipeError(
                f"sizes.num_test is {self.num_test}, but must be a multiple of num_speed_classes x group_size "
                f"({self.num_speed_classes} x {self.group_size}): every speed class is served in whole groups"
            )

    @property
    def num_users(self) -> int:
        """All users of a site."""
        return self.num_train + self.num_val + self.num_test


@dataclass(frozen=True)
class Conditions:
    """Speeds and SNRs.

    Attributes:
        speed_kmh: range from which users draw their speed [km/h], unless a site says otherwise.
        csi_snr_db: SNR of the measured histories [dB].
        transmit_snr_db: SNR of the spectral efficiencies [dB].
        channel_overrides: keys that replace those of every channel recipe (smaller panels for a quick look).
    """

    speed_kmh: Sequence[float] = (3.0, 100.0)
    csi_snr_db: float = 20.0
    transmit_snr_db: float = 20.0
    channel_overrides: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        object.__setattr__(self, "speed_kmh", [float(speed) for speed in self.speed_kmh])
        for name in ("csi_snr_db", "transmit_snr_db"):
            object.__setattr__(self, name, float(getattr(self, name)))
        finite("conditions", [*self.speed_kmh, self.csi_snr_db, self.transmit_snr_db])


@dataclass(frozen=True)
class SiteAdaptation:
    """How models adapt. Every share of the training links is a row of its own, for both starts.

    Attributes:
        fractions: shares of the training links that adaptation sees.
        steps: training steps of each share.
        headline_fraction: the share in the headline; one of ``fractions``.
        adaptations: candidates for the pretrained start: ``learning_rate`` and, for LoRA, ``lora_rank``.
        controls: candidates for the random start.
        choose_fraction: the share at which the candidates are compared, on validation users, with the first seed.
        seeds: of batches, noise, which links are the share, and random weights; figures are means over them. The
            whole of the links is adapted to with the first one alone.
        batch_size: links of a training step.
        precision: ``float32`` or ``bfloat16``, of the backbone while training.
    """

    fractions: Sequence[float] = (0.01, 0.05, 0.1, 1.0)
    steps: Sequence[int] = (30, 50, 50, 100)
    headline_fraction: float = 0.05
    adaptations: Sequence[dict[str, Any]] = ({"learning_rate": 3e-4},)
    controls: Sequence[dict[str, Any]] = ({"learning_rate": 1e-3},)
    choose_fraction: float = 0.1
    seeds: Sequence[int] = (0, 1, 2)
    batch_size: int = 16
    precision: str = "float32"

    def __post_init__(self) -> None:
        if not self.fractions or len(self.fractions) != len(self.steps):
            raise RecipeError(f"{len(self.fractions)} fractions have {len(self.steps)} steps; give one for each")
        object.__setattr__(self, "fractions", [float(fraction) for fraction in self.fractions])
        for name in ("headline_fraction", "choose_fraction"):
            value = float(getattr(self, name))
            if value not in self.fractions:
                raise RecipeError(f"adaptation.{name} is {value:g}, but must be one of the fractions {self.fractions}")
            object.__setattr__(self, name, value)
        for steps in self.steps:
            at_least("one of adaptation.steps", steps, 1)
        at_least("adaptation.batch_size", self.batch_size, 1)
        for name in ("seeds", "adaptations", "controls"):
            not_empty(f"adaptation.{name}", getattr(self, name))
        check_choice("adaptation.precision", self.precision, ("float32", "bfloat16"))
        self.choices("adapted")
        self.choices("random-start")

    def choices(self, kind: str) -> list[Choice]:
        """The candidates of the pretrained start (``"adapted"``) or of the random one (``"random-start"``)."""
        return [Choice.of(values) for values in (self.adaptations if kind == "adapted" else self.controls)]


@dataclass(frozen=True)
class SiteArguments(Arguments):
    """Arguments of the benchmark of adaptation to a site.

    Attributes:
        model: a shipped checkpoint's name, a checkpoint folder, or a Lightning ``.ckpt``.
        sites: label -> ``channel`` (a recipe's name) and keys that replace those of its recipe. Statistical scenarios
            become one spatially consistent snapshot. Ray-traced scenes are sites by themselves; where ray tracing
            cannot run they are left out, and their rows give the reason. ``None``: ``umi_site``.
        sizes: slots and users.
        conditions: speeds and SNRs.
        adaptation: how models adapt, and to how much of the data.
        seed: of the sites and of the test noise.
        threads: CPU threads.
        title: of the report.

    Raises:
        RecipeError: values that do not fit each other.
    """

    model: str = "airlam-tiny"
    sites: dict[str, dict[str, Any]] | None = None
    sizes: SiteSizes = SiteSizes()
    conditions: Conditions = Conditions()
    adaptation: SiteAdaptation = SiteAdaptation()
    seed: int = 11
    threads: int = 1
    title: str = "Adaptation to a site"

    def __post_init__(self) -> None:
        super().__post_init__()
        at_least("threads", self.threads, 1)
        if self.sites is None:
            self._set(sites={"umi_site": {"channel": "umi_site"}})
        if not self.sites:
            raise RecipeError("sites is empty: name at least one, like {umi_site: {channel: umi_site}}")
        for label, site in self.sites.items():
            if not isinstance(site, dict) or "channel" not in site:
                raise RecipeError(f"sites.{label} is {site!r}, but must name a channel recipe: channel: umi_site")
        for fraction, count in zip(self.adaptation.fractions, self.counts(), strict=True):
            if not 0 < fraction <= 1 or count < 1:
                raise RecipeError(
                    f"adaptation.fractions holds {fraction:g}: {count} of {self.sizes.num_train} links, but at least 1 "
                    "and at most all are needed"
                )

    def counts(self) -> list[int]:
        """Links of each share.

        Example:
            >>> SiteArguments().counts()
            [10, 50, 100, 1000]
        """
        return [round(fraction * self.sizes.num_train) for fraction in self.adaptation.fractions]
