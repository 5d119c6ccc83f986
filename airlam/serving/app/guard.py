"""What every request passes first and last: the token, the clock, errors as one line of JSON."""

from __future__ import annotations

import hmac
import json
import logging
import time
from typing import Any

from airlam.serving.errors import ServingError
from airlam.serving.state import Replica

OPEN = ("/healthz", "/readyz")  # for load balancers, which carry no token
log = logging.getLogger("airlam.serving")


class Guard:
    """ASGI middleware around the application of a replica."""

    def __init__(self, app: Any, replica: Replica) -> None:
        self.app, self.replica = app, replica

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            if scope["type"] == "websocket":
                await send({"type": "websocket.close", "code": 1003})
                return
            await self.app(scope, receive, send)
            return
        begin, status, started = time.perf_counter(), 500, False

        async def watched(message: Any) -> None:
            nonlocal status, started
            if message["type"] == "http.response.start":
                status, started = message["status"], True
                if status >= 400:  # a body that was not read must not be taken for the next request
                    message = {**message, "headers": [*message["headers"], (b"connection", b"close")]}
            await send(message)

        try:
            if scope["path"] not in OPEN and not self._may(scope):
                await reply(watched, _no_token())
            else:
                await self.app(scope, receive, watched)
        except ServingError as error:
            if not started:
                await reply(watched, error)
        except Exception:
            log.exception("a request failed")  # its route and traceback, no header and no body
            if not started:
                await reply(watched, ServingError(500, "fault", "the server failed; its log says why"))
        finally:
            route = getattr(scope.get("route"), "path", "other")
            self.replica.metrics.seen(route, status, time.perf_counter() - begin)

    def _may(self, scope: Any) -> bool:
        token = self.replica.token
        if not token:
            return True
        given = dict(scope["headers"]).get(b"authorization", b"")
        return hmac.compare_digest(given, b"Bearer " + token.encode())


def _no_token() -> ServingError:
    return ServingError(401, "token", "this server asks for a token: send Authorization: Bearer TOKEN")


async def reply(send: Any, error: ServingError) -> None:
    """An error as an answer."""
    body = json.dumps(error.plain()).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    headers += [(name.encode(), value.encode()) for name, value in error_headers(error).items()]
    await send({"type": "http.response.start", "status": error.status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def error_headers(error: ServingError) -> dict[str, str]:
    """Retry-After is whole seconds by RFC 9110; the exact time stands beside it."""
    headers = {"www-authenticate": "Bearer"} if error.status == 401 else {}
    if error.retry_after_s is not None:
        headers["retry-after"] = str(max(1, round(error.retry_after_s)))
        headers["x-airlam-retry-after-ms"] = str(max(1, round(1e3 * error.retry_after_s)))
    return headers
