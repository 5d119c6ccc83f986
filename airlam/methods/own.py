"""Methods that a user brings: a class path, a mapping with ``class_path`` and ``init_args``, a class, or an object.

A class of one's own may say, as plain class attributes:

* ``name``: of its row (every method has one);
* ``label``: in tables and plots, in the place of the name; a name that the recipe gives goes before it. An ending
  "(tuned)" is left out where nothing is tuned;
* ``kind``: ``"classical"`` or ``"learned"``; without it a method is learned if it holds a ``torch.nn.Module``;
* ``references``: BibTeX entries of what it is described in (or keys of ``references.bib``);
* ``tuning_grid``: argument -> values; a classical predictor is tuned on it in every cell of a benchmark. Arguments that
  the recipe gives are not tuned. Precoders are not tuned: one with a grid is refused until the recipe gives these
  arguments.
"""

from __future__ import annotations

import inspect
import os
import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from airlam.errors import RecipeError
from airlam.methods.method import KINDS, TUNED, TUNED_ENDING, Method
from airlam.methods.registry import find, register
from airlam.recipes import find_class, instantiate, is_class_path, nearest, read_class

# role -> the function that the built object must have, see airlam.interfaces
INTERFACE = {
    "predictor": "predict",
    "precoder": "precode",
    "estimator": "estimate",
    "beam-tracker": "scores",
    "denoiser": "denoise",
    "pilot-reader": "read",
    "codec": "for_array",
}
# role -> how that function is called: arguments in their order, then by name
CALLS = {
    "predictor": (("h_past", "num_future"), ("port_shape", "context")),
    "precoder": (("h", "power", "no"), ("error_covariance",)),
    "estimator": (("h_measured", "observed"), ("axis", "port_shape", "context")),
    "codec": (("port_shape", "subbands", "layers"), ()),
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
    return check_made(made, role, source, value)


def check_made(made: Any, role: str, source: str, value: Any = None) -> Any:
    """``made`` if it has the function of its role, with the arguments that it is called with, and a name.

    Args:
        value: what the recipe gives for it, for the error; default: its class.

    Raises:
        RecipeError: one of them is missing.
    """
    shown, wanted = describe(made if value is None else value), INTERFACE[role]
    if not callable(getattr(made, wanted, None)):
        raise RecipeError(f"{source} is {shown!r}, but a {role} is an object with the function {wanted}()")
    if not isinstance(shown, str):
        shown = describe(made)
    name = getattr(made, "name", None)
    if not isinstance(name, str) or not name.strip():
        given = "no attribute name" if name is None else f"the attribute name {name!r}"
        raise RecipeError(
            f"{source}: {shown} has {given}, but must have a text there; add a line like name = 'mine' to its class"
        )
    _check_signature(made, role, source)
    return made


def _check_signature(made: Any, role: str, source: str) -> None:
    """An error if the function of the role cannot be called as airlam calls it; the first call may come hours later."""
    if role not in CALLS:
        return
    order, by_name = CALLS[role]
    function = getattr(made, INTERFACE[role])
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):  # of compiled code: unknown
        return
    try:
        signature.bind(*order, **dict.fromkeys(by_name))
    except TypeError as error:
        call = ", ".join([*order, *(f"{name}=None" for name in by_name)])
        file = getattr(sys.modules.get(type(made).__module__), "__file__", None)
        raise RecipeError(
            f"{source}: {describe(type(made))}.{INTERFACE[role]}{signature} {f'in {file} ' if file else ''}cannot be "
            f"called as {INTERFACE[role]}({call}): {error}; give it these arguments, or **kwargs"
        ) from None


