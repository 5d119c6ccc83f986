"""The services on Ray Serve: an ingress that speaks HTTP, and the stages that a placement puts elsewhere.

The only file, with :mod:`airlam.serving.cluster`, that knows Ray.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Any

from ray import serve
from ray.exceptions import RayActorError, RayTaskError
from ray.serve.exceptions import DeploymentUnavailableError

from airlam.models.shared_pass import Answers, Pass
from airlam.serving.catalogue import Catalogue, Method
from airlam.serving.config import ServingConfig
from airlam.serving.errors import ServingError
from airlam.serving.jobs import Fused
from airlam.serving.lanes import Lane, Work
from airlam.serving.metrics import Workers
from airlam.serving.precoding import PrecodingHere

NAME = "airlam"
HEAVY = 16  # how many requests Serve lets through for each that may wait: the replica's own answer comes first
TRIES, PAUSE_S = 5, 0.2  # how often a worker is asked that died meanwhile


def application(config: ServingConfig) -> Any:
    """What ``serve.run`` takes."""
    plain = config.plain()
    stages: dict[str, Any] = {}
    for number, group in enumerate(config.groups[1:], 1):
        worker = serve.deployment(Worker).options(
            name="-".join(group),
            num_replicas=config.stage_replicas.get(str(number), 1),
            max_ongoing_requests=config.limits.waiting,
            **_where(config, number),
        )
        bound = worker.bind(plain, group)
        stages |= dict.fromkeys(group, bound)
    ingress = serve.deployment(serve.ingress(_builder(plain))(Ingress)).options(
        name="ingress",
        **_copies(config),
        max_ongoing_requests=HEAVY * config.limits.waiting,
        graceful_shutdown_timeout_s=20,
        health_check_period_s=2,
        health_check_timeout_s=10,
        **_where(config, 0),
    )
    return ingress.bind(stages)


def _copies(config: ServingConfig) -> dict[str, Any]:
    scale = config.autoscale
    if not scale.most:
        return {"num_replicas": config.replicas}
    settings = {
        "min_replicas": config.replicas,
        "max_replicas": scale.most,
        "target_ongoing_requests": scale.requests,
        "upscale_delay_s": scale.up_s,
        "downscale_delay_s": scale.down_s,
        "look_back_period_s": 5.0,  # replicas tell it every second, see cluster.start.settings
    }
    return {"autoscaling_config": settings}


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


def _builder(plain: dict[str, Any]) -> Callable[[], Any]:
    """A function that makes the ASGI application, called on each replica."""

    def build() -> Any:
        from airlam.serving.app import create_app
        from airlam.serving.cluster.addresses import direct_addresses
        from airlam.serving.deployment import NAME, Ingress, RemotePrecoding, RemoteStages
        from airlam.serving.state import Replica

        logging.getLogger("airlam").handlers = logging.getLogger("ray.serve").handlers
        config = ServingConfig(**plain)
        handles = Ingress.handles
        workers: Workers = {}
        stages = RemoteStages(handles, workers) if handles.keys() - {"precoding"} else None
        precoding = handles.get("precoding")
        replica = Replica(
            config,
            stages=stages,
            precoding=None if precoding is None else RemotePrecoding(precoding, workers),
            addresses=lambda: direct_addresses(NAME, config.listen),
            workers=workers,
            name=serve.get_replica_context().replica_id.unique_id,
        )
        return create_app(replica)

    return build


class Worker:
    """The services of one group, for an ingress elsewhere: backbone and heads of passes whose tokens come from there,
    predictors without stages, precoders and beams. It loads what its services need."""

    def __init__(self, plain: dict[str, Any], group: tuple[str, ...]) -> None:
        if set(group) == {"precoding"}:
            plain = {**plain, "predictors": {}, "classic": ""}
        config = ServingConfig(**plain)
        self.catalogue, self.stages = Catalogue(config, precoding="precoding" in group), Fused()
        self.lane = Lane("stage", config.limits.waiting)
        self.precoding = PrecodingHere(self.catalogue, config.limits.waiting)
        self.name = serve.get_replica_context().replica_id.unique_id

    async def answer(self, service: str, *arguments: Any, **further: Any) -> tuple[Any, str, list[Work]]:
        """What a method of this class returns, this replica's name, and what its threads do."""
        found = await getattr(self, service)(*arguments, **further)
        return found, self.name, [Work.of(lane) for lane in (self.lane, self.precoding.lane)]

    async def encode(self, name: str, adapter: str, links: Pass) -> list[Any]:
        """The backbone's output of every view."""
        done = await self.lane.run(self._encode, self.catalogue.method(name, adapter), links)
        return [tokens.hidden for tokens in done.views]

    async def read_out(self, name: str, adapter: str, links: Pass, wanted: dict[str, Any]) -> Answers:
        """The answers; the backbone runs here where the tokens have no hidden states."""
        return await self.lane.run(self._read_out, self.catalogue.method(name, adapter), links, wanted)

    async def predict(self, name: str, adapter: str, *arguments: Any, **further: Any) -> tuple:
        """As :meth:`airlam.serving.jobs.Fused.predict`."""
        return await self.lane.run(self._predict, self.catalogue.method(name, adapter), arguments, further)

    async def precode(self, *arguments: Any) -> Any:
        """As :class:`airlam.serving.precoding.PrecodingHere`."""
        return await self.precoding.precode(*arguments)

    async def scores(self, *arguments: Any) -> Any:
        """As :class:`airlam.serving.precoding.PrecodingHere`."""
        return await self.precoding.scores(*arguments)

    def _predict(self, method: Method, arguments: tuple, further: dict[str, Any]) -> tuple:
        import torch

        with torch.inference_mode():
            return self.stages.predict(method, *arguments, **further)

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

    def __init__(self, handles: dict[str, Any], workers: Workers) -> None:
        self._handles, self._workers = handles, workers
        self._here, self._loop = Fused(), asyncio.get_running_loop()

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

    def predict(self, method: Method, variance: bool, h_past: Any, num_future: int, **arguments: Any) -> tuple:
        classics = self._handles.get("classics")
        if classics is None:
            return self._here.predict(method, variance, h_past, num_future, **arguments)
        whole = (method.name, method.adapter, variance, h_past, num_future)
        return self._call(classics, "predict", *whole, **arguments)

    def _call(self, handle: Any, name: str, *arguments: Any, **further: Any) -> Any:
        """Serve's router runs in the loop of the replica, so requests are made there."""
        asked = _asked(handle, self._workers, name, *arguments, **further)
        return asyncio.run_coroutine_threadsafe(asked, self._loop).result()


class RemotePrecoding:
    """Precoders and beam predictors on other replicas."""

    def __init__(self, handle: Any, workers: Workers) -> None:
        self._handle, self._workers = handle, workers

    async def precode(self, *arguments: Any) -> Any:
        return await _asked(self._handle, self._workers, "precode", *arguments)

    async def scores(self, *arguments: Any) -> Any:
        return await _asked(self._handle, self._workers, "scores", *arguments)


async def _asked(handle: Any, workers: Workers, name: str, *arguments: Any, **further: Any) -> Any:
    """What a worker answers; its own error where it raised one, not Ray's with the whole traceback as its text.

    A worker keeps nothing of a request, so where one dies with it, another is asked.
    """
    for _ in range(TRIES):
        try:
            found, worker, threads = await handle.answer.remote(name, *arguments, **further)
            workers |= {(worker, work.lane): work for work in threads}
            return found
        except RayTaskError as error:
            raise error.cause or error from None
        except (RayActorError, DeploymentUnavailableError):
            await asyncio.sleep(PAUSE_S)
    message = f"{TRIES} replicas of a service ended one after another; try again, and see their logs"
    raise ServingError(503, "replica_lost", message, retry_after_s=1.0)


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
