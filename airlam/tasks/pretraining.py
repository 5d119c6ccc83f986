"""Self-supervised pretraining: forecasting and masked reconstruction on channels made on the fly."""

from __future__ import annotations

from typing import Any

import lightning as L
import torch

from airlam.models import AirlamConfig, AirlamModel, load_checkpoint
from airlam.tasks.objectives import forecast_error, reconstruction_error
from airlam.tasks.optimisation import adamw_with_warmup


class Pretraining(L.LightningModule):
    """Pretrain an :class:`~airlam.models.AirlamModel`.

    The loss is the mean over links of ``log NMSE``: a decibel counts the same on an easy link and on a hard one.

    Args:
        model: arguments of :class:`~airlam.models.AirlamConfig`.
        checkpoint: folder to start from instead of random weights (a warm restart); ``model`` must then be empty.
        learning_rate: peak of the schedule.
        warmup_steps: linear warm-up; then a cosine down to a hundredth at the trainer's last step.
        weight_decay: of the weight matrices.
        mask_probability: fraction of the batches on which slots are hidden and reconstructed instead of forecast.
        history: every other batch uses the last ``history`` slots and the first ``horizon`` future ones, the rest a
            random number of each (at least ``min_history``): one backbone learns all lengths. None: all there is.
        horizon: see ``history``.
        min_history: shortest history drawn.
    """

    def __init__(
        self,
        model: dict[str, Any] | None = None,
        checkpoint: str | None = None,
        learning_rate: float = 1e-3,
        warmup_steps: int = 100,
        weight_decay: float = 0.01,
        mask_probability: float = 0.15,
        history: int | None = None,
        horizon: int | None = None,
        min_history: int = 6,
    ):
        super().__init__()
        if not 0 <= mask_probability <= 1:
            raise ValueError(f"mask_probability must lie in [0, 1], got {mask_probability}")
        if checkpoint is not None and model:
            raise ValueError("give either model (a new one) or checkpoint (a warm restart), not both")
        self.save_hyperparameters()
        self.model = AirlamModel(AirlamConfig(**(model or {}))) if checkpoint is None else load_checkpoint(checkpoint)
        self.model.train()

    def training_step(self, batch: dict[str, Any], batch_idx: int) -> torch.Tensor:
        """One batch of :class:`airlam.data.CSIDataModule`."""
        # drawn from the step, so that a resumed run makes the same choices
        generator = torch.Generator().manual_seed(self.global_step)
        past, truth, future = self._window(batch, generator)
        if float(torch.rand((), generator=generator)) < self.hparams["mask_probability"]:
            slots = past.shape[1]
            rate = 0.1 + 0.5 * float(torch.rand((), generator=generator))
            observed = torch.rand(slots, generator=generator) >= rate
            observed[int(torch.randint(slots, (), generator=generator))] = True
            error = reconstruction_error(
                self.model, past, torch.cat([truth, future], 1), observed.to(past.device), batch["port_shape"]
            )
            self.log("train_masked_nmse_db", 10 * torch.log10(error.detach()).mean())
            return torch.log(error).mean()
        error = forecast_error(self.model, past, future, batch["port_shape"])
        decibels = 10 * torch.log10(error.nmse.detach())
        self.log("train_nmse_db", decibels.mean())
        self.log("train_gain_db", (10 * torch.log10(error.start) - decibels).mean(), prog_bar=True)
        return torch.log(error.nmse).mean()

    def _window(self, batch: dict[str, Any], generator: torch.Generator) -> tuple[torch.Tensor, ...]:
        """Measured past, true past and true future of this step, cut to the lengths drawn for it."""
        slots, horizon = batch["h_past"].shape[1], batch["h_future"].shape[1]
        history, ahead = self.hparams["history"] or slots, self.hparams["horizon"] or horizon
        if self.hparams["history"] is not None and float(torch.rand((), generator=generator)) < 0.5:
            low = min(self.hparams["min_history"], slots)
            history = int(torch.randint(low, slots + 1, (), generator=generator))
            ahead = int(torch.randint(1, horizon + 1, (), generator=generator))
        return batch["h_past"][:, -history:], batch["h_past_true"][:, -history:], batch["h_future"][:, :ahead]

    def validation_step(self, batch: dict[str, Any], batch_idx: int) -> None:
        """Logs the linear mean of the NMSE in dB, and the mean gain over the classical start."""
        error = forecast_error(self.model, batch["h_past"], batch["h_future"], batch["port_shape"])
        size = len(error.nmse)
        self.log("val_nmse", error.nmse.mean(), batch_size=size)
        self.log("val_nmse_start", error.start.mean(), batch_size=size)
        gain = 10 * (torch.log10(error.start) - torch.log10(error.nmse))
        self.log("val_gain_db", gain.mean(), prog_bar=True, batch_size=size)

    def configure_optimizers(self):
        """AdamW, warm-up, cosine."""
        h = self.hparams
        return adamw_with_warmup(
            self.model,
            learning_rate=h["learning_rate"],
            weight_decay=h["weight_decay"],
            warmup_steps=h["warmup_steps"],
            total_steps=self.trainer.estimated_stepping_batches,
        )
