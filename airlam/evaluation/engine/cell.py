"""What one cell of a benchmark is, and what one method in it is."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from typing import Any

import torch
from torch import Tensor

from airlam.channels import LinkBatch, load_channel
from airlam.csi import Impairment, receive
from airlam.errors import RecipeError
from airlam.io import file_words, recipe_hash
from airlam.seeds import stream_seed

LATER_FIELDS = ("num_pilots", "convention")  # cells finished before these were fields keep their names


@dataclass(frozen=True)
class Cell:
    """What one cell is.

    Attributes:
        group: the table its rows stand in: "cell" (the headline and the sweep over CSI SNR), "age", "csi_period",
            "impairments".
        data: name of the channel recipe; ``recipe``: the resolved recipe with this cell's overrides.
        speed_kmh: speed of every user, ``None`` where it is not known; csi_snr_db: of the history.
        num_links, num_tune: links judged, and links (of other drops) that baselines are tuned on.
        history: slots seen; horizon: slots predicted; num_future: slots judged, at least ``horizon``: beyond it the
            last predicted slot is held.
        users: sizes of the groups served together; transmit_snr_db: SNRs of the sum-SE curve; headline_snr_db: the one
            that tables hold.
        impairment: keyword arguments of :class:`airlam.csi.Impairment`; label: its name in tables.
        headline: whether the cell counts in the means; path_loss: whether to add the rows with true path loss.
        timed: whether to measure latency and FLOPs here.
        num_pilots: uplink pilots of a user, where CSI comes from pilots.
        convention: a publication (:data:`airlam.metrics.CONVENTIONS`) whose scores stand beside airlam's; empty: none.
    """

    group: str
    data: str
    recipe: dict[str, Any]
    speed_kmh: float | None
    csi_snr_db: float
    num_links: int
    num_tune: int = 0
    history: int = 16
    horizon: int = 4
    num_future: int = 4
    methods: tuple[str, ...] = ()
    users: tuple[int, ...] = ()
    transmit_snr_db: tuple[float, ...] = ()
    headline_snr_db: float = 20.0
    tone_step: int = 1
    seed: int = 7
    impairment: dict[str, float] | None = None
    label: str = ""
    headline: bool = False
    path_loss: bool = False
    timed: bool = False
    num_pilots: int = 0
    convention: str = ""

    @property
    def name(self) -> str:
        """A file name that says what the cell is, and changes with everything that its figures depend on."""
        facts = {key: value for key, value in asdict(self).items() if key not in LATER_FIELDS or value}
        return f"{self.words}_{recipe_hash(facts)}"

    @property
    def at(self) -> str:
        """The speed in words."""
        return "any speed" if self.speed_kmh is None else f"{self.speed_kmh:g} km/h"

    @property
    def words(self) -> str:
        """The part of the name that can be read."""
        words = [self.group, self.data, self.at.replace(" km/h", "kmh"), f"{self.csi_snr_db:g}dB"]
        if self.group == "csi_period":
            words.append(f"{1e3 * self.recipe['slot_duration']:g}ms")
        words += ["-".join(self.label.split())] if self.label else []
        text = "_".join(words)
        return file_words(text)

    @property
    def where(self) -> str:
        """The cell as messages to a person have it."""
        label = f", {self.label}" if self.label else ""
        return f"{self.data} at {self.at}, CSI SNR {self.csi_snr_db:g} dB{label}"

    @property
    def progress(self) -> str:
        """The cell as the line of progress has it."""
        return f"{self.group} {self.data} {self.at} {self.label}"

    def links(self, purpose: str, num_links: int) -> LinkBatch:
        """Links for "test" or "tune". Cells that differ in CSI SNR or impairment alone see the same links."""
        needs_rays = purpose == "test" and any(method.startswith("genie") for method in self.methods)
        return load_channel(self.recipe).sample(
            num_links, self.history + self.num_future, seed=self.stream(purpose), return_rays=needs_rays
        )

    def stream(self, purpose: str) -> int:
        """A seed for ``purpose``, fixed by the benchmark's seed and the channel."""
        return stream_seed(self.seed, self.recipe, purpose)

    def observe(self, h: Tensor, purpose: str) -> tuple[Tensor, Tensor | None]:
        """The measured history of true CSI: impaired, noisy, with lost slots filled in; the draws are fixed by the
        seed. And which slots were measured (``None``: all)."""
        generator = torch.Generator().manual_seed(self.stream(purpose + " noise"))
        return receive(
            h[:, : self.history],
            self.csi_snr_db,
            Impairment(**self.impairment) if self.impairment else None,
            generator,
            slot_duration=self.recipe["slot_duration"],
            subcarrier_spacing=self.recipe["subcarrier_spacing"],
        )


@contextmanager
def named_in_errors(cell: Cell) -> Iterator[None]:
    """Errors that a user can mend also say in which cell they arose."""
    try:
        yield
    except RecipeError as error:
        raise RecipeError(f"{error} (cell: {cell.where})") from error


@dataclass
class Contender:
    """A method in one cell.

    Attributes:
        name: in tables.
        predict: ``(h_past [link, ...], num_future, links) -> h_future``; ``links`` are the indices of those links in
            the cell, for a genie that looks up their rays.
        settings: what tuning chose.
        parameters: (total, trained): of a comparator what its training left unfrozen, else what was trained for this
            cell.
        timed: whether its latency means anything (a genie's does not).
        batch: links per call; results do not depend on it.
    """

    name: str
    predict: Callable[[Tensor, int, Tensor], Tensor]
    settings: dict[str, Any] = field(default_factory=dict)
    parameters: tuple[int, int] = (0, 0)
    timed: bool = True
    batch: int = 32
