"""Beam management: train the network that predicts the best beams from few, noisy measurements."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import lightning as L
import torch
from torch import Tensor

from airlam.csi import beam_power, dft_codebook, measure_beams, sweep_schedule
from airlam.models import AirlamBeams, AirlamBeamsConfig, load_beams, load_checkpoint
from airlam.models.shared import check_start
from airlam.recipes import find_checkpoint
from airlam.tasks.optimisation import configured_adamw


class BeamManagement(L.LightningModule):
    """Train an :class:`~airlam.models.AirlamBeams` on tracks, channels with ``tracks: true``.

    Each batch draws how many beams a sweep measures, in which order, and at which SNR. The loss is the cross-entropy of
    the best beam plus ``rate_share`` times the expected loss of rate.

    Args:
        backbone: checkpoint whose pretrained backbone is the start; None: random weights.
        model: arguments of :class:`~airlam.models.AirlamBeamsConfig`, ``history`` and ``horizon`` among them.
        checkpoint: a network of this kind to continue from, instead of ``backbone``.
        beams_per_sweep: range, of all beams (logarithmic). snr_db: range of the SNR per antenna port [dB].
        rate_share: weight of the expected loss of rate [bit/s/Hz].
        learning_rate, warmup_steps, weight_decay: of AdamW; after the warm-up a cosine down to a hundredth.
        adapter_rank: with ``backbone``: its weights stay as they are and are shared (:mod:`airlam.models.shared`), with
            adapters of this rank; 0: without. None: they are trained, too.

    Logs ``val_top1``, and ``val_top1_start`` of the average that it starts from; ``val_rate_gain`` [bit/s/Hz] over it.
    """

    def __init__(
        self,
        backbone: str | None = "airlam-tiny",
        model: dict[str, Any] | None = None,
        checkpoint: str | None = None,
        beams_per_sweep: Sequence[int] = (4, 64),
        snr_db: Sequence[float] = (-15.0, 15.0),
        rate_share: float = 0.5,
        learning_rate: float = 1e-3,
        warmup_steps: int = 50,
        weight_decay: float = 0.01,
        adapter_rank: int | None = None,
    ):
        super().__init__()
        if not 1 <= beams_per_sweep[0] <= beams_per_sweep[-1]:
            raise ValueError(f"beams_per_sweep must be the fewest and the most, got {list(beams_per_sweep)}")
        if not snr_db or not snr_db[0] <= snr_db[-1]:
            raise ValueError(f"snr_db must be the lowest and the highest, got {list(snr_db)}")
        known = {"backbone", "history", "horizon", "memory"}
        if unknown := sorted(set(model or {}) - known):
            raise ValueError(f"model has no argument {unknown[0]!r}; it has {', '.join(sorted(known))}")
        if checkpoint is not None and model:
            raise ValueError("checkpoint brings its own sizes; leave model out")
        check_start(adapter_rank, backbone, checkpoint)
        self.save_hyperparameters()
        if checkpoint is not None:
            made = load_beams(find_checkpoint(checkpoint))
        elif backbone is not None:
            made = AirlamBeams.from_backbone(load_checkpoint(find_checkpoint(backbone)), adapter_rank, **(model or {}))
        else:
            made = AirlamBeams(AirlamBeamsConfig(**(model or {})))
        self.model = made.train()
        self._hits: list[Tensor] = []

    def _draw(self, batch: dict[str, Any], generator: torch.Generator) -> dict[str, Any]:
        """Measurements, the true power of what comes, and the noise."""
        hp, config = self.hparams, self.model.config
        past, future = batch["h_past_true"], batch["h_future"]
        if past.shape[1] < config.history or future.shape[1] < config.horizon:
            raise ValueError(
                f"the data has {past.shape[1]} + {future.shape[1]} slots, but the model needs history "
                f"{config.history} and horizon {config.horizon}"
            )
        past, future = past[:, -config.history :], future[:, : config.horizon]
        # in units of the history's mean power: what comes must not set the level of what is measured
        level = past.abs().square().mean((1, 2, 3, 4), keepdim=True).clamp_min(1e-12).sqrt()
        past, future = past / level, future / level
        codebook = dft_codebook(tuple(batch["port_shape"]))
        low, high = hp["snr_db"][0], hp["snr_db"][-1]
        noise = 10 ** (-(low + (high - low) * float(torch.rand((), generator=generator))) / 10)
        beams = codebook.shape[1]
        few, most = (min(n, beams) for n in (hp["beams_per_sweep"][0], hp["beams_per_sweep"][-1]))
        count = round(few * (most / few) ** float(torch.rand((), generator=generator)))
        measured = sweep_schedule(beams, count, config.history, generator)
        return dict(
            power=measure_beams(past, codebook, noise, generator),
            measured=measured,
            future=beam_power(future, codebook) / noise,
            port_shape=batch["port_shape"],
        )

    def training_step(self, batch: dict[str, Any], batch_idx: int) -> Tensor:
        """One draw of measurements for one batch."""
        d = self._draw(batch, torch.Generator().manual_seed(self.global_step))
        logits = self.model(d["power"], d["measured"], port_shape=d["port_shape"])
        best = d["future"].argmax(-1)
        entropy = torch.nn.functional.cross_entropy(logits.flatten(0, 1), best.flatten())
        rate = (1 + d["future"]).log2()
        lost = rate.amax(-1) - (logits.softmax(-1) * rate).sum(-1)
        self.log("train_entropy", entropy.detach(), prog_bar=True)
        self.log("train_lost_rate", lost.detach().mean(), prog_bar=True)
        return entropy + self.hparams["rate_share"] * lost.mean()

    def validation_step(self, batch: dict[str, Any], batch_idx: int) -> None:
        """Count hits with and without the network, the same measurements in every epoch."""
        d = self._draw(batch, torch.Generator().manual_seed(batch_idx))
        best = d["future"].argmax(-1)
        found = self.model(d["power"], d["measured"], port_shape=d["port_shape"]).argmax(-1)
        start = self.model.start.scores(d["power"], d["measured"], best.shape[1]).argmax(-1)
        rates = [(1 + d["future"].gather(-1, x[..., None])).log2().mean((1, 2)) for x in (found, start)]
        self._hits.append(torch.stack([*((x == best).float().mean(1) for x in (found, start)), rates[0] - rates[1]]))

    def on_validation_epoch_end(self) -> None:
        """Log the epoch."""
        if not self._hits:
            return
        reached, start, gain = torch.cat(self._hits, 1).mean(1)
        self._hits.clear()
        self.log("val_top1", reached, prog_bar=True)
        self.log("val_top1_start", start, prog_bar=True)
        self.log("val_rate_gain", gain, prog_bar=True)

    def configure_optimizers(self):
        """AdamW, warm-up, cosine."""
        return configured_adamw(self)
