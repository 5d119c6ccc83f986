"""Which kernels run: compiled ones where the extra ``realtime`` (numba) is installed, else the same in NumPy and torch.

Both modules have the same functions for arrays of one link; their values agree to rounding. Nothing else in this
package asks for numba.
"""

from __future__ import annotations

import importlib.util
from types import ModuleType


def available() -> bool:
    """Whether numba is installed."""
    return importlib.util.find_spec("numba") is not None


def load(wanted: bool | None = None) -> ModuleType:
    """The kernels: :mod:`airlam.realtime.compiled` or :mod:`airlam.realtime.plain`.

    Args:
        wanted: whether compiled ones; None: where numba is installed. On a computer the first call of a compiled kernel
            takes seconds.
    """
    if available() if wanted is None else wanted:
        from airlam.realtime import compiled

        return compiled
    from airlam.realtime import plain

    return plain
