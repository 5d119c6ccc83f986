"""Arguments of the benchmark of coded links."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, ClassVar

from airlam.errors import RecipeError
from airlam.evaluation.benchmarks.beamforming.chains import Chain, chain_text, chain_texts, fill_in, parse_chain
from airlam.evaluation.engine.config import Arguments, Cells, Links, at_least, not_empty
from airlam.evaluation.engine.contenders import OFF, row_of
from airlam.methods import Method, is_own
from airlam.methods import names as registered

METHODS = ("ar + rzf", "ar + tuned", "{model} + rzf", "{model} + {precoder}", "perfect + rzf")


@dataclass(frozen=True)
class LinkSizes(Links):
    """Slots and links of a speed.

    Attributes:
        num_choose: links of other drops, on which the MCS is chosen and block error rates are measured.
    """

    WHOLE: ClassVar[tuple[str, ...]] = (*Links.WHOLE, "num_choose")

    num_tune: int = 96
    num_choose: int = 48


@dataclass(frozen=True)
class Transmission:
    """What is sent: one transport block in each slot to each user of a group.

    Attributes:
        users: of a group; all are of one drop.
        transmit_snr_db: of the curves [dB].
        mcs: indices of the MCS table that are tried.
        mcs_table: see :class:`airlam.link.CodedLink`.
        tone_step: every n-th subcarrier carries data.
        num_symbols: OFDM symbols of a slot that carry data.
    """

    users: int = 4
    transmit_snr_db: Sequence[float] = (5.0, 10.0, 15.0, 20.0, 25.0)
    mcs: Sequence[int] = (9, 13, 16, 19, 21, 23, 25, 27)
    mcs_table: int = 2
    tone_step: int = 2
    num_symbols: int = 12

    def __post_init__(self) -> None:
        at_least("link.users", self.users, 1)
        at_least("link.tone_step", self.tone_step, 1)
        not_empty("link.transmit_snr_db", self.transmit_snr_db)
        not_empty("link.mcs", self.mcs)
        object.__setattr__(self, "transmit_snr_db", tuple(sorted(float(snr) for snr in self.transmit_snr_db)))
        object.__setattr__(self, "mcs", tuple(int(index) for index in self.mcs))


@dataclass(frozen=True)
class LinkLevelConfig(Arguments):
    """Arguments of :class:`airlam.evaluation.LinkLevelBenchmark`.

    Attributes:
        model: the learned predictor: a shipped checkpoint's name, a folder, or your own class.
        precoder: the learned precoder, likewise.
        methods: chains of CSI and precoder, as in :class:`airlam.evaluation.BeamformingBenchmark`.
        bar: the chain that gains are relative to.
        cells: one scenario, at one or more speeds.
        sizes: slots, links and drops.
        link: what is sent.
        seed: of links, bits and noise.
        threads: CPU threads.
        quick: a small version, for tests.
        title: of the report.
    """

    model: Any = "airlam-tiny"
    precoder: Any = "airlam-precoder"
    methods: Sequence[Any] = METHODS
    bar: Any = "ar + tuned"
    cells: Cells = Cells(scenarios=("uma_nlos",), speeds_kmh=(30.0, 100.0))
    sizes: LinkSizes = LinkSizes()
    link: Transmission = Transmission()
    seed: int = 7
    threads: int = 1
    quick: bool = False
    title: str = "Precoding over a coded link"

    def __post_init__(self) -> None:
        super().__post_init__()
        at_least("threads", self.threads, 1)
        if self.quick:
            link, cells = self.link, self.cells
            self._set(
                cells=replace(cells, speeds_kmh=cells.speeds_kmh[:1]),
                link=replace(link, transmit_snr_db=link.transmit_snr_db[:2], mcs=link.mcs[:2]),
                sizes=replace(self.sizes, num_links=8, num_choose=8, num_tune=16),
            )
        if len(self.cells.scenarios) != 1:
            raise RecipeError(f"cells.scenarios is {self.cells.scenarios}, but a coded link takes one scenario")
        if self.sizes.links_per_drop % self.link.users:
            raise RecipeError(
                f"sizes.links_per_drop is {self.sizes.links_per_drop}, but must be a positive multiple of link.users "
                f"({self.link.users})"
            )
        if self.baseline not in [chain.name for chain in self.chains]:
            raise RecipeError(f"bar is {self.baseline!r}, which is not among the methods; add it")
        for chain in self.chains:
            tunable = chain.source in registered("predictor", built=True)
            if chain.precoder == "dpc" or (chain.precoder == "tuned" and not tunable):
                raise RecipeError(f"'{chain.name}' cannot be sent over a link here: take a precoder by name")

    @property
    def scenario(self) -> str:
        return self.cells.scenarios[0]

    @cached_property
    def predictor_row(self) -> tuple[str, str | Method]:
        """The name of the learned predictor in tables, and the checkpoint or method behind it."""
        return row_of(self.model, "model")

    @cached_property
    def precoder_row(self) -> tuple[str, str | Method]:
        """The same of the learned precoder."""
        return row_of(self.precoder, "precoder", role="precoder")

    @cached_property
    def focus(self) -> str:
        """The learned chain, which the headline is about."""
        return f"{self.predictor_row[0]} + {self.precoder_row[0]}"

    @cached_property
    def chains(self) -> list[Chain]:
        """The methods, each once."""
        label, precoder = self.predictor_row[0], self.precoder_row[0]
        by_name = not is_own(self.precoder) and str(self.precoder) in registered("precoder", built=True)
        texts = [self._filled(text) for text in chain_texts(self.methods)]  # registers predictors of one's own
        sources = [*registered("predictor", built=True), "perfect", label, label + OFF]
        return list(dict.fromkeys(parse_chain(text, sources, [] if by_name else [precoder]) for text in texts))

    @cached_property
    def baseline(self) -> str:
        """The name of the chain that gains are relative to."""
        return self._filled(chain_text(self.bar, "bar"))

    def _filled(self, text: str) -> str:
        return fill_in(text, {"{model}": self.predictor_row[0], "{precoder}": self.precoder_row[0]})
