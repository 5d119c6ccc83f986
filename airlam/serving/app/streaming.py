"""``/v1/sessions/{session}``: one user's stream, slot by slot."""

from typing import Annotated, Any

import numpy as np
import torch
from fastapi import APIRouter, Depends, Query, Request, Response
from numpy.typing import NDArray

from airlam.serving.app.bodies import content_type, read_arrays, read_body, respond
from airlam.serving.app.described import Adapter, Ports, User, answers, body, ports, refusals
from airlam.serving.config import Limits
from airlam.serving.errors import ServingError, refused
from airlam.serving.sessions import Answer, Asked
from airlam.serving.state import Replica
from airlam.serving.wire import SAFETENSORS, decode

LAST = 2**53  # numbers of slots that JSON and headers carry exactly
SLOT = "`h`, complex [subcarrier, rx_ant, tx_ant]; an empty body where the slot was not measured"


def router(replica: Replica) -> APIRouter:
    routes = APIRouter(tags=["sessions"])

    def asked(
        model: Annotated[str, Query(max_length=80)],
        num_future: Annotated[int, Query(ge=1, le=replica.config.limits.num_future)],
        port_shape: Ports = None,
        adapter: Adapter = "",
        window: Annotated[int, Query(ge=1, le=64, description="slots that a prediction uses")] = 16,
    ) -> Asked:
        return Asked(replica.catalogue.method(model, adapter), num_future, ports(port_shape), window)

    @routes.put(
        "/v1/sessions/{session}",
        openapi_extra=body("`h`, complex [slot, subcarrier, rx_ant, tx_ant], oldest slot first"),
        responses=answers("`future`, complex64 [num_future, subcarrier, rx_ant, tx_ant]"),
        response_class=Response,
    )
    async def start(
        request: Request,
        session: User,
        asked: Annotated[Asked, Depends(asked)],
        slot: Annotated[int | None, Query(ge=0, le=LAST, description="number of the newest slot")] = None,
    ) -> Response:
        """Begin a session, or begin it anew, from a history. It lives on this replica: send its slots to the same
        address. A lost session is begun again from the last history."""
        arrays = await read_arrays(request, replica.config.limits, ("h",))
        history = _csi(arrays.get("h"), 4)
        if len(history) > 64:
            raise refused("history", f"the history has {len(history)} slots, but at most 64 are used; send the newest")
        newest = len(history) - 1 if slot is None else slot
        found = await replica.streams.run(replica.sessions.start, session, asked, history, newest)
        return _respond(replica, request, found)

    @routes.get(
        "/v1/sessions/{session}/state",
        responses=answers("all that is kept of the user, to be sent to another replica", kinds=(SAFETENSORS,)),
        response_class=Response,
    )
    async def saved(session: User) -> Response:
        """The state of a session, so that another replica can go on exactly."""
        return Response(await replica.streams.run(replica.sessions.saved, session), media_type=SAFETENSORS)

    @routes.put(
        "/v1/sessions/{session}/state",
        openapi_extra=body("what `GET` answered on another replica", kinds=(SAFETENSORS,)),
        responses=answers("`future`, the last prediction, complex64 [num_future, subcarrier, rx_ant, tx_ant]"),
        response_class=Response,
    )
    async def resume(request: Request, session: User, asked: Annotated[Asked, Depends(asked)]) -> Response:
        """Go on with a session of another replica. The state of other weights or sizes is refused with 409."""
        raw, kind = await read_body(request, replica.config.limits), content_type(request)
        if kind != SAFETENSORS:
            raise ServingError(415, "content_type", f"Content-Type is {kind[:80]!r}, but must be {SAFETENSORS}")
        return _respond(replica, request, await replica.streams.run(replica.sessions.resume, session, asked, raw))

    @routes.post(
        "/v1/sessions/{session}/slots/{slot}",
        openapi_extra=body(SLOT, empty=True),
        responses=answers("`future`, complex64 [num_future, subcarrier, rx_ant, tx_ant]"),
        response_class=Response,
    )
    async def push(request: Request, session: User, slot: Annotated[int, _slot_path()]) -> Response:
        """The next slot. The same slot again returns the stored answer; another number is refused with 409, which
        names the expected one."""
        raw = await read_body(request, replica.config.limits)
        value = None if not raw else _slot(raw, content_type(request), replica.config.limits)
        return _respond(replica, request, await replica.streams.run(replica.sessions.push, session, value, slot))

    @routes.get("/v1/sessions/{session}", responses=refusals())
    async def info(session: User) -> dict[str, Any]:
        """What the session is, and which slot it expects."""
        return replica.sessions.info(session)

    @routes.delete("/v1/sessions/{session}", responses=refusals())
    async def end(session: User) -> dict[str, str]:
        """Forget the user."""
        replica.sessions.end(session)
        return {"status": "ended"}

    return routes


def _slot_path() -> Any:
    from fastapi import Path

    return Path(ge=0, le=LAST)


def _slot(raw: bytes, kind: str, limits: Limits) -> NDArray:
    arrays = decode(raw, kind, json_entries=limits.json_entries)
    return _csi(arrays.get("h"), 3)


def _csi(value: NDArray | None, axes: int) -> NDArray:
    if value is None:
        raise refused("array", "the body holds no array 'h'")
    if not np.iscomplexobj(value):
        raise refused("dtype", f"h is {value.dtype}, but must be complex64")
    if value.ndim != axes or 0 in value.shape:
        sizes = "[slot, subcarrier, rx_ant, tx_ant]" if axes == 4 else "[subcarrier, rx_ant, tx_ant]"
        raise refused("rank", f"h is {value.shape}, but must be {sizes}")
    return value.astype(np.complex64)


def _respond(replica: Replica, request: Request, found: Answer) -> Response:
    replica.metrics.pushed(found.kind)
    headers = {
        "x-airlam-session": found.kind,
        "x-airlam-expected-slot": str(found.slot + 1),
        "x-airlam-version": found.version,
        "x-airlam-replica": replica.name,
    }
    if replica.fleet.without(request.headers.get("host", "")):
        headers["x-airlam-leaving"] = "1"  # fetch the state, and take it to another replica
    return respond(request, {"future": torch.from_numpy(found.future)}, replica.config.limits, headers)
