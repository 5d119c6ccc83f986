"""The base of server strategies: what the server does with a round's updates, by a class of Flower's."""

from __future__ import annotations

from typing import Any, ClassVar

from flwr.serverapp.strategy import FedAvg

from airlam.edge.federated.adapters import Arrays
from airlam.errors import RecipeError
from airlam.recipes import check_keys, check_number

# Flower's strategies see only the nodes that were selected, and take all of them.
EVERYONE = {
    "fraction_train": 1.0,
    "fraction_evaluate": 1.0,
    "min_train_nodes": 1,
    "min_evaluate_nodes": 1,
    "min_available_nodes": 1,
}


class ServerStrategy:
    """A server strategy with the arguments of a recipe.

    Args:
        arguments: the recipe's ``strategy_args``, checked here since Flower checks none of them.
        devices: how many take part in a round, at most.

    Attributes:
        name: in recipes.
        flower: Flower's class; it makes the messages of a round and averages the replies.
        arguments_known: argument -> lowest value, highest value, whether it is a whole number.
        plain_mean: the result is the weighted mean of the updates, so that a scheme may average products in its place.
        compares_entries: updates are compared entry by entry, so all devices need adapters of one rank.
        changes_training: devices train differently under it (FedProx's proximal term).

    Raises:
        RecipeError: an argument that does not exist or is out of bounds, or too few devices.
    """

    name: ClassVar[str] = ""
    flower: ClassVar[type[FedAvg]] = FedAvg
    arguments_known: ClassVar[dict[str, tuple[float, float, bool]]] = {}
    plain_mean: ClassVar[bool] = False
    compares_entries: ClassVar[bool] = False
    changes_training: ClassVar[bool] = False

    def __init__(self, arguments: dict[str, Any], devices: int):
        self.arguments = self.checked(dict(arguments), devices)

    def checked(self, arguments: dict[str, Any], devices: int) -> dict[str, Any]:
        """The arguments as numbers within their bounds."""
        known = self.arguments_known
        if not known and arguments:
            self.refuse(
                f"takes no strategy_args, but there are {', '.join(arguments)} (who takes part is said by selection)"
            )
        check_keys("strategy_args", arguments, known)
        for key, value in arguments.items():
            low, high, whole = known[key]
            arguments[key] = check_number(f"strategy_args.{key}", value, low, high, integer=whole)
        return arguments

    def refuse(self, why: str) -> None:
        """Raise a RecipeError that begins with the strategy's name."""
        raise RecipeError(f"strategy {self.name} {why}")

    def weakness(self, count: int) -> str | None:
        """What a round with ``count`` usable updates cannot promise any more; None if it can promise all."""
        return None

    def memory(self, strategy: FedAvg) -> Arrays:
        """What Flower's strategy remembers from round to round, to be kept with the state of a run. Here nothing."""
        return {}

    def recall(self, strategy: FedAvg, memory: Arrays) -> None:
        """Give Flower's strategy back what :meth:`memory` returned, after a restart."""

    def make(self) -> FedAvg:
        """Flower's strategy, which takes all the nodes that it is shown."""
        return self.flower(**{**EVERYONE, **self.arguments})
