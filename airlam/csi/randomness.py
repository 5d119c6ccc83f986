"""The source of randomness that measurements are given."""

from __future__ import annotations

from typing import Any

import torch


def check_generator(generator: Any) -> None:
    """An error if ``generator`` is neither a ``torch.Generator`` nor None.

    Raises:
        TypeError: it is something else, such as a seed.
    """
    if generator is None or isinstance(generator, torch.Generator):
        return
    seed = generator if isinstance(generator, int) else 0
    raise TypeError(
        f"generator is {generator!r}, but must be a torch.Generator, or None for torch's own; "
        f"torch.Generator().manual_seed({seed:d}) makes one from a seed"
    )
