"""The type of an argument in words, for people who write recipes and no Python."""

from __future__ import annotations

import inspect
import re
from typing import Any

PLAIN = {
    "int": "a whole number",
    "float": "a number",
    "str": "a text",
    "bool": "true or false",
    "None": "null",
    "Path": "a path",
    "Any": "a value",
}
ITEMS = {
    "int": "whole numbers",
    "float": "numbers",
    "str": "names",
    "bool": "true or false",
    "Path": "paths",
}
LIKE = {"int": "[4, 8]", "float": "[3, 30]", "str": "[ar, hold]"}
NOUNS = {"others": "methods"}  # where the key itself does not say what the list holds
LISTS = ("Sequence", "list", "List", "tuple", "Tuple", "Iterable", "Collection")
MAPPINGS = ("Mapping", "dict", "Dict")
_MODULES = re.compile(r"\b(?:typing|collections\.abc|pathlib)\.")


def annotation_text(annotation: Any) -> str:
    """An annotation as it would stand in a file, without the modules of its names.

    Example:
        >>> from collections.abc import Sequence
        >>> annotation_text(Sequence[int]), annotation_text("list[str] | None")
        ('Sequence[int]', 'list[str] | None')
    """
    text = annotation if isinstance(annotation, str) else inspect.formatannotation(annotation)
    return _MODULES.sub("", text)


def is_list(text: str) -> bool:
    """Whether an annotation names lists and no texts.

    Example:
        >>> is_list("Sequence[Any] | Mapping[str, Any]"), is_list("str | Sequence[str]")
        (True, False)
    """
    parts = [_split(part)[0] for part in _options(text)]
    return any(part in LISTS for part in parts) and not {"str", "Any"} & set(parts)


def type_in_words(text: str, key: str = "") -> str:
    """What an annotation asks for.

    Args:
        text: see :func:`annotation_text`.
        key: the argument's name: what a list of anything is a list of.

    Example:
        >>> type_in_words("Sequence[Any]", "methods")
        'a list of methods'
        >>> type_in_words("Sequence[float]")
        'a list of numbers, like [3, 30]'
        >>> type_in_words("dict[str, dict[str, float]] | None")
        'a mapping from names to mappings or null'
    """
    return " or ".join(dict.fromkeys(_words(part, key) for part in _options(text)))


def _words(part: str, key: str) -> str:
    name, inner = _split(part)
    if name in ("Optional", "Union"):
        options = [_words(item, key) for item in inner] + (["null"] if name == "Optional" else [])
        return " or ".join(options)
    if name == "Literal":
        return f"one of {', '.join(item.strip() for item in inner)}"
    if name in LISTS:
        if not inner or inner[0] == "Any":
            return f"a list of {NOUNS.get(key, key)}" if key.endswith("s") else "a list"
        like = f", like {LIKE[inner[0]]}" if inner[0] in LIKE else ""
        return f"a list of {_items(inner[0])}{like}"
    if name in MAPPINGS:
        return "a mapping" if len(inner) < 2 or inner[1] == "Any" else f"a mapping from names to {_items(inner[1])}"
    return PLAIN.get(part, part)


def _items(text: str) -> str:
    """What several of a type are called."""
    name = _split(text)[0]
    return "lists" if name in LISTS else "mappings" if name in MAPPINGS else ITEMS.get(text, "values")


def _options(text: str) -> list[str]:
    """The parts of a union."""
    return [part.strip() for part in _outside(text, "|")]


def _split(text: str) -> tuple[str, list[str]]:
    """``Mapping[str, Any]`` as its name and what stands in the brackets."""
    name, bracket, inner = text.partition("[")
    return name.strip(), [part.strip() for part in _outside(inner.rstrip()[:-1], ",")] if bracket else []


def _outside(text: str, mark: str) -> list[str]:
    """``text`` divided at a mark that stands in no brackets."""
    out, depth = [""], 0
    for character in text:
        depth += (character == "[") - (character == "]")
        if character == mark and depth == 0:
            out.append("")
        else:
            out[-1] += character
    return out
