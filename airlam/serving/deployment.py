"""The services on Ray Serve: an ingress that speaks HTTP, and the stages that a placement puts elsewhere.

The only file, with :mod:`airlam.serving.cluster`, that knows Ray.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from typing import Any

from ray import serve

from airlam.models.shared_pass import Answers, Pass
from airlam.serving.catalogue import Catalogue, Method
from airlam.serving.cluster.addresses import direct_addresses
from airlam.serving.config import ServingConfig
from airlam.serving.jobs import Fused
from airlam.serving.lanes import Lane

NAME = "airlam"
HEAVY = 16  # how many requests Serve lets through for each that may wait: the replica's own answer comes first
FRESH_S = 0.5  # how long addresses are taken as they were


def application(config: ServingConfig) -> Any:
    """What ``serve.run`` takes."""
    plain = config.plain()
    stages: dict[str, Any] = {}
    for number, group in enumerate(config.groups[1:], 1):
        worker = serve.deployment(StageWorker).options(
            name="-".join(group),
            num_replicas=config.stage_replicas.get(str(number), 1),
            max_ongoing_requests=config.limits.waiting,
            **_where(config, number),
        )
        bound = worker.bind(plain)
        stages |= dict.fromkeys(group, bound)
    ingress = serve.deployment(serve.ingress(_builder(plain, sorted(stages)))(Ingress)).options(
        name="ingress",
        num_replicas=config.replicas,
        max_ongoing_requests=HEAVY * config.limits.waiting,
        graceful_shutdown_timeout_s=20,
        health_check_period_s=2,
        health_check_timeout_s=10,
        **_where(config, 0),
    )
    return ingress.bind(stages)


def _where(config: ServingConfig, number: int) -> dict[str, Any]:
    resource = config.node.get(str(number), "")
    actor: dict[str, Any] = {"num_cpus": config.num_cpus}
    if resource:
        actor["resources"] = {resource: 0.001}
    return {"ray_actor_options": actor}


class Ingress:
    """Keeps the handles of the stages for the application, which is built after it."""

    handles: dict[str, Any] = {}  # of this process, which holds one replica

    def __init__(self, stages: dict[str, Any]) -> None:
        Ingress.handles = stages


def _builder(plain: dict[str, Any], names: list[str]) -> Callable[[], Any]:
    """A function that makes the ASGI application, called on each replica."""

    def build() -> Any:
        from airlam.serving.app import create_app
        from airlam.serving.deployment import Directory, Ingress, RemoteStages
        from airlam.serving.state import Replica

        logging.getLogger("airlam").handlers = logging.getLogger("ray.serve").handlers
        config = ServingConfig(**plain)
        stages = RemoteStages(Ingress.handles) if names else None
        replica = Replica(
            config,
            stages=stages,
            addresses=Directory(config),
            name=serve.get_replica_context().replica_id.unique_id,
        )
        return create_app(replica)

    return build


class Directory:
    """The replicas' addresses, asked for at most every :data:`FRESH_S`."""

    def __init__(self, config: ServingConfig) -> None:
        self._listen, self._known, self._asked = config.listen, [""], -FRESH_S

    async def __call__(self) -> list[str]:
        if time.monotonic() - self._asked >= FRESH_S:
            self._known = await direct_addresses(NAME, self._listen)
            self._asked = time.monotonic()
        return self._known


class StageWorker:
    """Backbone or heads, for passes whose tokens come from the ingress."""

    def __init__(self, plain: dict[str, Any]) -> None:
        config = ServingConfig(**{**plain, "precoders": {}, "beams": {}})
        self.catalogue, self.stages = Catalogue(config), Fused()
        self.lane = Lane("stage", config.limits.waiting)

    async def encode(self, name: str, adapter: str, links: Pass) -> list[Any]:
        """The backbone's output of every view."""
        done = await self.lane.run(self._encode, self.catalogue.method(name, adapter), links)
        return [tokens.hidden for tokens in done.views]

    async def read_out(self, name: str, adapter: str, links: Pass, wanted: dict[str, Any]) -> Answers:
        """The answers; the backbone runs here where the tokens have no hidden states."""
        return await self.lane.run(self._read_out, self.catalogue.method(name, adapter), links, wanted)

    def _encode(self, method: Method, links: Pass) -> Pass:
        import torch

        with torch.inference_mode():
            return self.stages.encode(method, links)

    def _read_out(self, method: Method, links: Pass, wanted: dict[str, Any]) -> Answers:
        import torch

        with torch.inference_mode():
            if any(tokens.hidden is None for tokens in links.views):
                links = self.stages.encode(method, links)
            return self.stages.read_out(method, links, wanted)


class RemoteStages:
    """Stages on other replicas; those that are not there run here. Called from a thread that computes."""

    def __init__(self, handles: dict[str, Any]) -> None:
        self._handles, self._here, self._loop = handles, Fused(), asyncio.get_running_loop()

    def encode(self, method: Method, links: Pass) -> Pass:
        backbone = self._handles.get("backbone")
        if backbone is None:
            return self._here.encode(method, links)
        if "heads" in self._handles and self._handles["heads"] == backbone:
            return links  # both run there, in one call
        found = self._call(backbone, "encode", method.name, method.adapter, _features(links))
        for tokens, hidden in zip(links.views, found, strict=True):
            tokens.hidden = hidden
        return links

    def read_out(self, method: Method, links: Pass, wanted: dict[str, Any]) -> Answers:
        heads = self._handles.get("heads")
        if heads is None:
            return self._here.read_out(method, links, wanted)
        return self._call(heads, "read_out", method.name, method.adapter, links, wanted)

    def _call(self, handle: Any, name: str, *arguments: Any) -> Any:
        """Serve's router runs in the loop of the replica, so requests are made there."""

        async def ask() -> Any:
            return await getattr(handle, name).remote(*arguments)

        return asyncio.run_coroutine_threadsafe(ask(), self._loop).result()


def _features(links: Pass) -> Pass:
    """What the backbone needs of a pass, and no more crosses the wire."""
    from dataclasses import replace

    def bare(tokens: Any) -> Any:
        small = tokens.noise[:0]
        return replace(
            tokens,
            log_periodogram=small,
            noise=small,
            series=small,
            scale=small,
            start=None,
            taps=None,
            basis=None,
            index=small,
            power=small,
        )

    return replace(links, views=[bare(tokens) for tokens in links.views])
