"""Federated and split fine-tuning through Flower, over modelled radio links.

``airlam federate --config tasks/channel_prediction/federated.yaml`` is
:func:`airlam.edge.federated.commands.federate.federate`. For those who build their own: :class:`Federation` says what a
run is, :func:`run_rounds` runs it in an engine; the client and server apps are the same code in every engine.
"""

from __future__ import annotations

import importlib
import os
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from airlam.edge.federated.benchmark.benchmark import FederatedBenchmark
    from airlam.edge.federated.engines.run import run_rounds
    from airlam.edge.federated.recipe.federation import Federation

os.environ.setdefault("FLWR_TELEMETRY_ENABLED", "0")  # before Flower is imported: nothing is reported to anyone
_HOMES = {"Federation": "recipe.federation", "FederatedBenchmark": "benchmark.benchmark", "run_rounds": "engines.run"}
__all__ = ["FederatedBenchmark", "Federation", "run_rounds"]


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(importlib.import_module(f"airlam.edge.federated.{_HOMES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
