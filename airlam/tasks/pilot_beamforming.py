"""Beamforming from pilots: train the network that reads pilots, for the rate on the true channel."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import lightning as L
import torch
from torch import Tensor

from airlam.csi import observe_pilots, phase_combiner
from airlam.metrics import user_rates
from airlam.models import (
    AirlamPilots,
    AirlamPilotsConfig,
    load_checkpoint,
    load_learned_precoder,
    load_pilots,
)
from airlam.models.shared import check_start
from airlam.recipes import find_checkpoint
from airlam.tasks.beamforming import draw_groups
from airlam.tasks.optimisation import configured_adamw


class PilotBeamforming(L.LightningModule):
    """Train an :class:`~airlam.models.AirlamPilots` through a frozen learned precoder.

    Half of the drops of each batch only serve to compute the long-term covariance of their cell. The users of the other
    drops send pilots and are precoded for. The loss is minus their mean rate plus ``nmse_share`` times the logarithm of
    the NMSE, which makes training more stable.

    Args:
        precoder: the frozen precoder.
        backbone: checkpoint whose pretrained backbone is the start; None: random weights.
        model: arguments of :class:`~airlam.models.AirlamPilotsConfig`, with ``backbone: null``.
        checkpoint: a network of this kind to continue from, instead of ``backbone``.
        users: fewest and most users of a group. transmit_snr_db: range of power over noise [dB].
        pilot_share: range of the number of pilots over that of antennas. pilot_snr_db: range of the pilots' SNR [dB].
        unknown_covariance: probability that nothing is known of the cell.
        nmse_share: of the loss.
        groups: in a step. subcarriers: each group is precoded on.
        learning_rate, warmup_steps, weight_decay: of AdamW; after the warm-up a cosine down to a hundredth.
        adapter_rank: with ``backbone``: its weights stay as they are and are shared (:mod:`airlam.models.shared`), with
            adapters of this rank; 0: without. None: they are trained, too.

    Logs ``val_nmse_db`` and ``val_gain_db``, what is gained over the separable start.
    """

    def __init__(
        self,
        precoder: str = "airlam-precoder",
        backbone: str | None = "airlam-tiny",
        model: dict[str, Any] | None = None,
        checkpoint: str | None = None,
        users: Sequence[int] = (2, 8),
        transmit_snr_db: Sequence[float] = (10.0, 30.0),
        pilot_share: Sequence[float] = (0.125, 1.0),
        pilot_snr_db: Sequence[float] = (0.0, 30.0),
        unknown_covariance: float = 0.15,
        nmse_share: float = 0.5,
        groups: int = 64,
        subcarriers: int = 2,
        learning_rate: float = 5e-4,
        warmup_steps: int = 50,
        weight_decay: float = 0.01,
        adapter_rank: int | None = None,
    ):
        super().__init__()
        if not 0 < pilot_share[0] <= pilot_share[-1] <= 1:
            raise ValueError(f"pilot_share must lie in (0, 1], got {list(pilot_share)}")
        if not 1 <= users[0] <= users[-1]:
            raise ValueError(f"users must be the fewest and the most of a group, got {list(users)}")
        if not 0 <= unknown_covariance <= 1:
            raise ValueError(f"unknown_covariance must lie in [0, 1], got {unknown_covariance}")
        check_start(adapter_rank, backbone, checkpoint)
        self.save_hyperparameters()
        if checkpoint is not None:
            made = load_pilots(find_checkpoint(checkpoint))
        elif backbone is not None:
            made = AirlamPilots.from_backbone(load_checkpoint(find_checkpoint(backbone)), adapter_rank)
        else:
            made = AirlamPilots(AirlamPilotsConfig(**(model or {})))
        self.model = made.train()
        self._frozen = [load_learned_precoder(find_checkpoint(precoder)).requires_grad_(False)]
        self._sums: list[Tensor] = []

    def _pilots(self, batch: dict[str, Any], generator: torch.Generator) -> dict[str, Any]:
        """Users that are judged, their pilots, and what is known of the cell."""
        h = self.hparams
        truth = batch["h_past_true"][:, -1, :, 0]
        truth = truth / truth.abs().square().mean((1, 2), keepdim=True).sqrt().clamp_min(1e-15)
        drops = batch["drop"].unique()
        if len(drops) < 2:
            raise ValueError("a batch holds one drop only; make batch_size at least twice links_per_drop")
        known = torch.isin(batch["drop"], drops[: len(drops) // 2])
        antenna = torch.einsum("ufa,ufb->ab", truth[known], truth[known].conj())
        tone = torch.einsum("ufa,uga->fg", truth[known], truth[known].conj())
        if float(torch.rand((), generator=generator)) < h["unknown_covariance"]:
            antenna = tone = None
        ports = truth.shape[-1]
        shares = [max(1, round(share * ports)) for share in (h["pilot_share"][0], h["pilot_share"][-1])]
        count = int(torch.randint(shares[0], shares[1] + 1, (), generator=generator))
        combiner = phase_combiner(count, ports, generator)
        low, high = h["pilot_snr_db"][0], h["pilot_snr_db"][-1]
        noise = 10 ** (-(low + (high - low) * float(torch.rand((), generator=generator))) / 10)
        mine = truth[~known]
        return dict(
            truth=mine,
            drop=batch["drop"][~known],
            y=observe_pilots(mine, combiner, noise, generator),
            combiner=combiner,
            noise=noise,
            antenna=antenna,
            tone=tone,
            port_shape=batch["port_shape"],
        )

    def _estimate(self, p: dict[str, Any], correction: bool = True) -> tuple[Tensor, Tensor, Tensor]:
        """Channel, covariance, and the NMSE of each user."""
        h, covariance = self.model(
            p["y"],
            p["combiner"],
            p["noise"],
            port_shape=p["port_shape"],
            antenna_covariance=p["antenna"],
            tone_covariance=p["tone"],
            correction=correction,
        )
        return h, covariance, (h - p["truth"]).abs().square().mean((1, 2))

    def training_step(self, batch: dict[str, Any], batch_idx: int) -> Tensor:
        """One draw of pilots for one batch."""
        generator, hp = torch.Generator().manual_seed(self.global_step), self.hparams
        p = self._pilots(batch, generator)
        h, covariance, error = self._estimate(p)
        who = draw_groups(p["drop"], hp["users"], hp["groups"], generator)
        tones = torch.randint(h.shape[1], (hp["subcarriers"],), generator=generator)
        rows, truth = (x[who][:, :, tones].transpose(1, 2) for x in (h, p["truth"]))  # [group, tone, user, tx_ant]
        spread = covariance[who][:, :, tones].transpose(1, 2)
        low, high = hp["transmit_snr_db"][0], hp["transmit_snr_db"][-1]
        no = 10 ** (-(low + (high - low) * torch.rand(len(who), 1, generator=generator)) / 10).expand(*rows.shape[:2])
        rate = user_rates(truth, self._frozen[0](rows, 1.0, no, spread)[-1], no).mean()
        self.log("train_rate", rate.detach(), prog_bar=True)
        self.log("train_nmse_db", 10 * error.detach().log10().mean(), prog_bar=True)
        return hp["nmse_share"] * error.log().mean() - rate

    def validation_step(self, batch: dict[str, Any], batch_idx: int) -> None:
        """Collect errors with and without the network, the same pilots in every epoch."""
        p = self._pilots(batch, torch.Generator().manual_seed(batch_idx))
        self._sums.append(torch.stack([self._estimate(p)[2].log10(), self._estimate(p, False)[2].log10()]))

    def on_validation_epoch_end(self) -> None:
        """Log the epoch."""
        if not self._sums:
            return
        reached, start = 10 * torch.cat(self._sums, 1).mean(1)
        self._sums.clear()
        self.log("val_nmse_db", reached, prog_bar=True)
        self.log("val_gain_db", start - reached, prog_bar=True)

    def configure_optimizers(self):
        """AdamW, warm-up, cosine."""
        return configured_adamw(self)
