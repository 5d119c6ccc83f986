"""Arguments of the benchmark of beamforming."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import Any, ClassVar

from airlam.errors import RecipeError
from airlam.evaluation.benchmarks.beamforming.chains import (
    DENOISED,
    Chain,
    chain_text,
    chain_texts,
    fill_in,
    parse_chain,
)
from airlam.evaluation.engine.config import Arguments, Cells, Rates, Sizes, at_least, not_empty
from airlam.evaluation.engine.contenders import OFF, row_of
from airlam.methods import Method, is_own
from airlam.methods import names as registered

METHODS = (
    "hold + rzf",
    "ar + rzf",
    "ar + wmmse",
    "ar + tuned",
    "eigen-ar + tuned",
    "{model} + rzf",
    "{model} + robust rzf",
    "{model} + robust wmmse",
    "{model} + {precoder}",
    "perfect + rzf",
    "perfect + wmmse",
    "perfect + tuned",
    "perfect + dpc",
)
PILOT_METHODS = (
    "ls + rzf",
    "lmmse + rzf",
    "lmmse + tuned",
    "{pilots}:no-correction + {precoder}",
    "{pilots} + rzf",
    "{pilots} + {precoder}",
    "perfect + rzf",
)
STATIC_METHODS = (
    "raw + tuned",
    "threshold + tuned",
    "lmmse + tuned",
    "{model} + rzf",
    "{model} + wmmse",
    "{model} + robust wmmse",
    "{model} + {precoder}",
    "{pilots} + {precoder}",
    "perfect + rzf",
    "perfect + wmmse",
    "perfect + tuned",
)
CONTROL = ":random-start"  # after the name of what a control is of


@dataclass(frozen=True)
class BeamformingSizes(Sizes):
    """Slots and links of a cell.

    Attributes:
        num_train: links, of other drops, of cells with static users or pilots: half of them give LMMSE the covariance
            of the cell, the other half tunes.
    """

    WHOLE: ClassVar[tuple[str, ...]] = (*Sizes.WHOLE, "num_train")

    num_links: int = 128
    num_tune: int = 96
    num_train: int = 512

    def __post_init__(self) -> None:
        super().__post_init__()
        at_least("sizes.history", self.history, 2)


@dataclass(frozen=True)
class BeamformingSweep:
    """Further cells beside the headline, with fewer links; of the first scenario where nothing else is said.

    Attributes:
        csi_snr_db: SNRs of the measured history [dB], at the first of ``speeds_kmh``.
        speeds_kmh: further speeds [km/h].
        users: sizes of the groups of the curve over users; drops then hold the largest.
        csi_periods_ms: times between two measurements [ms].
        period_speed_kmh: speed at which the CSI period varies [km/h].
        age_speed_kmh: speed of the curve of sum-SE charged with latency [km/h]; ``None``: none.
        arrays: label -> keys that replace those of the channel recipe, in every scenario.
    """

    csi_snr_db: Sequence[float] = (0.0, 10.0, 30.0)
    speeds_kmh: Sequence[float] = (60.0, 3.0, 120.0)
    users: Sequence[int] = (2, 4, 8, 12, 16)
    csi_periods_ms: Sequence[float] = (0.5, 1.0, 2.0, 5.0, 10.0, 20.0)
    period_speed_kmh: float = 10.0
    age_speed_kmh: float | None = 60.0
    arrays: Mapping[str, dict[str, Any]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for users in self.users:
            at_least("sweep.users", users, 1)
        object.__setattr__(self, "users", tuple(sorted(self.users)))
        if (self.users or self.csi_periods_ms) and not self.speeds_kmh:
            raise RecipeError("sweep.speeds_kmh is empty, but the sweep over users takes its first speed")


@dataclass(frozen=True)
class StaticUsers:
    """Users that stand still, one noisy slot of CSI each.

    Attributes:
        csi_snr_db: SNRs of that slot [dB]; empty: no such cells.
        methods: chains of CSI and precoder; those with ``{pilots}`` run where a network reads pilots.
    """

    csi_snr_db: Sequence[float] = (0.0, 10.0)
    methods: Sequence[Any] = STATIC_METHODS


@dataclass(frozen=True)
class PilotUsers:
    """Users that stand still and send few uplink pilots.

    Attributes:
        model: the network that reads pilots, a shipped checkpoint's name or a folder; ``None``: no such cells.
        control: another one, trained likewise from random weights: it follows ``{pilots} + {precoder}`` as a row.
        counts: pilots of each user; at most the number of antenna ports.
        csi_snr_db: SNRs of the pilots [dB].
        methods: chains of CSI and precoder; ``{pilots}`` stands for the network.
    """

    model: str | None = None
    control: str | None = None
    counts: Sequence[int] = (4, 8, 16, 32)
    csi_snr_db: Sequence[float] = (10.0, 20.0)
    methods: Sequence[str] = PILOT_METHODS

    @property
    def label(self) -> str:
        """The name of the network in tables."""
        return Path(self.model or "none").name


@dataclass(frozen=True)
class BeamformingConfig(Arguments):
    """Arguments of :class:`airlam.evaluation.BeamformingBenchmark`.

    Attributes:
        model: the learned predictor: a shipped checkpoint's name, a checkpoint folder, a Lightning ``.ckpt``; or one of
            your own: ``{class_path: my_gru.MyGRU, init_args: {...}}``, ``my_gru:MyGRU``, in Python also an object.
        precoder: the learned precoder, likewise; one of your own is handed the covariance of the CSI's errors where it
            is known: not before perfect CSI.
        controls: further learned precoders: names of their rows -> checkpoints. Each follows ``{precoder}`` as a row.
        methods: chains of CSI and precoder, like ``ar + rzf``; ``{model}`` and ``{precoder}`` stand for the learned
            ones. Tables show classical chains first, then learned ones, then bounds, whatever the order here.
        bar: the chain that gains are relative to.
        cells: the headline: every scenario at every speed.
        sizes: slots and links.
        rates: groups of users, transmit SNRs, tones.
        sweep: cells beside the headline.
        static: cells of users that stand still.
        pilots: cells of users that send pilots.
        seed: of links and noise.
        threads: CPU threads; latency is measured on one.
        quick: a small version, for tests.
        title: of the report.
    """

    model: Any = "airlam-tiny"
    precoder: Any = "airlam-precoder"
    controls: Mapping[str, Any] = field(default_factory=dict)
    methods: Sequence[Any] = METHODS
    bar: Any = "ar + tuned"
    cells: Cells = Cells(speeds_kmh=(30.0, 60.0, 100.0))
    sizes: BeamformingSizes = BeamformingSizes()
    rates: Rates = Rates(tone_step=8)
    sweep: BeamformingSweep = BeamformingSweep()
    static: StaticUsers = StaticUsers()
    pilots: PilotUsers = PilotUsers()
    seed: int = 7
    threads: int = 1
    quick: bool = False
    title: str = "Beamforming from noisy, ageing CSI"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.quick:
            self._set(**_small(self))
        at_least("threads", self.threads, 1)
        not_empty("rates.users", self.rates.users)
        self.rates.fit(self.sizes.links_per_drop)
        if self.pilots.model and self.pilots.label == self.label:
            raise RecipeError(
                f"pilots.model is {self.pilots.model!r}, the model; name a network that reads pilots: airlam-pilots"
            )
        _ = self.static_chains, self.pilot_chains  # refuses chains that cannot run
        names = [chain.name for chain in self.chains]
        if self.baseline not in names:
            raise RecipeError(
                f"the bar is {self.baseline!r}, which is not among the methods {', '.join(names)}; add it"
            )
        if self.focus not in names:
            raise RecipeError(
                f"the learned chain '{{model}} + {{precoder}}' is {self.focus!r}, which is not among the methods "
                f"{', '.join(names)}; add it"
            )

    @cached_property
    def predictor_row(self) -> tuple[str, str | Method]:
        """The name of the learned predictor in tables, and the checkpoint or method behind it."""
        name, what = row_of(self.model, "model")
        return name.removesuffix(".ckpt"), what

    @property
    def label(self) -> str:
        return self.predictor_row[0]

    @cached_property
    def precoder_row(self) -> tuple[str, str | Method]:
        """The name of the learned precoder in tables, and the checkpoint or method behind it."""
        name, what = row_of(self.precoder, "precoder", role="precoder")
        return Path(name).stem, what

    @property
    def by_name(self) -> bool:
        """Whether ``precoder`` is a shipped one by name: it stands in chains as itself, ``{precoder}`` is left out."""
        return not is_own(self.precoder) and str(self.precoder) in registered("precoder", built=True)

    @cached_property
    def precoder_rows(self) -> dict[str, str | Method]:
        """Every learned precoder by the name of its rows, the controls last."""
        rows = {} if self.by_name else dict([self.precoder_row])
        controls = (row_of(value, f"controls.{name}", str(name), "precoder") for name, value in self.controls.items())
        return rows | dict(controls)

    @property
    def network_rows(self) -> dict[str, str]:
        """Every network that reads pilots: the name of its rows -> checkpoint."""
        named = {self.pilots.label: self.pilots.model, self.pilots.label + CONTROL: self.pilots.control}
        return {name: path for name, path in named.items() if path} if self.pilots.model else {}

    @cached_property
    def chains(self) -> list[Chain]:
        """The chains of users that move."""
        return self._chains(chain_texts(self.methods), self._sources)

    @cached_property
    def static_chains(self) -> list[Chain]:
        """The chains of users that stand still."""
        texts = chain_texts(self.static.methods)
        texts = [text for text in texts if self.pilots.model or "{pilots}" not in text]
        return self._chains(texts, [*DENOISED, "perfect", self.label, self.pilots.label, *self.network_rows])

    @cached_property
    def pilot_chains(self) -> list[Chain]:
        """The chains of users that send pilots; none without a network that reads them."""
        read = [*self.network_rows, self.pilots.label + OFF]
        return self._chains(self.pilots.methods, ["ls", "lmmse", "perfect", *read]) if self.pilots.model else []

    def chains_of(self, group: str) -> list[Chain]:
        """The chains that run in the cells of one group."""
        return {"static": self.static_chains, "pilots": self.pilot_chains}.get(group, self.chains)

    @cached_property
    def baseline(self) -> str:
        """The name of the chain that gains are relative to."""
        return self._chain(chain_text(self.bar, "bar"), self._sources).name

    @property
    def focus(self) -> str:
        """The learned chain, which the headline is about; with a shipped precoder the first one of the model."""
        names = [chain.name for chain in self.chains]
        focus = f"{self.label} + {self.precoder_row[0]}"
        if focus in names or not self.by_name:
            return focus
        return next((name for name in names if name.startswith(f"{self.label} + ")), self.baseline)

    @property
    def _sources(self) -> list[str]:
        """Names of all sources of CSI for users that move."""
        return [*registered("predictor", built=True), "perfect", self.label, self.label + OFF]

    def _named(self, text: str) -> str:
        names = {"{model}": self.label, "{precoder}": self.precoder_row[0], "{pilots}": self.pilots.label}
        return fill_in(text, names)

    def _chain(self, text: str, sources: Sequence[str]) -> Chain:
        return parse_chain(self._named(text), sources, [*self.precoder_rows], exact=("perfect", self.label + OFF))

    def _chains(self, texts: Sequence[str], sources: Sequence[str]) -> list[Chain]:
        """Chains of these names, with the controls of what is learned in them; an error for one that cannot run."""
        chains: list[Chain] = []
        for text in texts:
            if "{precoder}" in text and self.by_name:
                continue
            chain = self._chain(text, sources)
            chains.append(chain)
            if "{precoder}" in text:
                chains += [replace(chain, precoder=name) for name in self.controls]
            if text == "{pilots} + {precoder}" and self.pilots.label + CONTROL in self.network_rows:
                chains.append(replace(chain, source=self.pilots.label + CONTROL))
        tunable = (*registered("predictor", built=True), *DENOISED, "ls", "perfect")
        for chain in chains:
            if chain.precoder == "tuned" and chain.source not in tunable:
                raise RecipeError(f"'{chain.name}': only chains with classical or perfect CSI are tuned")
        return list(dict.fromkeys(chains))


def _small(config: BeamformingConfig) -> dict[str, Any]:
    """The sections of a quick run."""
    cells, sweep, static, pilots = config.cells, config.sweep, config.static, config.pilots
    return {
        "cells": replace(cells, scenarios=cells.scenarios[:1], speeds_kmh=cells.speeds_kmh[:2]),
        "sizes": replace(config.sizes, num_links=16, num_tune=32, num_train=128, side_links=16),
        "sweep": replace(
            sweep,
            csi_snr_db=sweep.csi_snr_db[:1],
            speeds_kmh=sweep.speeds_kmh[:1],
            users=sweep.users[:2],
            csi_periods_ms=(),
            age_speed_kmh=None,
            arrays=dict(islice(sweep.arrays.items(), 1)),
        ),
        "static": replace(static, csi_snr_db=[10.0] if static.csi_snr_db else []),
        "pilots": replace(pilots, counts=pilots.counts[-1:], csi_snr_db=pilots.csi_snr_db[:1]),
    }
