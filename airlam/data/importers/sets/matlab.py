"""Variables of MATLAB files, read in parts.

A v7.3 file is HDF5: the axes lie in MATLAB's order reversed, so the first axis runs fastest, and complex values are
compounds of ``real`` and ``imag``. An older file (v5) is read by SciPy, which takes a variable as a whole.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np

from airlam.data.importers.sets.layout import check_not_empty
from airlam.errors import StoreError

V5_BYTES = 500 * 10**6  # a variable of a v5 file is read whole, and SciPy needs up to twice its size for that
CHUNK_BYTES = 256 * 2**20  # HDF5 reads a chunk whole


@dataclass(frozen=True)
class MatVariable:
    """A complex variable of an open file.

    Attributes:
        title: file and name, for errors.
        shape: in MATLAB's order of axes.
        part: ``part(index)`` gives ``complex64`` for a tuple of slices, MATLAB's order of axes.
        chunks: the extent of what is stored in one piece, MATLAB's order; ``None``: one contiguous piece.
        in_memory: any part is read at once.
    """

    title: str
    shape: tuple[int, ...]
    part: Callable[[tuple[slice, ...]], np.ndarray]
    chunks: tuple[int, ...] | None = None
    in_memory: bool = False


def variable_shapes(path: Path) -> dict[str, tuple[int, ...]]:
    """Names and shapes of the variables, sorted; ``()`` for a struct. Nothing of them is read.

    Raises:
        StoreError: the file is no MATLAB file, or damaged.
    """
    with _in_words(path):
        if h5py.is_hdf5(path):
            with h5py.File(path, "r", locking=False) as file:
                return {
                    name: item.shape[::-1] if isinstance(item, h5py.Dataset) else ()
                    for name, item in sorted(file.items())
                    if not name.startswith("#")
                }
        return {name: () if kind == "struct" else shape for name, shape, kind in sorted(_v5_variables(path))}


def variable_names(path: Path) -> list[str]:
    """The names of the variables, sorted; see :func:`variable_shapes`."""
    return list(variable_shapes(path))


def looks_like(path: Path, wanted: Callable[[str], bool]) -> bool:
    """Whether a file is a MATLAB file with a variable whose name is wanted."""
    if path.suffix != ".mat":
        return False
    try:
        return any(map(wanted, variable_names(path)))
    except StoreError:
        return False


@contextmanager
def opened_variable(path: Path, name: str, rank: int | tuple[int, ...], meaning: str) -> Iterator[MatVariable]:
    """A complex variable of a v7.3 or v5 file.

    Args:
        rank: how many axes it must have, or several numbers. meaning: their names, for errors.

    Raises:
        StoreError: no such variable, or it is not complex, has other axes, is empty, too large, or damaged.
    """
    title = f"{path}: {name}"
    if not _is_hdf5(path):
        yield _v5(path, name, rank, meaning)
        return
    with _in_words(path):
        file = h5py.File(path, "r", locking=False)
    with file:
        found = file.get(name)
        if not isinstance(found, h5py.Dataset):
            raise StoreError(f"{title} is no array; it must be complex [{meaning}]")
        fields = found.dtype.names
        if found.dtype.kind != "c" and (fields is None or set(fields) != {"real", "imag"}):
            raise StoreError(f"{title} is {found.dtype}, but must be complex [{meaning}]")
        shape = found.shape[::-1]
        _check(title, shape, rank, meaning)
        chunk_bytes = found.dtype.itemsize * math.prod(found.chunks or (0,))
        if chunk_bytes > CHUNK_BYTES:
            raise StoreError(
                f"{title} is stored in chunks of {chunk_bytes / 1e6:,.0f} MB, at most {CHUNK_BYTES / 1e6:,.0f} are "
                "read; save it again with smaller chunks"
            )

        def part(index: tuple[slice, ...]) -> np.ndarray:
            with _in_words(path):
                read = found[index[::-1]]
            with np.errstate(over="ignore"):  # what overflows becomes infinite, which is refused later
                if fields is None:
                    return read.astype(np.complex64, copy=False).T
                whole = np.empty(read.shape, np.complex64)
                whole.real, whole.imag = read["real"], read["imag"]
            return whole.T

        yield MatVariable(title, shape, part, found.chunks and found.chunks[::-1])


def _v5(path: Path, name: str, rank: int | tuple[int, ...], meaning: str) -> MatVariable:
    from scipy.io import loadmat

    title = f"{path}: {name}"
    with _in_words(path):
        shape, kind = next(((shape, kind) for found, shape, kind in _v5_variables(path) if found == name), ((), ""))
    if kind not in ("double", "single"):
        raise StoreError(f"{title} is {kind or 'no array'}, but must be complex [{meaning}]")
    _check(title, shape, rank, meaning)
    size = math.prod(shape) * (16 if kind == "double" else 8)
    if size > V5_BYTES:
        raise StoreError(
            f"{title} has {size / 1e6:,.0f} MB as complex {kind}, at most {V5_BYTES / 1e6:,.0f} are read from a v5 "
            "file; save it in MATLAB with '-v7.3', which has no bound"
        )
    with _in_words(path):
        array = loadmat(path, variable_names=[name])[name]
    if array.dtype.kind != "c":
        raise StoreError(f"{title} is {array.dtype}, but must be complex [{meaning}]")

    def part(index: tuple[slice, ...]) -> np.ndarray:
        with np.errstate(over="ignore"):
            return array[index].astype(np.complex64)

    return MatVariable(title, array.shape, part, in_memory=True)


def read_variables(path: Path, names: list[str]) -> dict[str, np.ndarray]:
    """Small variables as they are, MATLAB's order of axes; complex ones as NumPy has them.

    Raises:
        StoreError: the file is damaged.
    """
    with _in_words(path):
        if not h5py.is_hdf5(path):
            from scipy.io import loadmat

            read = loadmat(path, variable_names=names)
            return {name: read[name] for name in names}
        with h5py.File(path, "r", locking=False) as file:
            return {name: _plain(file[name][()]).T for name in names}


def _plain(array: np.ndarray) -> np.ndarray:
    if array.dtype.names is None:
        return array
    whole = np.empty(array.shape, np.result_type(array["real"].dtype, np.complex64))
    whole.real, whole.imag = array["real"], array["imag"]
    return whole


def read_struct(path: Path, name: str) -> list[dict[str, np.ndarray]]:
    """The entries of a struct array in a v5 file, in MATLAB's order; fields that are no numbers are left out.

    Raises:
        StoreError: the file is damaged, or of version 7.3.
    """
    if _is_hdf5(path):
        raise StoreError(
            f"{path}: the struct {name} is in a v7.3 file, which is not read; save it in MATLAB with '-v7'"
        )
    with _in_words(path):
        from scipy.io import loadmat

        array = loadmat(path, variable_names=[name])[name]
        return [
            {field: entry[field] for field in array.dtype.names if entry[field].dtype.kind in "cfiub"}
            for entry in array.reshape(-1, order="F")
        ]


def _check(title: str, shape: tuple[int, ...], rank: int | tuple[int, ...], meaning: str) -> None:
    ranks = (rank,) if isinstance(rank, int) else rank
    if len(shape) not in ranks:
        expected = " or ".join(map(str, ranks))
        raise StoreError(f"{title} has {len(shape)} axes {list(shape)}, expected {expected}: [{meaning}]")
    check_not_empty(title, shape)


def _v5_variables(path: Path) -> list[tuple[str, tuple[int, ...], str]]:
    from scipy.io import whosmat

    return whosmat(path)


def _is_hdf5(path: Path) -> bool:
    with _in_words(path):
        return bool(h5py.is_hdf5(path))


@contextmanager
def _in_words(path: Path) -> Iterator[None]:
    """Turns what readers raise on damaged files into one line."""
    try:
        yield
    except (StoreError, MemoryError):
        raise
    except Exception as error:  # SciPy and h5py raise IndexError, TypeError, zlib.error, OSError, KeyError, ...
        reason = " ".join(str(error).split())[:160] or type(error).__name__
        raise StoreError(f"{path} cannot be read as a MATLAB file ({reason}); copy it again or save it anew") from error
