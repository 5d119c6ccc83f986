"""Tracks of a cell, and what classical methods are tuned and trained on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from airlam.baselines import TrainedLinear
from airlam.channels import LinkBatch
from airlam.evaluation.engine.cell import Cell
from airlam.methods import get


class Tracks:
    """Tracks of cells: to judge, and to tune and train on, in units of the mean power of each track's history.

    Tracks of the last channel are kept: neighbouring cells that differ in SNR or in the beams measured share them.
    """

    def __init__(self) -> None:
        self._key: Any = None
        self._kept: tuple[LinkBatch, LinkBatch] | None = None

    def of(self, cell: Cell) -> tuple[LinkBatch, LinkBatch]:
        """``(judged, training)``: ``num_links`` and ``num_tune`` tracks, of different drops."""
        key = (cell.recipe, cell.num_links, cell.num_tune, cell.history, cell.num_future, cell.seed)
        if self._kept is None or key != self._key:
            self._kept = None  # never twice in memory
            self._kept = cell.links("test", cell.num_links), cell.links("tune", cell.num_tune)
            for batch in self._kept:  # the future sets no level
                past = batch.h[:, : cell.history].abs().square().mean((1, 2, 3, 4), keepdim=True)
                batch.h = batch.h / past.clamp_min(1e-12).sqrt()
            self._key = key
        return self._kept


@dataclass
class Training:
    """What classical methods are tuned and trained on: ``measured [sweep, beam]``, the measured ``power [track, sweep,
    beam]``, the true ``future [track, horizon, beam]`` and the ``drop [track]``."""

    measured: Tensor
    power: Tensor
    future: Tensor
    drop: Tensor

    def lost(self, method: Any, tracks: slice | Tensor = slice(None)) -> float:
        """Mean rate that a method's first beam loses to the best beam on some of the tracks [bit/s/Hz]."""
        truth = self.future[tracks]
        scores = method.scores(self.power[tracks], self.measured, truth.shape[1])
        chosen = truth.gather(-1, scores.argmax(-1, keepdim=True))[..., 0]
        return float(((1 + truth.amax(-1)).log2() - (1 + chosen).log2()).mean())

    def fit(self, name: str) -> tuple[TrainedLinear, dict[str, Any]]:
        """A trained method: its ridge is the best on a quarter of the drops, its weights are of all tracks."""
        method = get(name, "beam-tracker")
        kind: Any = method.load()
        ridges = method.grid["ridge"]
        drops = self.drop.unique()
        held_out = torch.isin(self.drop, drops[-max(1, len(drops) // 4) :])
        fitted = ~held_out if len(drops) > 1 else held_out

        def loss(ridge: float) -> float:
            return self.lost(kind.fit(self.power[fitted], self.measured, self.future[fitted], ridge), held_out)

        ridge = min(ridges, key=loss)
        return kind.fit(self.power, self.measured, self.future, ridge), {"ridge": ridge}
