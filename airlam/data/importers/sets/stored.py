"""Arrays of ``.npz``, ``.npy``, ``.h5`` and ``.mat`` files, read block by block along their first axis.

A member of a ``.npz`` is read as a stream, so it may have any size, compressed or not; its first axis must run slowest
(NumPy's default), else it is read whole and bounded.
"""

from __future__ import annotations

import math
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import h5py
import numpy as np

from airlam.data.importers.sets.layout import check_not_empty
from airlam.data.importers.sets.matlab import CHUNK_BYTES, opened_variable, variable_shapes
from airlam.data.importers.sets.turning import link_blocks
from airlam.errors import StoreError

WHOLE_BYTES = 500 * 10**6  # of an array that cannot be read in parts
HDF5 = (".h5", ".hdf5")
SUFFIXES = (".npz", *HDF5, ".mat")


@dataclass(frozen=True)
class Stored:
    """An array of an open file.

    Attributes:
        title: file and name, for errors.
        shape: of the array; in ``.mat`` files MATLAB's order of axes.
        dtype: of the array; complex also where real and imaginary part are fields of a compound.
        rows: ``rows(step)`` gives all of it, ``step`` entries of the first axis at once (fewer at the end).
        mapped: the array in mapped memory, where the file allows it.
    """

    title: str
    shape: tuple[int, ...]
    dtype: np.dtype
    rows: Callable[[int], Iterator[np.ndarray]]
    mapped: np.ndarray | None = None

    def whole(self) -> np.ndarray:
        """All of it.

        Raises:
            StoreError: it is not mapped and has more than 500 MB.
        """
        if self.mapped is not None:
            return self.mapped
        if math.prod(self.shape) * self.dtype.itemsize > WHOLE_BYTES:
            raise StoreError(
                f"{self.title} {list(self.shape)} has above {WHOLE_BYTES / 1e6:,.0f} MB, which is the bound for arrays "
                "that do not start with their links; save it with links first, or as .npy"
            )
        return next(self.rows(self.shape[0] if self.shape else 1))


def array_shapes(path: Path) -> dict[str, tuple[int, ...]]:
    """Names and shapes of the arrays in a file, sorted; nothing of them is read.

    Raises:
        StoreError: the file is of another kind, or damaged.
    """
    if path.suffix == ".mat":
        return variable_shapes(path)
    with _in_words(path):
        if path.suffix in HDF5:
            with h5py.File(path, "r", locking=False) as file:
                return {name: item.shape for name, item in sorted(file.items()) if isinstance(item, h5py.Dataset)}
        with zipfile.ZipFile(path) as archive:
            shapes = {}
            for name in sorted(archive.namelist()):
                if name.endswith(".npy"):
                    with archive.open(name) as file:
                        shapes[name[:-4]] = _header(file)[0]
            return shapes


def has_arrays(path: Path, **ranks: tuple[int, ...]) -> bool:
    """Whether a file of a known suffix holds arrays of all these names, with one of so many axes."""
    if not (path.is_file() and path.suffix in SUFFIXES):
        return False
    try:
        shapes = array_shapes(path)
    except StoreError:
        return False
    return all(name in shapes and len(shapes[name]) in fitting for name, fitting in ranks.items())


@contextmanager
def opened_array(path: Path, name: str, ranks: tuple[int, ...] | None, meaning: str, scratch: Path) -> Iterator[Stored]:
    """An array of an open file.

    Args:
        ranks: how many axes it may have; ``None``: any number. meaning: their names, for errors.
        scratch: folder of the temporary file that a ``.mat`` may need.

    Raises:
        StoreError: no such array, or it has other axes, is empty, holds pickled objects, or is damaged.
    """
    title = f"{path}: {name}"
    if path.suffix == ".mat":
        with opened_variable(path, name, ranks or tuple(range(9)), meaning) as variable:
            yield Stored(
                title, variable.shape, np.dtype(np.complex64), lambda step: link_blocks(variable, 1, step, scratch)
            )
        return
    with _in_words(path):
        file = h5py.File(path, "r", locking=False) if path.suffix in HDF5 else zipfile.ZipFile(path)
    with file:
        with _in_words(path):
            array = _dataset(file, title, name) if isinstance(file, h5py.File) else _member(file, path, name)
        if ranks is not None and len(array.shape) not in ranks:
            expected = " or ".join(map(str, ranks))
            raise StoreError(
                f"{title} has {len(array.shape)} axes {list(array.shape)}, expected {expected}: [{meaning}]"
            )
        check_not_empty(title, array.shape)
        yield array


def mapped_array(path: Path) -> Stored:
    """The array of a ``.npy`` file, in mapped memory.

    Raises:
        StoreError: the file is no ``.npy``, truncated, or holds pickled objects.
    """
    try:
        mapped = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        reason = str(error).splitlines()[0][:160]
        raise StoreError(
            f"{path} cannot be read as a NumPy array ({reason}); it is truncated, damaged or holds pickled objects, "
            "which are never loaded: save a complex array again"
        ) from error

    def rows(step: int) -> Iterator[np.ndarray]:
        for start in range(0, len(mapped), step):  # mapped anew: pages that are done are let go
            yield np.load(path, mmap_mode="r", allow_pickle=False)[start : start + step]

    return Stored(str(path), mapped.shape, mapped.dtype, rows, mapped)


