"""Requests that wait are collected into one pass while the pass before computes.

``ray.serve.batch`` forms its batches before it waits for the one that runs: in an open loop with no wait every request
became a batch of its own, and a replica carried no more than without batching (docs/serving.md has the figures).
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence

from airlam.serving.config import Batching
from airlam.serving.jobs import Job, Result

Found = Result | Exception
Work = Callable[[Sequence[Job]], Awaitable[Sequence[Found]]]


class Collector:
    """One pass at a time, of what waits when it begins.

    Args:
        bounds: requests and links of a pass, and how long the first of a pass waits for others.
        work: computes a pass.

    Example:
        >>> async def work(jobs):
        ...     await asyncio.sleep(0)
        ...     return [{"jobs": len(jobs)} for job in jobs]
        >>> class One:
        ...     links, alone = 1, False
        >>> async def main():
        ...     collector = Collector(Batching(largest=4), work)
        ...     return await asyncio.gather(*(collector(One()) for _ in range(6)))
        >>> [found["jobs"] for found in asyncio.run(main())]
        [4, 4, 4, 4, 2, 2]
    """

    def __init__(self, bounds: Batching, work: Work) -> None:
        self.bounds, self._work = bounds, work
        self._waiting: deque[tuple[Job, asyncio.Future[Found]]] = deque()
        self._running: asyncio.Task | None = None

    async def __call__(self, job: Job) -> Found:
        """The result of one job; one that is cancelled while it waits is not computed."""
        future: asyncio.Future[Found] = asyncio.get_running_loop().create_future()
        self._waiting.append((job, future))
        if self._running is None or self._running.done():
            self._running = asyncio.ensure_future(self._run())
        return await future

    async def _run(self) -> None:
        await asyncio.sleep(1e-3 * self.bounds.wait_ms)
        while taken := self._take():
            try:
                found = await self._work([job for job, _ in taken])
            except Exception as error:
                found = [error] * len(taken)
            for (_, future), result in zip(taken, found, strict=True):
                if not future.done():
                    future.set_result(result)

    def _take(self) -> list[tuple[Job, asyncio.Future[Found]]]:
        """The jobs of the next pass, in the order in which they came."""
        out: list[tuple[Job, asyncio.Future[Found]]] = []
        links = 0
        while self._waiting and len(out) < self.bounds.largest:
            job, future = self._waiting[0]
            if not future.done():
                if out and (job.alone or out[-1][0].alone or links + job.links > self.bounds.links):
                    break
                out.append((job, future))
                links += job.links
            self._waiting.popleft()
        return out
