"""A callback that keeps what ``predict`` computed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import lightning as L
import torch
from lightning.pytorch.callbacks import BasePredictionWriter
from safetensors.torch import save_file

from airlam.io import replacing


class WritePredictions(BasePredictionWriter):
    """Write the predictions of all batches to one safetensors file: ``h_future`` (complex64), ``index``, ``nmse``.

    Args:
        file: where; folders are made. Several processes write a file each, ``.rank1`` and so on before the suffix.

    Example:
        >>> from safetensors.torch import load_file
        >>> h_future = load_file("runs/x/predictions.safetensors")["h_future"]      # doctest: +SKIP
    """

    def __init__(self, file: str):
        super().__init__(write_interval="epoch")
        self.file = Path(file)

    def write_on_epoch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, predictions: Any, batch_indices: Any
    ) -> None:
        """Called by Lightning with the outputs of every batch."""
        alone = trainer.world_size == 1
        file = self.file if alone else self.file.with_suffix(f".rank{trainer.global_rank}{self.file.suffix}")
        whole = {name: torch.cat([p[name] for p in predictions]).contiguous() for name in predictions[0]}
        with replacing(file) as work:
            save_file(whole, work)
        links = len(next(iter(whole.values())))
        print(f"{file}: {', '.join(whole)} of {links} links (safetensors.torch.load_file reads it)")
