"""A callback that writes a checkpoint folder for ``load_predictor``."""

from __future__ import annotations

from typing import Any

import lightning as L
import torch
from lightning.pytorch.callbacks import WeightAveraging

from airlam.models import AirlamModel, OnBackbone, save_checkpoint, save_lora
from airlam.models.comparators import Comparator, save_comparator
from airlam.models.config import FREE
from airlam.models.csi_codec import SizeNetwork


class ExportCheckpoint(L.Callback):
    """Write ``config.json`` and ``model.safetensors`` every ``every_n_steps`` steps and at the end of ``fit``.

    With adapters only the adapters are written, in peft's format; with a ``WeightAveraging`` callback (EMA) the
    averaged weights.

    Args:
        folder: where; made if it is not there.
        every_n_steps: 0: only at the end.
        inference: fields of :class:`~airlam.models.AirlamConfig` that differ in the exported ``config.json``, such as
            fewer tokens than in training; only those that no weight depends on.
        dtype: in which airlam's own weights are stored: ``float32``, ``bfloat16`` (half the file), ``float16``.
    """

    DTYPES = ("float32", "bfloat16", "float16")

    def __init__(
        self, folder: str, every_n_steps: int = 0, inference: dict[str, Any] | None = None, dtype: str = "float32"
    ):
        for name in inference or {}:
            if name not in FREE:
                raise ValueError(f"inference cannot change {name!r}, only {', '.join(sorted(FREE))}")
        if dtype not in self.DTYPES:
            raise ValueError(f"dtype must be one of {', '.join(self.DTYPES)}, got {dtype!r}")
        self.dtype = getattr(torch, dtype)
        self.folder, self.every_n_steps, self.inference = folder, every_n_steps, dict(inference or {})

    def _save(self, trainer: L.Trainer, module: L.LightningModule, fitted: bool = False) -> None:
        if not trainer.is_global_zero:
            return
        # As for validation, averaged weights take the place of the current ones. At the end of fit they already have,
        # and other callbacks may have changed them since (CalibrateVariance): fetched again, that would be lost.
        averages = [] if fitted else [c for c in trainer.callbacks if isinstance(c, WeightAveraging)]
        for average in averages:
            average.on_validation_epoch_start(trainer, module)
        try:
            if isinstance(module.model, (AirlamModel, OnBackbone)):
                save_checkpoint(module.model, self.folder, self.dtype, **self.inference)
            elif isinstance(module.model, Comparator):
                save_comparator(module.model, self.folder)
            elif isinstance(module.model, SizeNetwork):
                module.model.save(self.folder)
            else:
                save_lora(module.model, self.folder)
        finally:
            for average in averages:
                average.on_validation_epoch_end(trainer, module)

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx) -> None:
        """Save where due."""
        if self.every_n_steps and trainer.global_step and trainer.global_step % self.every_n_steps == 0:
            self._save(trainer, pl_module)

    def on_fit_end(self, trainer, pl_module) -> None:
        """Save the last state."""
        self._save(trainer, pl_module, fitted=True)
