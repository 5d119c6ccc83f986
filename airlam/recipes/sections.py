"""Arguments that are dataclasses: nested mappings in a recipe, ``--sizes.num_links 8`` on the command line."""

from __future__ import annotations

import dataclasses
import inspect
import typing
from collections.abc import Mapping
from typing import Any

from airlam.recipes.locate import nearest


def section_types(factory: Any) -> dict[str, type]:
    """The arguments of a class or function that are dataclasses, by name.

    Example:
        >>> from airlam.evaluation import LinkLevelBenchmark
        >>> section_types(LinkLevelBenchmark)["sizes"].__name__
        'LinkSizes'
    """
    plain = _is_dataclass(factory) or not inspect.isclass(factory)
    annotated = factory if plain else factory.__init__
    try:
        hints = typing.get_type_hints(annotated)
    except (NameError, TypeError, AttributeError):  # annotations of a user's class that cannot be resolved
        return {}
    out: dict[str, type] = {}
    for name, hint in hints.items():
        for kind in (hint, *typing.get_args(hint)):  # Sizes, or Sizes | None
            if _is_dataclass(kind):
                out[name] = kind
    return out


def argument_names(factory: Any) -> list[str]:
    """Names of all arguments, those of a nested dataclass as ``sizes.num_links``."""
    sections = section_types(factory)
    out = []
    for name, parameter in inspect.signature(factory).parameters.items():
        if parameter.kind not in (parameter.VAR_KEYWORD, parameter.VAR_POSITIONAL):
            out.append(name)
            out += [f"{name}.{inner}" for inner in argument_names(sections[name])] if name in sections else []
    return out


def argument_defaults(factory: Any) -> dict[str, Any]:
    """Defaults of the arguments that have one; those of a dataclass that a function makes are made."""
    made = {each.name: each.default_factory for each in dataclasses.fields(factory)} if _is_dataclass(factory) else {}
    out = {}
    for name, parameter in inspect.signature(factory).parameters.items():
        if parameter.default is not parameter.empty:
            made_by = made.get(name, dataclasses.MISSING)
            out[name] = parameter.default if made_by is dataclasses.MISSING else made_by()
    return out


def _is_dataclass(factory: Any) -> bool:
    return inspect.isclass(factory) and dataclasses.is_dataclass(factory)


def nearest_argument(key: str, factory: Any) -> str:
    """``"; did you mean 'x'?"`` for the argument closest to ``key``, nested ones by their full name; or nothing."""
    names = argument_names(factory)
    full = {name.rpartition(".")[2]: name for name in reversed(names)}
    text = nearest(key, names if "." in key else full)
    for last, name in full.items():
        if text == f"; did you mean '{last}'?":
            return f"; did you mean '{name}'?"
    return text


def merged(factory: Any, values: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """Arguments with some of them changed; of a nested dataclass only the keys that ``changes`` names.

    Args:
        changes: ``{"sizes": {"num_links": 8}}`` or ``{"sizes.num_links": 8}``.

    Example:
        >>> from airlam.evaluation import LinkLevelBenchmark
        >>> merged(LinkLevelBenchmark, {"sizes": {"num_links": 96, "num_tune": 8}}, {"sizes.num_links": 16})
        {'sizes': {'num_links': 16, 'num_tune': 8}}
    """
    out, sections = dict(values), section_types(factory)
    for name, value in changes.items():
        head, dot, rest = name.partition(".")
        if head not in sections:
            out[name] = value
            continue
        inner = {rest: value} if dot else value
        now = out.get(head)
        if dataclasses.is_dataclass(now) and not isinstance(now, type):
            now = {field.name: getattr(now, field.name) for field in dataclasses.fields(now)}
        if not isinstance(inner, Mapping) or not isinstance(now, Mapping):
            out[head] = inner
            continue
        out[head] = merged(sections[head], now, inner)
    return out
