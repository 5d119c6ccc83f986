"""What all DataModules have in common: training goes on where a checkpoint was written."""

from __future__ import annotations

from typing import Any

import lightning.pytorch as pl

from airlam.data.batches import BatchSource, TrainLoader


class ResumingDataModule(pl.LightningDataModule):
    """A DataModule whose training loader is :class:`~airlam.data.batches.TrainLoader`; Lightning keeps its position in
    checkpoints."""

    def __init__(self) -> None:
        super().__init__()
        self._train_loader: TrainLoader | None = None
        self._train_state: dict[str, int] | None = None

    def resumed(self, source: BatchSource, length: int, num_workers: int = 0) -> TrainLoader:
        """The training loader of ``source``, at the position of a checkpoint that was loaded before."""
        self._train_loader = TrainLoader(source, length, num_workers)
        if self._train_state is not None:
            self._train_loader.load_state_dict(self._train_state)
        return self._train_loader

    def state_dict(self) -> dict[str, Any]:
        return {"train": self._train_loader.state_dict()} if self._train_loader else {}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self._train_state = state_dict.get("train")
        if self._train_loader is not None and self._train_state is not None:
            self._train_loader.load_state_dict(self._train_state)
