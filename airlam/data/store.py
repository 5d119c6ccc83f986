"""A finished store, opened for reading: CSI by NumPy's indices, the truth about each link, the check of all bytes."""

from __future__ import annotations

import itertools
import json
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from airlam.data.indexing import links_at_once, select
from airlam.data.layout import TRUTH, block_matches, missing_blocks, open_layout, read_into, read_rows
from airlam.data.recipe import blocks_of
from airlam.errors import StoreError


class LinkArray:
    """``store.h``: CSI ``complex64 [link, slot, subcarrier, rx_ant, tx_ant]``, read when indexed.

    Every index means what it means for a NumPy array of this shape: integers, slices, lists, arrays and tensors of
    integers, boolean masks, ``...`` and None, alone or several in a tuple. Only the links and slots that an index
    names are read. The result is a new tensor.

    Raises:
        IndexError: an integer is out of range.
        StoreError: any other index, or one whose parts do not fit together.

    Example:
        >>> store.h[7].shape                                    # doctest: +SKIP
        torch.Size([20, 48, 1, 32])
        >>> fast = store.h[store.truth["speed"] > 20, 0]        # first slot of the fast links  # doctest: +SKIP
    """

    dtype = torch.complex64

    def __init__(self, store: CSIStore) -> None:
        self._store = store
        self.shape = (len(store), *store.columns["h"].shape[:-1])

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, index: Any) -> Tensor:
        links, (first, stop), rest, link_axis = select(index, self.shape)
        if all(isinstance(part, slice) and part == slice(None) for part in rest):
            return self._store.read_slots(links, first, stop)
        # What an index leaves of some links may be much smaller than the links: never hold all of them.
        step = max(1, len(links)) if link_axis is None else links_at_once((stop - first, *self.shape[2:]))
        parts = [
            self._store.read_slots(links[start : start + step], first, stop).numpy()[rest]
            for start in range(0, max(1, len(links)), step)
        ]
        # Copies, so that strides are positive and the result does not keep the rest of its links in memory.
        whole = np.array(parts[0], order="C") if len(parts) == 1 else np.concatenate(parts, axis=link_axis)
        return torch.from_numpy(whole)


