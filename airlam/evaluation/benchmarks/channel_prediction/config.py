"""Arguments of the benchmark of channel prediction: dataclasses that check their own values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from airlam.csi import Impairment
from airlam.errors import RecipeError
from airlam.evaluation.engine.config import Arguments, Cells, Rates, Sizes, Sweep, at_least
from airlam.evaluation.engine.contenders import OFF
from airlam.methods import names
from airlam.metrics import CONVENTIONS
from airlam.recipes import check_keys

ALL_METHODS = (
    "hold",
    "mean",
    "wiener",
    "pad",
    "ar",
    "kalman",
    "eigen-ar",
    "stack",
    "{model}",
    "{model}" + OFF,
    "genie_per_bin",
    "genie_clusters",
    "genie_lmmse",
    "perfect",
)
OWN = "airlam"  # the convention of this project
IMPAIRMENTS: dict[str, dict[str, float]] = {
    "none": {},
    "common phase, 0.1 rad": {"phase_std": 0.1},
    "carrier offset, 100 Hz": {"cfo_hz": 100.0},
    "timing offset, 10 ns": {"timing_std_s": 10e-9},
    "missing slots, 20 %": {"missing": 0.2},
}


@dataclass(frozen=True)
class Age:
    """Spectral efficiency against the latency of a prediction, for one speed of the first scenario.

    Attributes:
        speed_kmh: speed of all users [km/h]; ``None``: this cell is left out.
        horizon: slots that are predicted there, at least ``sizes.horizon``.
    """

    speed_kmh: float | None = 60.0
    horizon: int = 16


@dataclass(frozen=True)
class Periods:
    """Cells of the first scenario that differ in the time between two CSI measurements.

    Attributes:
        periods_ms: times between two measurements [ms]; empty: no such cells.
        speed_kmh: speed of all users [km/h].
    """

    periods_ms: Sequence[float] = (0.5, 1.0, 2.0, 5.0, 10.0, 20.0)
    speed_kmh: float = 10.0


@dataclass(frozen=True)
class Impairments:
    """Cells of the first scenario with impaired histories.

    Attributes:
        kinds: label -> keyword arguments of :class:`airlam.csi.Impairment`; empty: no such cells.
        speed_kmh: speed of all users [km/h].
    """

    kinds: dict[str, dict[str, float]] = field(default_factory=lambda: dict(IMPAIRMENTS))
    speed_kmh: float = 30.0

    def __post_init__(self) -> None:
        for label, kind in self.kinds.items():
            check_keys(f"impairments.kinds.{label}", kind, Impairment._fields)


@dataclass(frozen=True)
class HeldOut:
    """Cells with channels that the model never saw in pretraining.

    Attributes:
        channels: label -> ``channel`` (a recipe's name) and keys that replace those of its recipe.
        speeds_kmh: speeds [km/h]; each is a cell of its own.
        num_links: links of each cell.
    """

    channels: dict[str, dict[str, Any]] = field(default_factory=dict)
    speeds_kmh: Sequence[float] = (3.0, 30.0, 60.0)
    num_links: int = 96

    def __post_init__(self) -> None:
        for label, recipe in self.channels.items():
            if "channel" not in recipe:
                raise RecipeError(
                    f"held_out.channels.{label} is {recipe!r}, but must name a channel recipe: channel: uma_nlos"
                )


@dataclass(frozen=True)
class Odd:
    """Cells of inputs unlike the headline's, each with a channel of its own: small and long ones, broken assumptions.

    Attributes:
        cells: label -> ``channel`` (a recipe's name), ``speed_kmh``, and keys that replace those of its recipe; and, as
            the cell needs it, ``history`` (slots seen), ``impairment`` (of :class:`airlam.csi.Impairment`).
        num_links: links of each cell.
    """

    cells: dict[str, dict[str, Any]] = field(default_factory=dict)
    num_links: int = 64

    def __post_init__(self) -> None:
        for label, cell in self.cells.items():
            if not {"channel", "speed_kmh"} <= set(cell):
                raise RecipeError(
                    f"odd.cells.{label} is {cell!r}, but must name a channel recipe and a speed: "
                    "{channel: uma_nlos, speed_kmh: 30}"
                )
            check_keys(f"odd.cells.{label}.impairment", cell.get("impairment", {}), Impairment._fields)
            at_least(f"odd.cells.{label}.history", cell.get("history", 2), 2)


@dataclass(frozen=True)
class ChannelPredictionArguments(Arguments):
    """Arguments of the benchmark of channel prediction.

    Attributes:
        model: the learned method: a shipped checkpoint's name, a checkpoint folder, a Lightning ``.ckpt``; or one of
            your own: ``{class_path: my_gru.MyGRU, init_args: {...}}``, ``my_gru:MyGRU``, in Python also an object.
        others: further methods, as for ``model``: a list, or a mapping from the names of their rows
            (``{gru: runs/comparators/gru/checkpoint, mine: {class_path: my_gru.MyGRU}}``); in a list each has its own
            name. Those that ``methods`` does not name stand after the model.
        methods: names (``airlam list predictors``), or methods of your own as for ``model``; ``{model}`` stands for the
            model, ``{model}:no-correction`` for its classical start alone (of airlam's own networks). Tables show
            classical methods first, then learned ones, then bounds, whatever the order here.
        bar: the method that gains are relative to.
        cells: scenarios, speeds and CSI SNR of the headline.
        sizes: slots, links and drops of a cell.
        rates: groups and SNRs of spectral efficiency.
        sweep: further cells at other CSI SNRs.
        age: the cell of spectral efficiency against latency.
        periods: the cells of CSI periods.
        impairments: the cells of impaired histories.
        held_out: the cells of channels that the model never saw in pretraining.
        odd: the cells of small inputs and broken assumptions.
        convention: ``llm4cp`` or ``wifo``: the same predictions are also scored as that publication scores
            (docs/metrics.md); ``airlam``: by airlam's own metrics alone.
        seed: of links and noise.
        threads: CPU threads; latency is always measured on one.
        quick: a small version of everything, for tests: one scenario, two speeds, few links.
        title: of the report.

    Raises:
        RecipeError: values that do not fit each other.
    """

    model: Any = "airlam-tiny"
    others: Sequence[Any] | Mapping[str, Any] = ()
    methods: Sequence[Any] = ALL_METHODS
    bar: str = "ar"
    cells: Cells = Cells()
    sizes: Sizes = Sizes()
    rates: Rates = Rates()
    sweep: Sweep = Sweep()
    age: Age = Age()
    periods: Periods = Periods()
    impairments: Impairments = Impairments()
    held_out: HeldOut = HeldOut()
    odd: Odd = Odd()
    convention: str = OWN
    seed: int = 7
    threads: int = 1
    quick: bool = False
    title: str = "Channel prediction against tuned classical methods"

    def __post_init__(self) -> None:
        super().__post_init__()
        at_least("threads", self.threads, 1)
        if self.convention not in (OWN, *CONVENTIONS):
            raise RecipeError(f"convention is {self.convention!r}, but must be {OWN}, {' or '.join(CONVENTIONS)}")
        at_least("sizes.history", self.sizes.history, 2)
        self.rates.fit(self.sizes.links_per_drop)
        self.sizes.whole_drops("num_links", self.held_out.num_links, "held_out")
        self.sizes.whole_drops("num_links", self.odd.num_links, "odd")
        if self.age.speed_kmh is not None and self.age.horizon < self.sizes.horizon:
            raise RecipeError(
                f"age.horizon is {self.age.horizon}, but must be at least sizes.horizon ({self.sizes.horizon})"
            )
        classical = names("predictor", "classical", built=True)
        if self.bar not in classical:
            raise RecipeError(f"bar is {self.bar!r}, but must be a classical method: {', '.join(classical)}")

    def reduced(self) -> dict[str, Any]:
        """Sections for a quick run: one scenario, two speeds, few links."""
        sizes = replace(
            self.sizes,
            num_links=min(self.sizes.num_links, 16),
            num_tune=min(self.sizes.num_tune, 8),
            side_links=min(self.sizes.side_links, 8),
        )
        return dict(
            cells=replace(self.cells, scenarios=self.cells.scenarios[:1], speeds_kmh=self.cells.speeds_kmh[:2]),
            sizes=sizes,
            sweep=Sweep(self.sweep.csi_snr_db[:2], self.sweep.speeds_kmh[:1]),
            periods=replace(self.periods, periods_ms=self.periods.periods_ms[:2]),
            held_out=replace(self.held_out, speeds_kmh=self.held_out.speeds_kmh[:1], num_links=sizes.side_links),
            odd=replace(self.odd, cells=dict(list(self.odd.cells.items())[:2]), num_links=sizes.side_links),
        )
