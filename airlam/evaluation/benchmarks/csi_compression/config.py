"""Arguments of the benchmark of CSI compression."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from airlam.errors import RecipeError
from airlam.evaluation.engine.config import Arguments, Cells, Links, at_least, finite
from airlam.methods import is_own, names, own_method
from airlam.recipes import check_is_no_class

METHODS = ("type1-report", *(f"type2-{number}" for number in range(1, 9)))
UNQUANTISED, PERFECT = "unquantised", "perfect"  # bounds: the measured vectors themselves, and the true channel
GAUSSIAN = "gaussian-"  # before a number: the optimal Gaussian code of as many bits


@dataclass(frozen=True)
class CompressionSizes(Links):
    """Links of a cell; a report is made at ``history`` = 1 slot, and used ``horizon`` slots later at most.

    Attributes:
        num_links: links that are judged. num_tune: links of other drops, for what decoding may know of a cell: its
            covariance, how good a codec's reports are.
        subband: subcarriers that share a vector.
        users: of a group that is served together.
        age_slots: slots that old reports are behind, in cells beside the headline.
    """

    history: int = 1
    horizon: int = 16
    num_links: int = 256
    num_tune: int = 1024
    subband: int = 4
    users: int = 4
    age_slots: int = 16

    def __post_init__(self) -> None:
        super().__post_init__()
        at_least("sizes.subband", self.subband, 1)
        at_least("sizes.users", self.users, 1)
        at_least("sizes.age_slots", self.age_slots, 1)
        if self.age_slots > self.horizon:
            raise RecipeError(f"sizes.age_slots is {self.age_slots}, but sizes.horizon is {self.horizon}; raise that")
        if self.links_per_drop % self.users:
            raise RecipeError(
                f"sizes.users is {self.users}, but must divide sizes.links_per_drop ({self.links_per_drop})"
            )


@dataclass(frozen=True)
class CompressionConfig(Arguments):
    """Arguments of :class:`airlam.evaluation.CompressionBenchmark`.

    Attributes:
        methods: codecs: names, or classes of your own (:class:`airlam.interfaces.Codec`). Those that an array does not
            allow are left out of its cells.
        gaussian_bits: payloads for which the optimal Gaussian code is computed.
        cells: recipes of dual-polarised panels, speeds (which count only where reports are old), SNR of the CSI that
            the user measures.
        sizes: links, subbands, users.
        csi_snr_db: SNRs of cells beside the headline, of each scenario.
        transmit_snr_db: for the sum-rate [dB].
        seed: of links and noise.
        threads: CPU threads; latency is measured on one.
        quick: a small version, for tests.
        title: of the report.
    """

    methods: Sequence[Any] = METHODS
    gaussian_bits: Sequence[int] = (32, 64, 128, 256, 512)
    cells: Cells = Cells(("uma_nlos", "umi_nlos", "inf_nlos", "uma_los"), (30.0,), 20.0)
    sizes: CompressionSizes = CompressionSizes()
    csi_snr_db: Sequence[float] = (0.0, 10.0)
    transmit_snr_db: float = 20.0
    seed: int = 7
    threads: int = 1
    quick: bool = False
    title: str = "CSI compression"

    def __post_init__(self) -> None:
        super().__post_init__()
        at_least("threads", self.threads, 1)
        finite("csi_snr_db", [*self.csi_snr_db, self.transmit_snr_db])
        for bits in self.gaussian_bits:
            at_least("gaussian_bits", bits, 1)
        if self.quick:
            self._set(
                cells=replace(self.cells, scenarios=self.cells.scenarios[:1], speeds_kmh=self.cells.speeds_kmh[:1]),
                sizes=replace(self.sizes, num_links=16, num_tune=64),
                csi_snr_db=list(self.csi_snr_db)[:1],
                gaussian_bits=list(self.gaussian_bits)[:2],
            )
        rows, known = self.row_names, names("codec", built=True)  # those of one's own are known from now on
        for name in rows:
            if name not in known:
                check_is_no_class(name, "methods")
                raise RecipeError(f"no codec {name!r}; valid: {', '.join(known)}")

    @cached_property
    def row_names(self) -> list[str]:
        """Names of all codecs."""
        return [own_method(m, "codec", "methods").name if is_own(m) else str(m) for m in self.methods]
