"""``POST /v1/predict/{model}``."""

import time
from typing import Annotated

from fastapi import APIRouter, Query, Request, Response

from airlam.serving.app.bodies import read_arrays, respond, take, tensor
from airlam.serving.app.described import Adapter, Deadline, Name, Ports, answers, body, numbers, ports
from airlam.serving.catalogue import COVARIANCE, FUTURE, VARIANCE
from airlam.serving.errors import refused
from airlam.serving.jobs import Job, checked_links
from airlam.serving.state import Replica
from airlam.serving.wire import Arrays

CONTEXT = (
    "carrier_frequency",
    "position",
    "position_age_s",
    "slot_duration",
    "speed",
    "subcarrier_spacing",
    "velocity",
    "velocity_age_s",
)
ARRAYS = ("h", "observed", *(f"context.{name}" for name in CONTEXT))


def router(replica: Replica) -> APIRouter:
    routes = APIRouter(tags=["prediction"])

    @routes.post(
        "/v1/predict/{model}",
        openapi_extra=body("`h`, complex [..., slot, subcarrier, rx_ant, tx_ant]; `observed`; `context.*`"),
        responses=answers("`future`, and further outputs"),
        response_class=Response,
    )
    async def predict(
        request: Request,
        model: Name,
        num_future: Annotated[int, Query(ge=1, le=replica.config.limits.num_future)],
        port_shape: Ports = None,
        adapter: Adapter = "",
        outputs: Annotated[str, Query(max_length=100, description="of /v1/models, such as future,variance")] = FUTURE,
        subcarriers: Annotated[str | None, Query(max_length=4000, description="of covariances; else all")] = None,
        deadline_ms: Deadline = None,
    ) -> Response:
        """The next slots of each link. What would come after the deadline is answered by the classic method; the
        header `x-airlam-answered-by` says which method answered, `x-airlam-late` that it was the classic's doing."""
        limits = replica.config.limits
        due = None
        if deadline_ms is not None:
            if not deadline_ms > 0:
                raise refused("deadline", f"deadline_ms is {deadline_ms:g}, but must be positive: it has passed")
            due = time.monotonic() + 1e-3 * deadline_ms
        method = replica.catalogue.method(model, adapter)
        arrays = await read_arrays(request, limits, ARRAYS)
        h_past, lead = checked_links(take(arrays, "h", complex_=True), 4, limits.links, "h")
        job = Job(
            method,
            h_past,
            num_future,
            ports(port_shape),
            frozenset(name.strip() for name in outputs.split(",")) | {FUTURE},
            _observed(arrays, lead, h_past.shape[1]),
            _context(arrays, lead),
            numbers("subcarriers", subcarriers),
            due,
        )
        predicted = await replica.predictions.predict(job)
        if predicted.late:
            replica.metrics.late(model)
        order = (FUTURE, VARIANCE, COVARIANCE)
        names = sorted(job.wanted, key=lambda name: order.index(name) if name in order else len(order))
        found = {name: predicted.result[name] for name in names}
        shaped = {name: value.reshape(*lead, *value.shape[1:]) for name, value in found.items()}
        headers = {"x-airlam-answered-by": predicted.by}
        if predicted.late:
            headers["x-airlam-late"] = "1"
        return respond(request, shaped, limits, headers)

    return routes


def _observed(arrays: Arrays, lead: tuple[int, ...], slots: int):
    if "observed" not in arrays:
        return None
    value = arrays["observed"]
    if value.dtype != bool or value.shape != (*lead, slots):
        raise refused("observed", f"observed is {value.dtype} {value.shape}, but must be bool {(*lead, slots)}")
    return tensor(value).reshape(-1, slots)


def _context(arrays: Arrays, lead: tuple[int, ...]) -> dict:
    """Readings, with leading axes flattened to one of links."""
    out = {}
    for name, value in arrays.items():
        if not name.startswith("context."):
            continue
        reading = tensor(value)
        if reading.is_complex():
            raise refused("context", f"{name} is complex, but readings are real")
        if lead and reading.shape[: len(lead)] == lead:
            reading = reading.reshape(-1, *reading.shape[len(lead) :])
        elif reading.dim() and not lead:
            reading = reading[None]
        out[name.removeprefix("context.")] = reading
    return out
