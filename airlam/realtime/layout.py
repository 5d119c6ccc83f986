"""What arrays must look like before compiled kernels, which check nothing, index with them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray


class Array(NamedTuple):
    """One array of a user's memory.

    Attributes:
        kind: its dtype. sizes: of its axes; a name stands for any size that is the same wherever the name stands.
        below: whole numbers lie from 0 to below this, a number or the name of a size.
    """

    kind: str
    sizes: tuple[int | str, ...]
    below: int | str | None = None


Layout = Mapping[str, Array]


def layout_of(arrays: Mapping[str, NDArray], below: Mapping[str, int]) -> Layout:
    """That of arrays whose sizes never differ.

    Args:
        below: of the arrays of whole numbers, by name.
    """
    return {name: Array(str(x.dtype), x.shape, below.get(name)) for name, x in arrays.items()}


def check_arrays(arrays: Mapping[str, NDArray], layout: Layout) -> None:
    """Raises ValueError where an array is missing, unknown, of another dtype or shape, not finite or out of bounds.

    Example:
        >>> layout = {"index": Array("int32", ("bin",), "row"), "rows": Array("float32", ("row", 2))}
        >>> check_arrays({"index": np.array([0, 2], np.int32), "rows": np.zeros((2, 2), np.float32)}, layout)
        Traceback (most recent call last):
        ...
        ValueError: index has values from 0 to 2, but they must be from 0 to 1
    """
    if arrays.keys() != layout.keys():
        odd = sorted(arrays.keys() ^ layout.keys())
        raise ValueError(f"its arrays are not those of this method: {', '.join(odd)[:200]}")
    sizes: dict[str, int] = {}
    for name, array in layout.items():
        value = arrays[name]
        for size, found in zip(array.sizes, value.shape, strict=False):
            if isinstance(size, str):
                sizes.setdefault(size, found)
        shape = tuple(sizes.get(size, 0) if isinstance(size, str) else size for size in array.sizes)
        if value.dtype != array.kind or value.shape != shape or not value.flags.c_contiguous:
            raise ValueError(f"{name} is {value.dtype} {value.shape}, but must be {array.kind} {shape}")
        if not np.isfinite(value).all():
            raise ValueError(f"{name} holds NaN or infinity")
    for name, array in layout.items():
        if array.kind.startswith("int") and (value := arrays[name]).size:
            bound = sizes[array.below] if isinstance(array.below, str) else array.below
            low, high = int(value.min()), int(value.max())
            if low < 0 or (bound is not None and high >= bound):
                most = "more" if bound is None else bound - 1
                raise ValueError(f"{name} has values from {low} to {high}, but they must be from 0 to {most}")