def _dataset(file: h5py.File, title: str, name: str) -> Stored:
    found = file.get(name)
    if not isinstance(found, h5py.Dataset):
        raise StoreError(f"{title} is missing, or no array; it holds {', '.join(file)}")
    fields = found.dtype.names
    pairs = fields is not None and set(fields) in ({"real", "imag"}, {"r", "i"})
    if found.dtype.kind not in "cfiub" and not pairs:
        raise StoreError(f"{title} is {found.dtype}, but must hold numbers")

    chunk = found.chunks[0] if found.chunks else 1
    if found.dtype.itemsize * math.prod(found.chunks or (0,)) > CHUNK_BYTES:
        raise StoreError(f"{title} is stored in chunks above {CHUNK_BYTES / 1e6:,.0f} MB; save it with smaller chunks")

    def parts(step: int) -> Iterator[np.ndarray]:
        for start in range(0, found.shape[0], step):
            with _in_words(Path(file.filename)):
                part = found[start : start + step]
            if pairs:
                real, imag = sorted(fields, reverse=True)  # real before imag, r before i
                whole = np.empty(part.shape, np.complex64)
                whole.real, whole.imag = part[real], part[imag]
                part = whole
            yield part

    def rows(step: int) -> Iterator[np.ndarray]:
        return _regrouped(parts(max(step // chunk, 1) * chunk), step)  # each chunk is read once

    return Stored(title, found.shape, np.dtype(np.complex64) if pairs else found.dtype, rows)


def _regrouped(parts: Iterator[np.ndarray], step: int) -> Iterator[np.ndarray]:
    """The same rows, ``step`` at once."""
    rest: np.ndarray | None = None
    for part in parts:
        part = part if rest is None else np.concatenate([rest, part])
        whole = len(part) // step * step
        yield from (part[start : start + step] for start in range(0, whole, step))
        rest = part[whole:] if whole < len(part) else None
    if rest is not None:
        yield rest


def _member(archive: zipfile.ZipFile, path: Path, name: str) -> Stored:
    title = f"{path}: {name}"
    if f"{name}.npy" not in archive.namelist():
        known = ", ".join(entry[:-4] for entry in archive.namelist() if entry.endswith(".npy"))
        raise StoreError(f"{path} has no member {name!r}; it holds {known or 'no array'}")
    with archive.open(f"{name}.npy") as file:
        shape, fortran, dtype = _header(file)
        size, told = math.prod(shape) * dtype.itemsize, archive.getinfo(f"{name}.npy").file_size
        if dtype.hasobject:
            raise StoreError(f"{title} holds pickled objects, which are never loaded; save a complex array again")
        if size + file.tell() != told:
            raise StoreError(
                f"{title} {list(shape)} has {told:,} bytes, expected {size + file.tell():,}; it is damaged"
            )

    def rows(step: int) -> Iterator[np.ndarray]:
        with _in_words(path), archive.open(f"{name}.npy") as file:
            _header(file)
            if fortran and len(shape) > 1:
                if size > WHOLE_BYTES:
                    raise StoreError(
                        f"{title} has {size / 1e6:,.0f} MB in Fortran order, at most {WHOLE_BYTES / 1e6:,.0f} are "
                        "read; save np.ascontiguousarray(array)"
                    )
                whole = np.frombuffer(file.read(size), dtype).reshape(shape, order="F")
                yield from (whole[start : start + step] for start in range(0, shape[0], step))
                return
            for start in range(0, shape[0] if shape else 1, step):
                part = (min(step, shape[0] - start), *shape[1:]) if shape else (1,)
                array = np.empty(part, dtype)
                _fill(file, array, title)
                yield array
            if file.read(1):  # also checks the CRC
                raise StoreError(f"{title} goes on after its end; it is damaged")

    return Stored(title, shape, dtype, rows)


def _header(file: IO[bytes]) -> tuple[tuple[int, ...], bool, np.dtype]:
    version = np.lib.format.read_magic(file)
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    return read(file)


def _fill(file: IO[bytes], array: np.ndarray, title: str) -> None:
    view = array.reshape(-1).view(np.uint8).data
    while view:
        part = file.read(min(len(view), 2**20))
        if not part:
            raise StoreError(f"{title} ends early; it is truncated: copy it again")
        view[: len(part)] = part
        view = view[len(part) :]


@contextmanager
def _in_words(path: Path) -> Iterator[None]:
    """Turns what readers raise on damaged files into one line."""
    try:
        yield
    except (StoreError, MemoryError, GeneratorExit):
        raise
    except Exception as error:  # zlib.error, BadZipFile, EOFError, OSError, ValueError, KeyError, ...
        reason = " ".join(str(error).split())[:160] or type(error).__name__
        raise StoreError(f"{path} cannot be read ({reason}); it is damaged: copy it again or save it anew") from error
