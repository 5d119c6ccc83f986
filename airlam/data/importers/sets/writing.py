"""Writes the links of a foreign data set to a store.

``OUT.partial`` has its final size from the start, is filled link by link, synced, and renamed at the end: a process
that is killed leaves no store. Splits are drawn by whole drops from the seed, because files are often sorted (LLM4CP's
by speed): cut in their order, training, validation and test would differ in kind. Unlike generation an import starts
again after an interruption. One that fails removes its work file.
"""

from __future__ import annotations

import math
import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from airlam.data.disk import disk_error, reserve, sync_folder
from airlam.data.importers.sets.description import Description
from airlam.data.importers.sets.layout import READ_BYTES, Contents
from airlam.data.importers.sets.reading import choose_layout
from airlam.data.layout import (
    TRUTH,
    Column,
    block_digest,
    content_hash,
    create_store,
    is_store,
    open_layout,
    read_rows,
    write_rows,
)
from airlam.data.recipe import FORMAT_VERSION, SPLITS, blocks_of
from airlam.errors import RecipeError, StoreError
from airlam.io import file_hash, locked

SCENARIO = "imported"  # stands in the recipe of a store for the channel that made its links
LARGEST_LINK = 4 * READ_BYTES  # bytes as complex64: a link is written as one piece
BLOCK_SIZE = 64  # links that share a checksum


@dataclass(frozen=True)
class Grid:
    """Size and units of the links, under the names that :func:`create_store` reads from a channel model."""

    num_subcarriers: int
    num_rx_ant: int
    num_tx_ant: int
    port_shape: tuple[int, ...]
    carrier_frequency: float
    slot_duration: float
    subcarrier_spacing: float


def import_set(
    path: str | Path,
    out: str | Path,
    *,
    layout: str = "auto",
    description: Description | None = None,
    options: dict[str, Any] | None = None,
    overwrite: bool = False,
    reuse: bool = False,
) -> tuple[str, ...]:
    """Writes the store ``out`` from a file of a foreign data set.

    Links are scaled to unit mean power as in every store; ``gain_db`` keeps what was taken. What a file does not tell
    about its links (path loss, position, ...) is NaN, ``los`` and ``indoor`` are false. ``CSIStore.recipe["channel"]``
    tells where the links are from: names, sizes and SHA-256 of the files, layout, options.

    Args:
        path: the file or folder. out: the store to write. layout: see :func:`choose_layout`. options: of the layout.
        description: what the file does not tell.
        overwrite: replace a store that is there.
        reuse: keep a store that the same files, layout and options gave, replace any other.

    Returns:
        Notes on the import, one sentence each.

    Raises:
        StoreError: the file is missing, of another layout or damaged, or has CSI that is not finite or zero; ``out`` is
            there, foreign, or cannot be written.
        RecipeError: an option is out of bounds, or something is missing that the file does not tell.

    Example:
        >>> import_set("csi.npy", "csi.h5", description=Description(1e-3, 3.5e9, 30e3))     # doctest: +SKIP
    """
    path, out, description = Path(path).expanduser(), Path(out).expanduser(), description or Description()
    if not path.exists():
        raise StoreError(f"no file {path}; name a file or folder of a data set")
    if layout == "auto" and is_store(path):
        open_layout(path)  # raises if it is damaged
        raise StoreError(f"{path} is an airlam store already; use it as it is, with --data.store or --store")
    chosen = choose_layout(path, layout, options or {})
    chosen.scratch, chosen.description = out.parent, description
    overwrite = overwrite or reuse
    _check_target(out, overwrite)
    with chosen.open(path) as contents:
        grid, notes = _grid(path, contents, description)
        places, counts, drops = _places(contents, description)
        content = {
            "format": FORMAT_VERSION,
            "channel": {
                "scenario": SCENARIO,
                "layout": chosen.name,
                "files": [{"name": f.name, "bytes": f.stat().st_size, "sha256": file_hash(f)} for f in contents.files],
                "options": {
                    key: value
                    for key, value in (options or {}).items()
                    if value is not None and key not in chosen.file_options
                },
                "conjugate": description.conjugate,
                "split": list(description.split),
                **asdict(grid),
                "links_per_drop": 1,  # drops of an import need not be whole blocks
            },
            "num_slots": contents.shape[1],
            "num_links": counts,
            "seed": description.seed,
            "block_size": BLOCK_SIZE,
        }
        if reuse and out.exists() and open_layout(out)[0]["recipe_hash"] == content_hash(content):
            return (*contents.notes, *notes)
        try:
            out.parent.mkdir(parents=True, exist_ok=True)
            with locked(out, by="another import or 'airlam generate'"):
                _check_target(out, overwrite)
                partial = out.with_name(out.name + ".partial")
                try:
                    create_store(partial, content, grid)
                    reserve(partial)
                    _fill(partial, content, contents, places, drops, description.conjugate)
                    os.replace(partial, out)
                except BaseException:
                    partial.unlink(missing_ok=True)
                    raise
            sync_folder(out.parent)
        except StoreError:
            raise
        except OSError as error:
            raise disk_error(error, out) from error
    return (*contents.notes, *notes)


