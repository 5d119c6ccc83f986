"""From a class path and arguments in a recipe to an object, with errors that name what is wrong.

A class path is ``package.module.Class``, ``package.module:Class`` or ``folder/file.py:Class``. Modules are looked for
among the installed ones first, then in the current folder (:mod:`airlam.recipes.own_code`).
"""

from __future__ import annotations

import dataclasses
import functools
import importlib
import importlib.util
import inspect
import math
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from airlam.errors import CheckpointError, RecipeError
from airlam.recipes.locate import find_checkpoint, nearest
from airlam.recipes.own_code import allow_imports_from, check_names_own_file, import_file
from airlam.recipes.sections import argument_defaults, nearest_argument, section_types
from airlam.recipes.words import annotation_text, is_list, type_in_words

KEYS = ("class_path", "init_args")
_NAME = r"[^\W\d]\w*"
_NO_CLASSES = (".ckpt", ".yaml", ".yml", ".json", ".safetensors", ".pt", ".onnx", ".h5")  # ends of names of files
_DOTTED = re.compile(rf"{_NAME}(?:\.{_NAME})*[.:]{_NAME}")


def is_class_path(value: Any) -> bool:
    """Whether a text names a class rather than a file, a folder or a shipped name. Imports nothing but packages.

    Example:
        >>> [is_class_path(text) for text in ("torch.nn.GRU", "torch.nn:GRU", "mine.py:GRU", "ar", "last.ckpt")]
        [True, True, True, False, False]
    """
    if not isinstance(value, str) or value.endswith(".ckpt"):
        return False
    if re.fullmatch(rf".+\.py:{_NAME}", value):
        return True
    if not _DOTTED.fullmatch(value):
        return False
    if ":" in value:
        return True
    if Path(value).exists():
        return False
    allow_imports_from()
    try:
        return importlib.util.find_spec(value.partition(".")[0]) is not None
    except (ImportError, ValueError):
        return False


def check_is_no_class(value: Any, source: str) -> None:
    """An error if a text that is neither a shipped name nor a file or checkpoint is spelled like a class path: it says
    why there is no such class.

    Args:
        source: what asks for it, the beginning of the error.

    Raises:
        RecipeError: there is no module of that name, installed or in the current folder.
    """
    if not isinstance(value, str) or not _DOTTED.fullmatch(value) or value.endswith(_NO_CLASSES):
        return
    try:
        find_checkpoint(value)
    except CheckpointError:
        if not Path(value).exists():
            find_class(value, source)


def find_class(class_path: str, source: str) -> Any:
    """A class by its class path.

    Args:
        source: what asks for it, the beginning of every error.

    Raises:
        RecipeError: no such module or class, or the module cannot be imported; names the reason.
    """
    module, _, name = class_path.rpartition(":" if ":" in class_path else ".")
    if not module or not name:
        raise RecipeError(f"{source}: {class_path!r} is no class path; write package.module.Class")
    try:
        if module.endswith(".py"):
            found = import_file(Path(module), source)
        else:
            allow_imports_from()
            check_names_own_file(module, source)
            found = importlib.import_module(module)
    except RecipeError:
        raise
    except ModuleNotFoundError as error:
        if error.name and module.startswith(error.name):
            reason = f"no module {error.name!r} is installed or in the current folder {Path.cwd()}"
        else:
            reason = f"its module needs {error.name!r}, which is not installed"
        raise RecipeError(f"{source}: no class {class_path!r}: {reason}") from None
    except Exception as error:  # whatever a user's module raises while it is imported
        reason = " ".join(str(error).split())
        raise RecipeError(f"{source}: {module} cannot be imported ({type(error).__name__}: {reason})") from error
    try:
        return getattr(found, name)
    except AttributeError:
        own = [key for key, value in vars(found).items() if inspect.isclass(value)] or dir(found)
        raise RecipeError(
            f"{source}: no class {class_path!r}: {getattr(found, '__file__', module)} has no {name!r}"
            f"{nearest(name, own)}"
        ) from None


def read_class(value: Any, source: str) -> tuple[str, dict[str, Any]]:
    """``class_path`` and ``init_args`` of a mapping ``{class_path: ..., init_args: {...}}``.

    Raises:
        RecipeError: not such a mapping, or further keys.
    """
    if not isinstance(value, Mapping) or not isinstance(value.get("class_path"), str):
        keys = f"a mapping of {', '.join(map(str, list(value)[:6]))}" if isinstance(value, Mapping) else repr(value)
        raise RecipeError(f"{source} is {keys}, but must be a mapping with class_path and init_args")
    for key in value:
        if key not in KEYS:
            raise RecipeError(f"{source} has no key {key!r}{nearest(str(key), KEYS) or ';'} keys are {', '.join(KEYS)}")
    init_args = value.get("init_args") or {}
    if not isinstance(init_args, Mapping):
        raise RecipeError(f"{source}: init_args must be a mapping, got {type(init_args).__name__}")
    return value["class_path"], dict(init_args)


