"""The data sets of ContraWiMAE and PilotWiMAE (Guler et al., https://github.com/BerkIGuler)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from airlam.data.importers.sets.layout import Contents, Layout, LinkBlock, links_at_once
from airlam.data.importers.sets.stored import array_shapes, has_arrays, opened_array
from airlam.errors import RecipeError, StoreError


class WiMAE(Layout):
    """A ``.npz`` with ``channels [sample, 1, antenna, subcarrier]`` or ``h [sample, 1, 1, tx_ant, time, subcarrier]``.

    ``channels`` is of ContraWiMAE (``contrawimae/training/data_utils.py`` of WirelessContrastiveMaskedLearning): one
    slot. Its loader calls the last two axes height and width; that antennas come first is an assumption, which
    ``order`` turns. ``h`` with its ``shape`` is of PilotWiMAE (``pilotwimae/data/dataset.py``), whose loader names the
    axes. Both sets come from ray tracing with DeepMIMO or Sionna RT, whose signs are airlam's. Neither file tells
    slot, carrier, spacing, or how antennas fold: they keep their order.

    Args:
        order: ``antenna,subcarrier`` (default) or ``subcarrier,antenna``, of ``channels``.
    """

    name = "wimae"
    options = ("order",)
    orders = ("antenna,subcarrier", "subcarrier,antenna")

    def __init__(self, order: str | None = None) -> None:
        if order not in (None, *self.orders):
            raise RecipeError(f"--order is {order!r}, but must be {' or '.join(self.orders)}")
        self.order = order

    @classmethod
    def recognises(cls, path: Path) -> bool:
        return path.suffix == ".npz" and (has_arrays(path, channels=(4,)) or has_arrays(path, h=(6,), shape=(1,)))

    @contextmanager
    def open(self, path: Path) -> Iterator[Contents]:
        if path.suffix != ".npz":
            raise StoreError(f"{path}: layout wimae expects a .npz file, found '{path.suffix or 'no suffix'}'")
        there = array_shapes(path)
        name = "channels" if "channels" in there else "h"
        axes, ones = ("sample, 1, antenna, subcarrier", 1)
        if name == "h":
            axes, ones = ("sample, 1, 1, tx_ant, time, subcarrier", 2)
        if name not in there:
            raise StoreError(
                f"{path}: layout wimae expects channels [sample, 1, antenna, subcarrier] or h [sample, 1, 1, tx_ant, "
                f"time, subcarrier], found {', '.join(there) or 'no array'}"
            )
        if name == "h" and self.order is not None:
            raise RecipeError("--order is for channels; the axes of h are known")
        with opened_array(path, name, (len(axes.split(", ")),), axes, self.scratch) as array:
            if array.dtype.kind != "c" or set(array.shape[1 : 1 + ones]) != {1}:
                raise StoreError(f"{array.title} is {array.dtype} {list(array.shape)}, but must be complex [{axes}]")
            if name == "h":
                ports, slots, tones = array.shape[3:]
            else:
                ports, tones = array.shape[2:] if self.order != self.orders[1] else array.shape[:1:-1]
                slots = 1
            shape = (array.shape[0], slots, tones, 1, ports)

            def blocks() -> Iterator[LinkBlock]:
                for part in array.rows(links_at_once(shape)):
                    h = part[:, 0, 0] if name == "h" else part[:, 0, :, None]  # sample, tx_ant, slot, subcarrier
                    if self.order == self.orders[1]:
                        h = h.swapaxes(1, 3)
                    with np.errstate(over="ignore"):  # what overflows becomes infinite, which is refused later
                        yield LinkBlock(h.transpose(0, 2, 3, 1).astype(np.complex64, order="C")[:, :, :, None])

            yield Contents(shape, blocks, (path,))
