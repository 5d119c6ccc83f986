"""Predictions: collected into passes, and answered by the classic where a deadline would be missed."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

from airlam.serving.catalogue import Catalogue, Method
from airlam.serving.collector import Collector
from airlam.serving.config import ServingConfig, Warm
from airlam.serving.errors import ServingError, one_line, refused
from airlam.serving.jobs import Job, Result, Stages, run, usual_history
from airlam.serving.lanes import Lane

MARGIN = 2.0  # how many times its mean the classic is given before a deadline


@dataclass
class Predicted:
    """Attributes: ``by``, the name of the method that answered; ``late``, whether that was the classic's doing."""

    result: Result
    by: str
    late: bool = False


class Predictions:
    """The service behind ``/v1/predict``.

    Args:
        stages: where backbone and heads run; ``None``: here.

    Example:
        >>> import torch
        >>> config = ServingConfig(predictors={"hold": {}}, classic="hold")
        >>> catalogue = Catalogue(config)
        >>> job = Job(catalogue.method("hold"), torch.ones(1, 16, 6, 1, 4, dtype=torch.complex64), 2)
        >>> predicted = asyncio.run(Predictions(config, catalogue).predict(job))
        >>> predicted.by, predicted.result["future"].shape
        ('hold', torch.Size([1, 2, 6, 1, 4]))
    """

    def __init__(
        self,
        config: ServingConfig,
        catalogue: Catalogue,
        stages: Stages | None = None,
        on_pass: Callable[[int], None] = lambda jobs: None,
    ) -> None:
        self.lane = Lane("predictions", config.limits.waiting)
        self.classics = Lane("classic", config.limits.waiting)
        self.classic = catalogue.method(config.classic) if config.classic else None
        self._stages, self._on_pass = stages, on_pass
        self._collected = Collector(config.batching, self._pass)

    def warm(self, warm: Warm, methods: Iterable[Method]) -> None:
        """Run every method once as requests will, the classic in its own thread too."""
        if not warm.slots:
            return
        h_past, shape = usual_history(warm)
        for method in methods:
            job = Job(method, h_past, warm.num_future, shape).check()
            self.lane.warm(run, [job], self._stages)
        if self.classic is not None:
            self.classics.warm(run, [Job(self.classic, h_past, warm.num_future, shape)])

    async def predict(self, job: Job) -> Predicted:
        """The answer to one request.

        Raises:
            ServingError: what the job's checks refuse; 503 where too much waits; 408 for a deadline that nothing meets.
        """
        job.check()
        name = job.method.name
        if job.due is None:
            return Predicted(await self._admitted(job), name)
        reserve = MARGIN * self.classics.mean_s
        left = job.due - time.monotonic() - reserve
        fits = self.classic is None or job.method is self.classic
        if fits or (left > 0 and self.lane.expected_s + self.lane.mean_s <= left):
            try:
                return Predicted(await asyncio.wait_for(self._admitted(job), max(left, 1e-3)), name)
            except TimeoutError:
                pass
            except ServingError as error:
                if error.status != 503:
                    raise
        return await self._late(job)

    async def _late(self, job: Job) -> Predicted:
        left = 0.0 if job.due is None else job.due - time.monotonic()
        classic = self.classic
        if classic is None or classic is job.method or not job.wanted <= set(classic.outputs) or left <= 0:
            raise ServingError(
                408, "deadline", "the deadline passed before an answer was there; allow more, or ask for 'future' alone"
            )
        if self.classics.expected_s > left:
            raise ServingError(
                503,
                "busy",
                f"{self.classics.waiting} requests wait for the classic, longer than this deadline; allow more, or add "
                "replicas",
                retry_after_s=self.classics.expected_s,
            )
        jobs = [replace(job, method=classic, context={})]
        (result,) = await self.classics.run(run, jobs)
        return Predicted(_result(result), classic.name, late=True)

    async def _admitted(self, job: Job) -> Result:
        self.lane.admit()
        self.lane.waiting += 1
        try:
            return _result(await self._collected(job))
        finally:
            self.lane.waiting -= 1

    async def _pass(self, jobs: Sequence[Job]) -> Sequence[Result | Exception]:
        self._on_pass(len(jobs))
        return await self.lane.work(run, jobs, self._stages, pieces=len(jobs))


def _result(found: Result | Exception) -> Result:
    if isinstance(found, (ValueError, TypeError)):
        raise refused("csi", one_line(found)) from found
    if isinstance(found, Exception):
        raise found
    return found
