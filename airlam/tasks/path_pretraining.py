"""Training of the network that reads paths, for the error of what they predict: no label of a path is needed."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Any

import lightning as L
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from airlam.baselines.path_fit import PathFit, Search
from airlam.baselines.path_series import Paths, as_panel
from airlam.baselines.paths import SPREAD, extrapolated
from airlam.csi import check_port_shape, normalise
from airlam.io import replacing
from airlam.models import AirlamPaths, AirlamPathsConfig, load_checkpoint, load_paths
from airlam.models.phase_tracker import PhaseTracker
from airlam.recipes import find_checkpoint
from airlam.tasks.optimisation import configured_adamw
from airlam.tasks.pretraining import draw_window

VARIANCE_EVERY = 4  # steps: to invert the system costs as much as the rest of a step


class FindPaths:
    """Finds the paths of a batch: ``prepare`` of :class:`airlam.data.CSIDataModule`.

    To find paths takes ten times as long as to train on them, so what was found is kept in files and found there when
    a batch comes again.

    Args:
        folder: where shifts of paths are kept; ``None``: nowhere.
        tracker: the checkpoint whose phase tracker goes over histories first; ``None``: nothing does.
        history, horizon, min_history: see :class:`airlam.tasks.Pretraining`; drawn for each batch.
        num_paths, threshold, rounds, final: as in :class:`airlam.models.AirlamPathsConfig`.
    """

    def __init__(
        self,
        folder: str | None = None,
        tracker: str | None = "airlam-tiny",
        history: int | None = None,
        horizon: int | None = None,
        min_history: int = 6,
        num_paths: int = 80,
        threshold: float = 12.0,
        rounds: int = 14,
        final: int = 8,
    ) -> None:
        self.folder = None if folder is None else Path(folder)
        self.search = Search(num_paths, threshold, rounds, final=final)
        self.tracker: PhaseTracker | None = (
            None if tracker is None else load_checkpoint(find_checkpoint(tracker)).tracker
        )
        self.window = (history, horizon, min_history)

    @torch.no_grad()
    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        """The batch with ``paths``, a :class:`airlam.baselines.path_series.Paths` with the truth, in the place of
        CSI."""
        generator = torch.Generator().manual_seed(int(batch["index"][0]))
        past, _, future = draw_window(batch, generator, *self.window)
        shape = check_port_shape(past.shape[-1], batch["port_shape"])
        x, scale = normalise(past)
        x = x if self.tracker is None else self.tracker(x)
        data = as_panel(x, shape)
        shift, live, noise = self.found(data)
        paths = Paths.at(data, shift, live, noise, as_panel(future / scale, shape))
        kept = {name: value for name, value in batch.items() if not name.startswith("h_")}
        return {**kept, "paths": paths}

    def found(self, data: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Shifts of the paths, which there are, and the noise: from the folder, or found now."""
        if self.folder is None:
            return self._find(data)
        key = hashlib.sha256(repr((self.search, tuple(data.shape))).encode())
        key.update(torch.view_as_real(data).numpy().tobytes())
        path = self.folder / f"{key.hexdigest()[:32]}.safetensors"
        if os.path.isfile(path):
            with safe_open(path, framework="pt") as file:
                return file.get_tensor("shift"), file.get_tensor("live"), file.get_tensor("noise")
        shift, live, noise = self._find(data)
        self.folder.mkdir(parents=True, exist_ok=True)
        with replacing(path) as work:
            save_file({"shift": shift, "live": live, "noise": noise}, work)
        return shift, live, noise

    def _find(self, data: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        parts = [Paths.of(PathFit.of(part, self.search)) for part in data.split(16)]
        most = max(part.live.shape[1] for part in parts)
        shift = [torch.nn.functional.pad(part.shift, (0, 0, 0, most - part.shift.shape[1])) for part in parts]
        live = [torch.nn.functional.pad(part.live, (0, most - part.live.shape[1])) for part in parts]
        return torch.cat(shift), torch.cat(live), torch.cat([part.noise for part in parts])


class PathPretraining(L.LightningModule):
    """Train an :class:`~airlam.models.AirlamPaths` on batches that :class:`FindPaths` prepared.

    The loss is the mean over links of ``log NMSE`` mixed with the logarithm of its mean: the first counts a decibel
    alike on every link, the second counts hard links more. A small share is the likelihood of the error's variance.

    Args:
        model: fields of :class:`~airlam.models.AirlamPathsConfig`; its search must be that of :class:`FindPaths`.
        backbone: the checkpoint whose backbone (and phase tracker) is the start; ``None``: random weights.
        checkpoint: an ``airlam-paths`` folder to go on from; ``model`` and ``backbone`` must then be empty.
        linear_share: weight of the logarithm of the mean.
        variance_share: weight of the likelihood, in every fourth step.
        learning_rate, warmup_steps, weight_decay, attention: see :class:`airlam.tasks.Pretraining`.
    """

    def __init__(
        self,
        model: dict[str, Any] | None = None,
        backbone: str | None = None,
        checkpoint: str | None = None,
        linear_share: float = 0.25,
        variance_share: float = 0.1,
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
        if checkpoint is not None and (model or backbone):
            raise ValueError("give either model and backbone (a new one) or checkpoint (to go on from it), not both")
        self.save_hyperparameters()
        if checkpoint is not None:
            self.model = load_paths(checkpoint)
        elif backbone is not None:
            self.model = AirlamPaths.from_backbone(load_checkpoint(find_checkpoint(backbone)), **(model or {}))
        else:
            self.model = AirlamPaths(AirlamPathsConfig(**(model or {})))
        if attention is not None:
            self.model.backbone.set_attn_implementation(attention)
        self.model.train()

    def training_step(self, batch: dict[str, Any], batch_idx: int) -> Tensor:
        """One prepared batch."""
        paths: Paths = batch["paths"]
        assert paths.energy is not None
        posterior, factor = self.model.extrapolate(paths, paths.energy.shape[1])
        by_slot = paths.error(posterior.series())
        error = relative(by_slot, paths.energy)
        self.log("train_nmse_db", 10 * torch.log10(error.detach()).mean(), prog_bar=True)
        share = self.hparams["linear_share"]
        loss = (1 - share) * error.log().mean() + share * error.mean().log()
        if self.global_step % VARIANCE_EVERY:
            return loss
        # the likelihood of the errors of entries, as a function of the factor alone
        of_entry = by_slot.detach() / (paths.entries * paths.seen.shape[3])
        variance = (posterior.variance() * factor[:, None]).clamp_min(1e-9)
        return loss + self.hparams["variance_share"] * (variance.log() + of_entry / variance).mean()

    def validation_step(self, batch: dict[str, Any], batch_idx: int) -> None:
        """Logs both means of the NMSE in dB, and the gain over the classic at its defaults."""
        paths: Paths = batch["paths"]
        assert paths.energy is not None
        posterior, _ = self.model.extrapolate(paths, paths.energy.shape[1])
        error = relative(paths.error(posterior.series()), paths.energy)
        classic = extrapolated(paths, paths.energy.shape[1], SPREAD, 1.0)
        start = relative(paths.error(classic.series()), paths.energy)
        self.log("val_nmse", error.mean(), batch_size=len(error))
        self.log("val_nmse_db", 10 * error.log10().mean(), batch_size=len(error))
        gain = 10 * (start.log10() - error.log10())
        self.log("val_gain_db", gain.mean(), prog_bar=True, batch_size=len(error))

    def configure_optimizers(self):
        """AdamW, warm-up, cosine."""
        return configured_adamw(self)


def relative(error: Tensor, energy: Tensor) -> Tensor:
    """NMSE of each link ``[link]`` from energies ``[link, slot]``, at least -60 dB."""
    return (error.sum(1) / energy.sum(1).clamp_min(1e-12)).clamp_min(1e-6)
