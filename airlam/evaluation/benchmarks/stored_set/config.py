"""Arguments of the benchmark on stored links: a dataclass that checks its own values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from airlam.errors import RecipeError
from airlam.evaluation.benchmarks.channel_prediction.config import OWN
from airlam.evaluation.benchmarks.stored_set.foreign import ForeignFile
from airlam.evaluation.engine.config import at_least
from airlam.metrics import CONVENTIONS

METHODS = ("hold", "mean", "wiener", "pad", "ar", "eigen-ar", "{model}", "perfect")


class Setting(NamedTuple):
    """What a convention says of the histories.

    Attributes:
        csi_snr_db: of the noise on the history [dB].
        history, horizon: slots seen and predicted of a link of ``slots``.
        shared_noise: one noise level for all links of a cell instead of one for each.
    """

    csi_snr_db: float
    history: int
    horizon: int
    shared_noise: bool


def setting_of(convention: str, slots: int) -> Setting:
    """History and future of links of ``slots`` slots.

    Example:
        >>> setting_of("wifo", 24)
        Setting(csi_snr_db=20.0, history=12, horizon=12, shared_noise=True)
    """
    if convention == "wifo":  # the first half shows the last half
        return Setting(CONVENTIONS["wifo"].target_snr_db, slots - slots // 2, slots // 2, True)
    horizon = max(1, min(4, slots // 4))  # of 20 slots: 16 -> 4, airlam's headline and LLM4CP's task
    snr_db = 20.0 if convention == OWN else CONVENTIONS[convention].target_snr_db
    return Setting(snr_db, slots - horizon, horizon, convention != OWN)


@dataclass(frozen=True)
class StoredSetArguments(ForeignFile):
    """Arguments of the benchmark on stored links, and those of a file that is to be imported first.

    Attributes:
        store: the file of ``airlam import`` or ``airlam generate``; or a foreign data set, which is imported into the
            folder of results, with the options of ``airlam import`` as further arguments.
        convention: ``airlam``; or ``llm4cp`` or ``wifo``: histories as that publication measures them, and its scores
            beside airlam's (docs/metrics.md).
        model: the learned method, as of the benchmark of channel prediction.
        others: further methods, as there.
        methods: names, as there; no genies, a store holds no rays.
        bar: the method that gains are relative to.
        num_links: test links of each cell, at most.
        num_tune: links that classical methods are tuned on: of the validation links, else of the training links, else
            test links that are then not judged.
        max_cells: a cell for each speed, if there are no more speeds than that; else one cell for all.
        csi_snr_db: SNR of the histories [dB]; ``null``: as the convention says.
        history: slots seen; ``null``: as the convention says.
        horizon: slots predicted; ``null``: as the convention says.
        seed: of noise, and of the draw of an import's splits.
        threads: CPU threads.
        title: of the report.

    Raises:
        RecipeError: values that do not fit each other.
    """

    store: str | None = None
    convention: str = OWN
    model: Any = "airlam-tiny"
    others: Sequence[Any] | Mapping[str, Any] = ()
    methods: Sequence[Any] = METHODS
    bar: str = "ar"
    num_links: int = 1024
    num_tune: int = 64
    max_cells: int = 20
    csi_snr_db: float | None = None
    history: int | None = None
    horizon: int | None = None
    seed: int = 7
    threads: int = 1
    title: str = "Channel prediction on stored links"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.convention not in (OWN, *CONVENTIONS):
            raise RecipeError(f"convention is {self.convention!r}, but must be {OWN}, {' or '.join(CONVENTIONS)}")
        for name in ("num_links", "num_tune", "max_cells", "threads"):
            at_least(name, getattr(self, name), 1)
        for name, low in (("history", 2), ("horizon", 1)):
            if getattr(self, name) is not None:
                at_least(name, getattr(self, name), low)

    def setting(self, slots: int) -> Setting:
        """History and future, with what the recipe gives itself.

        Raises:
            RecipeError: links that are too short.
        """
        usual = setting_of(self.convention, slots)
        horizon = usual.horizon if self.horizon is None else self.horizon
        seen = usual.history if self.horizon is None else slots - horizon
        history = seen if self.history is None else self.history
        if history < 2 or history + horizon > slots:
            raise RecipeError(
                f"{self.store}: links have {slots} slots, too few for a history of {history} (at least 2) and a "
                f"horizon of {horizon}; lower --history or --horizon"
            )
        snr_db = usual.csi_snr_db if self.csi_snr_db is None else float(self.csi_snr_db)
        return Setting(snr_db, history, horizon, usual.shared_noise)
