"""How bodies and answers stand in the OpenAPI description."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import Path, Query

from airlam.csi import PortShape
from airlam.serving.errors import refused
from airlam.serving.wire import JSON, KINDS

BINARY = {"schema": {"type": "string", "format": "binary"}}
ERROR = {
    "type": "object",
    "required": ["error"],
    "properties": {
        "error": {
            "type": "object",
            "required": ["code", "message"],
            "properties": {"code": {"type": "string"}, "message": {"type": "string"}},
        }
    },
}
REFUSALS = {
    400: "the request means nothing; the message names value, bound and fix",
    401: "no token, or a wrong one",
    404: "no such model, adapter or session",
    405: "another method",
    408: "a deadline or a body came too late",
    409: "another slot than the next, or the state of another version",
    413: "too large",
    415: "another content type",
    422: "an argument of another type",
    429: "too many sessions",
    503: "too much waits: try again after Retry-After",
}

Name = Annotated[str, Path(max_length=80, pattern=r"^[A-Za-z0-9._-]+$")]
User = Annotated[str, Path(max_length=200, pattern=r"^[A-Za-z0-9._:-]+$")]
Ports = Annotated[
    str | None,
    Query(pattern=r"^\d{1,4},\d{1,4},\d{1,4}$", description="polarisations,columns,rows of tx_ant; else one line"),
]
Deadline = Annotated[float | None, Query(le=1e6, description="milliseconds from the request's head to its answer")]
Adapter = Annotated[str, Query(max_length=80)]


def ports(text: str | None) -> PortShape | None:
    """A port shape from a query."""
    if text is None:
        return None
    p, c, r = (int(part) for part in text.split(","))
    return p, c, r


def numbers(name: str, text: str | None) -> tuple[int, ...] | None:
    """Whole numbers from a query such as ``0,4,8``."""
    if text is None:
        return None
    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError:
        raise refused(name, f"{name} is {text[:60]!r}, but must be whole numbers such as 0,4,8") from None


def body(what: str, *, kinds: tuple[str, ...] = KINDS, empty: bool = False) -> dict[str, Any]:
    """``openapi_extra`` of a route that takes arrays, in formats of :data:`airlam.serving.wire.KINDS`."""
    return {"requestBody": {"description": what, "required": not empty, "content": _content(kinds)}}


def answers(what: str, *, kinds: tuple[str, ...] = KINDS) -> dict[int | str, dict[str, Any]]:
    """``responses`` of a route that answers arrays."""
    return {200: {"description": what, "content": _content(kinds)}, **refusals()}


def _content(kinds: tuple[str, ...]) -> dict[str, Any]:
    return {kind: {"schema": {"type": "object"}} if kind == JSON else BINARY for kind in kinds}


def refusals() -> dict[int | str, dict[str, Any]]:
    return {status: {"description": text, "content": {JSON: {"schema": ERROR}}} for status, text in REFUSALS.items()}
