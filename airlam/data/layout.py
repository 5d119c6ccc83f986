"""The layout of a store of CSI: one HDF5 file per data set, in which the place of every byte is fixed in advance.

HDF5 describes the file; the bytes of the links are read and written by offset. All space is allocated when the file is
created and nothing is compressed, so every link's place is known from then on and HDF5's own structures never change
again. So a process that is killed half-way leaves a sound file, the content does not depend on the order of writing,
and readers may fork. Any HDF5 tool reads the result. One link is one chunk.

    h            float16 [link, slot, subcarrier, rx_ant, tx_ant, 2]   real and imaginary part, unit mean power per link
    gain_db, path_loss_db, speed, los, indoor, delay_spread, position, velocity, drop                [link, ...]
    checksum     uint8 [block, 32]      SHA-256 of each block's bytes; all zeros: this block is not written yet

Storing unit-power CSI as float16 costs an NMSE of -74 dB; without the normalisation path loss would underflow.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
import os
import platform
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any, NamedTuple

import h5py
import numpy as np

from airlam.data.recipe import FORMAT_VERSION, SPLITS, Block, blocks_of, content_hash
from airlam.errors import StoreError

FORMAT = "airlam-csi"
DIGEST_BYTES = 32
HDF5_SIGNATURE = b"\x89HDF\r\n\x1a\n"


class Field(NamedTuple):
    """A per-link array: its type, the axes after ``link``, its unit."""

    dtype: str
    axes: tuple[str, ...]
    unit: str
    shape: tuple[int, ...] = ()


TRUTH = {
    "gain_db": Field("<f4", (), "dB"),
    "path_loss_db": Field("<f4", (), "dB"),
    "speed": Field("<f4", (), "m/s"),
    "los": Field("?", (), "bool"),
    "indoor": Field("?", (), "bool"),
    "delay_spread": Field("<f4", (), "s"),
    "position": Field("<f4", ("xyz",), "m", (3,)),
    "velocity": Field("<f4", ("xyz",), "m/s", (3,)),
    "drop": Field("<i8", (), "id"),
}


@dataclass(frozen=True)
class Column:
    """Where an array lies in the file: row ``i`` starts at ``offset + i * row_bytes``."""

    offset: int
    num_rows: int
    dtype: np.dtype
    shape: tuple[int, ...]

    @property
    def row_bytes(self) -> int:
        return self.dtype.itemsize * math.prod(self.shape)


def versions() -> dict[str, str]:
    """Versions of what decides the bits of a generated link."""
    found = {"python": platform.python_version(), "machine": platform.machine()}
    for name, packages in {
        "airlam": ("airlam",),
        "sionna": ("sionna-no-rt", "sionna"),
        "torch": ("torch",),
        "numpy": ("numpy",),
    }.items():
        for package in packages:
            try:
                found[name] = metadata.version(package)
                break
            except metadata.PackageNotFoundError:
                continue
    if "airlam" not in found:  # used from a folder on sys.path, not installed
        found["airlam"] = sys.modules["airlam"].__version__
    return found


def store_attributes(content: dict[str, Any], channel: Any) -> dict[str, Any]:
    """The attributes of a store: everything a reader needs besides the arrays."""
    start, splits = 0, {}
    for split in SPLITS:
        splits[split] = [start, start + content["num_links"][split]]
        start = splits[split][1]
    attributes: dict[str, Any] = {
        "airlam_format": FORMAT,
        "format_version": FORMAT_VERSION,
        "recipe": json.dumps(content, sort_keys=True),
        "recipe_hash": content_hash(content),
        "versions": json.dumps(versions(), sort_keys=True),
        "seed": content["seed"],
        "splits": json.dumps(splits),
        "axes": "link, slot, subcarrier, rx_ant, tx_ant, (real, imag)",
        "port_order": "tx_ant folds into port_shape = (polarisations, columns, rows)",
        "units": json.dumps({"h": "unit mean power per link", **{name: field.unit for name, field in TRUTH.items()}}),
        "port_shape": [int(n) for n in channel.port_shape],
        "carrier_frequency": float(channel.carrier_frequency),
        "slot_duration": float(channel.slot_duration),
        "subcarrier_spacing": float(channel.subcarrier_spacing),
    }
    attributes["attributes_sha256"] = _attributes_digest(attributes)
    return attributes


def _attributes_digest(attributes: dict[str, Any]) -> str:
    rest = {name: value for name, value in attributes.items() if name != "attributes_sha256"}
    return hashlib.sha256(json.dumps(rest, sort_keys=True).encode()).hexdigest()


def create_store(path: Path, content: dict[str, Any], channel: Any) -> None:
    """Writes a store of final size without any link in it.

    Equal arguments give equal bytes: no time stamps, all space allocated here and in a fixed order.
    """
    num_links = sum(content["num_links"].values())
    link = (content["num_slots"], channel.num_subcarriers, channel.num_rx_ant, channel.num_tx_ant, 2)
    # Format 1.10 and up: structures carry checksums of their own.
    with h5py.File(path, "w", libver=("v110", "v110")) as file:
        for name, value in store_attributes(content, channel).items():
            file.attrs[name] = value
        arrays = {"h": Field("<f2", ("slot", "subcarrier", "rx_ant", "tx_ant", "real/imag"), "unit mean power", link)}
        for name, field in {**arrays, **TRUTH}.items():
            chunk = (1, *link) if name == "h" else None
            dataset = _create_array(file, name, field.dtype, (num_links, *field.shape), chunk)
            dataset.attrs["unit"] = field.unit
            dataset.attrs["axes"] = ", ".join(("link", *field.axes))
        _create_array(file, "checksum", "u1", (len(blocks_of(content)), DIGEST_BYTES), None)


def _create_array(file: h5py.File, name: str, dtype: str, shape: tuple, chunk: tuple | None) -> h5py.Dataset:
    properties = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    properties.set_alloc_time(h5py.h5d.ALLOC_TIME_EARLY)
    properties.set_fill_time(h5py.h5d.FILL_TIME_NEVER)  # the new part of a file reads as zeros anyway
    properties.set_obj_track_times(False)
    if chunk:
        properties.set_chunk(chunk)
    kind = h5py.h5t.py_create(np.dtype(dtype), logical=True)
    h5py.h5d.create(file.id, name.encode(), kind, h5py.h5s.create_simple(shape), dcpl=properties)
    return file[name]


def _column(dataset: h5py.Dataset, path: Path) -> Column:
    """Where a data set's rows lie; they must follow one another without filters, as `create_store` laid them out."""
    rows, dtype, shape = dataset.shape[0], dataset.dtype, dataset.shape[1:]
    if dataset.chunks is None:
        offset = dataset.id.get_offset()
        if offset is None:
            raise StoreError(f"{path}: array {dataset.name!r} has no place in the file; generate it again")
        return Column(offset, rows, dtype, shape)
    size, regular = dtype.itemsize * math.prod(shape), False
    if dataset.compression is None and dataset.id.get_num_chunks() == rows:
        first, last = dataset.id.get_chunk_info(0), dataset.id.get_chunk_info(rows - 1)
        regular = first.size == size and last.byte_offset - first.byte_offset == (rows - 1) * size
    if not regular:
        raise StoreError(f"{path} was rewritten by another tool (chunks moved or compressed); generate it again")
    return Column(first.byte_offset, rows, dtype, shape)


