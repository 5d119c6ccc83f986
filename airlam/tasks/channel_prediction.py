"""Channel prediction: adapt a pretrained backbone, or train one from random weights."""

from __future__ import annotations

from typing import Any

import lightning as L
import torch

from airlam.metrics import nmse
from airlam.models import AirlamConfig, AirlamModel, add_lora, load_checkpoint
from airlam.recipes import find_checkpoint
from airlam.tasks.lightning_files import described_task, load_state, read_lightning
from airlam.tasks.objectives import Target, forecast_error, forecast_target, predicted_error
from airlam.tasks.optimisation import configured_adamw


class ChannelPrediction(L.LightningModule):
    """Fine-tune on forecasting: all weights, or low-rank adapters.

    Args:
        checkpoint: name of a shipped checkpoint (``airlam-tiny``) or a checkpoint folder; None: random weights.
        model: arguments of :class:`~airlam.models.AirlamConfig` for random weights.
        lora_rank: train adapters of this rank and freeze the rest; None: train everything.
        context: sensors that become tokens (``velocity``, ``position``, ``cell``; see :mod:`airlam.models.context`),
            with new weights if the checkpoint has none for them. Not together with ``lora_rank``.
        context_dropout: probability that a reading is missing in training, for each link and sensor.
        learning_rate: peak of the schedule.
        warmup_steps: linear warm-up; then a cosine down to a hundredth.
        weight_decay: of the weight matrices.

    Logs ``val_nmse_db`` (of the linear mean; early stopping and checkpoints watch it) and ``val_gain_db`` (mean gain
    over the classical start); ``test_...`` likewise.
    """

    def __init__(
        self,
        checkpoint: str | None = None,
        model: dict[str, Any] | None = None,
        lora_rank: int | None = None,
        context: list[str] | None = None,
        context_dropout: float = 0.1,
        learning_rate: float = 5e-4,
        warmup_steps: int = 20,
        weight_decay: float = 0.0,
    ):
        super().__init__()
        if checkpoint is not None and model:
            raise ValueError("give either model (random weights) or checkpoint, not both")
        if context and lora_rank is not None:
            raise ValueError("context has weights of its own, which adapters do not hold: leave lora_rank out")
        if not 0 <= context_dropout < 1:
            raise ValueError(f"context_dropout must lie in [0, 1), got {context_dropout}")
        self.save_hyperparameters()
        if checkpoint is None:
            backbone = AirlamModel(AirlamConfig(**(model or {})))
        else:
            backbone = load_checkpoint(find_checkpoint(checkpoint))
            backbone.config._name_or_path = checkpoint  # adapters name their base as the user did
        if context and set(context) != set(backbone.config.context):
            backbone.add_context(context)
        self.model = (backbone if lora_rank is None else add_lora(backbone, lora_rank)).train()
        self._sums: dict[str, list[torch.Tensor]] = {}

    def training_step(self, batch: dict[str, Any], batch_idx: int) -> torch.Tensor:
        """Mean over links of ``log NMSE``."""
        target, _ = self.target(batch, self.global_step)
        error = predicted_error(self.model, target)
        gain = 10 * (torch.log10(target.start_error()) - torch.log10(error.detach()))
        self.log("train_gain_db", gain.mean(), prog_bar=True)
        return torch.log(error).mean()

    def target(self, batch: dict[str, Any], step: int) -> tuple[Target, None]:
        """What the model should tell of a batch in training step ``step``: the future. See
        :meth:`airlam.tasks.Pretraining.target`."""
        target = forecast_target(self.model, batch["h_past"], batch["h_future"], batch["port_shape"])
        target.tokens.readings = self.model.readings(self._sensed(batch, step), len(batch["h_past"]))
        return target, None

    def _sensed(self, batch: dict[str, Any], step: int) -> dict[str, Any]:
        """The batch with some readings missing."""
        if not self.hparams["context"] or not self.hparams["context_dropout"]:
            return batch
        generator = torch.Generator().manual_seed(step)
        batch = dict(batch)
        for name in ("velocity", "position"):
            lost = torch.rand(len(batch["h_past"]), 1, generator=generator) < self.hparams["context_dropout"]
            batch[name] = torch.where(lost.to(batch[name].device), torch.nan, batch[name])
        return batch

    def _evaluate(self, batch: dict[str, Any]) -> None:
        error = forecast_error(self.model, batch["h_past"], batch["h_future"], batch["port_shape"], batch)
        self._sums.setdefault("nmse", []).append(error.nmse)
        self._sums.setdefault("start", []).append(error.start)

    def _log_epoch(self, stage: str) -> None:
        if not self._sums:
            return
        error, start = (torch.cat(self._sums.pop(key)) for key in ("nmse", "start"))
        self.log(f"{stage}_nmse_db", 10 * torch.log10(error.mean()), prog_bar=True)
        self.log(f"{stage}_gain_db", 10 * (torch.log10(start) - torch.log10(error)).mean(), prog_bar=True)

    def validation_step(self, batch: dict[str, Any], batch_idx: int) -> None:
        """Collect the errors of one batch."""
        self._evaluate(batch)

    def on_validation_epoch_end(self) -> None:
        """Log the epoch."""
        self._log_epoch("val")

    def test_step(self, batch: dict[str, Any], batch_idx: int) -> None:
        """Collect the errors of one batch."""
        self._evaluate(batch)

    def on_test_epoch_end(self) -> None:
        """Log the epoch."""
        self._log_epoch("test")

    def predict_step(self, batch: dict[str, Any], batch_idx: int) -> dict[str, torch.Tensor]:
        """Predicted CSI ``h_future``, the links' ``index``, and each link's ``nmse``."""
        truth = batch["h_future"]
        future = self.model(batch["h_past"], truth.shape[1], port_shape=batch["port_shape"], context=batch)
        error = torch.stack([nmse(a[None], b[None]) for a, b in zip(future, truth, strict=True)])
        return {"h_future": future, "index": batch["index"], "nmse": error}

    def configure_optimizers(self):
        """AdamW over the trainable parameters, warm-up, cosine."""
        return configured_adamw(self)

    @classmethod
    def model_from_lightning(cls, path: str) -> AirlamModel:
        """The plain model in a Lightning ``.ckpt`` of this task or of pretraining, adapters merged.

        Read with ``weights_only=True``: a checkpoint that needs more is refused.
        """
        saved = read_lightning(path)
        state, h = saved["state_dict"], saved["hyper_parameters"]
        known = {"checkpoint", "model", "lora_rank", "context"}
        task = described_task(cls, path, saved, {key: value for key, value in h.items() if key in known})
        if any(name.startswith("model.tracker.") for name in state):
            task.model.add_tracker()
        load_state(task, path, state)
        model = task.model
        return (model if isinstance(model, AirlamModel) else model.merge_and_unload()).eval()