def check_grid(factory: Any, grid: Any, source: str) -> None:
    """An error if a tuning grid does not map arguments of ``factory`` (or of its function ``fit``) to lists of values.

    Raises:
        RecipeError: it does not; names the key and the nearest argument.
    """
    name = getattr(factory, "__name__", str(factory))
    if not isinstance(grid, Mapping):
        raise RecipeError(f"{source}: tuning_grid of {name} is {grid!r}, but must map arguments to lists of values")
    makers = [factory, *([factory.fit] if hasattr(factory, "fit") else [])]
    parameters = {key: each for make in makers for key, each in inspect.signature(make).parameters.items()}
    takes_any = any(each.kind is each.VAR_KEYWORD for each in parameters.values())
    for key, values in grid.items():
        if key not in parameters and not takes_any:
            has = f"arguments are {', '.join(parameters)}" if parameters else "it has none"
            near = nearest(str(key), parameters) or ";"
            raise RecipeError(f"{source}: tuning_grid of {name} has {key!r}, which is not its argument{near} {has}")
        if isinstance(values, (str, Mapping)) or not isinstance(values, Iterable) or not list(values):
            raise RecipeError(
                f"{source}: tuning_grid of {name} has {values!r} for {key}, but must have a list of values to try"
            )


def own_method(value: Any, role: str, source: str, name: str = "") -> Method:
    """A method of one's own, registered for the labels and loaders of this process.

    Args:
        value: see :func:`is_own`; a mapping may also hold ``name``.
        name: of its row, the key that the recipe gives it; without it the object's attribute ``name``.

    Raises:
        RecipeError: see :func:`build_own`; or an unusable name, one that another method has, or a tuning grid that
            cannot be used.
    """
    key, way = name, f"rename the key {name!r}"
    if isinstance(value, Mapping) and "name" in value:
        if key and value["name"] != key:
            raise RecipeError(
                f"{source}: name is {value['name']!r}, but the row is called after its key {key!r}; rename the key and "
                "take out name"
            )
        name = str(value["name"])
        value = {key: item for key, item in value.items() if key != "name"}
    made, renamed = build_own(value, role, source), bool(name)
    name = name or (value.name if isinstance(value, Method) else made.name)
    if isinstance(value, Method):
        kind = value.kind
    elif (kind := getattr(made, "kind", None)) not in KINDS:
        kind = "learned" if _holds_network(made) else "classical"
    try:
        factory, options = _factory_of(value, source)
        if isinstance(value, Method):
            check_grid(factory, value.grid, source)
            method = replace(value, name=name)
        else:
            grid = _grid_of(made, role, kind, factory, options, source)
            label = name if renamed else str(getattr(made, "label", "") or "")
            if not grid:
                factory, options = Ready(made), {}
                label = label.removesuffix(TUNED_ENDING) if role in TUNED else label
            references = tuple(getattr(made, "references", ()) or ())
            method = Method(
                name, role, kind, factory=factory, options=options, grid=grid, label=label, references=references
            )
    except RecipeError:
        raise
    except ValueError as error:
        raise RecipeError(f"{source}: {error}; {way if key else 'give the row another name'}") from None
    if find(name, role) != method:
        try:
            register(method, replace=True)
        except ValueError:
            raise RecipeError(
                f"{source}: {describe(value)} is called {name!r}, which is another method's name; "
                + (way if key else "change its attribute name, or write another name: beside class_path")
            ) from None
    return method


def _grid_of(made: Any, role: str, kind: str, factory: Any, options: Mapping[str, Any], source: str) -> dict[str, Any]:
    """What is tuned: the grid of the class, without the arguments that are given."""
    grid = {} if isinstance(factory, Ready) else getattr(made, "tuning_grid", None) or {}
    check_grid(factory, grid, source)
    grid = {key: values for key, values in grid.items() if key not in options}
    if grid and (role not in TUNED or kind == "learned"):
        what = f"a {role}" if role not in TUNED else f"a learned {role} (kind = 'classical' would have it tuned)"
        raise RecipeError(
            f"{source}: {describe(type(made))} has a tuning_grid for {', '.join(grid)}, but benchmarks do not tune "
            f"{what}; tune it before and give these arguments under init_args, or take them out of tuning_grid"
        )
    return grid


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