def instantiate(factory: Callable[..., Any], init_args: Mapping[str, Any], source: str) -> Any:
    """An object from a recipe's arguments, which are checked by name and type.

    An argument that is a dataclass may be a mapping: what it does not name stays at the argument's default.

    Raises:
        RecipeError: an argument that does not exist (with the nearest one), of a wrong type, or that is missing.
    """
    name = getattr(factory, "__name__", str(factory))
    arguments = checked_arguments(factory, init_args, source)
    missing = [
        key
        for key, parameter in inspect.signature(factory).parameters.items()
        if parameter.default is inspect.Parameter.empty
        and parameter.kind not in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD)
        and key not in arguments
    ]
    if missing:
        raise RecipeError(f"{source}: {name} needs {', '.join(missing)}; give it under init_args")
    try:
        return factory(**arguments)
    except TypeError as error:
        raise RecipeError(f"{source}: {name} cannot be made of these arguments ({error})") from error


def checked_arguments(factory: Callable[..., Any], init_args: Mapping[str, Any], source: str) -> dict[str, Any]:
    """The arguments themselves, checked by name and type, with mappings for dataclasses made into these.

    Raises:
        RecipeError: an argument that does not exist (with the nearest one), or of a wrong type.
    """
    name = getattr(factory, "__name__", str(factory))
    parameters, sections = inspect.signature(factory).parameters, section_types(factory)
    known = [key for key, p in parameters.items() if p.kind is not p.VAR_KEYWORD]
    takes_any = len(known) < len(parameters)
    out = {}
    for key, value in init_args.items():
        if key not in known and not takes_any:
            has = f"arguments are {', '.join(known)}" if known else "it has none"
            near = nearest_argument(str(key), factory) or ";"
            raise RecipeError(f"{source}: {name} has no argument {key!r}{near} {has}")
        if key not in sections:
            check_argument(factory, key, value, source)
        elif value is not None or parameters[key].default is not None:
            value = make_section(sections[key], value, argument_defaults(factory).get(key), f"{source}: {key}")
        out[key] = value
    return out


def make_section(kind: Any, value: Any, default: Any, source: str) -> Any:
    """A dataclass from a mapping of some of its fields; the others are those of ``default``, if it is one such.

    Raises:
        RecipeError: neither a mapping nor such an object; a field that does not exist (with the nearest one), or of a
            wrong type.
    """
    if isinstance(value, kind):
        return value
    if not isinstance(value, Mapping):
        keys = ", ".join(inspect.signature(kind).parameters)
        raise RecipeError(f"{source} is {value!r}, but must be a mapping; keys are {keys}")
    if isinstance(default, kind):
        return dataclasses.replace(default, **checked_arguments(kind, value, source))
    return instantiate(kind, value, source)


def check_argument(factory: Any, key: str, value: Any, source: str) -> None:
    """An error if ``value`` is not of the type that the signature of ``factory`` gives ``key``, or not finite."""
    parameters = inspect.signature(factory).parameters
    if key not in parameters:  # one of **kwargs
        return
    try:
        every = _parser_of(factory, frozenset())[1]
        parser, known = _parser_of(factory, frozenset(every) - {key})  # this one alone: others may be required
    except Exception:  # annotations of a user's class that jsonargparse cannot read: nothing to check
        return
    if key not in known:
        return
    wanted = annotation_text(parameters[key].annotation)
    wrong = isinstance(value, str) and is_list(wanted)  # a text is a sequence, but never what is meant
    try:
        parser.parse_object({key: _copy(value)})  # it changes mappings with a class_path in place
    except Exception:
        wrong = True
    if wrong:
        raise RecipeError(f"{source}: {key} is {value!r}, but must be {type_in_words(wanted, key)}")
    for number in value if isinstance(value, (list, tuple)) else [value]:
        if isinstance(number, float) and not math.isfinite(number):
            raise RecipeError(f"{source}: {key} is {value!r}, but must be finite")


@functools.lru_cache(maxsize=512)
def _parser_of(factory: Any, skip: frozenset[str]) -> tuple[Any, list[str]]:
    """A parser of the arguments of a class or function, and their names."""
    from jsonargparse import ArgumentParser

    parser = ArgumentParser(exit_on_error=False)
    add = parser.add_class_arguments if inspect.isclass(factory) else parser.add_function_arguments
    return parser, add(factory, fail_untyped=False, skip=set(skip))


def _copy(value: Any) -> Any:
    """The same values in containers of their own."""
    if isinstance(value, dict):
        return {key: _copy(item) for key, item in value.items()}
    return [_copy(item) for item in value] if isinstance(value, list) else value
