"""airlam: AI for the wireless air interface.

3GPP channels made with Sionna feed a pretrained transformer; channel prediction and beamforming use it; an evaluation
measures spectral efficiency and latency against tuned classical baselines and against the limit.

Importing this package loads nothing heavy: rooms (``airlam.channels``, ``airlam.data``, ...) and the two loaders come
in on first use (PEP 562).

Example:
    >>> import airlam
    >>> predictor = airlam.load_predictor("hold")
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.2.0"

_ATTRIBUTES = {"load_predictor": "airlam.loading", "load_precoder": "airlam.loading"}
_ROOMS = tuple("baselines channels csi data evaluation interfaces loading metrics models realtime tasks".split())
__all__ = ["__version__", "load_precoder", "load_predictor", *_ROOMS]

if TYPE_CHECKING:
    from airlam.loading import load_precoder, load_predictor


def __getattr__(name: str) -> Any:
    if name in _ATTRIBUTES:
        return getattr(import_module(_ATTRIBUTES[name]), name)
    if name in _ROOMS:
        return import_module(f"airlam.{name}")
    raise AttributeError(f"module 'airlam' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
