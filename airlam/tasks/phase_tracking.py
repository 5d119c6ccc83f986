"""Train the tracker of phase and timing offsets of a pretrained model; its other weights stay."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import lightning as L
import torch
from torch import Tensor

from airlam.csi import measure
from airlam.models import load_checkpoint
from airlam.models.phase_tracker import PhaseTracker, centres
from airlam.recipes import find_checkpoint
from airlam.tasks.optimisation import adamw_with_warmup
from airlam.tasks.pretraining import draw_window

FLOOR = 3e-5  # rad^2: smaller errors cost a prediction nothing that noise does not


class PhaseTracking(L.LightningModule):
    """Train a model's :class:`~airlam.models.phase_tracker.PhaseTracker` on offsets that are drawn for it.

    The tracker only sees covariances between slots, and those turn with the offsets. So each measured link serves
    several draws, without being measured again. The loss is the mean of the log squared error.

    Args:
        checkpoint: folder or name of the model that the tracker is for; it gets one if it has none.
        learning_rate: peak of the schedule.
        warmup_steps: linear warm-up; then a cosine down to a hundredth.
        phase_std: range [rad] of the standard deviation of a slot's phase, uniform in the logarithm.
        slope_std: likewise of the slope, in rad at the band's edge.
        probability: that a draw has phase offsets at all; independently, that it has slopes.
        csi_snr_db: range from which each link's measurement noise is drawn; the data's own is not used.
        draws: of each link in a step.
        history: slots in every other step; the rest draw 4 to all.
        lost: probability that a slot was not measured, in a quarter of the draws.
    """

    def __init__(
        self,
        checkpoint: str,
        learning_rate: float = 4e-3,
        warmup_steps: int = 100,
        phase_std: Sequence[float] = (3e-3, 0.4),
        slope_std: Sequence[float] = (3e-3, 0.4),
        probability: float = 0.6,
        csi_snr_db: Sequence[float] = (0.0, 30.0),
        draws: int = 8,
        history: int = 16,
        lost: float = 0.2,
    ):
        super().__init__()
        for name, (low, high) in (("phase_std", phase_std), ("slope_std", slope_std)):
            if not 0 < low <= high:
                raise ValueError(f"{name} must be a range of positive numbers [min, max], got [{low}, {high}]")
        self.save_hyperparameters()
        self.model = load_checkpoint(find_checkpoint(checkpoint))
        self.model.add_tracker()
        self.model.requires_grad_(False)
        assert self.model.tracker is not None
        self.model.tracker.requires_grad_(True)
        self.model.train()

    def training_step(self, batch: dict[str, Any], batch_idx: int) -> Tensor:
        """One batch of :class:`airlam.data.CSIDataModule`, of which only the true past is used."""
        generator = torch.Generator().manual_seed(self.global_step)
        floor = FLOOR + 3e-3 * max(0.0, 1 - 2 * self.global_step / max(1, self.trainer.estimated_stepping_batches))
        error, before = self._errors(batch, generator)
        self.log("train_gain_db", 10 * torch.log10((before + FLOOR) / (error.detach() + FLOOR)).mean(), prog_bar=True)
        return torch.log(error + floor).mean()

    def _errors(self, batch: dict[str, Any], generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Mean squared offset after tracking and before, ``[draw, 2]`` [rad^2]."""
        h, tracker = batch["h_past_true"], self.model.tracker
        assert isinstance(tracker, PhaseTracker)
        slots = min(h.shape[1], self.model.config.max_history)
        if float(torch.rand((), generator=generator)) < 0.5:
            slots = int(torch.randint(min(4, slots), slots + 1, (), generator=generator))
        else:
            slots = min(slots, self.hparams["history"])
        h = h[:, -slots:]
        low, high = self.hparams["csi_snr_db"]
        snr = low + (high - low) * torch.rand(len(h), generator=generator)
        covariance = tracker.covariance(measure(h.cpu(), snr, generator)).repeat(self.hparams["draws"], 1, 1, 1)
        offsets = self._draw(len(covariance), slots, generator)
        observed = None
        if float(torch.rand((), generator=generator)) < 0.25:
            observed = torch.rand(len(covariance), slots, generator=generator) >= self.hparams["lost"]
        bands = covariance.shape[1]
        angle = offsets[:, 0, None] + centres(bands)[:, None] * offsets[:, 1, None]
        turn = torch.polar(torch.ones_like(angle), angle)
        covariance = turn[..., :, None] * covariance * turn.conj()[..., None, :]
        increments = tracker.observe(covariance.to(self.device), None if observed is None else observed.to(self.device))
        residual = tracker.offsets(increments) - offsets.to(self.device)
        if observed is not None:  # what a lost slot's offset was does not matter
            seen = observed[:, None].to(residual)
            count = seen.sum(-1).clamp_min(1)
            return (residual.square() * seen).sum(-1) / count, (offsets.to(seen).square() * seen).sum(-1) / count
        return residual.square().mean(-1), offsets.to(residual).square().mean(-1)

    def _draw(self, number: int, slots: int, generator: torch.Generator) -> Tensor:
        """Offsets ``[number, 2, slot]`` [rad]."""
        ranges = torch.tensor([self.hparams["phase_std"], self.hparams["slope_std"]]).log()
        std = (ranges[:, 0] + (ranges[:, 1] - ranges[:, 0]) * torch.rand(number, 2, generator=generator)).exp()
        std = std * (torch.rand(number, 2, generator=generator) < self.hparams["probability"])
        return std[..., None] * torch.randn(number, 2, slots, generator=generator)

    def _window(self, batch: dict[str, Any], generator: torch.Generator) -> tuple[Tensor, ...]:
        """What error variances are calibrated on."""
        return draw_window(batch, generator, self.hparams["history"], 4, 4)

    def validation_step(self, batch: dict[str, Any], batch_idx: int) -> None:
        """Logs the mean squared error in dB rad^2 (``val_error_db``) and before tracking (``val_offset_db``)."""
        error, before = self._errors(batch, torch.Generator().manual_seed(batch_idx))
        for name, value in (("val_error_db", error), ("val_offset_db", before)):
            self.log(name, 10 * math.log10(float(value.mean()) + 1e-12), prog_bar=True, batch_size=len(value))

    def configure_optimizers(self):
        """AdamW over the tracker, warm-up, cosine."""
        h = self.hparams
        return adamw_with_warmup(
            self.model,
            learning_rate=h["learning_rate"],
            weight_decay=1e-3,
            warmup_steps=h["warmup_steps"],
            total_steps=self.trainer.estimated_stepping_batches,
        )