def _check_target(out: Path, overwrite: bool) -> None:
    """Raises StoreError unless ``out`` and ``out.partial`` may be written."""
    if out.exists():
        open_layout(out)  # what is not an airlam store is never touched
        if not overwrite:
            raise StoreError(f"{out} is there already; choose another path with --out, or replace it with --overwrite")
    partial = out.with_name(out.name + ".partial")
    if partial.exists() and not overwrite and _is_generated(partial):
        raise StoreError(f"{partial} is unfinished work of 'airlam generate'; choose another --out, or --overwrite")


def _is_generated(partial: Path) -> bool:
    """Whether a work file may be of ``airlam generate``; a broken one is not worth keeping, it could not go on."""
    try:
        return f'"scenario": "{SCENARIO}"' not in open_layout(partial)[0]["recipe"]
    except StoreError:
        return False


def _grid(path: Path, contents: Contents, description: Description) -> tuple[Grid, list[str]]:
    """Size and units of the links, from the user or from the layout."""
    given = {
        "slot_duration": ("--slot-s", description.slot_s),
        "carrier_frequency": ("--carrier-hz", description.carrier_hz),
        "subcarrier_spacing": ("--subcarrier-spacing-hz", description.subcarrier_spacing_hz),
    }
    values: dict[str, Any] = {
        name: contents.known.get(name) if value is None else value for name, (_, value) in given.items()
    }
    missing = [given[name][0] for name, value in values.items() if value is None]
    if missing:
        raise RecipeError(f"{path} does not tell everything about its CSI; give {', '.join(missing)}")
    links, _, subcarriers, rx_ant, tx_ant = contents.shape
    notes, ports = [], description.port_shape or contents.known.get("port_shape")
    if ports is None:
        ports = (1, tx_ant, 1)
        notes.append(f"the {tx_ant} transmit antennas are taken as one line; --port-shape says otherwise")
    if math.prod(ports) != tx_ant:
        raise RecipeError(
            f"--port-shape {','.join(map(str, ports))} has {math.prod(ports)} ports, the file has {tx_ant}"
        )
    size = 8 * math.prod(contents.shape[1:])
    if size > LARGEST_LINK:
        raise StoreError(
            f"{path}: one link {list(contents.shape[1:])} has {size / 1e6:,.0f} MB, at most {LARGEST_LINK / 1e6:,.0f} "
            "fit into memory at once; check the order of the axes, or cut it into shorter links"
        )
    return Grid(subcarriers, rx_ant, tx_ant, tuple(int(n) for n in ports), **values), notes


