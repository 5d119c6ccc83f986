"""Multi-user beamforming: train the learned precoder on noisy, old CSI for rates on the true channel."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import lightning as L
import torch
from torch import Tensor

from airlam.errors import CheckpointError
from airlam.metrics import UTILITIES, user_rates, utility
from airlam.models import (
    AirlamEstimator,
    AirlamModel,
    AirlamPrecoder,
    AirlamPrecoderConfig,
    AirlamPredictor,
    LearnedPrecoder,
    add_lora,
    load_checkpoint,
    load_learned_precoder,
)
from airlam.models.shared import check_start
from airlam.recipes import find_checkpoint
from airlam.tasks.lightning_files import described_task, load_state, read_lightning
from airlam.tasks.optimisation import configured_adamw

SOURCES = ("predicted", "denoised", "raw")


class Groups(NamedTuple):
    """Users served together, one group an entry.

    Attributes:
        truth: true channel ``complex64 [group, user, tx_ant]``. csi: the estimate of the base station.
        covariance: of the errors of ``csi`` ``[group, user, tx_ant, tx_ant]``. no: noise ``[group]`` at unit power.
    """

    truth: Tensor
    csi: Tensor
    covariance: Tensor
    no: Tensor


def draw_groups(drop: Tensor, users: Sequence[int], groups: int, generator: torch.Generator) -> Tensor:
    """Indices ``[group, user]`` of links that share a drop, all groups of one size drawn between the ends of ``users``.

    Raises:
        ValueError: a drop holds fewer links than the smallest group.
    """
    drops = [(drop == value).nonzero()[:, 0] for value in drop.unique()]
    fewest = min(len(links) for links in drops)
    if fewest < users[0]:
        raise ValueError(
            f"a drop of this batch holds {fewest} links, but groups have at least {users[0]} users; raise "
            "links_per_drop of the channel recipe, and make batch_size a multiple of it"
        )
    size = int(torch.randint(users[0], min(users[-1], fewest) + 1, (), generator=generator))
    members = []
    for _ in range(groups):
        links = drops[int(torch.randint(len(drops), (), generator=generator))]
        members.append(links[torch.randperm(len(links), generator=generator)[:size]])
    return torch.stack(members)


class Beamforming(L.LightningModule):
    """Train an :class:`~airlam.models.AirlamPrecoder` for a utility of the rates on the true channel.

    CSI comes from the measured history of each link, as the source drawn for a batch says: ``predicted`` for a later
    slot by a frozen predictor with its error covariance, the last slot ``denoised`` by the same network's estimates
    with theirs, or ``raw`` with white errors. Users of one group share a drop.

    Args:
        predictor: the frozen checkpoint that predicts and denoises.
        backbone: checkpoint whose pretrained backbone the precoder starts from; None: random weights.
        model: further arguments of :class:`~airlam.models.AirlamPrecoderConfig` (with ``backbone: null``, also its
            ``backbone``).
        checkpoint: a precoder to continue from, instead of ``backbone`` and ``model``.
        lora_rank: with ``checkpoint``: train adapters of this rank, freeze the rest.
        utility: ``sum_rate``, ``proportional_fair``, ``max_min`` (:func:`airlam.metrics.utility`).
        users: fewest and most users of a group. transmit_snr_db: range of power over noise [dB].
        groups: in a step. subcarriers: how many of a batch are looked at; each group draws one of them.
        sources: weights of the sources.
        learning_rate, warmup_steps, weight_decay: of AdamW; after the warm-up a cosine down to a hundredth.
        adapter_rank: with ``backbone``: its weights stay as they are and are shared (:mod:`airlam.models.shared`), with
            adapters of this rank; 0: without. None: they are trained, too.

    Logs ``val_utility`` [bit/s/Hz a user] and ``val_gain``, what is gained over robust regularised zero forcing.
    """

    def __init__(
        self,
        predictor: str = "airlam-tiny",
        backbone: str | None = "airlam-tiny",
        model: dict[str, Any] | None = None,
        checkpoint: str | None = None,
        lora_rank: int | None = None,
        utility: str = "sum_rate",
        users: Sequence[int] = (2, 12),
        transmit_snr_db: Sequence[float] = (0.0, 30.0),
        groups: int = 128,
        subcarriers: int = 4,
        sources: dict[str, float] | None = None,
        learning_rate: float = 5e-4,
        warmup_steps: int = 50,
        weight_decay: float = 0.01,
        adapter_rank: int | None = None,
    ):
        super().__init__()
        if utility not in UTILITIES:
            raise ValueError(f"utility is {utility!r}, but must be one of {', '.join(UTILITIES)}")
        if lora_rank is not None and checkpoint is None:
            raise ValueError("lora_rank adapts a trained precoder: name it as checkpoint")
        if not 1 <= users[0] <= users[-1]:
            raise ValueError(f"users must be the fewest and the most of a group, got {list(users)}")
        for source, weight in (sources or {}).items():
            if source not in SOURCES or not weight >= 0:
                raise ValueError(f"sources has {source}: {weight}, but takes weights >= 0 for {', '.join(SOURCES)}")
        check_start(adapter_rank, backbone, checkpoint)
        self.save_hyperparameters()
        if checkpoint is not None:
            made = load_learned_precoder(find_checkpoint(checkpoint))
            made.config.utility, made.config._name_or_path = utility, checkpoint
            made = made if lora_rank is None else add_lora(made, lora_rank)
        elif backbone is not None:
            made = AirlamPrecoder.from_backbone(
                load_checkpoint(find_checkpoint(backbone)), adapter_rank, utility=utility, **(model or {})
            )
        else:
            made = AirlamPrecoder(AirlamPrecoderConfig(utility=utility, **(model or {})))
        self.model = made.train()
        find_checkpoint(predictor)  # a name that does not exist is refused now, its weights are read when needed
        self._frozen: list[AirlamModel] = []  # a plain list: frozen, and no part of the checkpoints
        self._sums: list[Tensor] = []

    def training_step(self, batch: dict[str, Any], batch_idx: int) -> Tensor:
        """Minus the utility on the true channel: of the last round, and a little of those before."""
        rounds = self.worth(batch, torch.Generator().manual_seed(self.global_step))
        self.log("train_utility", rounds[-1].detach())
        self.log("train_gain", (rounds[-1] - rounds[0]).detach(), prog_bar=True)
        return self.loss_of(rounds)

    def worth(self, batch: dict[str, Any], generator: torch.Generator) -> list[Tensor]:
        """Utility on the true channel of the start and after each round, on groups drawn from a batch."""
        weights = self.hparams["sources"] or {"predicted": 0.6, "denoised": 0.25, "raw": 0.15}
        drawn = int(torch.multinomial(torch.tensor(list(weights.values())), 1, generator=generator))
        found = self.draw(batch, list(weights)[drawn], generator)
        return [self._utility(found, w) for w in self.model(found.csi, 1.0, found.no, found.covariance)]

    @staticmethod
    def loss_of(worth: list[Tensor]) -> Tensor:
        """Minus the utility of the last round, and a little of those before."""
        earlier = sum(worth[1:-1], torch.zeros_like(worth[0]))
        return -(worth[-1] + 0.3 * earlier)

    def _utility(self, found: Groups, w: Tensor) -> Tensor:
        return utility(user_rates(found.truth, w, found.no), self.hparams["utility"]).mean()

    def draw(self, batch: dict[str, Any], source: str, generator: torch.Generator) -> Groups:
        """Groups of one size from a batch of whole drops."""
        h = self.hparams
        truth, csi, covariance = self.believe(batch, source, generator)
        who = draw_groups(batch["drop"], h["users"], h["groups"], generator)
        slot, tone = (torch.randint(n, (h["groups"], 1), generator=generator) for n in truth.shape[1:3])
        low, high = h["transmit_snr_db"][0], h["transmit_snr_db"][-1]
        snr_db = low + (high - low) * torch.rand(h["groups"], generator=generator)
        return Groups(truth[who, slot, tone], csi[who, slot, tone], covariance[who, slot, tone], 10 ** (-snr_db / 10))

    def _source(self) -> AirlamModel:
        """The frozen network that CSI comes from, read from its checkpoint at first use."""
        if not self._frozen:
            with torch.random.fork_rng(devices=[]):
                self._frozen = [load_checkpoint(find_checkpoint(self.hparams["predictor"]))]
        return self._frozen[0]

    @torch.no_grad()
    def believe(self, batch: dict[str, Any], source: str, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
        """Truth, CSI and error covariance ``[link, slot, tone, ...]`` of some tones, receive antenna 0; links scaled to
        unit mean power of their true history, as transmit SNR is defined."""
        past, clean, count = batch["h_past"], batch["h_past_true"], batch["h_past"].shape[2]
        tones = torch.randperm(count, generator=generator)[: self.hparams["subcarriers"]].sort().values
        if source == "predicted":
            future = batch["h_future"]
            predictor = AirlamPredictor(self._source())
            csi, covariance = predictor.predict_with_covariance(
                past, future.shape[1], port_shape=batch["port_shape"], subcarriers=tones
            )
            truth = future[:, :, tones]
        else:
            truth, csi = clean[:, -1:, tones], past[:, -1:]
            if source == "denoised":
                estimator = AirlamEstimator(self._source())
                csi, covariance = estimator.estimate_with_covariance(csi, port_shape=batch["port_shape"])
                csi, covariance = csi[:, :, tones], covariance[:, :, tones]
            else:
                csi, ports = csi[:, :, tones], past.shape[-1]
                noise = 10 ** (-batch["csi_snr_db"] / 10) * clean.abs().square().mean((1, 2, 3, 4))
                eye = torch.eye(ports, dtype=csi.dtype, device=csi.device)
                covariance = (noise[:, None, None, None, None, None] * eye).expand(*csi.shape, ports)
        power = clean.abs().square().mean((1, 2, 3, 4))[:, None, None, None]
        scale = power.clamp_min(1e-30).rsqrt()
        return (
            truth[..., 0, :] * scale,
            csi[..., 0, :] * scale,
            covariance[..., 0, :, :] * scale.square()[..., None],
        )

    def validation_step(self, batch: dict[str, Any], batch_idx: int) -> None:
        """Collect utilities of the start and of the safe choice, the same groups in every epoch."""
        generator = torch.Generator().manual_seed(batch_idx)
        self._sums.append(self.compare(batch, SOURCES[batch_idx % 2], generator))

    @torch.no_grad()
    def compare(self, batch: dict[str, Any], source: str, generator: torch.Generator) -> Tensor:
        """Utility of the safe choice, and of the start, on the same groups."""
        found = self.draw(batch, source, generator)
        start = self.model(found.csi, 1.0, found.no, found.covariance)[0]
        w = LearnedPrecoder(self.model).precode(found.csi, 1.0, found.no, error_covariance=found.covariance)
        return torch.stack([self._utility(found, w), self._utility(found, start)])

    def on_validation_epoch_end(self) -> None:
        """Log the epoch."""
        if not self._sums:
            return
        reached, start = torch.stack(self._sums).mean(0)
        self._sums.clear()
        self.log("val_utility", reached, prog_bar=True)
        self.log("val_gain", reached - start, prog_bar=True)

    def configure_optimizers(self):
        """AdamW over the trainable parameters, warm-up, cosine."""
        return configured_adamw(self)

    @classmethod
    def model_from_lightning(cls, path: str) -> AirlamPrecoder:
        """The precoder in a Lightning ``.ckpt`` of this task, adapters merged; read with ``weights_only=True``."""
        saved = read_lightning(path)
        known = {"backbone", "model", "checkpoint", "lora_rank", "utility", "adapter_rank"}
        if "groups" not in saved["hyper_parameters"]:
            raise CheckpointError(f"{path} is no checkpoint of the task Beamforming")
        arguments = {key: value for key, value in saved["hyper_parameters"].items() if key in known}
        task = described_task(cls, path, saved, arguments)
        load_state(task, path, saved["state_dict"])
        model = task.model
        return (model if isinstance(model, AirlamPrecoder) else model.merge_and_unload()).eval()
