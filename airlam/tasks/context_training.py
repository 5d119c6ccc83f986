"""Contexts of CSI reports: train the frequencies of an arithmetic code on the reports that a search finds with them."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence
from typing import Any

import lightning as L
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from airlam.baselines.type2 import orthogonal_groups
from airlam.csi import subband_eigenvectors
from airlam.models.csi_codec.contexts import FEATURES, SIZES, Places, places
from airlam.models.csi_codec.network import SizeNetwork
from airlam.models.csi_codec.search import Effort, search
from airlam.tasks.optimisation import configured_adamw

EFFORT = Effort(1)  # of the search in training: one start
LN2 = math.log(2)


class ContextTraining(L.LightningModule):
    """Train the :class:`~airlam.models.csi_codec.network.SizeNetwork` of a
    :class:`~airlam.models.csi_codec.ContextCodec`.

    Each batch is searched for reports of a random number of bits with the frequencies learned so far; half of the
    batches are cut to a smaller array and band. The loss is the mean length of the sizes' code, over these reports and
    some of batches before: to search takes ten times as long as to learn.

    Args:
        subband: subcarriers that share a vector.
        bits: the fewest and the most bits of a report.
        kept, again: batches that are kept, and of them how many every step learns from again.
        learning_rate, warmup_steps, weight_decay: of AdamW; after the warm-up a cosine down to a hundredth.

    Logs ``train_bits`` and ``val_bits``, bits of a report's sizes, and ``val_sgcs``, of
    reports whose bits are the geometric mean of the fewest and the most.
    """

    def __init__(
        self,
        subband: int = 4,
        bits: Sequence[int] = (14, 490),
        kept: int = 100,
        again: int = 3,
        learning_rate: float = 2e-3,
        warmup_steps: int = 20,
        weight_decay: float = 1e-4,
    ):
        super().__init__()
        if len(bits) != 2 or not 8 <= bits[0] <= bits[1]:
            raise ValueError(f"bits is {list(bits)}, but must be the fewest, at least 8, and the most of a report")
        if not 0 <= again <= kept:
            raise ValueError(f"again is {again}, but must be between 0 and kept ({kept})")
        self.save_hyperparameters()
        self.model = SizeNetwork()
        self.seen: deque[tuple[Places, NDArray, NDArray]] = deque(maxlen=kept or 1)

    def training_step(self, batch: dict[str, Any], batch_idx: int) -> Tensor:
        """Search one batch, learn from it and from some before."""
        draw = np.random.default_rng(self.global_step)
        v, shape = self._cut(batch, draw)
        low, high = (math.log(bits) for bits in self.hparams["bits"])
        high = min(high, math.log(1.3 * math.prod(shape) * v.shape[1]))
        found, _ = self._search(v, shape, math.exp(draw.uniform(low, max(low, high))))
        count = min(self.hparams["again"], len(self.seen))
        old = [self.seen[k] for k in draw.choice(len(self.seen), count, replace=False)] if count else []
        self.seen.append(found)
        lengths = [self._length(*one) for one in (found, *old)]
        self.log("train_bits", lengths[0].detach().sum(0).mean(), prog_bar=True)
        return torch.cat([length.flatten() for length in lengths]).mean()

    def validation_step(self, batch: dict[str, Any], batch_idx: int) -> None:
        """Reports of one size on the whole array."""
        bits = math.sqrt(math.prod(self.hparams["bits"]))
        found, score = self._search(self._vectors(batch), tuple(batch["port_shape"]), bits)
        self.log("val_bits", self._length(*found).sum(0).mean(), prog_bar=True)
        self.log("val_sgcs", float(score.mean()), prog_bar=True)

    def configure_optimizers(self):
        """AdamW, warm-up, cosine."""
        return configured_adamw(self)

    def _vectors(self, batch: dict[str, Any]) -> Tensor:
        """``[link, subband, tx_ant]`` of the last measured slot."""
        return subband_eigenvectors(batch["h_past"][:, -1], self.hparams["subband"])[..., 0]

    def _cut(self, batch: dict[str, Any], draw: np.random.Generator) -> tuple[Tensor, tuple[int, int, int]]:
        """Vectors of a batch, of half of the batches those of a smaller array and band."""
        v, (p, c, r) = self._vectors(batch), batch["port_shape"]
        if draw.random() < 0.5:
            return v, (p, c, r)
        fewer = [int(draw.integers(least, n + 1)) for least, n in ((1, p), (min(2, c), c), (1, r))]
        subbands = int(draw.integers(min(5, v.shape[1]), v.shape[1] + 1))
        part = v[:, :subbands].unflatten(-1, (p, c, r))[..., : fewer[0], : fewer[1], : fewer[2]]
        return part.flatten(-3), (fewer[0], fewer[1], fewer[2])

    def _search(
        self, v: Tensor, port_shape: tuple[int, int, int], bits: float
    ) -> tuple[tuple[Places, NDArray, NDArray], NDArray]:
        place = places(port_shape, v.shape[1])
        groups = orthogonal_groups(*port_shape[1:]).numpy()
        found = search(v.cpu().numpy(), bits, self.model.rounded(), place, groups, EFFORT)
        return (place, found.sizes, found.step), found.score

    def _length(self, place: Places, sizes: NDArray, step: NDArray) -> Tensor:
        """Bits of each size, ``[coefficient, link]``."""
        features = torch.from_numpy(place.features(sizes, step).astype(np.float32)).to(self.device)
        told = torch.from_numpy(np.minimum(sizes, SIZES - 1)).to(self.device)
        logits = LN2 * self.model(features.reshape(-1, FEATURES))
        return torch.nn.functional.cross_entropy(logits, told.flatten(), reduction="none").view(told.shape) / LN2
