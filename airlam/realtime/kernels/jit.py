"""How kernels are compiled.

Sums may be taken in another order and products contracted, so that loops use vector instructions. NaN, infinity and
signed comparisons keep their meaning.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numba

HOW: dict[str, Any] = {"nogil": True, "error_model": "numpy", "fastmath": {"reassoc", "contract", "nsz"}}
CHUNK = 128  # bins that a kernel handles at once: their scratch stays in the fastest cache
STEP = 32  # numbers that a vectorised loop takes at once; what is left over goes one by one


def kernel(function: Callable) -> Any:
    """The function, compiled at its first call; the next process finds the machine code, where a file may be written
    (``NUMBA_CACHE_DIR``)."""
    try:
        return numba.njit(cache=True, **HOW)(function)
    except RuntimeError:  # neither beside the source nor in the user's folder
        return numba.njit(**HOW)(function)
