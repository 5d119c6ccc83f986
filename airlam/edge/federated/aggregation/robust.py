"""Strategies that withstand some poisoned updates: trimmed mean, median, Krum, multi-Krum."""

from __future__ import annotations

from typing import Any

from flwr.serverapp import strategy as flower

from airlam.edge.federated.aggregation.strategy import ServerStrategy
from airlam.recipes import check_number


class TrimmedMean(ServerStrategy):
    """Of each entry, the share ``beta`` of the smallest and of the largest values is left out of the mean."""

    name = "fedtrimmedavg"
    flower = flower.FedTrimmedAvg
    arguments_known = {"beta": (1e-3, 0.499, False)}
    compares_entries = True

    def checked(self, arguments: dict[str, Any], devices: int) -> dict[str, Any]:
        """See :class:`ServerStrategy`."""
        made = super().checked(arguments, devices)
        if not trimmed(made, devices):
            self.refuse(
                f"with beta {made.get('beta', 0.2)} trims nobody out of {devices} devices; beta must be at least "
                f"{1 / devices:.3g}"
            )
        return made

    def weakness(self, count: int) -> str | None:
        """See :class:`ServerStrategy`."""
        if trimmed(self.arguments, count):
            return None
        return f"of {count} updates the trimmed mean trims none: a plain mean"


def trimmed(arguments: dict[str, Any], count: int) -> int:
    """How many of ``count`` updates the trimmed mean leaves out at either end."""
    return int(arguments.get("beta", 0.2) * count)


class Median(ServerStrategy):
    """The median of each entry."""

    name = "fedmedian"
    flower = flower.FedMedian
    compares_entries = True


class Krum(ServerStrategy):
    """The update that is closest to most of the others. Krum's guarantee against ``num_malicious_nodes = f`` devices
    needs ``2 f + 3`` devices."""

    name = "krum"
    flower = flower.Krum
    arguments_known = {"num_malicious_nodes": (0, 1e3, True)}
    compares_entries = True

    def checked(self, arguments: dict[str, Any], devices: int) -> dict[str, Any]:
        """See :class:`ServerStrategy`."""
        made = super().checked(arguments, devices)
        if devices < needed(made):
            self.refuse(
                f"against {made.get('num_malicious_nodes', 0)} malicious devices needs 2 f + 3 devices a round, but "
                f"there are {devices}"
            )
        return made

    def weakness(self, count: int) -> str | None:
        """See :class:`ServerStrategy`."""
        if count >= (least := needed(self.arguments)):
            return None
        return f"{self.name} had {count} updates and needs {least}: no guarantee against attackers"


def needed(arguments: dict[str, Any]) -> int:
    """Devices a round that Krum's guarantee asks for."""
    return 2 * int(arguments.get("num_malicious_nodes", 0)) + 3


class MultiKrum(Krum):
    """The mean of the ``num_nodes_to_select`` updates that Krum ranks first."""

    name = "multikrum"
    flower = flower.MultiKrum
    arguments_known = {"num_malicious_nodes": (0, 1e3, True), "num_nodes_to_select": (1, 1e3, True)}

    def checked(self, arguments: dict[str, Any], devices: int) -> dict[str, Any]:
        """See :class:`ServerStrategy`."""
        if "num_nodes_to_select" in arguments:
            wanted = arguments["num_nodes_to_select"]
            check_number("strategy_args.num_nodes_to_select", wanted, 1, devices, integer=True)
        return super().checked(arguments, devices)
