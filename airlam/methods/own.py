"""Methods that a user brings: a class path, a mapping with ``class_path`` and ``init_args``, a class, or an object.

A class of one's own may say, as plain class attributes:

* ``name``: of its row (every predictor and precoder has one);
* ``label``: in tables and plots, in the place of the name; a name that the recipe gives goes before it;
* ``kind``: ``"classical"`` or ``"learned"``; without it a method is learned if it holds a ``torch.nn.Module``;
* ``tuning_grid``: argument -> values; a classical predictor is tuned on it in every cell of a benchmark. Arguments that
  the recipe gives are not tuned.
"""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from airlam.errors import RecipeError
from airlam.methods.method import KINDS, Method
from airlam.methods.registry import find, register
from airlam.recipes import find_class, instantiate, is_class_path, read_class

# role -> the function that the built object must have, see airlam.interfaces
INTERFACE = {
    "predictor": "predict",
    "precoder": "precode",
    "estimator": "estimate",
    "beam-tracker": "scores",
    "denoiser": "denoise",
    "pilot-reader": "read",
}


def is_own(value: Any) -> bool:
    """Whether a value is a class path, a mapping, a class or an object, rather than a name or a path.

    Example:
        >>> [is_own(value) for value in ("ar", "my_gru:MyGRU", {"class_path": "my_gru.MyGRU"})]
        [False, True, True]
    """
    return is_class_path(value) if isinstance(value, (str, os.PathLike)) else True


def build_own(value: Any, role: str, source: str, **options: Any) -> Any:
    """The object that a value stands for, see :func:`is_own`.

    Args:
        role: it must have this role's interface.
        source: what asks for it, the beginning of every error.
        options: further arguments of its class; an object takes none.

    Raises:
        RecipeError: no such class, wrong arguments, or an object without the interface of the role.
    """
    factory, init_args = _factory_of(value, source)
    if isinstance(factory, Ready) and options:
        raise RecipeError(f"{source}: an object takes no further arguments ({', '.join(options)}); give its class")
    made = factory() if isinstance(factory, Ready) else instantiate(factory, {**init_args, **options}, source)
    wanted = INTERFACE[role]
    if not callable(getattr(made, wanted, None)):
        raise RecipeError(f"{source} is {describe(value)!r}, but a {role} is an object with the function {wanted}()")
    return made


def own_method(value: Any, role: str, source: str, name: str = "") -> Method:
    """A method of one's own, registered for the labels and loaders of this process.

    Args:
        value: see :func:`is_own`; a mapping may also hold ``name``.
        name: of its row; without it the object's attribute ``name``.

    Raises:
        RecipeError: see :func:`build_own`; or no usable name, or one that another method has.
    """
    if isinstance(value, Mapping) and "name" in value:
        name = name or str(value["name"])
        value = {key: item for key, item in value.items() if key != "name"}
    made, renamed = build_own(value, role, source), bool(name)
    name = name or (value.name if isinstance(value, Method) else getattr(made, "name", ""))
    if not isinstance(name, str) or not name:
        raise RecipeError(f"{source}: {describe(value)} has no attribute name, a text; its row would have no name")
    if isinstance(value, Method):
        kind = value.kind
    elif (kind := getattr(made, "kind", None)) not in KINDS:
        kind = "learned" if _holds_network(made) else "classical"
    try:
        if isinstance(value, Method):
            method = replace(value, name=name)
        else:
            factory, options = _factory_of(value, source)
            grid = {} if isinstance(factory, Ready) else getattr(made, "tuning_grid", None) or {}
            if not isinstance(grid, Mapping):
                raise RecipeError(f"{source}: tuning_grid is {grid!r}, but must map arguments to lists of values")
            grid = {key: values for key, values in grid.items() if key not in options}  # what is given is not tuned
            if not grid:
                factory, options = Ready(made), {}
            label = name if renamed else str(getattr(made, "label", "") or "")
            method = Method(name, role, kind, factory=factory, options=options, grid=grid, label=label)
    except ValueError as error:
        raise RecipeError(f"{source}: {error}; give the row another name") from None
    if find(name, role) != method:
        try:
            register(method, replace=True)
        except ValueError:
            raise RecipeError(
                f"{source}: {describe(value)} is called {name!r}, which is another method's name; change its "
                "attribute name, or write name: beside class_path"
            ) from None
    return method


def identity_of(value: Any, source: str) -> tuple[Any, dict[str, Any]]:
    """What two spellings of one method have in common: its class (or the object itself) and the arguments given."""
    if isinstance(value, Mapping):
        value = {key: item for key, item in value.items() if key != "name"}
    factory, init_args = _factory_of(value, source)
    return (factory.made if isinstance(factory, Ready) else factory), init_args


def describe(value: Any) -> Any:
    """A value of a recipe as plain data: classes and objects by the dotted name of the class.

    Example:
        >>> describe({"a": [1, Method]})
        {'a': [1, 'airlam.methods.method.Method']}
    """
    if isinstance(value, Mapping):
        return {key: describe(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [describe(item) for item in value]
    if value is None or isinstance(value, (str, int, float)):
        return value
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, Method):
        return value.factory if isinstance(value.factory, str) else f"{value.role} {value.name}"
    kind = value if inspect.isclass(value) else type(value)
    return f"{kind.__module__}.{kind.__qualname__}"


class Ready:
    """A factory whose object is there already."""

    def __init__(self, made: Any):
        self.made = made

    def __call__(self, **options: Any) -> Any:
        """The object itself.

        Raises:
            TypeError: it is built; arguments come too late.
        """
        if options:
            raise TypeError(f"{type(self.made).__name__} is built already and takes no {', '.join(options)}")
        return self.made


def _factory_of(value: Any, source: str) -> tuple[Callable[..., Any], dict[str, Any]]:
    """What builds the object, and the arguments that the recipe gives it."""
    if isinstance(value, Method):
        return value.load(), dict(value.options)
    if isinstance(value, str):
        return find_class(value, source), {}
    if isinstance(value, Mapping):
        class_path, init_args = read_class(value, source)
        return find_class(class_path, source), init_args
    return (value, {}) if inspect.isclass(value) else (Ready(value), {})


def _holds_network(made: Any) -> bool:
    from torch import nn

    values = (made, *getattr(made, "__dict__", {}).values())
    return any(isinstance(value, nn.Module) for value in values)
