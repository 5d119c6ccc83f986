"""The DataModule of one site: users with known positions train, others of the same site judge."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader, TensorDataset

from airlam.csi import SiteCSI
from airlam.data.batches import TrainLoader
from airlam.data.recipe import SPLITS
from airlam.data.resuming import ResumingDataModule
from airlam.data.site import draw_users, site_recipe, usual_power, with_noise
from airlam.errors import RecipeError
from airlam.recipes import check_number
from airlam.seeds import noise_seed

Fields = tuple[Tensor, ...]


class SiteDataModule(ResumingDataModule):
    """Train, validation and test users of one site, from a channel recipe with stations.

    Unlike the links of :class:`~airlam.data.CSIDataModule`, the users of all splits stand in one drop: they see the
    same surroundings. Each user belongs to one split. Users are made at every start, and kept in memory.

    A batch is a tuple of tensors, one row a user: ``h complex64 [user, station, subcarrier, tx_ant]`` in units of the
    noise and ``position [user, 3]`` m, or what ``prepare`` makes of the users. Validation and test are one batch each.

    Args:
        channel: name of a recipe with ``stations``, a path, or the recipe itself.
        channel_overrides: keys of the channel recipe to change.
        num_train: users with known positions. num_val, num_test: others.
        csi_snr_db: SNR [dB] of a tone and port at the strongest station of the median user; noise is alike everywhere.
        batch_size: training users in a batch, drawn anew for each.
        batches_per_epoch: length of an epoch.
        seed: of users, noise and batches.
        prepare: called once with the users of each split (``train``, ``val``, ``test``); gives the tensors of each,
            one row a user. See :class:`airlam.tasks.PositionStarts`.

    Raises:
        RecipeError: a value is out of bounds, or a channel without stations.

    Example:
        >>> data = SiteDataModule("inf_dh_site", num_train=9, num_val=9, num_test=9)    # doctest: +SKIP
        >>> data.setup("fit"); [x.shape for x in next(iter(data.val_dataloader()))]     # doctest: +SKIP
        [torch.Size([9, 6, 96, 8]), torch.Size([9, 3])]
    """

    def __init__(
        self,
        channel: str | dict[str, Any],
        channel_overrides: dict[str, Any] | None = None,
        num_train: int = 90,
        num_val: int = 200,
        num_test: int = 300,
        csi_snr_db: float = 20.0,
        batch_size: int = 32,
        batches_per_epoch: int = 25,
        seed: int = 0,
        prepare: Callable[[dict[str, SiteCSI]], dict[str, Fields]] | None = None,
    ) -> None:
        super().__init__()
        counts = (("num_train", num_train, 4), ("num_val", num_val, 1), ("num_test", num_test, 1))
        for name, value, low in (
            *counts,
            ("batch_size", batch_size, 1),
            ("batches_per_epoch", batches_per_epoch, 1),
            ("seed", seed, 0),
        ):
            check_number(name, value, low, math.inf, integer=True)
        self.csi_snr_db = check_number("csi_snr_db", csi_snr_db, -40, 100, unit="dB")
        self.recipe = site_recipe(channel, channel_overrides)
        self.counts = dict(zip(SPLITS, (num_train, num_val, num_test), strict=True))
        self.batch_size, self.batches_per_epoch, self.seed = batch_size, batches_per_epoch, seed
        self.prepare = prepare or _as_measured
        self._fields: dict[str, Fields] = {}

    def users(self) -> dict[str, SiteCSI]:
        """The measured CSI of each split; the same at every call."""
        true = draw_users(self.recipe, sum(self.counts.values()), self.seed)
        csi = with_noise(true, usual_power(true), self.csi_snr_db, noise_seed(self.seed, 1))
        found, start = {}, 0
        for split, count in self.counts.items():
            found[split] = csi[start : start + count]
            start += count
        return found

    def setup(self, stage: str | None = None) -> None:
        """Makes users and prepares them, once."""
        if not self._fields:
            fields = self.prepare(self.users())
            for split, count in self.counts.items():
                sizes = {len(x) for x in fields[split]}
                if sizes != {count}:
                    raise RecipeError(f"prepare gave tensors of {sorted(sizes)} rows for {count} {split} users")
            self._fields = fields

    def train_dataloader(self) -> TrainLoader:
        """Random users without end, fixed by the seed; see :class:`~airlam.data.batches.TrainLoader`."""
        self.setup()
        source = _RandomUsers(self._fields["train"], self.batch_size, self.seed)
        return self.resumed(source, self.batches_per_epoch)

    def val_dataloader(self) -> DataLoader:
        return self._whole("val")

    def test_dataloader(self) -> DataLoader:
        return self._whole("test")

    def predict_dataloader(self) -> DataLoader:
        return self._whole("test")

    def _whole(self, split: str) -> DataLoader:
        """One batch: medians over users would otherwise depend on its size."""
        self.setup()
        return DataLoader(TensorDataset(*self._fields[split]), batch_size=self.counts[split])


class _RandomUsers:
    """Batch ``number`` holds random users; it is always the same."""

    def __init__(self, fields: Fields, batch_size: int, seed: int) -> None:
        self.fields, self.seed = fields, seed
        self.count = len(fields[0])
        self.batch_size = min(batch_size, self.count)

    def batch(self, number: int) -> Fields:
        generator = torch.Generator().manual_seed(noise_seed(self.seed, 2, number))
        some = torch.randint(self.count, (self.batch_size,), generator=generator)
        return tuple(x[some] for x in self.fields)


def _as_measured(users: dict[str, SiteCSI]) -> dict[str, Fields]:
    return {split: (csi.h, csi.known().float()) for split, csi in users.items()}
