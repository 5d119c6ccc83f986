"""NumPy arrays of CSI: a ``.npy`` file, or one member of a ``.npz``, with axes that the user names."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from airlam.data.importers.sets.layout import Contents, Layout, LinkBlock, check_not_empty, links_at_once
from airlam.data.importers.sets.stored import Stored, array_shapes, mapped_array, opened_array
from airlam.errors import RecipeError, StoreError

AXES = ("link", "slot", "subcarrier", "rx_ant", "tx_ant")
PORTS = ("polarisation", "column", "row")  # may stand for tx_ant


class NumpyArrays(Layout):
    """Complex CSI with named axes in any order.

    Signs are taken as they are: airlam's are Doppler ``+2 pi doppler t`` and delay ``-2 pi f delay``. Files may have
    any size; a member of a ``.npz`` whose first axis is not ``link`` may have 500 MB.

    Args:
        axes: names of the array's axes, separated by commas: ``link``, ``slot``, ``subcarrier``, ``rx_ant``,
            ``tx_ant``; ``polarisation``, ``column``, ``row`` may stand for ``tx_ant`` and give the port shape. Axes
            that are not named have length one. Default: all five, in this order.
        variable: the member of a ``.npz``; may be left out if there is only one.
    """

    name = "numpy"
    options = ("axes", "variable")

    def __init__(self, axes: str | None = None, variable: str | None = None) -> None:
        self.axes = _checked_axes(axes)
        self.variable = variable

    @classmethod
    def recognises(cls, path: Path) -> bool:
        return path.suffix in (".npy", ".npz")

    @contextmanager
    def open(self, path: Path) -> Iterator[Contents]:
        if not self.recognises(path):
            raise StoreError(f"{path}: layout numpy expects a .npy or .npz file, found '{path.suffix or 'no suffix'}'")
        with self._array(path) as array:
            if array.dtype.kind != "c":
                raise StoreError(f"{array.title} is {array.dtype}, but CSI must be complex64 or complex128; convert it")
            if len(array.shape) != len(self.axes):
                raise StoreError(
                    f"{array.title} has {len(array.shape)} axes {list(array.shape)}, but --axes names {len(self.axes)} "
                    f"({','.join(self.axes)}); name each"
                )
            check_not_empty(array.title, array.shape)
            sizes = dict(zip(self.axes, array.shape, strict=True))
            ports = tuple(sizes.get(name, 1) for name in PORTS)
            split = set(PORTS) & set(self.axes)
            wanted = (*AXES[:4], *PORTS) if split else AXES
            shape = (*(sizes.get(name, 1) for name in AXES[:4]), math.prod(ports) if split else sizes.get("tx_ant", 1))
            known = {"port_shape": ports} if split else {}
            yield Contents(shape, lambda: self._blocks(array, wanted, shape), (path,), known)

    @contextmanager
    def _array(self, path: Path) -> Iterator[Stored]:
        if path.suffix == ".npz":
            names = list(array_shapes(path))
            if self.variable is None and len(names) != 1:
                raise StoreError(f"{path} holds {', '.join(names) or 'no array'}; say which with --variable NAME")
            with opened_array(path, self.variable or names[0], None, "", self.scratch) as array:
                yield array
            return
        if self.variable is not None:
            raise RecipeError(f"{path} is one array: leave --variable out")
        yield mapped_array(path)

    def _blocks(self, array: Stored, wanted: tuple[str, ...], shape: tuple[int, ...]) -> Iterator[LinkBlock]:
        step = links_at_once(shape)
        if self.axes[0] == "link":
            parts = (_in_order(part, self.axes, wanted) for part in array.rows(step))
        else:
            whole = _in_order(array.whole(), self.axes, wanted)
            parts = (whole[start : start + step] for start in range(0, shape[0], step))
        for part in parts:
            with np.errstate(over="ignore"):  # what overflows becomes infinite, which is refused later
                yield LinkBlock(part.astype(np.complex64, order="C").reshape(-1, *shape[1:]))


def _checked_axes(text: str | None) -> tuple[str, ...]:
    axes = AXES if text is None else tuple(name.strip() for name in text.split(","))
    for name in axes:
        if name not in (*AXES, *PORTS):
            raise RecipeError(f"--axes names {name!r}, but knows only {', '.join((*AXES, *PORTS))}")
    if len(set(axes)) < len(axes) or ("tx_ant" in axes and set(axes) & set(PORTS)):
        raise RecipeError(f"--axes {','.join(axes)} names an axis twice; polarisation, column, row stand for tx_ant")
    return axes


def _in_order(array: np.ndarray, axes: tuple[str, ...], wanted: tuple[str, ...]) -> np.ndarray:
    """A view with the wanted axes, those that are missing of length one."""
    view = array.transpose([axes.index(name) for name in wanted if name in axes])
    return view[tuple(slice(None) if name in axes else None for name in wanted)]
