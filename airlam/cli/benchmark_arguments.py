"""``airlam evaluate --config X --help`` and ``--print_config``: a benchmark's arguments, and the resolved recipe."""

from __future__ import annotations

import dataclasses
import inspect
import re
import textwrap
from typing import Any

import yaml

from airlam.recipes import argument_defaults, find_class, find_recipe, instantiate, merged, section_types

WIDTH = 100


def benchmark_of(config: str) -> tuple[str, type, dict[str, Any]]:
    """The recipe's path, its class, and its ``init_args``."""
    from airlam.evaluation.runner import read_benchmark

    path = find_recipe(config)
    class_path, init_args = read_benchmark(path)
    return class_path, find_class(class_path, str(path)), init_args


def argument_help(config: str) -> str:
    """Every argument of a benchmark: its type, its value in this recipe, what its docstring says of it."""
    class_path, made, init_args = benchmark_of(config)
    lines = [f"arguments of {config} ({class_path}), each changed with --NAME VALUE:", ""]
    return "\n".join([*lines, *_lines(made, init_args, None, "")])


def demo_help() -> str:
    """Every argument of the demo: its type, its default, what its docstring says of it."""
    from airlam.evaluation.demo.arguments import DemoArguments

    own = ["  --federated bool", "      afterwards, three sites adapt the shipped model together (default: true)"]
    return "\n".join(["further options, each given as --NAME VALUE:", "", *_lines(DemoArguments, {}, None, ""), *own])


def _lines(made: Any, values: Any, default: Any, prefix: str) -> list[str]:
    """Of each argument of a class its option, and what it is; those of a dataclass as ``--sizes.num_links``.

    Args:
        values: what the recipe gives. default: an object of the class whose values stand for those it does not give.
    """
    described, sections, lines = descriptions(made), section_types(made), []
    defaults = argument_defaults(made) if default is None else vars(default)
    for name, parameter in inspect.signature(made).parameters.items():
        if parameter.kind in (parameter.VAR_KEYWORD, parameter.VAR_POSITIONAL):
            continue
        usual = defaults.get(name, parameter.empty)
        given = isinstance(values, dict) and name in values
        if name in sections and (dataclasses.is_dataclass(usual) or (given and isinstance(values[name], dict))):
            inner = values[name] if given else {}
            lines += _lines(sections[name], inner, usual, f"{prefix}{name}.")
            continue
        value = values[name] if given else usual
        kind = "" if parameter.annotation is parameter.empty else f" {parameter.annotation}"
        shown = "required"
        if value is not parameter.empty:
            shown = yaml.safe_dump(plain(value), default_flow_style=True, width=10**6)
            shown = shown.removesuffix("\n").removesuffix("\n...")
        source = "recipe" if given else "default"
        lines.append(f"  --{prefix}{name}{kind}")
        text = f"{described.get(name, '')} ({source}: {shown})".strip()
        lines += textwrap.wrap(text, WIDTH, initial_indent="      ", subsequent_indent="      ")
    return lines


def resolved(config: str, changes: dict[str, Any]) -> str:
    """The recipe as YAML with all defaults and the changed arguments; a benchmark recipe by itself."""
    class_path, made, init_args = benchmark_of(config)
    given = merged(made, init_args, changes)
    instantiate(made, given, config)
    arguments = plain(merged(made, argument_defaults(made), given))
    return yaml.safe_dump({"class_path": class_path, "init_args": arguments}, sort_keys=False, width=WIDTH)


def descriptions(made: type) -> dict[str, str]:
    """What the docstrings of a class and of those it is derived from say of each argument under ``Args:`` or
    ``Attributes:`` (one entry may describe several)."""
    out: dict[str, str] = {}
    for kind in reversed(inspect.getmro(made)):
        for entry in _entries(inspect.cleandoc(kind.__doc__ or "")):
            flat = " ".join(entry.split())
            # several arguments share an entry: "rounds: how often. clients: how many."
            starts = [(m.start(), m.end(), m[1]) for m in re.finditer(r"(?:^|(?<=\. ))((?:\w+, )*\w+): ", flat)]
            for index, (_, end, names) in enumerate(starts):
                stop = starts[index + 1][0] if index + 1 < len(starts) else len(flat)
                for name in names.split(", "):
                    out[name] = flat[end:stop].strip()
    return out


def _entries(text: str) -> list[str]:
    found = re.search(r"^(?:Args|Attributes):\n(.*?)(?:^\S|\Z)", text, re.S | re.M)
    return [] if found is None else re.split(r"\n(?=\S)", textwrap.dedent(found[1]).strip())


def plain(value: Any) -> Any:
    """Tuples as lists and dataclasses as mappings, all else as it is: YAML knows neither."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    return value
