"""Links on Sionna: coded links of its parts, and airlam's predictors and precoders as blocks of its own links.

The blocks derive from ``sionna.phy.Block``; Sionna is imported when one of them is first asked for (PEP 562).
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from airlam.link.coded import CodedLink

__all__ = ["CodedLink", "PrecoderBlock", "PredictorBlock"]

_BLOCKS = {"PredictorBlock": "airlam.link.predictor_block", "PrecoderBlock": "airlam.link.precoder_block"}

if TYPE_CHECKING:
    from airlam.link.precoder_block import PrecoderBlock
    from airlam.link.predictor_block import PredictorBlock


def __getattr__(name: str) -> Any:
    if name in _BLOCKS:
        return getattr(import_module(_BLOCKS[name]), name)
    raise AttributeError(f"module 'airlam.link' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