def is_store(path: str | Path) -> bool:
    """Whether a file is an airlam store. A broken ``.h5`` counts as one: opening it says what is wrong."""
    path = Path(path)
    if not path.is_file():
        return False
    try:
        with h5py.File(path, "r", locking=False) as file:
            return file.attrs.get("airlam_format") == FORMAT
    except OSError:
        return path.suffix in (".h5", ".hdf5")


def open_layout(path: Path) -> tuple[dict[str, Any], dict[str, Column]]:
    """Attributes and columns of a store, finished or not; the one place that decides what is a store.

    Raises:
        StoreError: not there, foreign, truncated, damaged, or from a later version of airlam.
    """
    if not path.exists():
        raise StoreError(f"no store at {path}; 'airlam generate --config datasets/X.yaml --out {path}' writes one")
    if path.is_dir():
        raise StoreError(f"{path} is a folder; name a file in it, for example {path / 'data.h5'}")
    with _reading(path) as file:
        attributes = {name: _plain(value) for name, value in file.attrs.items()}
        if attributes.get("airlam_format") != FORMAT:
            raise StoreError(f"{path} is an HDF5 file, but not an airlam store; name another file")
        if attributes.get("format_version", 0) > FORMAT_VERSION:
            raise StoreError(
                f"{path} has format version {attributes['format_version']}, this airlam reads up to "
                f"{FORMAT_VERSION}; update airlam"
            )
        if attributes.get("attributes_sha256") != _attributes_digest(attributes):
            raise StoreError(f"{path} is corrupt: its attributes do not match their checksum; generate it again")
        columns = {name: _column(file[name], path) for name in ("h", *TRUTH, "checksum")}
        _check_columns(path, attributes, columns)
    end = max(column.offset + column.num_rows * column.row_bytes for column in columns.values())
    if path.stat().st_size < end:
        raise StoreError(f"{path} is truncated: {path.stat().st_size} bytes of {end}; move it away, generate it again")
    return attributes, columns


