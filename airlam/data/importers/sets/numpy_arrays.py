"""NumPy arrays of CSI: a ``.npy`` file, or one member of a ``.npz``, with axes that the user names."""

from __future__ import annotations

import math
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from airlam.data.importers.sets.layout import Contents, Layout, LinkBlock, check_not_empty, links_at_once
from airlam.errors import RecipeError, StoreError

AXES = ("link", "slot", "subcarrier", "rx_ant", "tx_ant")
PORTS = ("polarisation", "column", "row")  # may stand for tx_ant
MEMBER_BYTES = 500 * 10**6  # a member of a .npz is read whole


class NumpyArrays(Layout):
    """Complex CSI with named axes in any order.

    Signs are taken as they are: airlam's are Doppler ``+2 pi doppler t`` and delay ``-2 pi f delay``. ``.npy`` files
    are read through memory mapping, of any size; a member of a ``.npz`` may have 500 MB.

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
        array, what = self._array(path)
        if array.dtype.kind != "c":
            raise StoreError(f"{what} is {array.dtype}, but CSI must be complex64 or complex128; convert it")
        if array.ndim != len(self.axes):
            raise StoreError(
                f"{what} has {array.ndim} axes {list(array.shape)}, but --axes names {len(self.axes)} "
                f"({','.join(self.axes)}); name each"
            )
        check_not_empty(what, array.shape)
        ports = tuple(dict(zip(self.axes, array.shape, strict=True)).get(name, 1) for name in PORTS)
        split = set(PORTS) & set(self.axes)
        csi = _in_order(array, self.axes, (*AXES[:4], *PORTS) if split else AXES)
        shape = (*csi.shape[:4], math.prod(csi.shape[4:]))
        known = {"port_shape": ports} if split else {}
        yield Contents(shape, lambda: _blocks(csi, shape), (path,), known)

    def _array(self, path: Path) -> tuple[np.ndarray, str]:
        """The array and what to call it in errors."""
        try:
            if path.suffix == ".npy":
                if self.variable is not None:
                    raise RecipeError(f"{path} is one array: leave --variable out")
                return np.load(path, mmap_mode="r", allow_pickle=False), str(path)
            with zipfile.ZipFile(path) as archive:
                member = _member(path, archive, self.variable)
                with archive.open(member) as file:
                    return np.lib.format.read_array(file, allow_pickle=False), f"{path}: {member[:-4]}"
        except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
            if isinstance(error, (RecipeError, StoreError)):
                raise
            reason = str(error).splitlines()[0][:160]
            raise StoreError(
                f"{path} cannot be read as NumPy arrays ({reason}); it is truncated, damaged or holds pickled objects, "
                "which are never loaded: save a complex array again"
            ) from error


def _checked_axes(text: str | None) -> tuple[str, ...]:
    axes = AXES if text is None else tuple(name.strip() for name in text.split(","))
    for name in axes:
        if name not in (*AXES, *PORTS):
            raise RecipeError(f"--axes names {name!r}, but knows only {', '.join((*AXES, *PORTS))}")
    if len(set(axes)) < len(axes) or ("tx_ant" in axes and set(axes) & set(PORTS)):
        raise RecipeError(f"--axes {','.join(axes)} names an axis twice; polarisation, column, row stand for tx_ant")
    return axes


def _member(path: Path, archive: zipfile.ZipFile, variable: str | None) -> str:
    """The file name of a member within the bounds."""
    sizes = {info.filename: info.file_size for info in archive.infolist() if info.filename.endswith(".npy")}
    names = ", ".join(name[:-4] for name in sizes) or "no array"
    if variable is None and len(sizes) != 1:
        raise StoreError(f"{path} holds {names}; say which with --variable NAME")
    member = next(iter(sizes)) if variable is None else f"{variable}.npy"
    if member not in sizes:
        raise StoreError(f"{path} has no member {variable!r}; it holds {names}")
    if sizes[member] > MEMBER_BYTES:
        raise StoreError(
            f"{path}: {member[:-4]} has {sizes[member] / 1e6:,.0f} MB, at most {MEMBER_BYTES / 1e6:,.0f} are read from "
            "a .npz; save it as .npy, which has no bound"
        )
    return member


def _in_order(array: np.ndarray, axes: tuple[str, ...], wanted: tuple[str, ...]) -> np.ndarray:
    """A view with the wanted axes, those that are missing of length one."""
    view = array.transpose([axes.index(name) for name in wanted if name in axes])
    return view[tuple(slice(None) if name in axes else None for name in wanted)]


def _blocks(csi: np.ndarray, shape: tuple[int, ...]) -> Iterator[LinkBlock]:
    step = links_at_once(shape)
    for start in range(0, shape[0], step):
        with np.errstate(over="ignore"):  # what overflows becomes infinite, which is refused later
            block = csi[start : start + step].astype(np.complex64, order="C")
        yield LinkBlock(block.reshape(-1, *shape[1:]))
