"""Links of a variable whose link axes run fastest in the file, as the first axes of a MATLAB variable do.

To read one link after another from such a file means to read all of it for each. So it is read once in the order of
the file and written, link by link, to a temporary file, which has half the size of a complex double variable and no
name: it is gone when the process ends, however it ends.
"""

from __future__ import annotations

import itertools
import math
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from airlam.data.importers.sets.matlab import MatVariable

TILE_BYTES = 32 * 2**20  # as complex64, of what is read from the file at once
TILE_LINKS = 2**16  # a tile touches at least one page of memory for each link


def link_blocks(variable: MatVariable, link_axes: int, step: int, scratch: Path) -> Iterator[np.ndarray]:
    """Blocks ``complex64 [link, *other axes]``, ``step`` links each (fewer at the end), in any order of memory.

    Args:
        variable: the first ``link_axes`` axes count links, the last of these runs fastest.
        scratch: the folder of the temporary file.
    """
    shape = variable.shape
    links, rest = math.prod(shape[:link_axes]), shape[link_axes:]
    if variable.in_memory and link_axes == 1:
        for start in range(0, links, step):
            yield variable.part((slice(start, min(start + step, links)), *(slice(0, size) for size in rest)))
        return
    if variable.in_memory or 8 * math.prod(shape) <= TILE_BYTES:
        whole = variable.part(tuple(slice(0, size) for size in shape))
        for start in range(0, links, step):
            yield _flat(whole, shape[:link_axes], start, min(start + step, links))
        return
    with tempfile.TemporaryFile(dir=scratch, prefix=".airlam-import-") as file:
        stored = (*shape[:link_axes], *rest[::-1])  # a tile fills one run of each link
        file.truncate(8 * math.prod(stored))
        order = (*range(link_axes), *range(len(shape) - 1, link_axes - 1, -1))
        for index, part in _read_ahead(variable):
            target = np.memmap(file, np.complex64, "r+", shape=stored)  # mapped anew: pages that are done are let go
            target[tuple(index[axis] for axis in order)] = part.transpose(order)
            del target
        axes = (0, *range(len(rest), 0, -1))
        for start in range(0, links, step):
            flat = np.memmap(file, np.complex64, "r", shape=(links, *rest[::-1]))
            block = np.array(flat[start : start + step])
            del flat
            yield block.transpose(axes)


def _read_ahead(variable: MatVariable) -> Iterator[tuple[tuple[slice, ...], np.ndarray]]:
    """Every tile and what is in it. The next one is read, and unpacked, while one is written."""
    tiles = list(_tiles(variable))
    with ThreadPoolExecutor(1) as reader:
        reading = reader.submit(variable.part, tiles[0])
        for index, following in itertools.zip_longest(tiles, tiles[1:]):
            part = reading.result()
            if following is not None:
                reading = reader.submit(variable.part, following)
            yield index, part


def _flat(whole: np.ndarray, link_shape: tuple[int, ...], start: int, stop: int) -> np.ndarray:
    """Links ``start`` to ``stop`` of an array whose first axes count links."""
    return whole[np.unravel_index(np.arange(start, stop), link_shape)]


def _tiles(variable: MatVariable) -> Iterator[tuple[slice, ...]]:
    """Parts of the variable in the order of the file: whole chunks, each read once; MATLAB's order of axes."""
    extent = list(variable.chunks or (1,) * len(variable.shape))
    extent = [min(size, full) for size, full in zip(extent, variable.shape, strict=True)]
    for axis, full in enumerate(variable.shape):  # the first axis runs fastest
        bound = TILE_BYTES // 8 if axis else TILE_LINKS
        times = max(1, min(bound, TILE_BYTES // 8) // math.prod(extent))
        extent[axis] = min(full, extent[axis] * times)
    grid = [range(0, full, size) for full, size in zip(variable.shape, extent, strict=True)]
    for corner in itertools.product(*grid[::-1]):
        starts = corner[::-1]
        yield tuple(
            slice(start, min(start + size, full))
            for start, size, full in zip(starts, extent, variable.shape, strict=True)
        )
