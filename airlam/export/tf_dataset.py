"""Stores for TensorFlow users: measured and true CSI as a ``tf.data.Dataset``."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch

from airlam.data.batches import Range, StoredBatches, StoredLinks
from airlam.data.recipe import SPLITS
from airlam.data.store import CSIStore
from airlam.errors import StoreError

ARRAYS = ("h_past", "h_past_true", "h_future", "csi_snr_db", "speed", "position", "index", "drop")


def tf_dataset(
    store: CSIStore,
    split: str = "train",
    *,
    history: int = 16,
    horizon: int = 4,
    csi_snr_db: Range = 20.0,
    batch_size: int = 32,
    seed: int = 0,
    endless: bool | None = None,
) -> Any:
    """A split of a store as batches for TensorFlow, with the noise that Lightning's loaders of airlam would draw.

    Args:
        store: open; it must stay open while the data set is read.
        split: ``train``, ``val`` or ``test``.
        history, horizon: slots that are measured, and slots to predict; the first of each link.
        csi_snr_db: SNR of the measured history, or a range [min, max] to draw each link's from.
        batch_size: links in a batch; the last one of a pass in order may be smaller.
        seed: of order and noise.
        endless: shuffled and measured anew in each pass, without an end; ``None``: for ``train`` alone. Otherwise one
            pass in order, with the same noise every time.

    Returns:
        A ``tf.data.Dataset`` of dicts: ``h_past`` (measured) and ``h_past_true`` ``complex64 [link, slot, subcarrier,
        rx_ant, tx_ant]``, ``h_future`` (true), ``csi_snr_db`` [dB], ``speed`` [m/s], ``position [link, 3]`` [m],
        ``index`` and ``drop`` of each link.

    Raises:
        StoreError: no such split, an empty one, or fewer slots than asked for; TensorFlow is not installed.

    Example:
        >>> from airlam.data import CSIStore
        >>> from airlam.export import tf_dataset
        >>> store = CSIStore("uma_nlos.h5")                                            # doctest: +SKIP
        >>> for batch in tf_dataset(store, "test", batch_size=8):                      # doctest: +SKIP
        ...     print(batch["h_past"].shape)
    """
    try:
        import tensorflow as tf
    except ImportError as error:
        raise StoreError("tf_dataset needs TensorFlow; pip install 'airlam[tensorflow]'") from error
    if split not in store.splits:
        raise StoreError(f"split is {split!r}, but {store.path} has {', '.join(store.splits)}")
    slots = store.h.shape[1]
    if min(history, horizon, batch_size) < 1 or history + horizon > slots:
        raise StoreError(
            f"history {history}, horizon {horizon}, batch_size {batch_size}: each must be at least 1, and {store.path} "
            f"holds {slots} slots a link"
        )
    links = StoredLinks(store, split, history, horizon, csi_snr_db, seed)
    if len(links) == 0:
        raise StoreError(f"{store.path} has no links in {split}; import or generate it with another split")
    endless = split == SPLITS[0] if endless is None else endless

    def batches() -> Iterator[dict[str, np.ndarray]]:
        if endless:
            shuffled = StoredBatches(links, min(batch_size, len(links)))
            found = (shuffled.batch(number) for number in itertools.count())
        else:
            starts = range(0, len(links), batch_size)
            found = (links.__getitems__([*range(i, min(i + batch_size, len(links)))]) for i in starts)
        for batch in found:
            yield {name: batch[name].numpy() for name in ARRAYS}

    first = links.__getitems__([0])
    signature = {name: tf.TensorSpec((None, *first[name].shape[1:]), _dtype(first[name].dtype)) for name in ARRAYS}
    return tf.data.Dataset.from_generator(batches, output_signature=signature)


def _dtype(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
