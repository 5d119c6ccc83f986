"""Bodies in and out: bounds first, then bytes, then arrays."""

from __future__ import annotations

import asyncio
from typing import Any

import numpy as np
import torch
from fastapi import Request, Response
from numpy.typing import NDArray
from torch import Tensor

from airlam.serving.config import Limits
from airlam.serving.errors import ServingError, refused
from airlam.serving.wire import JSON, NPY, SAFETENSORS, Arrays, decode, encode


async def read_body(request: Request, limits: Limits) -> bytes:
    """The bytes of a request.

    Raises:
        ServingError: 413 for a body above the limit (before it is read where its length is told), 408 for one that does
            not arrive in time.
    """
    told = request.headers.get("content-length", "")
    if told and (not told.isascii() or not told.isdigit()):
        raise refused("content_length", f"Content-Length is {told[:40]!r}, but must be a whole number")
    if told and (len(told) > 18 or int(told) > limits.body_bytes):
        raise _too_large(told[:40], limits)
    out = bytearray()
    try:
        async with asyncio.timeout(limits.body_s):
            async for chunk in request.stream():
                out += chunk
                if len(out) > limits.body_bytes:
                    raise _too_large(f"more than {limits.body_bytes}", limits)
    except TimeoutError:
        raise ServingError(
            408, "slow_body", f"{len(out)} bytes of the body arrived within {limits.body_s:g} s; send it faster"
        ) from None
    if told and len(out) != int(told):
        raise refused("truncated", f"the body has {len(out)} bytes, but Content-Length says {told}")
    return bytes(out)


def _too_large(size: str, limits: Limits) -> ServingError:
    return ServingError(
        413, "too_large", f"the body has {size} bytes, but at most {limits.body_bytes}; send fewer links a request"
    )


def content_type(request: Request) -> str:
    """Of the body, without parameters."""
    return request.headers.get("content-type", "").partition(";")[0].strip().lower()


async def read_arrays(request: Request, limits: Limits, known: tuple[str, ...]) -> Arrays:
    """Arrays of a request; only names of ``known`` or that begin with ``context.`` are taken."""
    body = await read_body(request, limits)
    arrays = decode(body, content_type(request), json_entries=limits.json_entries)
    for name, value in arrays.items():
        if name not in known:
            raise refused("array", f"the body holds {name[:40]!r}, but arrays are {', '.join(known)}")
        if value.size > limits.entries:
            raise ServingError(
                413, "too_large", f"{name!r} has {value.size} numbers, but at most {limits.entries}; send fewer links"
            )
    return arrays


def take(arrays: Arrays, name: str, *, complex_: bool) -> Tensor:
    """One array of a body as a tensor."""
    if name not in arrays:
        raise refused("array", f"the body holds no array {name!r}; it holds {', '.join(arrays)}")
    value = arrays[name]
    if np.iscomplexobj(value) != complex_:
        kind = "complex64 or complex128" if complex_ else "real"
        raise refused("dtype", f"{name} is {value.dtype}, but must be {kind}")
    return tensor(value)


def tensor(value: NDArray) -> Tensor:
    """A tensor of its own: bytes of a request cannot be written to."""
    return torch.from_numpy(np.array(value))


def respond(request: Request, arrays: dict[str, Tensor], limits: Limits, headers: dict[str, str]) -> Response:
    """An answer in the format that was asked for (``Accept``), or that of the request; ``.npy`` holds one array."""
    accepted = request.headers.get("accept", "").partition(",")[0].partition(";")[0].strip().lower()
    kind = accepted if accepted in (NPY, SAFETENSORS, JSON) else content_type(request)
    kind = kind if kind in (NPY, SAFETENSORS, JSON) else NPY
    size = sum(value.numel() * value.element_size() for value in arrays.values())
    if size > 1e6 * limits.answer_mb:
        raise ServingError(413, "answer_too_large", f"the answer has {size} bytes, but at most {limits.answer_mb:g} MB")
    if kind == JSON and sum(value.numel() for value in arrays.values()) > limits.json_entries:
        raise ServingError(413, "answer_too_large", f"the answer is too large for JSON; send Accept: {NPY}")
    if kind == NPY and len(arrays) > 1:
        kind = SAFETENSORS
    plain: dict[str, Any] = {name: value.resolve_conj().resolve_neg().numpy() for name, value in arrays.items()}
    return Response(encode(plain, kind), media_type=kind, headers=headers)
