"""What a user says about a foreign data set beside its name."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from airlam.errors import RecipeError
from airlam.recipes import check_number


@dataclass(frozen=True)
class Description:
    """What a user says about a file beside its name; ``None``: the layout's own value.

    Args:
        slot_s: time from slot to slot in seconds.
        carrier_hz: carrier frequency in Hz.
        subcarrier_spacing_hz: between the subcarriers of the file, in Hz.
        port_shape: (polarisations, columns, rows) into which ``tx_ant`` folds in airlam's port order.
        split: shares of the links for training, validation and test.
        seed: of the draw of the splits.
        conjugate: take the complex conjugate: the file's phases turn the other way.
    """

    slot_s: float | None = None
    carrier_hz: float | None = None
    subcarrier_spacing_hz: float | None = None
    port_shape: Sequence[int] | None = None
    split: Sequence[float] = (0.8, 0.1, 0.1)
    seed: int = 0
    conjugate: bool = False

    def __post_init__(self) -> None:
        for name in ("slot_s", "carrier_hz", "subcarrier_spacing_hz"):
            value = getattr(self, name)
            if value is not None and not (math.isfinite(value) and value > 0):
                raise RecipeError(f"--{name.replace('_', '-')} is {value}, but must be a positive number")
        check_number("seed", self.seed, 0, math.inf, integer=True)
        shares = self.split
        if len(shares) != 3 or not all(0 <= share <= 1 for share in shares) or not math.isclose(sum(shares), 1):
            raise RecipeError(f"--split is {list(shares)}, but must be three shares (train,val,test) that sum to 1")
        if self.port_shape is not None and (len(self.port_shape) != 3 or min(self.port_shape) < 1):
            raise RecipeError(f"--port-shape is {list(self.port_shape)}, but must be polarisations,columns,rows")
