"""All methods that are known: shipped ones, those of installed packages, and what was registered in this process."""

from __future__ import annotations

import functools
import warnings
from collections.abc import Iterable, Mapping, Sequence
from importlib.metadata import entry_points
from typing import Any

from airlam.errors import RecipeError
from airlam.methods.method import KINDS, ROLES, Method

GROUP = "airlam.methods"  # of entry points
_OWN: dict[tuple[str, str], Method] = {}  # registered in this process: (role, name) -> method


def register(method: Method, *, replace: bool = False) -> Method:
    """Make a method known by its name: to loaders, benchmarks, tables and plots of this process.

    Args:
        method: the declaration.
        replace: whether an earlier registration of this process may be replaced. Shipped and installed methods never.

    Raises:
        ValueError: another method has this role and name.

    Example:
        >>> register(Method("doc-hold", factory="airlam.baselines.hold:HoldPredictor"), replace=True).role
        'predictor'
        >>> import airlam
        >>> airlam.load_predictor("doc-hold").name
        'hold'
    """
    key = method.role, method.name
    shipped = _declared().get(key)
    if shipped is not None and (shipped.factory or shipped.kind == "bound"):  # the others only lend their look
        raise ValueError(f"there is a {method.role} {method.name!r} already; choose another name")
    if key in _OWN and _OWN[key] != method and not replace:
        raise ValueError(f"a {method.role} {method.name!r} is registered already; choose another name or replace=True")
    _OWN[key] = method
    return method


def known(role: str | None = None, kind: str | Sequence[str] = KINDS) -> list[Method]:
    """Methods in the order of the tables.

    Args:
        role: of one role only. kind: of these kinds only.
    """
    kinds = (kind,) if isinstance(kind, str) else tuple(kind)
    every = [*_declared().values(), *_OWN.values()]
    return [method for method in every if role in (None, method.role) and method.kind in kinds]


def names(role: str | None = None, kind: str | Sequence[str] = KINDS, *, built: bool = False) -> tuple[str, ...]:
    """Names in the order of the tables.

    Args:
        role: of one role only. kind: of these kinds only.
        built: only of methods that have a factory, so that they can be built by their name.

    Example:
        >>> names("precoder", "classical")[:3]
        ('mrt', 'zf', 'zf-wf')
    """
    return tuple(dict.fromkeys(m.name for m in known(role, kind) if m.factory or not built))


def find(name: str, role: str | None = None) -> Method | None:
    """The method of a name, or None. Without a role: the first role of ``ROLES`` that has the name."""
    for each in ROLES if role is None else (role,):
        found = _OWN.get((each, name)) or _declared().get((each, name))
        if found is not None:
            return found
    return None


def is_declared(name: str, role: str) -> bool:
    """Whether a method came with airlam or an installed package, rather than with :func:`register` in this process."""
    return (role, name) in _declared()


def get(name: str, role: str) -> Method:
    """The method of a name that is known to exist.

    Raises:
        RecipeError: no method of this role has the name; the message names those that have one.
    """
    found = find(name, role)
    if found is None:
        raise RecipeError(f"{name!r} is no {role}; known are {', '.join(names(role))}")
    return found


def grid_of(factory: Any, role: str = "predictor") -> Mapping[str, Sequence[Any]] | None:
    """The tuning grid of a class: of the method that names it as its factory, or its attribute ``tuning_grid``; None if
    it has neither."""
    path = f"{getattr(factory, '__module__', '')}:{getattr(factory, '__qualname__', '')}"
    for method in known(role):
        if method.factory == path or method.factory is factory:
            return method.grid
    return getattr(factory, "tuning_grid", None)


@functools.cache
def _declared() -> dict[tuple[str, str], Method]:
    """Shipped methods, then those of installed packages."""
    from airlam.methods import beam_trackers, bounds, codecs, estimators, learned, precoders, predictors

    out: dict[tuple[str, str], Method] = {}
    for module in (predictors, estimators, beam_trackers, precoders, codecs, learned, bounds):
        for method in module.METHODS:
            out[method.role, method.name] = method
    for point in entry_points(group=GROUP):
        try:
            found = point.load()
            for method in [found] if isinstance(found, Method) else _checked(found):
                if (method.role, method.name) in out:
                    raise ValueError(f"there is a {method.role} {method.name!r} already")
                out[method.role, method.name] = method
        except Exception as error:  # a broken package must not keep all other methods from being used
            reason = " ".join(str(error).split())
            warnings.warn(f"entry point {point.name!r} of {GROUP} ({point.value}) is left out: {reason}", stacklevel=2)
    return out


def _checked(found: Any) -> Iterable[Method]:
    if not isinstance(found, (list, tuple)) or not all(isinstance(method, Method) for method in found):
        raise TypeError(f"it names a {type(found).__name__}, but must name a Method or a list of them")
    return found
