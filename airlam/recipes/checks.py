"""Checks of the values in recipes: numbers, choices, ranges, keys. Each error names the value, the bound, the fix."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from airlam.errors import RecipeError
from airlam.recipes.locate import nearest


def as_number(value: Any) -> Any:
    """A text that YAML 1.1 did not take for a number, like ``1.0e6`` or ``20e6``, as the number; all else as it is."""
    for kind in (int, float) if isinstance(value, str) else ():
        try:
            return kind(value)
        except ValueError:
            continue
    return value


def check_positive(name: str, value: Any) -> float:
    """A positive, finite number; accepts what YAML makes of 1e-3 (a text)."""
    number = as_number(value)
    if isinstance(number, bool) or not isinstance(number, (int, float)) or not 0 < number < float("inf"):
        raise RecipeError(f"{name} is {value!r}, but must be a positive number")
    return float(number)


def check_choice(name: str, value: object, choices) -> Any:
    """``value`` if it is one of ``choices``."""
    if value not in choices:
        known = [str(choice) for choice in choices]
        raise RecipeError(f"{name} is {value!r}, but must be one of {', '.join(known)}{nearest(str(value), known)}")
    return value


def check_number(name: str, value: object, low: float, high: float, *, unit: str = "", integer: bool = False) -> Any:
    """``value`` as a float (or int) within [low, high]. Accepts what YAML makes of 2.4e9 (a string)."""
    value = as_number(value)
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise RecipeError(f"{name} is {value!r}, but must be a number{unit and ' in ' + unit}")
    if integer and float(value) != int(value) if math.isfinite(value) else False:
        raise RecipeError(f"{name} is {value!r}, but must be a whole number")
    if not low <= value <= high:
        bound = f"at least {low:g}" if high == math.inf else f"between {low:g} and {high:g}"
        raise RecipeError(f"{name} is {value:g}, but must be {bound}{unit and ' ' + unit}")
    return int(value) if integer else float(value)


def check_range(name: str, value: object, low: float, high: float, *, unit: str) -> Any:
    """A number, or ``[min, max]`` from which each link draws."""
    if not isinstance(value, (list, tuple)):
        return check_number(name, value, low, high, unit=unit)
    if len(value) != 2:
        raise RecipeError(f"{name} is {list(value)!r}, but must be a number or [min, max]")
    ends = [check_number(f"{name}[{i}]", v, low, high, unit=unit) for i, v in enumerate(value)]
    if ends[0] > ends[1]:
        raise RecipeError(f"{name} is {ends}, but min must not exceed max: write [{ends[1]:g}, {ends[0]:g}]")
    return ends


def check_keys(name: str, given: Mapping, allowed) -> None:
    """No unknown keys."""
    for key in given:
        if key not in allowed:
            hint = nearest(str(key), allowed) or ";"
            raise RecipeError(f"{name} has no key {key!r}{hint} keys: {', '.join(sorted(allowed))}")


def check_switch(name: str, value: object) -> bool:
    """``value`` if it is true or false."""
    if not isinstance(value, bool):
        raise RecipeError(f"{name} is {value!r}, but must be true or false")
    return value
