"""What CDL and TDL have in common: a delay spread, a state by definition, every link a drop of its own."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from airlam.channels.channel_model import ChannelModel
from airlam.errors import RecipeError
from airlam.recipes import check_choice, check_range


class DelayLine(ChannelModel):
    """The recipes of ``cdl_a`` to ``cdl_e`` and ``tdl_a`` to ``tdl_e`` (TR 38.901 clauses 7.7.1, 7.7.2)."""

    keys = {"fast": "auto", "delay_spread": 100e-9}

    @classmethod
    def recipe_keys(cls, scenario: str) -> dict[str, Any]:
        return {**cls.keys, "state": "los" if scenario[-1] in "de" else "nlos"}

    @classmethod
    def check_recipe(cls, recipe: Mapping[str, Any]) -> dict[str, Any]:
        scenario, state = recipe["scenario"], recipe["state"]
        has = cls.recipe_keys(scenario)["state"]
        if state != has:
            raise RecipeError(f"state is {state!r}, but {scenario} is {has} by definition; leave the key out")
        return {
            "state": has,
            "fast": check_choice("fast", recipe["fast"], ("auto", "stock")),
            "delay_spread": check_range("delay_spread", recipe["delay_spread"], 1e-9, 1e-5, unit="s"),
        }
