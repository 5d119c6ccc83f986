"""Health, readiness, metrics, what is served, where."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Response

from airlam.serving.app.described import refusals
from airlam.serving.errors import ServingError
from airlam.serving.state import Replica


def router(replica: Replica) -> APIRouter:
    routes = APIRouter(tags=["status"], responses=refusals())

    @routes.get("/healthz")
    async def healthz() -> dict[str, str]:
        """Whether the process lives."""
        return {"status": "alive"}

    @routes.get("/readyz")
    async def readyz() -> dict[str, str]:
        """Whether everything is loaded."""
        if not replica.ready:
            raise ServingError(503, "not_ready", "this replica is starting or ending", retry_after_s=1.0)
        return {"status": "ready"}

    @routes.get("/metrics", response_class=Response, responses={200: {"content": {"text/plain": {}}}})
    async def metrics() -> Response:
        """For Prometheus."""
        return Response(replica.metrics.text(), media_type="text/plain; version=0.0.4")

    @routes.get("/v1/models")
    async def models() -> dict[str, Any]:
        """Everything that may be asked for."""
        return replica.catalogue.plain()

    @routes.get("/v1/addresses")
    async def addresses() -> dict[str, Any]:
        """Where the replicas listen; sessions belong to one of them."""
        return {"addresses": await replica.fleet.now(), "replica": replica.name}

    return routes
