"""Predictors and precoders as services over HTTP: a server on Ray Serve, and a client that is itself a predictor.

Example:
    >>> from airlam.serving import ServingConfig
    >>> sorted(ServingConfig(predictors={"hold": {}}, classic="hold").predictors)
    ['hold']
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

_ATTRIBUTES = {
    "AsyncClient": "airlam.serving.client",
    "Client": "airlam.serving.client",
    "ServingConfig": "airlam.serving.config",
    "ServingError": "airlam.serving.errors",
    "create_app": "airlam.serving.app",
}
__all__ = ["AsyncClient", "Client", "ServingConfig", "ServingError", "create_app"]

if TYPE_CHECKING:
    from airlam.serving.app import create_app
    from airlam.serving.client import AsyncClient, Client
    from airlam.serving.config import ServingConfig
    from airlam.serving.errors import ServingError


def __getattr__(name: str) -> Any:
    if name in _ATTRIBUTES:
        return getattr(import_module(_ATTRIBUTES[name]), name)
    raise AttributeError(f"module 'airlam.serving' has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
