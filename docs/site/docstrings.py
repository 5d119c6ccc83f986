"""Docstrings as mkdocstrings shows them: doctests as code, Sphinx roles as plain code (finish.py makes links of it)."""

from __future__ import annotations

import re

import griffe

ROLE = re.compile(r":(?:py:)?(?:func|class|attr|meth|mod|data|exc|obj|const):`(?P<short>[~!]?)(?P<name>[^`]+)`")


class Docstrings(griffe.Extension):
    """Changes the text of each docstring before it is parsed, and finds functions that their file's name hides."""

    def on_package(self, *, pkg: griffe.Module, **kwargs: object) -> None:
        """Called when all modules are read."""
        rewrite(pkg)
        unhide(pkg)  # last: what it hides is met no more


def rewrite(owner: griffe.Object) -> None:
    """Change the docstrings of an object and of all in it."""
    if owner.docstring:
        owner.docstring.value = for_markdown(owner.docstring.value)
    for member in owner.members.values():
        if not member.is_alias:
            rewrite(member)


def unhide(module: griffe.Module) -> None:
    """``airlam.metrics.nmse`` is the function, though a file has that name: show what is exported."""
    for name in map(str, module.exports or ()):
        inner = module.members.get(name)
        if isinstance(inner, griffe.Module) and name in inner.members:
            module.members[name] = griffe.Alias(name, target=inner.members[name], parent=module)
    for inner in list(module.members.values()):
        if isinstance(inner, griffe.Module):
            unhide(inner)


def for_markdown(text: str) -> str:
    """The text of a docstring without what only Sphinx or doctest understand.

    Example:
        >>> for_markdown("See :func:`~airlam.csi.measure`. To read it::")
        'See `airlam.csi.measure`. To read it:'
    """
    text = re.sub(r"^(\s*)Example:$", r"\1Examples:", text, flags=re.M)
    text = re.sub(r":math:`([^`]+)`", r"\\(\1\\)", text)
    text = re.sub(r"^( *)\.\. math:: (.+(?:\n\1 +.+)*)$", r"\1\\[\2\\]", text, flags=re.M)
    text = ROLE.sub(lambda found: f"`{found['name']}`", text)
    return re.sub(r"(?<=\w)::$", ":", text, flags=re.M)
