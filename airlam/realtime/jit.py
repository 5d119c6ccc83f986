"""How kernels are compiled.

Sums may be taken in another order and products contracted, so that loops use vector instructions. NaN, infinity and
signed comparisons keep their meaning.
"""

from __future__ import annotations

from typing import Any

import numba

kernel: Any = numba.njit(cache=True, nogil=True, error_model="numpy", fastmath={"reassoc", "contract", "nsz"})
CHUNK = 128  # bins that a kernel handles at once: their scratch stays in the fastest cache
STEP = 32  # numbers that a vectorised loop takes at once; what is left over goes one by one
