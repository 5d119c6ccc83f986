"""The frozen AR whose time is the unit of every latency ratio: ``benchmarks/reference/ar.py``.

It is one file without airlam, which stays where it was frozen; the wheel carries a copy beside the recipes.
"""

from __future__ import annotations

import functools
import importlib.util
from collections.abc import Callable
from pathlib import Path

from torch import Tensor

from airlam.csi import PortShape
from airlam.errors import RecipeError
from airlam.recipes import recipe_root

REFERENCE = "ar-reference"
FILE = Path("benchmarks") / "reference" / "ar.py"


@functools.cache
def reference_predict() -> Callable[[Tensor, int, PortShape], Tensor]:
    """``predict(h_past, num_future, port_shape)`` of the frozen AR.

    Raises:
        RecipeError: the file is not there.

    Example:
        >>> import torch
        >>> reference_predict()(torch.randn(1, 16, 6, 1, 8, dtype=torch.complex64), 4, (2, 2, 2)).shape
        torch.Size([1, 4, 6, 1, 8])
    """
    path = recipe_root() / FILE
    spec = importlib.util.spec_from_file_location("airlam_ar_reference", path)
    if not path.is_file() or spec is None or spec.loader is None:
        raise RecipeError(f"{path} is missing; install airlam again")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.predict
