"""``airlam evaluate --config X --help`` and ``--print_config``: a benchmark's arguments, and the resolved recipe."""

from __future__ import annotations

import inspect
import re
import textwrap
from typing import Any

import yaml

from airlam.recipes import find_class, find_recipe, instantiate

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
    described = descriptions(made)
    lines = [f"arguments of {config} ({class_path}), each changed with --NAME VALUE:", ""]
    for name, parameter in inspect.signature(made).parameters.items():
        if parameter.kind in (parameter.VAR_KEYWORD, parameter.VAR_POSITIONAL):
            continue
        value = init_args.get(name, parameter.default)
        kind = "" if parameter.annotation is parameter.empty else f" {parameter.annotation}"
        shown = "required"
        if value is not parameter.empty:
            shown = yaml.safe_dump(plain(value), default_flow_style=True, width=10**6)
            shown = shown.removesuffix("\n").removesuffix("\n...")
        source = "recipe" if name in init_args else "default"
        lines.append(f"  --{name}{kind}")
        text = f"{described.get(name, '')} ({source}: {shown})".strip()
        lines += textwrap.wrap(text, WIDTH, initial_indent="      ", subsequent_indent="      ")
    return "\n".join(lines)


def resolved(config: str, changes: dict[str, Any]) -> str:
    """The recipe as YAML with all defaults and the changed arguments; a benchmark recipe by itself."""
    class_path, made, init_args = benchmark_of(config)
    instantiate(made, {**init_args, **changes}, config)
    parameters = inspect.signature(made).parameters.items()
    defaults = {name: p.default for name, p in parameters if p.default is not p.empty}
    arguments = {name: plain(value) for name, value in {**defaults, **init_args, **changes}.items()}
    return yaml.safe_dump({"class_path": class_path, "init_args": arguments}, sort_keys=False, width=WIDTH)


def descriptions(made: type) -> dict[str, str]:
    """What the ``Args:`` of a class's docstring say of each argument (one entry may describe several)."""
    text = inspect.getdoc(made) or ""
    found = re.search(r"^Args:\n(.*?)(?:^\S|\Z)", text, re.S | re.M)
    out: dict[str, str] = {}
    if found is None:
        return out
    entries = re.split(r"\n(?=\S)", textwrap.dedent(found[1]).strip())
    for entry in entries:
        flat = " ".join(entry.split())
        # several arguments share an entry: "rounds: how often. clients: how many."
        starts = [(m.start(), m.end(), m[1]) for m in re.finditer(r"(?:^|(?<=\. ))((?:\w+, )*\w+): ", flat)]
        for index, (_, end, names) in enumerate(starts):
            stop = starts[index + 1][0] if index + 1 < len(starts) else len(flat)
            for name in names.split(", "):
                out[name] = flat[end:stop].strip()
    return out


def plain(value: Any) -> Any:
    """Tuples as lists, all else as it is: YAML has no tuples."""
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    return value