@contextlib.contextmanager
def _reading(path: Path) -> Iterator[h5py.File]:
    """An HDF5 file opened for reading, whatever other handles this process has on it.

    HDF5 refuses a second handle by path whose lock flags differ from the first one's, refuses files that are marked as
    open for writing, and takes locks, which network file systems often refuse. None of this applies to a Python file
    object; whether the bytes are sound is for their checksums to say.

    Raises:
        StoreError: what is wrong with the file, as far as it is certain.
    """
    try:
        raw = open(path, "rb")
    except OSError as error:
        raise StoreError(f"cannot read {path}: {error.strerror}; check its permissions or name another file") from error
    with raw:
        if raw.read(len(HDF5_SIGNATURE)) != HDF5_SIGNATURE:
            raise StoreError(f"{path} is not an airlam store (not an HDF5 file); name another file")
        try:
            with h5py.File(raw, "r") as file:
                yield file
        except StoreError:
            raise
        except Exception as error:  # h5py raises OSError, KeyError, RuntimeError, ... in HDF5's words
            reason = " ".join(str(error).split())[:160]
            if "truncated" in reason:
                raise StoreError(f"{path} is truncated ({reason}); move it away and generate it again") from error
            raise StoreError(
                f"HDF5 cannot read {path} ({reason}); if no program is writing it, it is damaged: copy it again, or "
                "generate it at another place with --out"
            ) from error


def _check_columns(path: Path, attributes: dict[str, Any], columns: dict[str, Column]) -> None:
    """Compares rows, types and shapes of all arrays with those that the recipe of the store asks for."""
    content = json.loads(attributes["recipe"])
    num_links, num_blocks = sum(content["num_links"].values()), len(blocks_of(content))
    grid = columns["h"].shape[1:3]  # subcarriers and receive antennas: the channel's, not written in every recipe
    link = (content["num_slots"], *grid, math.prod(attributes["port_shape"]), 2)
    wanted = {
        "h": (num_links, np.dtype("<f2"), link),
        **{name: (num_links, np.dtype(field.dtype), field.shape) for name, field in TRUTH.items()},
        "checksum": (num_blocks, np.dtype("u1"), (DIGEST_BYTES,)),
    }
    for name, (rows, dtype, shape) in wanted.items():
        column = columns[name]
        if (column.num_rows, column.dtype, column.shape) != (rows, dtype, shape):
            raise StoreError(
                f"{path} is corrupt: array {name!r} is {column.dtype} {[column.num_rows, *column.shape]}, but its "
                f"recipe asks for {dtype} {[rows, *shape]}; generate it again"
            )


def _plain(value: Any) -> Any:
    """An attribute as plain Python: numbers, text, lists."""
    return value.tolist() if isinstance(value, (np.generic, np.ndarray)) else value


def read_rows(file: int, column: Column, start: int, count: int) -> np.ndarray:
    """Rows ``start`` to ``start + count`` of a column."""
    rows = np.empty((count, *column.shape), column.dtype)
    read_into(file, rows, column.offset + start * column.row_bytes)
    return rows


def write_rows(file: int, column: Column, start: int, rows: np.ndarray) -> None:
    """Writes rows from ``start`` on; the counterpart of :func:`read_rows`."""
    if rows.dtype != column.dtype or rows.shape[1:] != column.shape:
        raise ValueError(f"rows are {rows.dtype} {rows.shape[1:]}, the store holds {column.dtype} {column.shape}")
    view, position = _as_bytes(np.ascontiguousarray(rows)), column.offset + start * column.row_bytes
    while view:
        written = os.pwrite(file, view, position)
        view, position = view[written:], position + written


def _as_bytes(array: np.ndarray) -> memoryview:
    """The bytes of a contiguous array, without a copy."""
    return array.reshape(-1).view(np.uint8).data


def read_into(file: int, target: np.ndarray, position: int) -> None:
    if not target.size:
        return
    view = _as_bytes(target)
    while view:
        got = os.preadv(file, [view], position)
        if got == 0:
            raise StoreError(f"the store ends before byte {position + len(view)}: it was truncated while in use")
        view, position = view[got:], position + got


def missing_blocks(path: Path, columns: dict[str, Column]) -> int:
    """Number of blocks that are not written yet."""
    file = os.open(path, os.O_RDONLY)
    try:
        checksums = read_rows(file, columns["checksum"], 0, columns["checksum"].num_rows)
    finally:
        os.close(file)
    return int((~checksums.any(axis=1)).sum())


def block_digest(arrays: dict[str, np.ndarray]) -> np.ndarray:
    """SHA-256 of a block's bytes, ``uint8 [1, 32]``; the arrays in the order of the file."""
    digest = hashlib.sha256()
    for name in ("h", *TRUTH):
        digest.update(_as_bytes(np.ascontiguousarray(arrays[name])))
    return np.frombuffer(digest.digest(), np.uint8)[None]


def block_matches(file: int, columns: dict[str, Column], block: Block, expected: np.ndarray) -> bool:
    """Whether the bytes of a block are those of its checksum."""
    arrays = {name: read_rows(file, columns[name], block.start, block.count) for name in ("h", *TRUTH)}
    return bool((block_digest(arrays)[0] == expected).all())


def check_writing(path: Path) -> None:
    """Writes and reads a small HDF5 file; raises where that does not work (``airlam doctor``)."""
    values = np.arange(6, dtype=np.float16).reshape(2, 3)
    with h5py.File(path, "w", libver=("v110", "v110")) as file:
        file["x"] = values
    with h5py.File(path, "r", locking=False) as file:
        if not np.array_equal(file["x"][...], values):
            raise StoreError(f"{path} does not hold what was written")
