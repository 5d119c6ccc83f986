"""Methods that compute in torch's inference mode and give ordinary tensors."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Concatenate, ParamSpec, TypeVar

import torch
from torch import Tensor

S = TypeVar("S")
P = ParamSpec("P")


def in_inference_mode(method: Callable[Concatenate[S, P], Tensor]) -> Callable[Concatenate[S, P], Tensor]:
    """Decorator: the method runs in inference mode, which is faster than ``no_grad``, and its result is copied out.

    A tensor made in inference mode can neither be written to outside of it nor take part in autograd; its copy can.
    """

    @functools.wraps(method)
    def call(self: S, *args: P.args, **kwargs: P.kwargs) -> Tensor:
        with torch.inference_mode():
            out = method(self, *args, **kwargs)
        return out.clone()

    return call
