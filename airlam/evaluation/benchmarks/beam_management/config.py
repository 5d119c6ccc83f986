"""Arguments of the benchmark of beam management."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from airlam.errors import RecipeError
from airlam.evaluation.engine.config import Arguments, Cells, Sizes, at_least, finite
from airlam.methods import is_own, names, own_method
from airlam.recipes import check_is_no_class

METHODS = ("last-best", "extrapolation", "trained-linear", "softmax", "{model}:start", "{model}", "sweep")
STRONGEST = "strongest"  # as the bar: the classical method that is best over the headline cells
START = ":start"  # after the name of a learned method: the classical estimate that it begins with


@dataclass(frozen=True)
class BeamSizes(Sizes):
    """Sweeps, beams and tracks of a cell. A drop is a base station with its users; no drop is ever split.

    Attributes:
        history: sweeps that a method sees.
        horizon: sweeps that it names beams for.
        beams_per_sweep: beams that each sweep measures in the headline cells.
        num_links: tracks that are judged in a headline cell; intervals resample their drops.
        num_tune: tracks, of other drops of the cell's scenario and speed, that classical methods are tuned and
            trained on.
        links_per_drop: tracks in one drop.
        side_links: tracks that are judged in each cell beside the headline.
    """

    history: int = 8
    num_links: int = 512
    num_tune: int = 4096
    side_links: int = 256
    beams_per_sweep: int = 16

    def __post_init__(self) -> None:
        super().__post_init__()
        at_least("sizes.beams_per_sweep", self.beams_per_sweep, 1)


@dataclass(frozen=True)
class BeamSweep:
    """Further cells beside the headline, of the first scenario at one speed.

    Attributes:
        speed_kmh: of all users [km/h].
        beams: numbers of beams that each sweep measures.
        csi_snr_db: SNRs of the measurements [dB].
        periods_ms: times between two sweeps [ms]; empty: none.
        arrays: label -> keys that replace those of the channel recipe.
    """

    speed_kmh: float = 60.0
    beams: Sequence[int] = (4, 8, 32, 64)
    csi_snr_db: Sequence[float] = (-10.0, -5.0, 5.0, 10.0)
    periods_ms: Sequence[float] = (10.0, 20.0, 80.0)
    arrays: Mapping[str, dict[str, Any]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for count in self.beams:
            at_least("sweep.beams", count, 1)
        for name in ("csi_snr_db", "periods_ms"):
            values = [float(value) for value in getattr(self, name)]
            finite(f"sweep.{name}", values)
            object.__setattr__(self, name, values)
        finite("sweep.speed_kmh", [self.speed_kmh])


@dataclass(frozen=True)
class BeamManagementConfig(Arguments):
    """Arguments of :class:`airlam.evaluation.BeamManagementBenchmark`.

    Attributes:
        model: the learned method: a shipped checkpoint's name or a folder.
        controls: further learned ones: names of their rows -> checkpoints.
        methods: among ``last-best`` (an average over each beam's measurements; its memory is tuned), ``extrapolation``
            (a line through each beam's log power; window and ridge tuned), ``trained-linear`` (ridge regression of
            every beam's log power on all measurements), ``softmax`` (multinomial logistic regression of the best beam
            on all measurements), ``{model}:start``, ``{model}``, and ``sweep`` (all beams measured at the very time).
            The two regressions are trained in every cell on other drops of the same scenario and speed, their ridge
            is tuned on a quarter of these drops.
        bar: what gains in tables are relative to: a method, or ``strongest`` (the classical method of the highest
            mean top-1 accuracy over the headline cells).
        cells: recipes with ``tracks: true``, and speeds; the SNR is that per antenna port and subcarrier, over the
            mean of the history.
        sizes: sweeps, beams and tracks.
        sweep: further cells of the first scenario.
        seed: of tracks, sweeps and noise.
        threads: CPU threads; latency is measured on one.
        quick: a small version, for tests.
        title: of the report.
    """

    model: str = "airlam-beams"
    controls: Mapping[str, str] = field(default_factory=dict)
    methods: Sequence[Any] = METHODS
    bar: str = STRONGEST
    cells: Cells = Cells(("umi_tracks_28ghz", "uma_tracks_28ghz"), (30.0, 60.0, 90.0), 0.0)
    sizes: BeamSizes = BeamSizes()
    sweep: BeamSweep = BeamSweep()
    seed: int = 7
    threads: int = 1
    quick: bool = False
    title: str = "Beam management at 28 GHz"

    def __post_init__(self) -> None:
        super().__post_init__()
        at_least("threads", self.threads, 1)
        if self.quick:
            cells, sweep = self.cells, self.sweep
            self._set(
                cells=replace(cells, scenarios=cells.scenarios[:1], speeds_kmh=cells.speeds_kmh[:1]),
                sizes=replace(self.sizes, num_links=16, num_tune=64, side_links=16),
                sweep=replace(sweep, beams=sweep.beams[:1], csi_snr_db=sweep.csi_snr_db[:1], periods_ms=(), arrays={}),
            )
        classical = names("beam-tracker", "classical", built=True)
        known = [*classical, self.label + START, self.label, "sweep"]
        for name in self.row_names:
            if name not in known and name not in self.controls:
                check_is_no_class(name, "methods")
                raise RecipeError(f"no method {name!r}; valid: {', '.join(known)}")
        if self.baseline == STRONGEST and not self.classics:
            raise RecipeError(f"bar is {STRONGEST}, but no classical method is run: add one of {', '.join(classical)}")
        if self.baseline != STRONGEST and self.baseline not in self.row_names:
            among = ", ".join(self.row_names)
            raise RecipeError(f"bar is {self.baseline!r}, which is not among the methods {among}; add it")

    @property
    def label(self) -> str:
        """The name of the learned method in tables."""
        return Path(str(self.model)).name

    @cached_property
    def row_names(self) -> list[str]:
        """Names of all methods; controls stand before the learned one."""
        out: list[str] = []
        for value in self.methods:
            own = is_own(value)
            name = own_method(value, "beam-tracker", "methods").name if own else str(value)
            name = name.replace("{model}", self.label)
            out += [*self.controls, name] if name == self.label else [name]
        return list(dict.fromkeys(out))

    @cached_property
    def classics(self) -> list[str]:
        """The classical ones of the methods."""
        classical = names("beam-tracker", "classical", built=True)
        return [name for name in self.row_names if name in classical]

    @property
    def baseline(self) -> str:
        """What gains in tables are relative to: a method's name, or ``strongest``."""
        return str(self.bar).replace("{model}", self.label)

    @property
    def focus(self) -> str:
        """The method that the headline is about."""
        return self.label if self.label in self.row_names else self.row_names[0]
