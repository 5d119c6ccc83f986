"""The routes of a replica, described by OpenAPI."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from airlam import __version__
from airlam.serving.app import precoding, predicting, status, streaming
from airlam.serving.app.guard import Guard, error_headers
from airlam.serving.errors import ServingError
from airlam.serving.state import Replica

ABOUT = """CSI in, predictions and precoders out, as `.npy` or safetensors (JSON for small ones).

CSI is complex64 `[link, slot, subcarrier, rx_ant, tx_ant]`. Errors are `{"error": {"code", "message", ...}}`."""


def create_app(replica: Replica) -> FastAPI:
    """The ASGI application of a replica.

    Example:
        >>> from airlam.serving import ServingConfig
        >>> app = create_app(Replica(ServingConfig(predictors={"hold": {}}, classic="hold")))
        >>> sorted(app.openapi()["paths"])[:2]
        ['/healthz', '/metrics']
    """
    app = FastAPI(title="airlam", version=__version__, description=ABOUT, docs_url=None, redoc_url=None)
    app.state.replica = replica
    for each in (status, predicting, precoding, streaming):
        app.include_router(each.router(replica))
    app.add_exception_handler(ServingError, _refused)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(HTTPException, _no_route)
    app.add_middleware(Guard, replica=replica)  # type: ignore[arg-type]
    return app


def _answer(error: ServingError) -> JSONResponse:
    return JSONResponse(error.plain(), error.status, headers=error_headers(error))


async def _refused(request: Request, error: Any) -> JSONResponse:
    return _answer(error)


async def _invalid(request: Request, error: Any) -> JSONResponse:
    first = error.errors()[0]
    name = ".".join(str(part) for part in first["loc"][1:]) or str(first["loc"][0])
    given = repr(first.get("input"))[:60]
    return _answer(ServingError(422, "argument", f"{name} is {given}: {first['msg'].lower()}; see /openapi.json"))


async def _no_route(request: Request, error: Any) -> JSONResponse:
    if error.status_code == 405:
        code, text = "method", f"{request.method} is not for {request.url.path[:80]}; see /openapi.json"
    elif error.status_code == 404:
        code, text = "route", f"there is no {request.url.path[:80]}; see /openapi.json"
    else:
        code, text = "request", str(error.detail)[:200]
    return _answer(ServingError(error.status_code, code, text))
