"""Training of the network that reads paths, for the error of what they predict: no label of a path is needed."""

from __future__ import annotations

from typing import Any

import lightning as L
import torch
from torch import Tensor

from airlam.baselines.path_memory import PathMemory
from airlam.baselines.path_receiver import free_gains, unrelated
from airlam.baselines.path_series import Paths, as_panel
from airlam.baselines.paths import extrapolated
from airlam.csi import check_port_shape, normalise
from airlam.models import AirlamPaths, AirlamPathsConfig, load_checkpoint, load_paths
from airlam.recipes import find_checkpoint
from airlam.tasks.optimisation import configured_adamw
from airlam.tasks.pretraining import draw_window


class FindPaths:
    """Finds the paths of a batch: ``prepare`` of :class:`airlam.data.CSIDataModule`.

    To find paths takes ten times as long as to train on them, so what was found is kept in files and found there when
    a batch comes again.

    Args:
        folder: where shifts of paths are kept; ``None``: the latest ones in memory.
        inside: the checkpoint of the model inside (:class:`airlam.models.AirlamPaths`), whose phase tracker goes over
            histories first, and whose predictions come with the paths.
        history, horizon, min_history: see :class:`airlam.tasks.Pretraining`; drawn for each batch.
        num_paths, threshold, rounds, final: as in :class:`airlam.models.AirlamPathsConfig`.
    """

    def __init__(
        self,
        folder: str | None = None,
        inside: str = "airlam-tiny",
        history: int | None = None,
        horizon: int | None = None,
        min_history: int = 6,
        num_paths: int = 80,
        threshold: float = 12.0,
        rounds: int = 14,
        final: int = 8,
    ) -> None:
        self.memory = PathMemory(folder)
        self.search = AirlamPathsConfig(num_paths=num_paths, threshold=threshold, rounds=rounds, final=final).search
        self.inside = load_checkpoint(find_checkpoint(inside))
        self.inside.config.change(forward_backward=True)
        self.window = (history, horizon, min_history)

    @torch.no_grad()
    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        """The batch with ``paths``, a :class:`airlam.baselines.path_series.Paths` with the truth, in the place of
        CSI."""
        generator = torch.Generator().manual_seed(int(batch["index"][0]))
        past, _, future = draw_window(batch, generator, *self.window)
        shape = check_port_shape(past.shape[-1], batch["port_shape"])
        x, scale = normalise(past)
        tracked, panel = self.inside.track(x), shape
        if unrelated(tracked, shape).float().mean() > 0.5:  # a batch is one kind of channel
            panel = free_gains(shape)
        data, truth = as_panel(tracked, panel), as_panel(future / scale, panel)
        paths = Paths.at(data, *self.memory.search(data, self.search), truth)
        told, variance = self.inside.forward_with_variance(x, future.shape[1], port_shape=shape)
        paths.tell_other(as_panel(told, panel), truth, variance.mean((2, 3, 4)))
        kept = {name: value for name, value in batch.items() if not name.startswith("h_")}
        return {**kept, "paths": paths}


