"""A callback that leaves a checkpoint folder behind, ready for ``load_predictor``."""

from __future__ import annotations

import lightning as L

from airlam.models import AirlamModel, save_checkpoint


class ExportCheckpoint(L.Callback):
    """Write ``config.json`` and ``model.safetensors`` every ``every_n_steps`` steps and at the end of ``fit``.

    With adapters only the adapters are written, in peft's format.

    Args:
        folder: where; made if it is not there.
        every_n_steps: 0: only at the end.
    """

    def __init__(self, folder: str, every_n_steps: int = 0):
        self.folder, self.every_n_steps = folder, every_n_steps

    def _save(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        if not trainer.is_global_zero:
            return
        if isinstance(module.model, AirlamModel):
            save_checkpoint(module.model, self.folder)
        else:
            module.model.save_pretrained(self.folder)

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx) -> None:
        """Save where due."""
        if self.every_n_steps and trainer.global_step and trainer.global_step % self.every_n_steps == 0:
            self._save(trainer, pl_module)

    def on_fit_end(self, trainer, pl_module) -> None:
        """Save the last state."""
        self._save(trainer, pl_module)
