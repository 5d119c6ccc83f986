"""Threads that compute: each does one piece of work after another, and refuses what would wait too long."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, TypeVar

import torch

from airlam.serving.errors import ServingError

T = TypeVar("T")
SMOOTH = 0.1  # weight of the newest duration in the mean


@dataclass(frozen=True)
class Work:
    """What a thread does: pieces that wait or run, seconds that it computed, and when that was, of ``time.time``."""

    lane: str
    waiting: int
    busy_s: float
    at_s: float

    @classmethod
    def of(cls, lane: Lane) -> Work:
        return cls(lane.name, lane.waiting, lane.busy_s, time.time())


class Lane:
    """One thread.

    Args:
        name: of the service, for messages and metrics.
        most: pieces of work that may wait or run; more are refused with 503.

    Attributes:
        waiting: pieces that wait or run. busy_s: seconds that it computed. mean_s: of a piece, smoothed.

    Example:
        >>> asyncio.run(Lane("sums", 4).run(sum, [1, 2]))
        3
    """

    def __init__(self, name: str, most: int) -> None:
        self.name, self.most = name, most
        self.waiting, self.busy_s, self.mean_s = 0, 0.0, 0.0
        # products of these sizes are faster on one thread, and other lanes want the other cores
        self._thread = ThreadPoolExecutor(1, f"airlam-{name}", initializer=torch.set_num_threads, initargs=(1,))

    def admit(self, pieces: int = 1) -> None:
        """Raises ServingError 503 where too much waits."""
        if self.waiting + pieces > self.most:
            raise ServingError(
                503,
                "busy",
                f"{self.waiting} requests wait for {self.name}, at most {self.most} may; try again, or add replicas",
                retry_after_s=self.expected_s,
            )

    @property
    def expected_s(self) -> float:
        """Seconds until all that waits is done, as far as the mean tells."""
        return self.waiting * self.mean_s

    async def run(self, function: Callable[..., T], *arguments: Any) -> T:
        """``function(*arguments)`` in the thread. Admits by itself."""
        self.admit()
        self.waiting += 1
        try:
            return await self.work(function, *arguments)
        finally:
            self.waiting -= 1

    async def work(self, function: Callable[..., T], *arguments: Any, pieces: int = 1) -> T:
        """As :meth:`run`, of ``pieces`` that were counted as waiting before."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._thread, self._timed, pieces, function, *arguments)

    def warm(self, function: Callable[..., T], *arguments: Any) -> T:
        """Run something twice ahead of all requests: the first time loads and compiles, the second is a first mean."""
        self._thread.submit(function, *arguments).result()
        return self._thread.submit(self._timed, 1, function, *arguments).result()

    def _timed(self, pieces: int, function: Callable[..., T], *arguments: Any) -> T:
        begin = time.perf_counter()
        try:
            return function(*arguments)
        finally:
            seconds = time.perf_counter() - begin
            self.busy_s += seconds
            each = seconds / pieces
            self.mean_s = each if not self.mean_s else (1 - SMOOTH) * self.mean_s + SMOOTH * each

    def close(self) -> None:
        self._thread.shutdown(wait=False, cancel_futures=True)