class PathPretraining(L.LightningModule):
    """Train an :class:`~airlam.models.AirlamPaths` on batches that :class:`FindPaths` prepared.

    The loss is the mean over links of ``log NMSE`` mixed with the logarithm of its mean: the first counts a decibel
    alike on every link, the second counts hard links more. A small share is the likelihood of the error's variance.

    Args:
        model: fields of :class:`~airlam.models.AirlamPathsConfig`; its search must be that of :class:`FindPaths`.
        inside: the checkpoint that is the model inside; ``None``: that of ``checkpoint``, or one of random weights.
        pretrained: whether its backbone is also the start of the one that reads paths. Random weights learn faster.
        checkpoint: an ``airlam-paths`` folder to go on from; ``model`` must then be empty.
        linear_share: weight of the logarithm of the mean.
        own_share: weight of the error of the paths alone, without the model inside.
        variance_share: weight of the likelihood.
        learning_rate, warmup_steps, weight_decay, attention: see :class:`airlam.tasks.Pretraining`.
    """

    def __init__(
        self,
        model: dict[str, Any] | None = None,
        inside: str | None = None,
        pretrained: bool = False,
        checkpoint: str | None = None,
        linear_share: float = 0.1,
        own_share: float = 0.5,
        variance_share: float = 0.02,
        learning_rate: float = 1e-3,
        warmup_steps: int = 100,
        weight_decay: float = 0.01,
        attention: str | None = None,
    ):
        super().__init__()
        if not (0 <= linear_share <= 1 and variance_share >= 0):
            raise ValueError(
                f"linear_share must lie in [0, 1], variance_share be at least 0, got {linear_share}, {variance_share}"
            )
        if checkpoint is not None and model:
            raise ValueError("give either model (a new one) or checkpoint (to go on from it), not both")
        self.save_hyperparameters()
        known = None if inside is None else load_checkpoint(find_checkpoint(inside))
        if checkpoint is not None:
            self.model = load_paths(find_checkpoint(checkpoint))
            if known is not None:
                self.model.replace_inside(known)
        elif known is not None:
            self.model = AirlamPaths.around(known, pretrained=pretrained, **(model or {}))
        else:
            self.model = AirlamPaths(AirlamPathsConfig(**(model or {})))
        if attention is not None:
            self.model.backbone.set_attn_implementation(attention)
        self.model.train()
        # the model inside never changes: checkpoints of training go without it, half the size
        self.register_state_dict_post_hook(without_inside)
        self.register_load_state_dict_post_hook(missing_inside)

    def training_step(self, batch: dict[str, Any], batch_idx: int) -> Tensor:
        """One prepared batch."""
        paths: Paths = batch["paths"]
        assert paths.energy is not None and paths.other is not None
        posterior, _, variance, share = self.model.extrapolate(paths, paths.energy.shape[1], paths.other.variance)
        series = posterior.series()
        alone = paths.error(series)
        error = relative(paths.mixed_error(series, alone, share), paths.energy)
        own = relative(alone, paths.energy)
        self.log("train_nmse_db", 10 * torch.log10(error.detach()).mean(), prog_bar=True)
        linear, of_own = self.hparams["linear_share"], self.hparams["own_share"]
        loss = (1 - linear) * error.log().mean() + linear * error.mean().log()
        # of the paths alone, so that they learn also where the other prediction has most of the mean
        loss = (1 - of_own) * loss + of_own * own.log().mean()
        # the likelihood of the paths' errors, as a function of the factor on the variance alone
        of_entry = alone.detach() / (paths.entries * paths.seen.shape[3])
        variance = variance.clamp_min(1e-9)
        return loss + self.hparams["variance_share"] * (variance.log() + of_entry / variance).mean()

    def validation_step(self, batch: dict[str, Any], batch_idx: int) -> None:
        """Logs both means of the NMSE in dB, and the gain over the classic at its defaults."""
        paths: Paths = batch["paths"]
        assert paths.energy is not None
        assert paths.other is not None
        posterior, _, _, share = self.model.extrapolate(paths, paths.energy.shape[1], paths.other.variance)
        series = posterior.series()
        alone = paths.error(series)
        error = relative(paths.mixed_error(series, alone, share), paths.energy)
        classic = extrapolated(paths, paths.energy.shape[1], learn=1)
        start = relative(paths.error(classic.series()), paths.energy)
        self.log("val_nmse", error.mean(), batch_size=len(error))
        self.log("val_nmse_db", 10 * error.log10().mean(), batch_size=len(error))
        gain = 10 * (start.log10() - error.log10())
        self.log("val_gain_db", gain.mean(), prog_bar=True, batch_size=len(error))
        own = 10 * (start.log10() - relative(alone, paths.energy).log10())
        self.log("val_own_gain_db", own.mean(), batch_size=len(error))
        gain = 10 * (relative(paths.other.error, paths.energy).log10() - error.log10())
        self.log("val_gain_over_inside_db", gain.mean(), batch_size=len(error))

    def configure_optimizers(self):
        """AdamW, warm-up, cosine."""
        return configured_adamw(self)


def relative(error: Tensor, energy: Tensor) -> Tensor:
    """NMSE of each link ``[link]`` from energies ``[link, slot]``, at least -60 dB."""
    return (error.sum(1) / energy.sum(1).clamp_min(1e-12)).clamp_min(1e-6)


def without_inside(module: L.LightningModule, state: dict[str, Tensor], prefix: str, _: Any) -> None:
    """Takes the model inside out of a state."""
    for name in [name for name in state if name.startswith(f"{prefix}model.inside.")]:
        del state[name]


def missing_inside(module: L.LightningModule, keys: Any) -> None:
    """A state without it is whole."""
    keys.missing_keys[:] = [name for name in keys.missing_keys if "model.inside." not in name]
