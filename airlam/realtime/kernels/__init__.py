"""Which kernels run: compiled ones where the extra ``realtime`` (numba) is installed, else the same in NumPy and torch.

Both modules have the same functions for arrays of one link; their values agree to rounding. Nothing else in this
package asks for numba.
"""

from __future__ import annotations

import importlib
import importlib.util
from types import ModuleType


def available() -> bool:
    """Whether numba is installed."""
    return importlib.util.find_spec("numba") is not None


def load(compiled: bool | None = None) -> ModuleType:
    """The kernels: :mod:`airlam.realtime.kernels.compiled` or :mod:`airlam.realtime.kernels.plain`.

    Args:
        compiled: None: where numba is installed. The first call of a compiled kernel on a computer takes seconds.
    """
    wanted = available() if compiled is None else compiled
    return importlib.import_module(f"airlam.realtime.kernels.{'compiled' if wanted else 'plain'}")
