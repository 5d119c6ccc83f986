"""Checks of the values in recipes: numbers, choices, ranges, keys. Each error names the value, the bound, the fix."""

from __future__ import annotations

import math
import sys
from collections.abc import Mapping
from typing import Any

from airlam.errors import RecipeError
from airlam.recipes.locate import nearest


def as_number(value: Any) -> Any:
    """A text that holds a number, such as ``"20e6"`` in quotes, as the number; all else as it is."""
    for kind in (int, float) if isinstance(value, str) else ():
        try:
            return kind(value)
        except ValueError:
            continue
    return value


def check_positive(name: str, value: Any) -> float:
    """A positive, finite number, also as a text."""
    number = as_number(value)
    if isinstance(number, bool) or not isinstance(number, (int, float)) or not 0 < number <= sys.float_info.max:
        raise RecipeError(f"{name} is {shown(value)}, but must be a positive number")
    return float(number)


def shown(value: Any) -> str:
    """A value in an error message: its text, cut where it is long."""
    if isinstance(value, int) and abs(value) > sys.float_info.max:  # Python refuses to print thousands of digits
        return "a number beyond all floats"
    text = f"{value:g}" if isinstance(value, float) else repr(value)
    return text if len(text) <= 80 else text[:77] + "..."


def check_choice(name: str, value: object, choices) -> Any:
    """``value`` if it is one of ``choices``."""
    if value not in choices:
        known = [str(choice) for choice in choices]
        raise RecipeError(f"{name} is {value!r}, but must be one of {', '.join(known)}{nearest(str(value), known)}")
    return value


def check_number(name: str, value: object, low: float, high: float, *, unit: str = "", integer: bool = False) -> Any:
    """``value`` as a float (or int) within [low, high]; also a text that holds a number.

    Raises:
        RecipeError: no number, not finite where a whole number is asked for, or out of bounds.
    """
    number = as_number(value)
    if isinstance(number, bool) or not isinstance(number, (int, float)):
        raise RecipeError(f"{name} is {shown(value)}, but must be a number{unit and ' in ' + unit}")
    if integer and isinstance(number, float) and not number.is_integer():  # also infinity and NaN
        raise RecipeError(f"{name} is {shown(number)}, but must be a whole number")
    # Compared as they are: a whole number may be too large for a float.
    if not low <= number <= high or (not integer and isinstance(number, int) and abs(number) > sys.float_info.max):
        bound = f"at least {low:g}" if high == math.inf else f"between {low:g} and {high:g}"
        raise RecipeError(f"{name} is {shown(number)}, but must be {bound}{unit and ' ' + unit}")
    return int(number) if integer else float(number)


def check_range(name: str, value: object, low: float, high: float, *, unit: str = "") -> Any:
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
