"""NumPy's indexing rules for an array that is read from disk link by link.

An index such as ``[mask, ..., 0]`` is checked and split into the links and slots that have to be read, and an index
into what was read. NumPy itself applies the latter, so that every index means what it means for an array in memory.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from torch import Tensor

from airlam.errors import StoreError

AXES = ("link", "slot", "subcarrier", "rx_ant", "tx_ant")


class Selection(NamedTuple):
    """What an index asks for.

    Attributes:
        links: links to read, in this order.
        slots: first slot to read, and the one after the last.
        parts: index into the array ``[links, slots, ...]`` that was read.
        link_axis: axis of the links in the result; None where the index needs all links at once.
    """

    links: np.ndarray
    slots: tuple[int, int]
    parts: tuple[Any, ...]
    link_axis: int | None


def select(index: Any, shape: tuple[int, ...]) -> Selection:
    """Splits an index into an array ``[link, slot, ...]`` of the given shape.

    Raises:
        IndexError: an integer is out of range.
        StoreError: NumPy does not allow the index, or it holds a single True or False.
    """
    parts = _numbered(_parts(index), shape)
    fancy = [part for _, part in parts if isinstance(part, np.ndarray)]
    try:
        np.broadcast_shapes(*(part.shape for part in fancy))
    except ValueError:
        shapes = " and ".join(str(list(part.shape)) for part in fancy)
        raise StoreError(f"index arrays of shapes {shapes} do not broadcast to one shape") from None
    only = all(axis == 0 or isinstance(part, slice) or part is Ellipsis for axis, part in parts)
    links, slots, kept, new = np.arange(shape[0]), (0, shape[1]), True, []
    for axis, part in parts:
        if axis == 0:
            links, part = _links(part, shape[0], only)
            kept = isinstance(part, slice)
        elif axis == 1:
            slots, part = _slots(part, shape[1])
        new.append(part)
    return Selection(links, slots, tuple(new), _link_axis(tuple(new), shape) if kept else None)


def _parts(index: Any) -> list[Any]:
    """The parts of an index as slices, None, Ellipsis, integers and arrays of integers or booleans."""
    return [_part(part) for part in (index if isinstance(index, tuple) else (index,))]


def _part(part: Any) -> Any:
    if part is None or part is Ellipsis:
        return part
    if isinstance(part, slice):
        try:
            part.indices(1)
        except (TypeError, ValueError) as error:
            raise StoreError(f"index {part} is not a slice of whole numbers ({error})") from None
        return part
    if isinstance(part, (Tensor, np.ndarray, np.generic, Sequence)) and not isinstance(part, (str, bytes)):
        try:
            array = part.detach().cpu().numpy() if isinstance(part, Tensor) else np.asarray(part)
        except (TypeError, ValueError) as error:  # ragged lists
            raise StoreError(f"index {_shown(part)} is not an array ({error})") from None
        if not array.size and not isinstance(part, (Tensor, np.ndarray)):
            array = array.astype(np.int64)  # an empty list
        if array.dtype == bool and array.ndim:
            return array
        if np.issubdtype(array.dtype, np.integer):
            return array.astype(np.int64) if array.ndim else int(array)
    elif not isinstance(part, bool):
        try:
            return operator.index(part)
        except TypeError:
            pass
    raise StoreError(
        f"index {_shown(part)} is a {type(part).__name__}, but must be a whole number, a slice, an array of whole "
        "numbers, a boolean mask of whole axes, None or ..."
    )


def _shown(part: Any) -> str:
    text = " ".join(repr(part).split())
    return text if len(text) <= 60 else text[:57] + "..."


def _numbered(parts: list[Any], shape: tuple[int, ...]) -> list[tuple[int | None, Any]]:
    """Each part with its axis, checked; masks as integer arrays, one for each axis. New axes and ``...`` get None."""
    widths = [part.ndim if isinstance(part, np.ndarray) and part.dtype == bool else 1 for part in parts]
    used = sum(width for width, part in zip(widths, parts, strict=True) if part is not None and part is not Ellipsis)
    if used > len(shape):
        raise StoreError(f"the index names {used} axes, but h has {len(shape)}: {', '.join(AXES)}")
    if sum(part is Ellipsis for part in parts) > 1:
        raise StoreError("the index holds '...' more than once")
    numbered: list[tuple[int | None, Any]] = []
    axis = 0
    for part, width in zip(parts, widths, strict=True):
        if part is None or part is Ellipsis:
            numbered.append((None, part))
            axis += len(shape) - used if part is Ellipsis else 0
            continue
        if isinstance(part, np.ndarray) and part.dtype == bool:
            if part.shape != shape[axis : axis + width]:
                raise StoreError(
                    f"a boolean mask has shape {list(part.shape)}, but must have that of "
                    f"{', '.join(AXES[axis:][:width])}: {list(shape[axis : axis + width])}"
                )
            numbered += [(axis + i, chosen) for i, chosen in enumerate(part.nonzero())]
        else:
            numbered.append((axis, part if isinstance(part, slice) else _inside(part, axis, shape[axis])))
        axis += width
    return numbered


def _inside(part: int | np.ndarray, axis: int, size: int) -> Any:
    """Integers counted from the start, where negative ones count from the end."""
    low, high = (part, part) if isinstance(part, int) else (part.min(initial=0), part.max(initial=-1))
    for end in (low, high):
        if not -size <= end < size:
            raise IndexError(f"{AXES[axis]} {int(end)} is out of range: there are {size} {AXES[axis]}s")
    return part % size if size else part


def _links(part: Any, size: int, only: bool) -> tuple[np.ndarray, Any]:
    """Links to read for the link axis's part of an index, and the part that takes its place.

    Args:
        only: no other part is an integer, an array or a new axis, so that a list of links keeps its place.
    """
    if isinstance(part, slice):
        return np.arange(size)[part], slice(None)
    if isinstance(part, int):
        return np.array([part]), 0
    if part.ndim == 1 and only:
        return part, slice(None)
    links, inverse = np.unique(part, return_inverse=True)
    return links, inverse.reshape(part.shape)


def _slots(part: Any, size: int) -> tuple[tuple[int, int], Any]:
    """The shortest run of slots that holds those asked for, and the part counted from its first."""
    if isinstance(part, int):
        return (part, part + 1), 0
    chosen = range(*part.indices(size)) if isinstance(part, slice) else part.ravel().tolist()
    if not chosen:
        return (0, 0), slice(None) if isinstance(part, slice) else part
    low, high = min(chosen), max(chosen)
    if isinstance(part, slice):
        return (low, high + 1), slice(None) if chosen.step == 1 else slice(chosen[0] - low, None, chosen.step)
    return (low, high + 1), part - low


def _link_axis(index: tuple[Any, ...], shape: tuple[int, ...]) -> int:
    """Where NumPy puts the axis of the links: the axis that grows with their number."""
    shapes = [np.broadcast_to(np.int8(0), (links, *shape[1:]))[index].shape for links in (2, 3)]
    return next(axis for axis, (two, three) in enumerate(zip(*shapes, strict=True)) if two != three)


def links_at_once(shape: tuple[int, ...], most_bytes: int = 2**26) -> int:
    """Links to read at once so that their CSI ``complex64 [link, *shape]`` stays within ``most_bytes``."""
    return max(1, most_bytes // max(1, 8 * math.prod(shape)))
