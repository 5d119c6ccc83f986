"""Arguments of the benchmark of predictions that arrive in time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from airlam.errors import RecipeError
from airlam.evaluation.engine.config import Arguments, Cells, Links, Rates, at_least, not_empty
from airlam.evaluation.engine.contenders import MODEL, row_of
from airlam.evaluation.latency.reference import REFERENCE

STREAM = ":stream"
LATEST_S = 10e-3  # a prediction that takes longer is too late
CHAINS = (
    "ar-reference + rzf",
    "ar + rzf",
    "eigen-ar + rzf",
    "eigen-ar + robust rzf",
    "airlam-tiny + robust rzf",
    "paths + robust rzf",
    f"{MODEL} + rzf",
    f"{MODEL} + robust rzf",
    f"{MODEL} + robust wmmse",
    f"{MODEL} + airlam-precoder",
    "perfect + rzf",
    "perfect + wmmse",
)
PREDICTORS = ("ar", "eigen-ar", "paths", "airlam-tiny", MODEL)


@dataclass(frozen=True)
class Streaming:
    """How streams are run.

    Attributes:
        names: predictors that also run slot by slot; ``{model}`` stands for the model.
        refresh_slots: slots between two refreshes of a stream, by predictor; those that are not named: 32. Filters are
            judged when they are twice as old: older they never become if a refresh takes that many slots.
        options: of a predictor's engine, by predictor.
    """

    names: Sequence[str] = PREDICTORS
    refresh_slots: dict[str, int] = field(default_factory=lambda: {"paths": 320, MODEL: 320})
    options: dict[str, dict[str, Any]] = field(
        default_factory=lambda: {"eigen-ar": {"basis_every": 1}, "airlam-tiny": {"basis_every": 4}}
    )

    def __post_init__(self) -> None:
        not_empty("streaming.names", self.names)
        for name, slots in self.refresh_slots.items():
            at_least(f"streaming.refresh_slots.{name}", slots, 1)


@dataclass(frozen=True)
class Timed:
    """How latency is measured: all methods in turn, on one core.

    Attributes:
        rounds: turns of each method. seconds: how long a turn lasts, about.
    """

    rounds: int = 20
    seconds: float = 0.1

    def __post_init__(self) -> None:
        at_least("timed.rounds", self.rounds, 1)
        if not 0 <= self.seconds <= 60:
            raise RecipeError(f"timed.seconds is {self.seconds!r}, but must be from 0 to 60")


@dataclass(frozen=True)
class Chains:
    """Whole chains: streams of a group of users and their precoder.

    Attributes:
        names: of chains, ``"paths + robust rzf"``: a predictor that runs slot by slot, ``ar-reference`` or ``perfect``,
            and ``rzf``, ``robust rzf``, ``robust wmmse`` or a learned precoder.
        users: sizes of the groups; empty: no chains.
        num_links: that are judged.
        horizon: slots that a stream predicts.
        trust: see :class:`airlam.realtime.Group`. rounds: of WMMSE after each slot, begun where the last one ended.
    """

    names: Sequence[str] = CHAINS
    users: Sequence[int] = ()
    num_links: int = 64
    horizon: int = 8
    trust: float = 0.25
    rounds: int = 1

    def __post_init__(self) -> None:
        for name, value in (("num_links", self.num_links), ("horizon", self.horizon), ("rounds", self.rounds)):
            at_least(f"chains.{name}", value, 1)
        for users in self.users:
            at_least("chains.users", users, 1)
        if not 0 <= self.trust <= 100:
            raise RecipeError(f"chains.trust is {self.trust!r}, but must be from 0 to 100")
        not_empty("chains.names", self.names)


@dataclass(frozen=True)
class RealtimeArguments(Arguments):
    """Arguments of :class:`airlam.evaluation.RealtimeBenchmark`.

    Attributes:
        model: the learned predictor: a shipped checkpoint's name, or a folder.
        full: predictors that are run anew on every history.
        streaming: which run slot by slot, and how.
        bar: the row that gains are relative to.
        horizon: slots that a full prediction covers; after them its last one is held.
        csi_period: slots that one prediction serves, until the next is ready.
        cells: scenarios and speeds.
        sizes: slots, links and drops; its horizon is that of streams, and what classical methods are tuned for.
        rates: groups and SNR of spectral efficiency; the first size of groups counts.
        timed: how latency is measured.
        chains: of streams and precoder.
        seed: of links and noise.
        threads: CPU threads.
        quick: a small version, for tests.
        title: of the report.
    """

    model: Any = "airlam-paths"
    full: Sequence[str] = PREDICTORS
    streaming: Streaming = field(default_factory=Streaming)
    bar: str = "ar-reference"
    horizon: int = 16
    csi_period: int = 4
    cells: Cells = field(default_factory=lambda: Cells(scenarios=("uma_nlos",), speeds_kmh=(30.0, 60.0, 100.0)))
    sizes: Links = field(default_factory=lambda: Links(num_links=128))
    rates: Rates = field(default_factory=lambda: Rates(users=(4,), transmit_snr_db=(20.0,)))
    timed: Timed = field(default_factory=Timed)
    chains: Chains = field(default_factory=Chains)
    seed: int = 7
    threads: int = 1
    quick: bool = False
    title: str = "Predictions that arrive in time"

    def __post_init__(self) -> None:
        super().__post_init__()
        at_least("horizon", self.horizon, self.sizes.horizon)
        at_least("csi_period", self.csi_period, 1)
        at_least("threads", self.threads, 1)
        if not self.rates.users:
            raise RecipeError("rates.users is empty, but must hold the number of users that are served together")
        self.rates.fit(self.sizes.links_per_drop)
        label, _ = row_of(self.model, "model")
        self._fit_chains(label)
        self._set(
            full=[name.replace(MODEL, label) for name in self.full],
            streaming=replace(
                self.streaming,
                names=[name.replace(MODEL, label) for name in self.streaming.names],
                refresh_slots={k.replace(MODEL, label): v for k, v in self.streaming.refresh_slots.items()},
            ),
        )
        if self.quick:
            self._set(
                cells=replace(self.cells, speeds_kmh=self.cells.speeds_kmh[:1]),
                sizes=replace(self.sizes, num_links=8, num_tune=8),
                chains=replace(self.chains, num_links=8),
                timed=Timed(rounds=1, seconds=0.01),
                streaming=replace(self.streaming, refresh_slots=dict.fromkeys(self.streaming.refresh_slots, 16)),
            )

    def _fit_chains(self, label: str) -> None:
        """Raises RecipeError for chains that cannot be made."""
        names = [name.replace(MODEL, label) for name in self.chains.names]
        known = [*(name.replace(MODEL, label) for name in self.streaming.names), REFERENCE, "perfect"]
        for name in names if self.chains.users else ():
            source, plus, _ = name.partition(" + ")
            if not plus or source not in known:
                raise RecipeError(
                    f"chains.names holds {name!r}, but must hold a predictor and a precoder like 'ar + rzf', the "
                    f"predictor one of {', '.join(known)}"
                )
        if max(self.chains.users, default=1) > self.sizes.links_per_drop:
            raise RecipeError(
                f"chains.users is {list(self.chains.users)}, but a drop has {self.sizes.links_per_drop} links; raise "
                "sizes.links_per_drop"
            )
        self._set(chains=replace(self.chains, names=list(dict.fromkeys(names))))

    @property
    def label(self) -> str:
        """The name of the learned predictor's row."""
        return row_of(self.model, "model")[0]

    def refresh_of(self, name: str) -> int:
        """Slots between two refreshes of a stream."""
        return self.streaming.refresh_slots.get(name, 32)
