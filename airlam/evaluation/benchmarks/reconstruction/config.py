"""Arguments of the benchmark of reconstruction: dataclasses that check their own values."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any

from airlam.errors import RecipeError
from airlam.evaluation.engine.config import Arguments, MixedCells, at_least, shares
from airlam.recipes import check_keys

INTERPOLATORS = (
    "linear",
    "dft",
    "lmmse",
    "lmmse-sample",
    "eigen-lmmse",
    "eigen-lmmse-sample",
    "{model}",
    "lmmse-genie",
)


@dataclass(frozen=True)
class Task:
    """What is measured, and what is estimated from it.

    Attributes:
        axis: ``"subcarrier"``, ``"row"`` or ``"column"``.
        patterns: which samples of the axis are measured (:func:`airlam.tasks.sampling_pattern`).
        methods: names; ``{model}`` is the model.
        channel: keys that replace those of every channel recipe.
    """

    axis: str
    patterns: Sequence[str]
    methods: Sequence[str] = INTERPOLATORS
    channel: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, label: str, values: dict[str, Any]) -> Task:
        """A task of a recipe.

        Raises:
            RecipeError: an unknown key, axis or pattern.
        """
        from airlam.tasks import sampling_pattern
        from airlam.tasks.reconstruction import AXES

        check_keys(f"task {label!r}", values, [each.name for each in fields(cls)])
        if values.get("axis") not in AXES or not values.get("patterns"):
            raise RecipeError(f"task {label!r} needs an axis ({', '.join(AXES)}) and patterns")
        for pattern in values["patterns"]:
            try:
                sampling_pattern(pattern, 1000)
            except ValueError as error:
                raise RecipeError(f"task {label!r}: {error}") from None
        return cls(**values)


@dataclass(frozen=True)
class ReconstructionSizes:
    """Links of a cell, and links that train. A drop is a base station with its users; no drop is ever split.

    Attributes:
        num_links: links of a cell that methods are judged on.
        num_tune: links, of other drops, that the classical methods are tuned on.
        num_train: training links, all scenarios together: they give covariances, and adapt the model.
        links_per_drop: users that share a drop.
    """

    num_links: int = 32
    num_tune: int = 16
    num_train: int = 2000
    links_per_drop: int = 4

    def __post_init__(self) -> None:
        at_least("sizes.links_per_drop", self.links_per_drop, 1)
        for name in ("num_links", "num_tune", "num_train"):
            value = getattr(self, name)
            at_least(f"sizes.{name}", value, 1)
            if value % self.links_per_drop:
                raise RecipeError(
                    f"sizes.{name} is {value}, but must be a multiple of sizes.links_per_drop "
                    f"({self.links_per_drop}): no drop is ever split"
                )


@dataclass(frozen=True)
class FewShot:
    """Rows of the model after adaptation to a share of the training links.

    Attributes:
        shots: shares of the training links; empty: no such rows.
        csi_snr_db: SNR of the cells in which these rows are judged [dB]; one of ``cells.csi_snr_db``.
        lora_rank: adapters of this rank or all weights are trained, whichever is better on the tuning links; ``None``:
            all weights.
        steps: training steps.
        batch_size: links of a step.
        learning_rate: of all weights; twice as much for adapters, and for the network from random weights.
    """

    shots: Sequence[float] = (0.01, 0.05, 0.1, 1.0)
    csi_snr_db: float = 20.0
    lora_rank: int | None = 8
    steps: int = 40
    batch_size: int = 8
    learning_rate: float = 5e-4

    def __post_init__(self) -> None:
        at_least("few_shot.steps", self.steps, 1)
        at_least("few_shot.batch_size", self.batch_size, 1)
        object.__setattr__(self, "shots", shares("few_shot.shots", self.shots))
        object.__setattr__(self, "csi_snr_db", float(self.csi_snr_db))


@dataclass(frozen=True)
class ReconstructionArguments(Arguments):
    """Arguments of the benchmark of reconstruction.

    Attributes:
        model: a shipped checkpoint's name or a checkpoint folder.
        tasks: label -> the fields of :class:`Task`; ``None``: comb pilots on every fourth subcarrier.
        bar: the method that gains are relative to.
        cells: scenarios, speeds, CSI SNRs; all slots are measured with the same pattern and estimated together.
        sizes: links that judge, tune and train.
        few_shot: adaptation of the model to some of the training links.
        seed: of links, noise and adaptation.
        threads: CPU threads.
        quick: a small version of everything, for tests.
        title: of the report.

    Raises:
        RecipeError: values that do not fit each other.
    """

    model: str = "airlam-tiny"
    tasks: dict[str, dict[str, Any]] | None = None
    bar: str = "lmmse"
    cells: MixedCells = MixedCells(slots=4)
    sizes: ReconstructionSizes = ReconstructionSizes()
    few_shot: FewShot = FewShot()
    seed: int = 7
    threads: int = 1
    quick: bool = False
    title: str = "Reconstruction against tuned classical methods"

    def __post_init__(self) -> None:
        super().__post_init__()
        at_least("threads", self.threads, 1)
        if self.few_shot.shots and self.few_shot.csi_snr_db not in self.cells.csi_snr_db:
            raise RecipeError(f"few_shot.csi_snr_db {self.few_shot.csi_snr_db:g} is not among cells.csi_snr_db")

    def reduced(self) -> dict[str, Any]:
        """Sections for a quick run: one scenario, one SNR, few links, two training steps."""
        per_drop = self.sizes.links_per_drop
        return dict(
            cells=replace(self.cells, scenarios=self.cells.scenarios[:1], csi_snr_db=[self.few_shot.csi_snr_db]),
            sizes=ReconstructionSizes(2 * per_drop, 2 * per_drop, 8 * per_drop, per_drop),
            few_shot=replace(self.few_shot, shots=self.few_shot.shots[-1:], steps=2),
        )
