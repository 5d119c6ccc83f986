"""Recipes: where YAML files and checkpoints lie, checks of their values, and objects made from them.

Loads nothing heavy: the command line and every room may use this.
"""

from airlam.recipes.build import check_argument, find_class, instantiate
from airlam.recipes.checks import (
    as_number,
    check_choice,
    check_keys,
    check_number,
    check_positive,
    check_range,
    check_switch,
)
from airlam.recipes.locate import KINDS, find_checkpoint, find_recipe, list_recipes, nearest, recipe_root

__all__ = [
    "KINDS",
    "as_number",
    "check_argument",
    "check_choice",
    "check_keys",
    "check_number",
    "check_positive",
    "check_range",
    "check_switch",
    "find_checkpoint",
    "find_class",
    "find_recipe",
    "instantiate",
    "list_recipes",
    "nearest",
    "recipe_root",
]
