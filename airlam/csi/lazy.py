"""Lazily conjugated and negated tensors, carried out before a function computes with them.

``h.conj()``, ``h.mH`` and ``h.conj().imag`` do not compute: they set a flag on a view, and some operations of torch
(``view_as_real``, ``numpy``) refuse such views. Every public function of airlam resolves its inputs first, so a flagged
view gives what its resolved copy gives.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar

import torch
from torch import Tensor

P = ParamSpec("P")
R = TypeVar("R")


def resolved(x: Tensor, name: str = "h") -> Tensor:
    """``x`` with a lazy conjugation and negation carried out; ``x`` itself if there is none.

    Raises:
        TypeError: ``x`` is complex32, for which torch lacks most operations.

    Example:
        >>> h = torch.tensor([1 + 2j]).conj()
        >>> h.is_conj(), resolved(h).is_conj(), resolved(h)
        (True, False, tensor([1.-2.j]))
    """
    if x.dtype == torch.complex32:
        raise TypeError(f"{name} is complex32, in which torch cannot compute; give {name}.to(torch.complex64)")
    return x.resolve_conj().resolve_neg()


def resolve_inputs(function: Callable[P, R]) -> Callable[P, R]:
    """Decorator: every tensor among the arguments, and among the values of a dict, comes in :func:`resolved`.

    Example:
        >>> @resolve_inputs
        ... def pairs(h):
        ...     return torch.view_as_real(h)
        >>> pairs(torch.tensor([1 + 2j]).conj())
        tensor([[ 1., -2.]])
    """
    names = list(inspect.signature(function).parameters)

    @functools.wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> R:
        named = zip((*names, *[names[-1]] * len(args)), args, strict=False)
        positional = [_resolved_value(value, name) for name, value in named]
        keywords = {name: _resolved_value(value, name) for name, value in kwargs.items()}
        return function(*positional, **keywords)  # type: ignore[arg-type]

    return call


def _resolved_value(value: Any, name: str) -> Any:
    if isinstance(value, Tensor):
        return resolved(value, name)
    if isinstance(value, dict):
        return {key: resolved(x, f"{name}[{key!r}]") if isinstance(x, Tensor) else x for key, x in value.items()}
    return value
