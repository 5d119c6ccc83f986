"""The DataModule: a ``datasets/*.yaml`` is its arguments."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from torch.utils.data import DataLoader

from airlam.data.batches import (
    BatchSource,
    KeptBatches,
    OnTheFly,
    PreparedBatches,
    RepeatedBatches,
    StoredBatches,
    StoredLinks,
    TrainLoader,
    as_it_is,
)
from airlam.data.generation import generate
from airlam.data.recipe import DatasetRecipe
from airlam.data.resuming import ResumingDataModule
from airlam.data.store import CSIStore
from airlam.errors import RecipeError, StoreError


class CSIDataModule(ResumingDataModule):
    """Train, validation and test batches of CSI from a channel recipe.

    Splits have seeds of their own and consist of whole drops: no drop, and so no base station's snapshot, is in two of
    them. Histories are measured with noise at ``csi_snr_db``: fresh in every epoch of training, the same at every
    reading for validation and test. Futures are true. See :mod:`airlam.data.batches` for what a batch holds.

    Links come from ``store``; without one they are generated once into the cache (``$AIRLAM_CACHE``), and found there
    the next time. With ``num_train: null`` training links are made on the fly, fresh for every batch; so are those of
    all splits where the channel is a mixture of different arrays or bands, which fits into no store.

    Args:
        channel: name of a recipe in ``channels/`` (``uma_nlos``), a path, or the recipe itself. May be left out when
            ``store`` is given.
        channel_overrides: keys of the channel recipe to change, for example ``{speed_kmh: 30}``.
        num_train: training links; ``None``: on the fly, no end.
        num_val: validation links.
        num_test: test links, also used by ``predict``.
        history: slots to predict from.
        horizon: slots to predict.
        csi_snr_db: SNR [dB] of the measured history, or a range [min, max] from which each link draws.
        impairments: what a receiver does to the history besides noise: fields of :class:`airlam.csi.Impairment`, each a
            number or a range [min, max] from which each link draws, and ``probability``, the share of the links that
            suffer (1 by default). Draws are uniform in the logarithm; where a range starts at 0, uniform.
        batch_size: links in a batch.
        batches_per_epoch: length of an epoch on the fly.
        seed: of links, order and noise.
        store: a file that ``airlam generate`` wrote from this recipe; relative to the current folder.
        num_workers: loader processes; 0 loads in the training process.
        block_size: links made at once. It decides the draws: another size gives another data set.
        repeat: (block, passes): training batches on the fly come in blocks of so many, each gone through so many times.
        prepare: called on every batch of training and validation, where it is made (in a loader process, if there are
            any): what a task needs of it and is slow to compute, such as :class:`airlam.tasks.FindPaths`.

    Raises:
        RecipeError: a value is out of bounds.
        StoreError: the store is not there, damaged, or was made from another recipe.

    Example:
        >>> data = CSIDataModule("uma_nlos", num_train=64, num_val=32, num_test=32)     # doctest: +SKIP
        >>> data.prepare_data(); data.setup("fit")                                     # doctest: +SKIP
        >>> next(iter(data.train_dataloader()))["h_past"].shape                        # doctest: +SKIP
        torch.Size([32, 16, 48, 1, 32])
    """

    def __init__(
        self,
        channel: str | dict[str, Any] | None = None,
        channel_overrides: dict[str, Any] | None = None,
        num_train: int | None = None,
        num_val: int = 512,
        num_test: int = 1024,
        history: int = 16,
        horizon: int = 4,
        csi_snr_db: float | list[float] = 20.0,
        impairments: dict[str, float | list[float]] | None = None,
        batch_size: int = 32,
        batches_per_epoch: int = 500,
        seed: int = 0,
        store: str | None = None,
        num_workers: int = 0,
        block_size: int = 64,
        repeat: tuple[int, int] | None = None,
        prepare: Callable[[dict[str, Any]], dict[str, Any]] | None = None,
    ) -> None:
        super().__init__()
        self.repeat, self.prepare = repeat, prepare
        self.recipe = DatasetRecipe(
            channel=channel,
            channel_overrides=channel_overrides,
            num_train=num_train,
            num_val=num_val,
            num_test=num_test,
            history=history,
            horizon=horizon,
            csi_snr_db=csi_snr_db,
            impairments=impairments,
            batch_size=batch_size,
            batches_per_epoch=batches_per_epoch,
            seed=seed,
            store=store,
            num_workers=num_workers,
            block_size=block_size,
        )
        self.store: CSIStore | None = None
        self._kept: dict[str, KeptBatches] = {}

    # --- where the links come from ---

    @property
    def stored(self) -> bool:
        """Whether any links come from a store."""
        if self.recipe.store:
            return True
        return self.recipe.stackable and sum(self.recipe.num_links.values()) > 0

    def prepare_data(self) -> None:
        """Generates what is not there yet (once per machine)."""
        if not self.recipe.store and self.stored and not self.recipe.store_path.exists():
            generate(self.recipe, self.recipe.store_path)

    def setup(self, stage: str | None = None) -> None:
        """Opens the store and checks that it is of this recipe."""
        if self.store is None and self.stored:
            if not self.recipe.store and not self.recipe.store_path.exists():
                self.prepare_data()
            self.store = CSIStore(self.recipe.store_path)
            _check_store(self.recipe, self.store)

    def _links(self, split: str) -> StoredLinks:
        assert self.store is not None
        r = self.recipe
        count = None if r.channel is None else r.num_links[split]
        return StoredLinks(self.store, split, r.history, r.horizon, r.csi_snr_db, r.seed, count, r.impairments)

    def _stream(self, split: str) -> OnTheFly:
        r = self.recipe
        return OnTheFly(
            r.channel_model,
            batch_size=r.batch_size,
            history=r.history,
            horizon=r.horizon,
            csi_snr_db=r.csi_snr_db,
            impairments=r.impairments,
            seed=r.seed,
            split=split,
        )

    # --- loaders ---

    def train_dataloader(self) -> TrainLoader:
        """Endless order, fixed by the seed; see :class:`~airlam.data.batches.TrainLoader`."""
        self.setup()
        r = self.recipe
        from_store = r.num_train is not None or r.channel is None
        if self.store is not None and from_store:
            batches = StoredBatches(self._links("train"), r.batch_size)
            if not len(batches.links):
                raise RecipeError("num_train is 0: there is nothing to train on; null trains on fresh links, no end")
            source: BatchSource = batches
            length = len(batches)
        else:
            source, length = self._stream("train"), r.batches_per_epoch
        if self.repeat is not None:
            source = RepeatedBatches(source, *self.repeat, r.seed)
        if self.prepare is not None:
            source = PreparedBatches(source, self.prepare)
        return self.resumed(source, length, r.num_workers)

    def val_dataloader(self) -> DataLoader:
        return self._evaluation_loader("val")

    def test_dataloader(self) -> DataLoader:
        return self._evaluation_loader("test")

    def predict_dataloader(self) -> DataLoader:
        return self._evaluation_loader("test")

    def _evaluation_loader(self, split: str) -> DataLoader:
        self.setup()
        r = self.recipe
        prepare: Any = self.prepare if self.prepare is not None and split == "val" else as_it_is
        if self.store is None:
            if split not in self._kept:
                kept = KeptBatches(self._stream(split), r.num_links[split])
                kept.batches = [prepare(batch) for batch in kept.batches]
                self._kept[split] = kept
            return DataLoader(self._kept[split], batch_size=None, collate_fn=as_it_is)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch's advice on the number of workers
            # links of a batch come as a whole already: collate_fn is a place for preparation
            return DataLoader(
                self._links(split), batch_size=r.batch_size, num_workers=r.num_workers, collate_fn=prepare
            )

    def with_changes(self, **changes: Any) -> CSIDataModule:
        """A new data module with some arguments changed."""
        changed = replace(self.recipe, **changes)
        fields = {name: getattr(changed, name) for name in changed.__dataclass_fields__}
        return CSIDataModule(**fields, repeat=self.repeat, prepare=self.prepare)


def _check_store(recipe: DatasetRecipe, store: CSIStore) -> None:
    """Raises StoreError unless ``store`` holds what ``recipe`` describes."""
    there = store.recipe
    if recipe.num_slots > there["num_slots"]:
        raise StoreError(
            f"{store.path} holds {there['num_slots']} slots a link, but history + horizon is {recipe.num_slots}; "
            "generate another store or shorten one of them"
        )
    if recipe.channel is None:
        return
    for split, count in recipe.num_links.items():
        if count > there["num_links"][split]:
            raise StoreError(
                f"{store.path} holds {there['num_links'][split]} {split} links, but num_{split} is {count}; "
                "generate another store or ask for fewer"
            )
    # Fewer links and slots are fine: a shorter split, and a shorter window, are the beginning of a longer one.
    wanted = {**recipe.content, "num_slots": there["num_slots"], "num_links": there["num_links"]}
    if wanted != there:
        raise StoreError(
            f"{store.path} was made from another recipe: {_difference(there, wanted)}; "
            "name another store, or write this one with 'airlam generate'"
        )


def _difference(there: Any, here: Any, name: str = "") -> str:
    """The first place where two pieces of plain data differ, in words."""
    if isinstance(there, dict) and isinstance(here, dict):
        for key in sorted({*there, *here}):
            if there.get(key) != here.get(key):
                return _difference(there.get(key), here.get(key), f"{name}.{key}" if name else key)
    return f"its {name} is {there!r}, here it is {here!r}"
