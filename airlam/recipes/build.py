"""From a class path and arguments in a recipe to an object, with errors that name what is wrong."""

from __future__ import annotations

import importlib
import inspect
import math
from typing import Any

from airlam.errors import RecipeError
from airlam.recipes.locate import nearest


def find_class(class_path: str, source: str) -> Any:
    """A class by its dotted name."""
    module, _, name = class_path.rpartition(".")
    try:
        return getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise RecipeError(f"{source}: no class {class_path!r} ({error}); airlam's own is "
                          "airlam.evaluation.ChannelPredictionBenchmark") from None  # fmt: skip


def instantiate(runner: Any, init_args: dict[str, Any], source: str) -> Any:
    """An object of a class from a recipe's arguments, checked by name and type."""
    known = list(inspect.signature(runner).parameters)
    for key in init_args:
        if key not in known:
            raise RecipeError(f"{source}: {runner.__name__} has no argument {key!r}{nearest(str(key), known) or ';'} "
                              f"arguments are {', '.join(known)}")  # fmt: skip
    for key, value in init_args.items():
        check_argument(runner, key, value, source)
    try:
        return runner(**init_args)
    except TypeError as error:
        raise RecipeError(f"{source}: {runner.__name__} cannot be made of these arguments ({error})") from None


WORDS = {
    "int": "a whole number", "float": "a number", "str": "a text", "bool": "true or false",
    "Sequence[float]": "a list of numbers, like [3, 30]", "Sequence[int]": "a list of whole numbers, like [4, 8]",
    "Sequence[str]": "a list of names, like [ar, hold]", "float | None": "a number or null",
}  # fmt: skip


def check_argument(runner: Any, key: str, value: Any, source: str) -> None:
    """An error if ``value`` is not of the type that the runner's signature gives ``key``, or not finite."""
    from jsonargparse import ArgumentParser

    parser = ArgumentParser(exit_on_error=False)
    added = parser.add_class_arguments(runner, fail_untyped=False)
    if key not in added:
        return
    wanted = str(inspect.signature(runner).parameters[key].annotation)
    wrong = isinstance(value, str) and wanted.startswith("Sequence")  # a text is a sequence, but never what is meant
    try:
        parser.parse_object({key: value})
    except Exception:
        wrong = True
    if wrong:
        raise RecipeError(f"{source}: {key} is {value!r}, but must be {WORDS.get(wanted, wanted)}")
    for number in value if isinstance(value, (list, tuple)) else [value]:
        if isinstance(number, float) and not math.isfinite(number):
            raise RecipeError(f"{source}: {key} is {value!r}, but must be finite")
