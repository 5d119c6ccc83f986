"""Strategies that take a weighted mean: FedAvg, FedProx, FedAdam."""

from __future__ import annotations

from typing import Any

from flwr.serverapp import strategy as flower

from airlam.edge.federated.adapters import Arrays
from airlam.edge.federated.aggregation.strategy import ServerStrategy


class FedAvg(ServerStrategy):
    """The weighted mean of the updates."""

    name = "fedavg"
    flower = flower.FedAvg
    plain_mean = True


class FedProx(ServerStrategy):
    """FedAvg of devices that are held near the weights they were sent by a term ``proximal_mu / 2 * distance^2``."""

    name = "fedprox"
    flower = flower.FedProx
    arguments_known = {"proximal_mu": (1e-9, 1e3, False)}
    plain_mean = True
    changes_training = True

    def checked(self, arguments: dict[str, Any], devices: int) -> dict[str, Any]:
        """See :class:`ServerStrategy`."""
        if "proximal_mu" not in (made := super().checked(arguments, devices)):
            self.refuse("is FedAvg without strategy_args: {proximal_mu: 0.01}")
        return made


class FedAdam(ServerStrategy):
    """The mean update is a gradient for the server's Adam (``eta``, ``beta_1``, ``beta_2``, ``tau``)."""

    name = "fedadam"
    flower = flower.FedAdam
    arguments_known = {
        "eta": (1e-9, 10, False),
        "eta_l": (1e-9, 10, False),
        "beta_1": (0, 0.9999, False),
        "beta_2": (0, 0.9999, False),
        "tau": (1e-12, 1, False),
    }

    def memory(self, strategy: Any) -> Arrays:
        """See :class:`ServerStrategy`: both moments of Adam."""
        moments = {"m": strategy.m_t, "v": strategy.v_t}
        return {f"{kind}:{name}": value for kind, arrays in moments.items() for name, value in (arrays or {}).items()}

    def recall(self, strategy: Any, memory: Arrays) -> None:
        """See :class:`ServerStrategy`."""
        for kind in ("m", "v"):
            if mine := {name[2:]: value for name, value in memory.items() if name.startswith(f"{kind}:")}:
                setattr(strategy, f"{kind}_t", mine)
