"""Training of learned comparators, all alike."""

from __future__ import annotations

from typing import Any

import lightning as L
import torch

from airlam.errors import CheckpointError
from airlam.models.comparators import Comparator, build_comparator, check_kind
from airlam.tasks.lightning_files import described_task, load_state, read_lightning
from airlam.tasks.objectives import energy
from airlam.tasks.optimisation import configured_adamw


class ComparatorTraining(L.LightningModule):
    """Train a learned comparator on forecasting, on the objective of airlam's own models: mean over links of log NMSE.

    Args:
        kind: see :func:`airlam.models.comparators.build_comparator`.
        model: arguments of its class.
        learning_rate: peak of the schedule, that of :class:`~airlam.tasks.CPUBudget`; without that callback, linear
            warm-up over ``warmup_steps`` and a cosine down to a hundredth at the trainer's last step.
        warmup_steps: see there.
        weight_decay: of the weight matrices.

    Logs ``val_nmse_db`` (of the linear mean) and ``val_mean_db`` (mean over links of the NMSE in dB); ``test_...``
    likewise.

    Example:
        >>> ComparatorTraining("gru", {"width": 16}).model.kind
        'gru'
    """

    def __init__(
        self,
        kind: str,
        model: dict[str, Any] | None = None,
        learning_rate: float = 1e-3,
        warmup_steps: int = 100,
        weight_decay: float = 0.01,
    ):
        super().__init__()
        self.save_hyperparameters()
        self.model = build_comparator(kind, **(model or {})).train()
        self._errors: list[torch.Tensor] = []

    def nmse(self, batch: dict[str, Any]) -> torch.Tensor:
        """Error energy over the true energy ``[link]``."""
        truth = batch["h_future"]
        predicted = self.model(batch["h_past"], truth.shape[1], port_shape=batch["port_shape"])
        return energy(predicted - truth) / energy(truth).clamp_min(torch.finfo(truth.real.dtype).tiny)

    def training_step(self, batch: dict[str, Any], batch_idx: int) -> torch.Tensor:
        """Mean over links of ``log NMSE``."""
        error = torch.log(self.nmse(batch))
        self.log("train_mean_db", 10 / torch.log(torch.tensor(10.0)) * error.detach().mean(), prog_bar=True)
        return error.mean()

    def _log_epoch(self, stage: str) -> None:
        if not self._errors:
            return
        error = torch.cat(self._errors)
        self._errors = []
        self.log(f"{stage}_nmse_db", 10 * torch.log10(error.mean()), prog_bar=True)
        self.log(f"{stage}_mean_db", 10 * torch.log10(error).mean(), prog_bar=True)

    def validation_step(self, batch: dict[str, Any], batch_idx: int) -> None:
        """Collect the errors of one batch."""
        self._errors.append(self.nmse(batch))

    def on_validation_epoch_end(self) -> None:
        """Log the epoch."""
        self._log_epoch("val")

    def test_step(self, batch: dict[str, Any], batch_idx: int) -> None:
        """Collect the errors of one batch."""
        self._errors.append(self.nmse(batch))

    def on_test_epoch_end(self) -> None:
        """Log the epoch."""
        self._log_epoch("test")

    def predict_step(self, batch: dict[str, Any], batch_idx: int) -> dict[str, torch.Tensor]:
        """Predicted CSI ``h_future`` and the links' ``index``."""
        future = self.model(batch["h_past"], batch["h_future"].shape[1], port_shape=batch["port_shape"])
        return {"h_future": future, "index": batch["index"]}

    def configure_optimizers(self):
        """AdamW over the trainable parameters."""
        return configured_adamw(self)

    @classmethod
    def model_from_lightning(cls, path: str) -> Comparator:
        """The comparator in a Lightning ``.ckpt`` of this task, read with ``weights_only=True``."""
        saved = read_lightning(path)
        h = saved["hyper_parameters"]
        arguments = h.get("model") or {}
        if not isinstance(arguments, dict):
            raise CheckpointError(f"{path}: its hyperparameter model is no mapping")
        check_kind(path, {**arguments, "kind": h.get("kind")})
        if "pretrained" in arguments or "minilm" in (h.get("kind"), arguments.get("network")):
            arguments = arguments | {"pretrained": None}  # its weights are in the file
        task = described_task(cls, path, saved, {"kind": h.get("kind"), "model": arguments})
        load_state(task, path, saved["state_dict"])
        return task.model.eval()
