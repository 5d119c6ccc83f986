"""Docstrings as mkdocstrings shows them: doctests as code, Sphinx roles as plain code (finish.py makes links of it)."""

from __future__ import annotations

import re

import griffe

ROLE = re.compile(r":(?:py:)?(?:func|class|attr|meth|mod|data|exc|obj|const):`(?P<short>[~!]?)(?P<name>[^`]+)`")


class Docstrings(griffe.Extension):
    """Changes the text of each docstring before it is parsed, and finds functions that their file's name hides."""

    def on_object(self, *, obj: griffe.Object, **kwargs: object) -> None:
        """Called for every module, class, function and attribute."""
        if obj.docstring:
            obj.docstring.value = for_markdown(obj.docstring.value)

    def on_package(self, *, pkg: griffe.Module, **kwargs: object) -> None:
        """Called when all modules are read: ``airlam.metrics.nmse`` is the function, though a file has that name."""
        unhide(pkg)


def unhide(module: griffe.Module) -> None:
    """What a package exports under the name of one of its files: the object of that name in the file."""
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
