"""Python files of the user, importable for class paths without the current folder on ``sys.path``.

The folder of the ``airlam`` script is on ``sys.path``, the current folder is not; and it must not be, because a recipe
folder ``datasets/`` there would pass for Hugging Face's package of that name. :func:`allow_imports_from` appends a
finder instead. It is asked last, so nothing installed is ever hidden, and it offers only files ``name.py`` and packages
with an ``__init__.py``.
"""

from __future__ import annotations

import importlib.util
import os
import sys
import sysconfig
import traceback
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import Any

import airlam
from airlam.errors import RecipeError

NEVER = ("airlam", "datasets")  # transformers asks for "datasets" and would take a user's file for Hugging Face's
_FOLDERS = [os.path.dirname(airlam.__file__), *(sysconfig.get_path(key) for key in ("stdlib", "platstdlib", "platlib"))]
_INSTALLED = tuple(os.path.realpath(folder) + os.sep for folder in _FOLDERS)


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
    check_is_own(path, path.stem, source)
    return importlib.import_module(path.stem)


def check_names_own_file(module: str, source: str) -> None:
    """An error if ``module`` names a Python file of the current folder, but an import would give another module.

    A package (folder) may have the name of an installed one, which is meant then: a checkout beside what is installed.
    Not so a package with a name of the standard library.

    Raises:
        RecipeError: the file's name is that of a module of the standard library or of an installed package.
    """
    top = module.partition(".")[0]
    file, package = Path(f"{top}.py").resolve(), Path(top, "__init__.py").resolve()
    if module == top and module not in NEVER and file.is_file():
        check_is_own(file, top, source)
    elif top in sys.stdlib_module_names and package.is_file():
        check_is_own(package, top, source)


def check_is_own(path: Path, name: str, source: str) -> None:
    """An error if importing ``name`` gives another file than ``path``; imports nothing.

    Raises:
        RecipeError: it does; the message names both, and says to rename the file.
    """
    if name in sys.modules:
        found = getattr(sys.modules[name], "__file__", None)
    else:
        spec = importlib.util.find_spec(name)
        found = spec.origin if spec is not None and spec.has_location else None
    if found is not None and Path(found).resolve() == path:
        return
    other = "a module of Python's standard library" if name in sys.stdlib_module_names else "another module"
    raise RecipeError(f"{source}: {path} has the name of {other}{f', {found}' if found else ''}; rename the file")


def is_installed_file(file: str) -> bool:
    """Whether a file belongs to airlam, the standard library or an installed package, and not to the user."""
    return "site-packages" in file or os.path.realpath(file).startswith(_INSTALLED)


def own_place(error: BaseException) -> str:
    """Where in the user's own code an exception arose, or nothing: ``"my_predictor.py, line 20, in Damped.predict"``.

    What an exception was raised from is looked at before the exception itself.
    """
    errors = [error]
    while errors[-1].__cause__ is not None and errors[-1].__cause__ not in errors:
        errors.append(errors[-1].__cause__)
    for each in reversed(errors):
        for frame, line in reversed(list(traceback.walk_tb(each.__traceback__))):
            file = frame.f_code.co_filename
            if os.path.isfile(file) and not is_installed_file(file):
                path = Path(file).resolve()
                shown = path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path
                function = frame.f_code.co_qualname.replace(".<locals>", "")
                return f"{shown}, line {line}" + (f", in {function}" if function != "<module>" else "")
    return ""
