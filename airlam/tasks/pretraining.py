"""Self-supervised pretraining: forecasting and masked reconstruction on channels made on the fly."""

from __future__ import annotations

from typing import Any

import lightning as L
import torch

from airlam.csi import series_along
from airlam.models import AirlamConfig, AirlamModel, load_checkpoint
from airlam.recipes import find_checkpoint
from airlam.tasks.objectives import Target, forecast_error, forecast_target, predicted_error, reconstruction_target
from airlam.tasks.optimisation import configured_adamw

AXES = ("slot", "subcarrier", "column")


def draw_observed(length: int, generator: torch.Generator) -> torch.Tensor:
    """Which samples of a series are seen ``bool [length]``: all but some at random, a comb, or all but a last block."""
    observed = torch.ones(length, dtype=torch.bool)
    kind = int(torch.randint(3, (), generator=generator))
    if kind == 0:
        rate = 0.1 + 0.5 * float(torch.rand((), generator=generator))
        observed = torch.rand(length, generator=generator) >= rate
    elif kind == 1:
        step = 2 + int(torch.randint(3, (), generator=generator))
        observed = (torch.arange(length) + int(torch.randint(step, (), generator=generator))) % step == 0
    else:
        observed[length - 1 - int(torch.randint(max(1, length // 2), (), generator=generator)) :] = False
    observed[int(torch.randint(length, (), generator=generator))] = True
    if bool(observed.all()):
        observed[0] = False
    return observed


def draw_window(
    batch: dict[str, Any], generator: torch.Generator, history: int | None, horizon: int | None, min_history: int
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Measured past, true past and true future of a batch: in half of the draws the last ``history`` slots and the
    first ``horizon`` future ones, else a random number of each. With ``history`` None all there is."""
    slots, ahead = batch["h_past"].shape[1], batch["h_future"].shape[1]
    length, future = history or slots, horizon or ahead
    if history is not None and float(torch.rand((), generator=generator)) < 0.5:
        length = int(torch.randint(min(min_history, slots), slots + 1, (), generator=generator))
        future = int(torch.randint(1, ahead + 1, (), generator=generator))
    return batch["h_past"][:, -length:], batch["h_past_true"][:, -length:], batch["h_future"][:, :future]


class Pretraining(L.LightningModule):
    """Pretrain an :class:`~airlam.models.AirlamModel`.

    The loss is the mean over links of ``log NMSE``: a decibel counts the same on an easy link and on a hard one; or a
    mixture with the logarithm of the mean.

    Args:
        model: arguments of :class:`~airlam.models.AirlamConfig`.
        checkpoint: shipped checkpoint or folder to start from instead of random weights (a warm restart); ``model`` may
            then change what no weight depends on (``num_tokens``, ``forward_backward``, ...).
        learning_rate: peak of the schedule.
        warmup_steps: linear warm-up; then a cosine down to a hundredth at the trainer's last step.
        weight_decay: of the weight matrices.
        mask_probability: fraction of the batches on which samples are hidden and reconstructed instead of forecast.
        mask_axes: weights of the axes they are hidden along: ``slot``, ``subcarrier`` (a few slots at a time), and the
            panel's ``column``. In random places, as a comb, or a block at the end.
        attention: implementation of attention, as transformers names it (``sdpa``, ``eager``); ``eager`` trains faster
            on CPUs. None: the backbone's default.
        compile_backbone: let torch.compile translate the backbone when training starts: minutes on a CPU, then a sixth
            less time a step; needs a C++ compiler.
        history: every other batch uses the last ``history`` slots and the first ``horizon`` future ones, the rest a
            random number of each (at least ``min_history``): one backbone learns all lengths. None: all there is.
        horizon: see ``history``.
        min_history: shortest history drawn.
        linear_share: weight of the logarithm of the batch's mean NMSE, against the mean of the logarithms: counts the
            links more that fail, as fading series of few coefficients do.
    """

    def __init__(
        self,
        model: dict[str, Any] | None = None,
        checkpoint: str | None = None,
        learning_rate: float = 1e-3,
        warmup_steps: int = 100,
        weight_decay: float = 0.01,
        mask_probability: float = 0.15,
        mask_axes: dict[str, float] | None = None,
        history: int | None = None,
        horizon: int | None = None,
        min_history: int = 6,
        linear_share: float = 0.0,
        attention: str | None = None,
        compile_backbone: bool = False,
    ):
        super().__init__()
        if not 0 <= mask_probability <= 1:
            raise ValueError(f"mask_probability must lie in [0, 1], got {mask_probability}")
        if not 0 <= linear_share <= 1:
            raise ValueError(f"linear_share must lie in [0, 1], got {linear_share}")
        for axis, weight in (mask_axes or {}).items():
            if axis not in AXES or not weight >= 0:
                raise ValueError(f"mask_axes has {axis}: {weight}, but takes weights >= 0 for {', '.join(AXES)}")
        self.save_hyperparameters()
        if checkpoint is None:
            self.model = AirlamModel(AirlamConfig(**(model or {})))
        else:
            self.model = load_checkpoint(find_checkpoint(checkpoint))
            self.model.config.change(**(model or {}))
        if attention is not None:
            self.model.backbone.set_attn_implementation(attention)
        self.model.train()

    def on_fit_start(self) -> None:
        """Compiles where asked to; tokens of different arrays have different counts, hence ``dynamic``."""
        if self.hparams["compile_backbone"]:
            self.model.backbone.compile(dynamic=True)

    def training_step(self, batch: dict[str, Any], batch_idx: int) -> torch.Tensor:
        """One batch of :class:`airlam.data.CSIDataModule`."""
        target, axis = self.target(batch, self.global_step)
        error = predicted_error(self.model, target)
        decibels = 10 * torch.log10(error.detach())
        if axis is not None:
            self.log(f"train_{axis}_nmse_db", decibels.mean())
        else:
            self.log("train_nmse_db", decibels.mean())
            self.log("train_gain_db", (10 * torch.log10(target.start_error()) - decibels).mean(), prog_bar=True)
        linear = self.hparams["linear_share"]
        return (1 - linear) * torch.log(error).mean() + linear * torch.log(error.mean())

    def target(self, batch: dict[str, Any], step: int) -> tuple[Target, str | None]:
        """What the model should tell of a batch in training step ``step``: a forecast, or hidden samples along an axis.

        Returns:
            the batch as tokens with the truth; and the axis, None: a forecast.
        """
        # drawn from the step, so that a resumed run makes the same choices
        generator = torch.Generator().manual_seed(step)
        past, truth, future = self._window(batch, generator)
        port_shape = batch["port_shape"]
        if float(torch.rand((), generator=generator)) >= self.hparams["mask_probability"]:
            return forecast_target(self.model, past, future, port_shape), None
        weights = self.hparams["mask_axes"] or {"slot": 1.0}
        drawn = torch.multinomial(torch.tensor(list(weights.values())), 1, generator=generator)
        axis = list(weights)[int(drawn)]
        if axis == "column" and port_shape[1] < 4:
            axis = "subcarrier"
        whole = torch.cat([truth, future], 1)
        if axis != "slot":
            few = min(past.shape[1], 2 ** int(torch.randint(4, (), generator=generator)))
            past, _ = series_along(past[:, -few:], axis, port_shape)
            whole, port_shape = series_along(truth[:, -few:], axis, port_shape)
            length = min(past.shape[1], self.model.config.max_history)
            first = int(torch.randint(past.shape[1] - length + 1, (), generator=generator))
            past, whole = past[:, first : first + length], whole[:, first : first + length]
        observed = draw_observed(past.shape[1], generator).to(past.device)
        return reconstruction_target(self.model, past, whole, observed, port_shape), axis

    def _window(self, batch: dict[str, Any], generator: torch.Generator) -> tuple[torch.Tensor, ...]:
        """Measured past, true past and true future of this step, cut to the lengths drawn for it."""
        h = self.hparams
        return draw_window(batch, generator, h["history"], h["horizon"], h["min_history"])

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
        return configured_adamw(self)
