"""An argument parser whose mistakes are one line and name the nearest valid option."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

from airlam.cli import UsageError
from airlam.errors import RecipeError
from airlam.recipes import nearest, parse_yaml, read_yaml


class Parser(argparse.ArgumentParser):
    """``argparse`` without abbreviations, without usage texts in errors, with suggestions."""

    def __init__(self, prog: str, description: str, epilog: str | None = None) -> None:
        super().__init__(
            prog=prog,
            description=description,
            epilog=epilog,
            allow_abbrev=False,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )

    def error(self, message: str) -> NoReturn:
        raise UsageError(f"{message} ('{self.prog} --help' shows all)")

    def parse_strictly(self, arguments: Sequence[str]) -> argparse.Namespace:
        """All arguments, or an error that names the first unknown one."""
        known, rest = self.parse_known_args(list(arguments))
        if rest:
            refuse_option(rest[0], [o for o in self._option_string_actions if o.startswith("--")])
        return known

    def parse_with_fields(self, arguments: Sequence[str]) -> tuple[argparse.Namespace, dict[str, Any]]:
        """Known arguments, and all further ``--name value`` or ``--name=value`` as plain data (values are YAML)."""
        known, rest = self.parse_known_args(list(arguments))
        fields: dict[str, Any] = {}
        while rest:
            option = rest.pop(0)
            name, equals, text = option.removeprefix("--").partition("=")
            if not option.startswith("--") or not name:
                raise UsageError(f"'{option}' is not an option; write --name value")
            if not equals:
                if not rest or rest[0].startswith("--"):
                    raise UsageError(f"option --{name} needs a value: --{name} VALUE, or --{name} true for a switch")
                text = rest.pop(0)
            try:
                fields[name.replace("-", "_")] = parse_yaml(text)
            except RecipeError as error:
                raise UsageError(f"option --{name}: '{text}' is no value: {error}") from None
        return known, fields


def refuse_option(option: str, valid: Sequence[str]) -> NoReturn:
    """Raises for an unknown option, naming the nearest valid one."""
    name = option.partition("=")[0]
    if not name.startswith("-"):
        raise UsageError(f"unexpected argument '{name}'")
    raise UsageError(f"unknown option '{name}'{nearest(name, valid) or '; --help shows all'}")


def names_data_class(arguments: Sequence[str]) -> bool:
    """Whether the data of a training are a DataModule by its class path, rather than the arguments of
    :class:`airlam.data.CSIDataModule`: those of the last ``--data``, else of the last recipe that names some.

    Args:
        arguments: with the paths of recipes.

    Example:
        >>> [names_data_class(["--data", text]) for text in ("{class_path: my.Users}", "{channel: uma_nlos}")]
        [True, False]
    """
    words = [word for argument in arguments for word in _halves(argument)]
    if "--data.class_path" in words:
        return True
    given: Any = None
    for option, value in zip(words, words[1:], strict=False):
        if option in ("--config", "-c") and (told := read_yaml(value).get("data")) is not None:
            given = Path(value).parent / told if isinstance(told, str) else told
    for option, value in zip(words, words[1:], strict=False):
        if option == "--data":
            given = parse_yaml(value) if value.lstrip().startswith("{") else Path(value)
    if isinstance(given, Path):
        given = read_yaml(given) if given.is_file() else {}  # what is wrong with it, the parser says
    return isinstance(given, dict) and "class_path" in given


def _halves(argument: str) -> list[str]:
    """``--name=value`` in two."""
    name, equals, value = argument.partition("=")
    return [name, value] if equals and name.startswith("-") else [argument]
