"""From a recipe's YAML to a federated run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from airlam.edge.federated.recipe.federation import Federation
from airlam.errors import RecipeError
from airlam.evaluation.runner import read_benchmark
from airlam.recipes import find_class, find_recipe, instantiate


def federated_recipe(config: str | Path, changes: dict[str, Any]) -> tuple[Federation, dict[str, Any]]:
    """The run that a YAML describes, and its arguments as written.

    Args:
        config: path or shipped name of the YAML. changes: arguments that replace those of the YAML.

    Raises:
        RecipeError: the YAML is of something else, or has a key or value that does not exist.
    """
    path = find_recipe(config)
    class_path, init_args = read_benchmark(path)
    if find_class(class_path, str(path)) is not Federation:
        raise RecipeError(f"{path} is for 'airlam evaluate': its class_path is {class_path}, not Federation")
    arguments = {**init_args, **changes}
    return instantiate(Federation, arguments, str(path)), arguments