def _places(contents: Contents, description: Description) -> tuple[np.ndarray, dict[str, int], np.ndarray]:
    """Where each link of the file goes, ``int [link]``; the links of each split; the drop of each link of the file."""
    links, per_drop = contents.shape[0], contents.links_per_drop
    drops = np.arange(links) // per_drop if contents.drops is None else contents.drops
    num_drops = int(drops[-1]) + 1
    order = np.random.default_rng(description.seed).permutation(num_drops)
    ends = np.rint(np.cumsum([0, *description.split]) * num_drops).astype(int)
    sizes = np.bincount(drops, minlength=num_drops)[order]
    counts = {split: int(sizes[a:b].sum()) for split, a, b in zip(SPLITS, ends[:-1], ends[1:], strict=True)}
    rank = np.empty(num_drops, int)
    rank[order] = np.arange(num_drops)
    places = np.empty(links, int)
    places[np.argsort(rank[drops], kind="stable")] = np.arange(links)
    return places, counts, drops


def _fill(
    partial: Path, content: dict[str, Any], contents: Contents, places: np.ndarray, drops: np.ndarray, conjugate: bool
) -> None:
    """Writes all links, then what is known of them, then the checksums of what stands in the file."""
    _, columns = open_layout(partial)
    truth = {
        name: np.full((len(places), *field.shape), False if field.dtype == "?" else math.nan, field.dtype)
        for name, field in TRUTH.items()
        if name != "drop"
    }
    truth["drop"] = np.empty(len(places), TRUTH["drop"].dtype)
    truth["drop"][places] = drops
    file = os.open(partial, os.O_RDWR)
    try:
        done = 0
        for block in contents.blocks():
            if done + len(block.h) <= len(places):
                rows = places[done : done + len(block.h)]
                truth["gain_db"][rows] = _write_links(file, columns["h"], block.h, done, rows, conjugate)
                known = dict(block.truth or {}) | ({} if block.speed is None else {"speed": block.speed})
                for name, values in known.items():
                    truth[name][rows] = values
            done += len(block.h)
        if done != len(places):
            raise StoreError(f"{contents.files[0]} gave {done} links of {len(places)}; it is truncated: copy it again")
        for name, values in truth.items():
            write_rows(file, columns[name], 0, values)
        os.fsync(file)
        for number, part in enumerate(blocks_of(content)):  # links come in another order than the blocks
            arrays = {name: read_rows(file, columns[name], part.start, part.count) for name in ("h", *TRUTH)}
            write_rows(file, columns["checksum"], number, block_digest(arrays))
        os.fsync(file)
    finally:
        os.close(file)


def _write_links(
    file: int, column: Column, block: np.ndarray, first: int, rows: np.ndarray, conjugate: bool
) -> list[float]:
    """Writes the links ``first`` and following of the file to their rows of the store; their gains in dB."""
    gains = []
    for i, h in enumerate(block):
        pairs = np.ascontiguousarray(h.conj() if conjugate else h).view(np.float32).reshape(*h.shape, 2)
        power = _power(pairs)
        if not math.isfinite(power):
            raise StoreError(
                f"link {first + i} has NaN or infinite CSI (or above 1e19 in size); leave it out or scale it"
            )
        if power < 1e-30:
            raise StoreError(
                f"link {first + i} has mean power {power:g}, but must have above 1e-30; leave it out or scale it"
            )
        unit = (pairs * np.float32(1 / math.sqrt(power))).astype("<f2")
        write_rows(file, column, int(rows[i]), unit[None])
        gains.append(10 * math.log10(power))
    return gains


def _power(pairs: np.ndarray) -> float:
    """Mean squared magnitude of ``float32 [..., 2]``; infinite or NaN where a square is beyond float32."""
    flat = pairs.reshape(-1)
    with np.errstate(over="ignore", invalid="ignore"):
        return 2 * sum(float(np.dot(part, part)) for part in np.split(flat, range(4096, len(flat), 4096))) / len(flat)
