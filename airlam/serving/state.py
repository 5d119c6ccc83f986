"""What one replica is made of: the loaded methods, their services, its metrics."""

from __future__ import annotations

import threading
from collections.abc import Awaitable, Callable

from airlam.serving.catalogue import Catalogue
from airlam.serving.config import ServingConfig
from airlam.serving.fleet import Fleet
from airlam.serving.jobs import Stages
from airlam.serving.lanes import Lane
from airlam.serving.metrics import Metrics, Workers
from airlam.serving.precoding import Precoding, PrecodingHere
from airlam.serving.predictions import Predictions
from airlam.serving.sessions import Sessions

Addresses = Callable[[], Awaitable[list[str]]]


async def _nowhere() -> list[str]:
    return []


class Replica:
    """Everything behind the routes of one process.

    Args:
        stages: see :class:`airlam.serving.predictions.Predictions`.
        precoding: where precoders and beam predictors run; ``None``: here.
        addresses: where the replicas listen; ``None``: this process is the only one.
        workers: what threads of other replicas do, for metrics; filled by ``stages`` and ``precoding``.
        name: of the replica, for metrics and messages.

    Example:
        >>> replica = Replica(ServingConfig(predictors={"hold": {}}, classic="hold"))
        >>> replica.ready
        True
        >>> replica.close()
    """

    def __init__(
        self,
        config: ServingConfig,
        *,
        stages: Stages | None = None,
        precoding: Precoding | None = None,
        addresses: Addresses | None = None,
        workers: Workers | None = None,
        name: str = "only",
    ) -> None:
        self.config, self.name = config, name
        self.fleet = Fleet(addresses or _nowhere)
        self.ready = False
        self.token = config.listen.secret()
        self.catalogue = Catalogue(config, precoding=precoding is None)
        self.metrics = Metrics()
        self.predictions = Predictions(config, self.catalogue, stages, self.metrics.passed)
        self.sessions = Sessions(self.catalogue, config.sessions)
        self.streams = Lane("sessions", config.limits.waiting)
        self._here = PrecodingHere(self.catalogue, config.limits.waiting) if precoding is None else None
        self.precoding: Precoding = precoding or self._here  # type: ignore[assignment]
        if stages is None:
            self._warm()
        else:  # other replicas are asked by the loop that this one is made in
            threading.Thread(target=self._warm, daemon=True).start()
        for lane in self.lanes:
            self.metrics.watch(lane)
        self.metrics.watch_sessions(self.sessions)
        self.metrics.watch_workers({} if workers is None else workers)

    @property
    def lanes(self) -> tuple[Lane, ...]:
        """Threads of this process that compute."""
        precoding = () if self._here is None else (self._here.lane,)
        return self.predictions.lane, self.predictions.classics, self.streams, *precoding

    def _warm(self) -> None:
        self.predictions.warm(self.config.warm, self.catalogue.methods.values())
        self.ready = True

    def close(self) -> None:
        """End the threads; work that waits is dropped."""
        self.ready = False
        for lane in self.lanes:
            lane.close()
        self.sessions.close()
