"""Recipes: where YAML files and checkpoints lie, checks of their values, and objects made from them.

Loads nothing heavy: the command line and every room may use this.
"""

from airlam.recipes.build import (
    check_argument,
    check_is_no_class,
    find_class,
    instantiate,
    is_class_path,
    make_section,
    read_class,
)
from airlam.recipes.checks import (
    as_number,
    check_choice,
    check_keys,
    check_number,
    check_positive,
    check_range,
    check_switch,
)
from airlam.recipes.locate import (
    KINDS,
    find_checkpoint,
    find_recipe,
    list_recipes,
    nearest,
    recipe_root,
    shipped_checkpoints,
    shipped_name,
)
from airlam.recipes.own_code import allow_imports_from, is_installed_file, own_place
from airlam.recipes.reading import parse_yaml, read_yaml
from airlam.recipes.sections import argument_defaults, argument_names, merged, nearest_argument, section_types

__all__ = [
    "KINDS",
    "allow_imports_from",
    "argument_defaults",
    "argument_names",
    "as_number",
    "check_argument",
    "check_choice",
    "check_is_no_class",
    "check_keys",
    "check_number",
    "check_positive",
    "check_range",
    "check_switch",
    "find_checkpoint",
    "find_class",
    "find_recipe",
    "instantiate",
    "is_class_path",
    "is_installed_file",
    "list_recipes",
    "make_section",
    "merged",
    "nearest",
    "nearest_argument",
    "own_place",
    "parse_yaml",
    "read_class",
    "read_yaml",
    "recipe_root",
    "section_types",
    "shipped_checkpoints",
    "shipped_name",
]
