"""The optimiser of all tasks."""

from __future__ import annotations

import math

import lightning as L
import torch
from torch import nn


def configured_adamw(task: L.LightningModule) -> dict:
    """:func:`adamw_with_warmup` for ``task.model``, as the task's hyperparameters and its trainer's steps say."""
    h = task.hparams
    return adamw_with_warmup(
        task.model,  # type: ignore[arg-type]
        learning_rate=h["learning_rate"],
        weight_decay=h["weight_decay"],
        warmup_steps=h["warmup_steps"],
        total_steps=task.trainer.estimated_stepping_batches,
    )


def adamw_with_warmup(
    model: nn.Module, *, learning_rate: float, weight_decay: float, warmup_steps: int, total_steps: float
) -> dict:
    """AdamW with linear warm-up and a cosine down to a hundredth, in Lightning's form.

    Only trainable parameters; vectors (biases, norms) are not decayed.
    """
    trainable = [p for p in model.parameters() if p.requires_grad]
    groups = [
        {"params": [p for p in trainable if p.dim() > 1], "weight_decay": weight_decay},
        {"params": [p for p in trainable if p.dim() <= 1], "weight_decay": 0.0},
    ]
    optimizer = torch.optim.AdamW([g for g in groups if g["params"]], lr=learning_rate, betas=(0.9, 0.98))

    def factor(step: int) -> float:
        warm = min(1.0, (step + 1) / max(1, warmup_steps))
        if not math.isfinite(total_steps):
            return warm
        return warm * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * min(1.0, step / max(1, total_steps)))))

    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, factor)
    return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}
