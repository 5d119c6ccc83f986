"""Reconstruction: adapt a pretrained backbone to estimate tones, antennas or slots that were not measured."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from airlam.csi import series_along
from airlam.metrics import nmse
from airlam.models import AirlamEstimator
from airlam.models.predictor import _base
from airlam.tasks.channel_prediction import ChannelPrediction
from airlam.tasks.objectives import estimation_error
from airlam.tasks.pretraining import AXES


def sampling_pattern(name: str, length: int, generator: torch.Generator | None = None) -> tuple[Tensor, Tensor]:
    """Which samples of an axis are measured, and which are wanted: two ``bool [length]``.

    Args:
        name: ``"comb:4"``: every fourth is measured, all are wanted. ``"first:0.5"``: the first half is measured, the
            other is wanted; ``"first:0.5:0.1"``: the same with a gap of a tenth of the axis between them, which is
            neither.
        length: samples of the axis.
        generator: draws where the comb begins; None: at the first sample.

    Example:
        >>> observed, wanted = sampling_pattern("first:0.5:0.25", 8)
        >>> observed.int().tolist(), wanted.int().tolist()
        ([1, 1, 1, 1, 0, 0, 0, 0], [0, 0, 0, 0, 0, 0, 1, 1])
    """
    kind, *numbers = str(name).split(":")
    try:
        values = [float(number) for number in numbers]
    except ValueError:
        values = []
    sample = torch.arange(length)
    if kind == "comb" and len(values) == 1 and values[0].is_integer() and 1 <= values[0] <= length:
        step = int(values[0])
        offset = 0 if generator is None else int(torch.randint(step, (), generator=generator))
        return sample % step == offset, torch.ones(length, dtype=torch.bool)
    if kind == "first" and len(values) in (1, 2):
        measured, gap = round(values[0] * length), round((values[1] if len(values) == 2 else 0.0) * length)
        if measured >= 1 and gap >= 0 and measured + gap < length:
            return sample < measured, sample >= measured + gap
    raise ValueError(
        f"no pattern {name!r} on {length} samples; 'comb:4' measures every fourth, 'first:0.5' the first half, "
        "'first:0.5:0.1' the first half with a gap of a tenth behind it"
    )


class Reconstruction(ChannelPrediction):
    """Fine-tune on estimation: all weights, or low-rank adapters.

    The loss is the logarithm of the batch's mean NMSE, not the mean of the logarithms as in pretraining: where the
    pilots allow two solutions, a mean of logarithms rewards the choice of one of them, a linear mean their average.

    The input is the last ``slots`` measured slots of a batch; every batch draws one of the patterns.

    Args:
        checkpoint, model, lora_rank, learning_rate, warmup_steps, weight_decay: as in :class:`ChannelPrediction`.
        axis: which axis is measured in part: ``"slot"``, ``"subcarrier"``, or ``"column"`` of the panel.
        patterns: names of :func:`sampling_pattern`; combs begin anywhere in training, at the first sample otherwise.
        slots: slots that are estimated together.

    Logs ``val_nmse_db`` (linear mean over links and patterns); ``test_...`` likewise.
    """

    def __init__(
        self,
        checkpoint: str | None = None,
        model: dict[str, Any] | None = None,
        lora_rank: int | None = None,
        learning_rate: float = 5e-4,
        warmup_steps: int = 20,
        weight_decay: float = 0.0,
        axis: str = "subcarrier",
        patterns: Sequence[str] = ("comb:2", "comb:4", "comb:8"),
        slots: int = 4,
    ):
        if axis not in AXES:
            raise ValueError(f"axis must be one of {', '.join(AXES)}, got {axis!r}")
        if not patterns:
            raise ValueError("patterns is empty; for example ['comb:2', 'comb:4']")
        for pattern in patterns:
            sampling_pattern(pattern, 1000)  # refuses a name that means nothing
        if slots < 1:
            raise ValueError(f"slots must be at least 1, got {slots}")
        super().__init__(
            checkpoint,
            model,
            lora_rank=lora_rank,
            learning_rate=learning_rate,
            warmup_steps=warmup_steps,
            weight_decay=weight_decay,
        )
        self.axis, self.patterns, self.slots = axis, list(patterns), slots

    def _known(self, batch: dict[str, Any]) -> tuple[Tensor, Tensor]:
        return batch["h_past"][:, -self.slots :], batch["h_past_true"][:, -self.slots :]

    def _error(self, batch: dict[str, Any], pattern: str, generator: torch.Generator | None = None) -> Tensor:
        shape = batch["port_shape"]
        (measured, fold), (truth, _) = (series_along(h, self.axis, shape) for h in self._known(batch))
        observed, wanted = (x.to(measured.device) for x in sampling_pattern(pattern, measured.shape[1], generator))
        # adapters live inside the base model
        model = _base(self.model)
        return estimation_error(model, measured, truth, observed, wanted, fold, causal=self.axis == "subcarrier")

    def training_step(self, batch: dict[str, Any], batch_idx: int) -> Tensor:
        """Log of the mean NMSE under one pattern."""
        generator = torch.Generator().manual_seed(self.global_step)
        drawn = self.patterns[int(torch.randint(len(self.patterns), (), generator=generator))]
        error = self._error(batch, drawn, generator)
        self.log("train_nmse_db", 10 * torch.log10(error.detach()).mean(), prog_bar=True)
        return torch.log(error.mean())

    def _evaluate(self, batch: dict[str, Any]) -> None:
        for pattern in self.patterns:
            self._sums.setdefault("nmse", []).append(self._error(batch, pattern))

    def _log_epoch(self, stage: str) -> None:
        if self._sums:
            error = torch.cat(self._sums.pop("nmse"))
            self.log(f"{stage}_nmse_db", 10 * torch.log10(error.mean()), prog_bar=True)

    def predict_step(self, batch: dict[str, Any], batch_idx: int) -> dict[str, Tensor]:
        """Estimated CSI ``h``, measured with the first pattern; the links' ``index``; each link's ``nmse``."""
        measured, truth = self._known(batch)
        shape = batch["port_shape"]
        length = series_along(measured, self.axis, shape)[0].shape[1]
        observed, wanted = sampling_pattern(self.patterns[0], length)
        h = AirlamEstimator(self.model).estimate(measured, observed, axis=self.axis, port_shape=shape)
        of_wanted = [series_along(x, self.axis, shape)[0][:, wanted] for x in (h, truth)]
        return {"h": h, "index": batch["index"], "nmse": nmse(*of_wanted, reduction="none")}
