"""Arguments of the demo, with their checks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from airlam.errors import RecipeError
from airlam.evaluation.engine.config import Arguments, at_least


@dataclass(frozen=True)
class DemoArguments(Arguments):
    """Arguments of the demo; flat, as ``airlam demo`` takes them.

    Attributes:
        model: a shipped checkpoint's name or a checkpoint folder.
        channel: channel recipe of the site.
        channel_overrides: keys to change in it.
        num_adapt: users that adapt the model.
        num_held_out: users that judge it, a multiple of num_speed_classes x group_size.
        num_slots: slots generated for each user; adaptation takes windows anywhere in them.
        speed_kmh: range from which users draw their speed [km/h].
        num_speed_classes: rows of the report.
        csi_snr_db: SNR of the measured histories [dB].
        transmit_snr_db: SNR of the spectral efficiencies in tables [dB].
        group_size: users served together.
        history: slots that a method sees.
        horizon: slots that it predicts.
        lora_rank: rank of the adapters.
        steps: training steps.
        batch_size: users of a step.
        learning_rate: of the adaptation.
        random_start: also train a network of the same shape from random weights, all of them, on the same batches.
        num_tune: adaptation users that tune the classical methods, in each speed class.
        seed: of everything.
        threads: CPU threads for training and evaluation (``None``: as many as there are idle cores, at most 4); latency
            is measured on one.

    Raises:
        RecipeError: sizes that do not fit each other.
    """

    model: str = "airlam-tiny"
    channel: str = "umi_nlos"
    channel_overrides: dict[str, Any] = field(default_factory=dict)
    num_adapt: int = 384
    num_held_out: int = 96
    num_slots: int = 40
    speed_kmh: Sequence[float] = (3.0, 60.0)
    num_speed_classes: int = 3
    csi_snr_db: float = 20.0
    transmit_snr_db: float = 20.0
    group_size: int = 4
    history: int = 16
    horizon: int = 4
    lora_rank: int = 16
    steps: int = 250
    batch_size: int = 16
    learning_rate: float = 1e-3
    random_start: bool = True
    num_tune: int = 32
    seed: int = 1
    threads: int | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        speeds = [float(speed) for speed in self.speed_kmh]
        self._set(speed_kmh=speeds, transmit_snr_db=float(self.transmit_snr_db))
        for name in ("num_speed_classes", "group_size", "history", "horizon", "steps", "batch_size"):
            at_least(name, getattr(self, name), 1)
        if self.num_held_out < 1 or self.num_held_out % (self.num_speed_classes * self.group_size):
            raise RecipeError(
                f"num_held_out is {self.num_held_out}, but must be a multiple of num_speed_classes x group_size "
                f"({self.num_speed_classes} x {self.group_size}): every speed class is served in whole groups"
            )
        if self.num_slots < self.history + self.horizon:
            raise RecipeError(
                f"num_slots is {self.num_slots}, but must be at least history + horizon = {self.history + self.horizon}"
            )
        if self.num_adapt < self.batch_size:
            raise RecipeError(f"num_adapt is {self.num_adapt}, but must be at least batch_size ({self.batch_size})")

    @property
    def label(self) -> str:
        """The model's name in tables."""
        return Path(self.model).name

    def banner(self) -> str:
        """What stands on top of the report: that it is one site and, where sizes are below the defaults, that its
        figures are not to be quoted."""
        usual = {each.name: each.default for each in fields(DemoArguments)}
        small = [
            f"{name} {getattr(self, name)} instead of {usual[name]}"
            for name in ("num_adapt", "num_held_out", "steps")
            if getattr(self, name) < usual[name]
        ]
        quick = f"Quick run ({', '.join(small)}): do not quote its figures. " if small else ""
        return f"{quick}A demonstration on one site: its intervals and verdicts say nothing about other sites."
