"""Arguments of the benchmark of probes: dataclasses that check their own values."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from airlam.errors import RecipeError
from airlam.evaluation.engine.config import Arguments, MixedCells, at_least, not_empty, shares


@dataclass(frozen=True)
class ProbeSizes:
    """Links of each split, equally many of each scenario; no drop is in two splits.

    Attributes:
        num_train: links that probes are fitted on.
        num_val: links that choose the penalty of a probe.
        num_test: links that probes are judged on.
        links_per_drop: users that share a base station and a drop.
    """

    num_train: int = 2000
    num_val: int = 400
    num_test: int = 800
    links_per_drop: int = 4

    def __post_init__(self) -> None:
        at_least("sizes.links_per_drop", self.links_per_drop, 1)

    def of_split(self) -> dict[str, int]:
        """Links by the name of the split."""
        return {"train": self.num_train, "val": self.num_val, "test": self.num_test}

    def fit(self, num_scenarios: int) -> None:
        """Raises RecipeError if a split does not hold equally many whole drops of every scenario."""
        for split, count in self.of_split().items():
            if count < 1 or count % (self.links_per_drop * num_scenarios):
                raise RecipeError(
                    f"sizes.num_{split} is {count}, but must be a positive multiple of links_per_drop x scenarios "
                    f"({self.links_per_drop} x {num_scenarios})"
                )


@dataclass(frozen=True)
class ProbeArguments(Arguments):
    """Arguments of the benchmark of probes.

    Attributes:
        model: a shipped checkpoint's name or a checkpoint folder.
        cells: scenarios, speeds, CSI SNRs and slots of the measured histories.
        sizes: links of each split.
        shots: shares of the training links that probes are fitted on.
        seed: of links and noise.
        threads: CPU threads.
        quick: a small version, for tests.
        title: of the report.

    Raises:
        RecipeError: values that do not fit each other.
    """

    model: str = "airlam-tiny"
    cells: MixedCells = MixedCells()
    sizes: ProbeSizes = ProbeSizes()
    shots: Sequence[float] = (0.01, 0.05, 0.1, 1.0)
    seed: int = 7
    threads: int = 1
    quick: bool = False
    title: str = "Linear probes of the frozen backbone"

    def __post_init__(self) -> None:
        super().__post_init__()
        at_least("threads", self.threads, 1)
        not_empty("shots", self.shots)
        self._set(shots=shares("shots", self.shots))
        self.sizes.fit(len(self.cells.scenarios))

    def reduced(self) -> dict[str, Any]:
        """Sections for a quick run: the highest SNR, all of few training links."""
        return dict(
            cells=replace(self.cells, csi_snr_db=self.cells.csi_snr_db[-1:]),
            sizes=replace(self.sizes, num_train=64, num_val=32, num_test=32),
            shots=self.shots[-1:],
        )
