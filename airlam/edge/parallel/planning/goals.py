"""What a plan is to be least in: time, energy, or a mix of both."""

from __future__ import annotations

from dataclasses import dataclass

from airlam.edge.parallel.cost_model.cost import Cost
from airlam.edge.parallel.recipe import GOALS
from airlam.errors import RecipeError
from airlam.recipes import check_choice, check_number


@dataclass(frozen=True)
class Goal:
    """A score to minimise: seconds, joules, or ``seconds ** weight * joules ** (1 - weight)``.

    A product needs no exchange rate between seconds and joules: with a weight of 0.5 a plan that is 10 % faster may
    draw 11 % more.

    Example:
        >>> Goal("mix", 0.5).score(4.0, 9.0)
        6.0
    """

    name: str = "time"
    weight: float = 0.5

    def __post_init__(self) -> None:
        check_choice("goal", self.name, GOALS)
        check_number("weight", self.weight, 0, 1)

    def score(self, seconds: float, joules: float) -> float:
        """The less the better."""
        if self.name == "time":
            return seconds
        if self.name == "energy":
            return joules
        return seconds**self.weight * joules ** (1 - self.weight)

    def of(self, cost: Cost) -> float:
        """Of a step."""
        return self.score(cost.seconds, cost.joules)


def divisors(number: int, most: int) -> list[int]:
    """Divisors up to ``most``.

    Example:
        >>> divisors(12, 6)
        [1, 2, 3, 4, 6]
    """
    if number < 1:
        raise RecipeError(f"the batch has {number} links, but must have at least 1")
    return [n for n in range(1, min(number, most) + 1) if number % n == 0]