class CSIStore:
    """A finished store, opened for reading. Safe to share with forked and spawned loader processes.

    Attributes:
        path: the file.
        attrs: its attributes as plain Python; JSON ones decoded.
        recipe: what made it: resolved channel recipe, slots, links of each split, seed, block size.
        splits: first and last-plus-one link of ``train``, ``val``, ``test``.
        h: CSI, see :class:`LinkArray`.

    Raises:
        StoreError: no such file, foreign, truncated, corrupt, or unfinished.

    Example:
        >>> with CSIStore("datasets/tiny.h5") as store:         # doctest: +SKIP
        ...     store.verify()
        ...     h = store.h[0]                                   # complex64 [slot, subcarrier, rx_ant, tx_ant]
        ...     speed = store.truth["speed"][store.splits["test"][0]]
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self._file = -1
        self._absolute = self.path.absolute()  # the current folder may change later, or be another in a loader process
        attributes, self.columns = open_layout(self.path)
        decoded = ("recipe", "versions", "splits", "units")
        self.attrs = {name: json.loads(value) if name in decoded else value for name, value in attributes.items()}
        self.recipe: dict[str, Any] = self.attrs["recipe"]
        self.splits: dict[str, tuple[int, int]] = {name: tuple(ends) for name, ends in self.attrs["splits"].items()}
        self.port_shape = tuple(self.attrs["port_shape"])
        num_blocks, missing = self.columns["checksum"].num_rows, missing_blocks(self.path, self.columns)
        if missing:
            raise StoreError(
                f"{self.path} is unfinished: {missing} of {num_blocks} blocks are missing; run the same "
                "'airlam generate' again to finish it"
            )
        self._file = os.open(self.path, os.O_RDONLY)
        self._truth: dict[str, Tensor] = {}
        self._checksums = read_rows(self._file, self.columns["checksum"], 0, num_blocks)
        self.h = LinkArray(self)

    def __len__(self) -> int:
        return self.columns["h"].num_rows

    def __repr__(self) -> str:
        return f"CSIStore({str(self.path)!r}, links={len(self)}, h={list(self.columns['h'].shape[:-1])})"

    def __enter__(self) -> CSIStore:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __del__(self) -> None:
        self.close()

    def __reduce__(self):
        return CSIStore, (self._absolute,)

    def close(self) -> None:
        """Closes the file; reading afterwards raises."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1

    def read(self, links: Sequence[int] | np.ndarray, num_slots: int | None = None) -> Tensor:
        """CSI of some links.

        Args:
            links: indices; negative ones count from the end.
            num_slots: only the first so many slots of each; ``None``: all.

        Returns:
            ``complex64 [link, slot, subcarrier, rx_ant, tx_ant]``.
        """
        there = self.columns["h"].shape[0]
        slots = there if num_slots is None else num_slots
        if not 1 <= slots <= there:
            raise ValueError(f"num_slots is {slots}, but {self.path} holds {there} slots a link")
        return self.read_slots(links, 0, slots)

    def read_slots(self, links: Sequence[int] | np.ndarray, first: int, stop: int) -> Tensor:
        """CSI of slots ``first`` to ``stop - 1`` of some links: ``complex64 [link, slot, subcarrier, rx_ant, tx_ant]``.

        Consecutive links are read in one piece where all slots are asked for.
        """
        column, total = self.columns["h"], len(self)
        chosen = np.asarray(links).reshape(-1)
        if chosen.size and chosen.dtype.kind not in "iu":
            raise TypeError(f"links are {chosen.dtype}, but must be whole numbers")
        chosen = chosen.astype(np.int64)
        for link in chosen[(chosen < -total) | (chosen >= total)]:
            raise IndexError(f"link {link} is out of range: {self.path} holds {total} links")
        chosen = chosen % total if total else chosen
        pairs = np.empty((len(chosen), stop - first, *column.shape[1:]), column.dtype)
        apart = np.diff(chosen) != 1 if stop - first == column.shape[0] else np.ones(max(len(chosen) - 1, 0), bool)
        starts = [0, *(np.flatnonzero(apart) + 1).tolist(), len(chosen)] if len(chosen) else []
        begin = column.offset + first * column.row_bytes // column.shape[0]
        for start, end in itertools.pairwise(starts):
            read_into(self._opened(), pairs[start:end], begin + int(chosen[start]) * column.row_bytes)
        h = torch.empty(pairs.shape[:-1], dtype=torch.complex64)
        torch.view_as_real(h).copy_(torch.from_numpy(pairs))
        return h

    def _opened(self) -> int:
        if self._file < 0:
            raise StoreError(f"{self.path} is closed; open it again with CSIStore(path)")
        return self._file

    @property
    def truth(self) -> dict[str, Tensor]:
        """The truth about all links: ``gain_db``, ``speed``, ``los``, ``position``, ...; see ``LinkBatch``.

        Kept in memory after the first use (58 bytes a link).
        """
        if not self._truth:
            self._truth = {
                name: torch.from_numpy(read_rows(self._opened(), self.columns[name], 0, len(self))) for name in TRUTH
            }
        return self._truth

    def verify(self, progress: Callable[[int, int], None] | None = None) -> None:
        """Reads everything and compares it with the checksums.

        Args:
            progress: called with (blocks done, blocks) after each block.

        Raises:
            StoreError: names the first block whose bytes are not those that were written.
        """
        blocks = blocks_of(self.recipe)
        if len(blocks) != len(self._checksums):
            raise StoreError(f"{self.path} is corrupt: {len(self._checksums)} checksums for {len(blocks)} blocks")
        open_layout(self._absolute)  # the description as it is on disk now
        for number, block in enumerate(blocks):
            if not block_matches(self._opened(), self.columns, block, self._checksums[number]):
                raise StoreError(
                    f"{self.path} is corrupt: links {block.start} to {block.start + block.count - 1} ({block.split}) "
                    "do not match their checksum; move it away and generate it again"
                )
            if progress:
                progress(number + 1, len(blocks))
