"""What a layout of foreign CSI data sets brings: whether a file is of it, and the links in the file, block by block."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import numpy as np

from airlam.data.importers.sets.description import Description
from airlam.errors import StoreError

READ_BYTES = 64 * 2**20  # CSI that is read at once, as complex64; files hold it in up to twice the size


class LinkBlock(NamedTuple):
    """Consecutive links of a file.

    Attributes:
        h: ``complex64 [link, slot, subcarrier, rx_ant, tx_ant]`` in airlam's signs and port order, any scale.
        speed: ``float [link]`` in m/s; ``None`` where the file does not tell it.
        truth: what else the file tells, by the name of the store's column (``position``, ``los``, ``velocity``,
            ``path_loss_db``, ``delay_spread``, ...), an array of one row for each link.
    """

    h: np.ndarray
    speed: np.ndarray | None = None
    truth: Mapping[str, np.ndarray] | None = None


@dataclass(frozen=True)
class Contents:
    """An opened file.

    Attributes:
        shape: (links, slots, subcarriers, receive antennas, transmit antennas).
        blocks: gives all links in the order of the file, a few at a time.
        files: all files that are read.
        known: what the layout tells beside the CSI: any of ``slot_duration`` [s], ``carrier_frequency`` [Hz],
            ``subcarrier_spacing`` [Hz], ``port_shape`` (polarisations, columns, rows).
        links_per_drop: so many consecutive links share a base station and its surroundings.
        notes: what a user should know, one sentence each.
        drops: ``int [link]``, the drop of each link, not falling, where drops have different numbers of links.
    """

    shape: tuple[int, ...]
    blocks: Callable[[], Iterator[LinkBlock]]
    files: tuple[Path, ...]
    known: dict[str, Any] = field(default_factory=dict)
    links_per_drop: int = 1
    notes: tuple[str, ...] = ()
    drops: np.ndarray | None = None


class Layout:
    """One layout of data sets. A subclass has a ``name``, :meth:`recognises` and :meth:`open`.

    An instance is made with those of ``options`` that the user gave, as keyword arguments.

    Attributes:
        name: as ``airlam import --layout`` takes it.
        options: names of the keyword arguments.
        file_options: those of them that are paths. A store does not keep them, but the files' names and SHA-256.
        description: what the user said of the file, for layouts that compute CSI from paths; the writer sets it.
        scratch: folder for temporary files; the writer sets it to the store's.
    """

    name: ClassVar[str] = ""
    options: ClassVar[tuple[str, ...]] = ()
    file_options: ClassVar[tuple[str, ...]] = ()
    description: Description = Description()
    scratch: Path = Path()

    @classmethod
    def recognises(cls, path: Path) -> bool:
        """Whether a file is of this layout, by suffix and names of variables; reads no CSI."""
        raise NotImplementedError(f"{cls.__name__} must bring recognises(path)")

    def open(self, path: Path) -> AbstractContextManager[Contents]:
        """The file, opened.

        Raises:
            StoreError: the file is of another layout, or damaged; the message says what was expected and found.
        """
        raise NotImplementedError(f"{type(self).__name__} must bring open(path)")


def links_at_once(shape: tuple[int, ...]) -> int:
    """How many links of this shape (links first) are read at once."""
    return max(1, READ_BYTES // (8 * int(np.prod(shape[1:], dtype=np.int64))))


def check_not_empty(what: str, shape: tuple[int, ...]) -> None:
    """Raises StoreError if an axis has length zero."""
    if 0 in shape:
        raise StoreError(f"{what} is {list(shape)} and holds no value; name a file with data")
