"""How kernels are compiled.

Sums may be taken in another order and products contracted, so that loops use vector instructions. NaN, infinity and
signed comparisons keep their meaning.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import numba

Function = TypeVar("Function", bound=Callable)


def kernel(function: Function) -> Function:
    """The function, compiled at its first call; machine code is kept beside the source for the next process."""
    compile: Any = numba.njit(cache=True, nogil=True, error_model="numpy", fastmath={"reassoc", "contract", "nsz"})
    return compile(function)


CHUNK = 128  # bins that a kernel handles at once: their scratch stays in the fastest cache
