"""Arguments of the benchmark of measured channels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from airlam.errors import RecipeError
from airlam.evaluation.engine.config import Arguments, at_least, not_empty
from airlam.evaluation.engine.contenders import GENIES, STACK
from airlam.methods import names

FOLDER = "AIRLAM_MEASURED_DIR"  # the environment variable that names the recordings where ``data`` is empty


@dataclass(frozen=True)
class View:
    """What is done to packets before they are cut into windows; ``text`` says it in tables.

    Attributes:
        align: whether the receiver's offsets are removed at all; timing, gain: whether these are, too.
        turn: whether each history is turned in phase and gain to its own last packet: a receiver can do that.
        grid: whether packets are put on a regular grid of times.
    """

    text: str
    align: bool = True
    timing: bool = True
    gain: bool = True
    turn: bool = False
    grid: bool = False


VIEWS = {
    "aligned": View("phase, timing and gain of each packet removed"),
    "gain left in": View("phase and timing removed", gain=False),
    "timing left in": View("phase and gain removed", timing=False),
    "as recorded": View("nothing removed", align=False),
    "history turned": View("only histories turned, to the phase and gain of their last packet", align=False, turn=True),
    "regular grid": View("as aligned, on a regular grid of times", grid=True),
}


@dataclass(frozen=True)
class MeasuredSizes:
    """How a recording is cut.

    Attributes:
        history, horizon: packets seen, and packets to predict.
        step: packets from the start of one window to the next.
        guard: packets left out between the half that tunes and the half that scores.
        blocks: runs of packets of the half that scores; intervals resample them. None is shorter than a window.
        reference: first packets of the recording that alignment takes as its reference.
    """

    history: int = 16
    horizon: int = 4
    step: int = 4
    guard: int = 20
    blocks: int = 10
    reference: int = 16

    def __post_init__(self) -> None:
        for name, low in (("history", 2), ("horizon", 1), ("step", 1), ("guard", 0), ("blocks", 2), ("reference", 1)):
            at_least(f"sizes.{name}", getattr(self, name), low)

    @property
    def window(self) -> int:
        """Packets of a window."""
        return self.history + self.horizon

    @property
    def least(self) -> int:
        """The shortest recording: one window that tunes, and two blocks that score."""
        return 2 * (2 * self.window + self.guard)


@dataclass(frozen=True)
class MeasuredConfig(Arguments):
    """Arguments of :class:`airlam.evaluation.MeasuredBenchmark`.

    Attributes:
        data: folder of recordings, or one file; empty: the folder that the environment variable AIRLAM_MEASURED_DIR
            names. Every file that an importer takes by its suffix is read (``airlam.data.importers``).
        format: importer of all files, by name or class path; without it the suffixes decide.
        model: the learned method, used as it is: a checkpoint, or one of your own.
        methods: names, or methods of your own; ``{model}`` stands for the model. Classical methods are tuned on the
            first half of each recording.
        headline_only: those of ``methods`` that stand in the first view alone, because they take long.
        bar: the method that gains are relative to.
        views: what is removed from packets; the first one is the headline.
        sizes: windows, guard gap, blocks.
        threads: CPU threads.
        quick: a small version, for tests: one view, few methods.
        title: of the report.
    """

    data: str = ""
    format: str | None = None
    model: Any = "airlam-tiny"
    methods: Sequence[Any] = (
        *("hold", "mean", "ar", "eigen-ar", "paths"),
        *("{model}", "{model}:no-correction", "airlam-paths"),
    )
    headline_only: Sequence[str] = ("paths", "airlam-paths")
    bar: str = "mean"
    views: Sequence[str] = tuple(VIEWS)
    sizes: MeasuredSizes = MeasuredSizes()
    threads: int = 1
    quick: bool = False
    title: str = "Measured channels"

    def __post_init__(self) -> None:
        super().__post_init__()
        at_least("threads", self.threads, 1)
        not_empty("views", self.views)
        for view in self.views:
            if view not in VIEWS:
                raise RecipeError(f"views holds {view!r}, but must be among {', '.join(VIEWS)}")
        if self.bar not in names("predictor", "classical", built=True):
            raise RecipeError(f"bar is {self.bar!r}, but must be a classical method such as mean")
        for name in self.methods:
            if name in (*GENIES, STACK, "perfect"):
                raise RecipeError(f"methods holds {name!r}, which needs simulated channels; leave it out")
        if self.quick:
            few = [name for name in self.methods if name not in ("eigen-ar", "paths", "airlam-paths")]
            self._set(views=list(self.views)[:1], methods=few, sizes=replace(self.sizes, step=4 * self.sizes.step))
