"""Python files of the user, importable for class paths without the current folder on ``sys.path``.

The folder of the ``airlam`` script is on ``sys.path``, the current folder is not; and it must not be, because a recipe
folder ``datasets/`` there would pass for Hugging Face's package of that name. :func:`allow_imports_from` appends a
finder instead. It is asked last, so nothing installed is ever hidden, and it offers only files ``name.py`` and packages
with an ``__init__.py``.
"""

from __future__ import annotations

import importlib.util
import sys
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import Any

from airlam.errors import RecipeError

NEVER = ("airlam", "datasets")  # transformers asks for "datasets" and would take a user's file for Hugging Face's


class OwnCode:
    """Finder of top-level modules in the folders that were allowed."""

    folders: list[Path] = []

    @classmethod
    def find_spec(cls, name: str, path: Any = None, target: ModuleType | None = None) -> ModuleSpec | None:
        """The spec of ``name.py`` or ``name/__init__.py`` in an allowed folder."""
        if path is not None or "." in name or name in NEVER:
            return None
        for folder in cls.folders:
            package = folder / name
            for file, parts in ((folder / f"{name}.py", None), (package / "__init__.py", [str(package)])):
                if file.is_file():
                    return importlib.util.spec_from_file_location(name, file, submodule_search_locations=parts)
        return None


def allow_imports_from(folder: str | Path = ".") -> None:
    """Let Python files of a folder be imported by name; the latest allowed folder comes first."""
    path = Path(folder).resolve()
    OwnCode.folders[:] = [path, *(known for known in OwnCode.folders if known != path)]
    if OwnCode not in sys.meta_path:
        sys.meta_path.append(OwnCode)


def import_file(path: Path, source: str) -> ModuleType:
    """The module of a ``.py`` file, under the file's own name; its neighbours can be imported too.

    Raises:
        RecipeError: no such file, or another module has its name.
    """
    path = path.expanduser().resolve()
    if not path.is_file():
        raise RecipeError(f"{source}: there is no file {path}")
    allow_imports_from(path.parent)
    module = importlib.import_module(path.stem)
    found = Path(getattr(module, "__file__", None) or "").resolve()
    if found != path:
        raise RecipeError(f"{source}: {path} has the name of another module, {found}; rename the file")
    return module
