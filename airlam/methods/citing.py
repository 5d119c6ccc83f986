"""What methods are described in, as BibTeX: keys of ``references.bib`` in this folder, or entries of their own."""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable
from importlib import resources

from airlam.errors import RecipeError
from airlam.methods.method import ROLES, Method
from airlam.methods.registry import find

ENTRY = re.compile(r"^@\w+\{\s*([^\s,{}]+)\s*,", flags=re.M)


@functools.cache
def shipped() -> dict[str, str]:
    """Entries of ``references.bib`` by key, in the order of the file."""
    return _entries(resources.files("airlam.methods").joinpath("references.bib").read_text(encoding="utf-8"))


def bibliography(references: Iterable[str], source: str = "references") -> dict[str, str]:
    """BibTeX entries by key, each once.

    Args:
        references: keys of ``references.bib``, or texts of whole entries (they begin with ``@``).
        source: where they come from, for the message.

    Raises:
        RecipeError: a key that ``references.bib`` has not, or a text without an entry.

    Example:
        >>> list(bibliography(["kalman1960", "kalman1960", "@misc{mine, title = {Mine}}"]))
        ['kalman1960', 'mine']
    """
    found: dict[str, str] = {}
    for text in references:
        if not text.lstrip().startswith("@"):
            if text not in shipped():
                raise RecipeError(
                    f"{source}: no entry {text!r} in references.bib; give a whole entry: @article{{key, ...}}"
                )
            found[text] = shipped()[text]
        elif entries := _entries(text):
            found |= entries
        else:
            raise RecipeError(f"{source}: {text[:40]!r} is no BibTeX entry; write @article{{key, ...}}")
    return found


def methods_in(name: str) -> list[Method]:
    """The registered methods in the name of a row: of a chain its CSI and its precoder, without variants.

    Example:
        >>> [method.name for method in methods_in("ar:stream + robust rzf")]
        ['ar', 'rzf']
    """
    source, _, precoder = name.partition(" + ")
    roles = [role for role in ROLES if role != "precoder"] if precoder else list(ROLES)
    seen = (find(source.partition(":")[0], role) for role in roles)
    found = [next((method for method in seen if method is not None), None)]
    found += [find(precoder.split(" ")[-1], "precoder")] if precoder else []
    return [method for method in found if method is not None]


def _entries(text: str) -> dict[str, str]:
    """The entries of a BibTeX text by key; comments between them are left out."""
    starts = list(ENTRY.finditer(text))
    ends = [*(match.start() for match in starts[1:]), len(text)]
    return {
        match[1]: text[match.start() : end].split("\n%")[0].strip() for match, end in zip(starts, ends, strict=False)
    }
