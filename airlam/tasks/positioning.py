"""Positioning: train a network that corrects a classic estimate at one site."""

from __future__ import annotations

from typing import Any

import lightning as L
import torch
from torch import Tensor

from airlam.models import load_checkpoint
from airlam.models.position import AirlamPosition, AirlamPositionConfig, position_loss
from airlam.recipes import find_checkpoint
from airlam.tasks.optimisation import configured_adamw


class Positioning(L.LightningModule):
    """Train an :class:`~airlam.models.position.AirlamPosition` by negative log-likelihood.

    A batch is ``(stations, mean, factor, position)``: the fields of :class:`~airlam.models.position.PositionInputs` and
    the true places ``[user, 2]`` m. The starts of labelled users must come from a method that did not see their labels:
    else the network learns to trust them (:class:`~airlam.tasks.PositionStarts` sees to it).

    Args:
        backbone: checkpoint whose pretrained backbone is the start; None: random weights.
        model: arguments of :class:`~airlam.models.position.AirlamPositionConfig`.
        learning_rate, warmup_steps, weight_decay: of AdamW; after the warm-up a cosine down to a hundredth.

    Logs ``train_nll``, ``val_nll``, ``val_error`` (median) and ``val_error_90`` (90 %) [m], and the same of ``test``.
    """

    def __init__(
        self,
        backbone: str | None = "airlam-tiny",
        model: dict[str, Any] | None = None,
        learning_rate: float = 5e-4,
        warmup_steps: int = 20,
        weight_decay: float = 0.05,
    ):
        super().__init__()
        if unknown := sorted(set(model or {}) - {"backbone", "stations", "beams"}):
            raise ValueError(f"model has no argument {unknown[0]!r}; it has backbone, beams, stations")
        self.save_hyperparameters()
        if backbone is None:
            made = AirlamPosition(AirlamPositionConfig(**(model or {})))
        else:
            made = AirlamPosition.from_backbone(load_checkpoint(find_checkpoint(backbone)), **(model or {}))
        self.model = made.train()

    def training_step(self, batch: tuple[Tensor, ...], batch_idx: int) -> Tensor:
        """Mean negative log-likelihood."""
        *inputs, truth = batch
        mean, factor = self.model(*inputs)
        loss = position_loss(mean, factor, truth).mean()
        self.log("train_nll", loss.detach(), prog_bar=True)
        return loss

    def validation_step(self, batch: tuple[Tensor, ...], batch_idx: int) -> None:
        """Likelihood and error of other users."""
        self._judge(batch, "val")

    def test_step(self, batch: tuple[Tensor, ...], batch_idx: int) -> None:
        """As for validation."""
        self._judge(batch, "test")

    def _judge(self, batch: tuple[Tensor, ...], name: str) -> None:
        *inputs, truth = batch
        mean, factor = self.model(*inputs)
        error = torch.linalg.vector_norm(mean - truth, dim=1)
        self.log(f"{name}_nll", position_loss(mean, factor, truth).mean(), prog_bar=True)
        self.log(f"{name}_error", error.median())
        self.log(f"{name}_error_90", error.quantile(0.9))

    def configure_optimizers(self):
        """AdamW, warm-up, cosine."""
        return configured_adamw(self)
