"""``POST /v1/precode/{precoder}`` and ``/v1/beams/{model}``."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query, Request, Response
from torch import Tensor

from airlam.serving.app.bodies import read_arrays, respond, take
from airlam.serving.app.described import Name, Ports, answers, body, ports
from airlam.serving.errors import refused
from airlam.serving.state import Replica
from airlam.serving.wire import Arrays

ENTRIES = 65536  # resource elements of one request


def router(replica: Replica) -> APIRouter:
    routes = APIRouter(tags=["precoding"])

    @routes.post(
        "/v1/precode/{precoder}",
        openapi_extra=body(
            "`h`, complex [..., user, tx_ant]; `power`, `no` and `error_covariance` if not in the query"
        ),
        responses=answers("`w`, complex [..., tx_ant, user]"),
        response_class=Response,
    )
    async def precode(
        request: Request,
        precoder: Name,
        power: Annotated[float | None, Query(gt=0, le=1e30, description="linear; or an array in the body")] = None,
        no: Annotated[float | None, Query(gt=0, le=1e30, description="noise variance, linear")] = None,
    ) -> Response:
        """The precoder of the users of one base station."""
        replica.catalogue.check_precoder(precoder)
        limits = replica.config.limits
        arrays = await read_arrays(request, limits, ("h", "power", "no", "error_covariance"))
        h = take(arrays, "h", complex_=True)
        if h.dim() < 2 or 0 in h.shape or h[..., 0, 0].numel() > ENTRIES:
            raise refused(
                "rank", f"h is {tuple(h.shape)}, but must be [..., user, tx_ant] of at most {ENTRIES} entries"
            )
        values = {"power": _number(arrays, "power", power), "no": _number(arrays, "no", no)}
        covariance = take(arrays, "error_covariance", complex_=True) if "error_covariance" in arrays else None
        w = await replica.precoding.precode(precoder, h, values["power"], values["no"], covariance)
        return respond(request, {"w": w}, limits, {"x-airlam-answered-by": precoder})

    @routes.post(
        "/v1/beams/{model}",
        openapi_extra=body("`power`, real [batch, sweep, beam]; `measured`, bool [sweep, beam] or of every entry"),
        responses=answers("`scores`, logarithms of probabilities [batch, horizon, beam]"),
        response_class=Response,
    )
    async def beams(
        request: Request, model: Name, port_shape: Ports = None, horizon: Annotated[int, Query(ge=1, le=1000)] = 1
    ) -> Response:
        """How likely each beam is the best one in the sweeps that follow."""
        replica.catalogue.check_beam_model(model)
        limits = replica.config.limits
        arrays = await read_arrays(request, limits, ("power", "measured"))
        power, measured = take(arrays, "power", complex_=False), take(arrays, "measured", complex_=False)
        if power.dim() != 3 or 0 in power.shape or len(power) > limits.links:
            raise refused("rank", f"power is {tuple(power.shape)}, but must be [1 to {limits.links}, sweep, beam]")
        shape = ports(port_shape) or (1, power.shape[-1], 1)
        scores = await replica.precoding.scores(model, power.float(), measured, horizon, shape)
        return respond(request, {"scores": scores}, limits, {"x-airlam-answered-by": model})

    return routes


def _number(arrays: Arrays, name: str, given: float | None) -> float | Tensor:
    if given is not None:
        return given
    if name not in arrays:
        raise refused("argument", f"{name} is missing: give it in the query (?{name}=0.01) or as an array of the body")
    return take(arrays, name, complex_=False)
