"""Requests at given times, and what became of them."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

import aiohttp
import numpy as np


@dataclass(frozen=True)
class Request:
    """What is sent: ``path`` with its query, and the body."""

    path: str
    body: bytes
    kind: str


@dataclass
class Outcome:
    """Of many requests: their latencies [s] from when they were due to the end of the answer, and what they were.

    Attributes:
        seconds: latencies of those that were answered with 200. late: how many of those were the classic's.
        refused: answered with 429 or 503. failed: anything else.
        wall_s: from the first to the last.
    """

    seconds: list[float] = field(default_factory=list)
    late: int = 0
    refused: int = 0
    failed: int = 0
    wall_s: float = 0.0

    @property
    def count(self) -> int:
        return len(self.seconds) + self.refused + self.failed

    @property
    def per_second(self) -> float:
        """Answers a second."""
        return len(self.seconds) / self.wall_s if self.wall_s else 0.0

    def percentiles_ms(self, points: Sequence[float] = (50, 95, 99, 99.9)) -> list[float]:
        """Of the latencies, in milliseconds."""
        return (1e3 * np.percentile(self.seconds, points)).tolist() if self.seconds else [float("nan")] * len(points)

    def on_time(self, deadline_ms: float) -> float:
        """The share of all requests that was answered within the deadline."""
        return sum(s <= 1e-3 * deadline_ms for s in self.seconds) / max(self.count, 1)


class Sender:
    """Connections to one address."""

    def __init__(self, address: str, headers: dict[str, str] | None = None) -> None:
        self.address, self.headers = address, headers or {}

    async def __aenter__(self) -> Sender:
        connector = aiohttp.TCPConnector(limit=0)
        self._session = aiohttp.ClientSession(self.address, connector=connector, headers=self.headers)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._session.close()

    async def send(self, request: Request, outcome: Outcome, due: float) -> None:
        """One request, whose latency counts from ``due`` (of ``time.perf_counter``)."""
        try:
            headers = {"content-type": request.kind}
            async with self._session.post(request.path, data=request.body, headers=headers) as answer:
                await answer.read()
                if answer.status == 200:
                    outcome.seconds.append(time.perf_counter() - due)
                    outcome.late += "x-airlam-late" in answer.headers
                elif answer.status in (429, 503):
                    outcome.refused += 1
                else:
                    outcome.failed += 1
        except (aiohttp.ClientError, TimeoutError):
            outcome.failed += 1


async def open_loop(address: str, requests: Sequence[Request], rate: float, seconds: float, seed: int) -> Outcome:
    """Poisson arrivals: requests are sent when they are due, however long the others take."""
    gaps = np.random.default_rng(seed).exponential(1 / rate, max(1, round(rate * seconds)))
    outcome = Outcome()
    async with Sender(address) as sender:
        begin = time.perf_counter()
        tasks = []
        for number, due in enumerate(begin + np.cumsum(gaps)):
            if (wait := due - time.perf_counter()) > 0:
                await asyncio.sleep(wait)
            tasks.append(asyncio.ensure_future(sender.send(requests[number % len(requests)], outcome, due)))
        await asyncio.gather(*tasks)
        outcome.wall_s = time.perf_counter() - begin
    return outcome


async def closed_loop(address: str, requests: Sequence[Request], clients: int, seconds: float) -> Outcome:
    """Clients that send their next request when the last one was answered: the rate at saturation."""
    outcome = Outcome()
    async with Sender(address) as sender:
        begin = time.perf_counter()

        async def client(number: int) -> None:
            while time.perf_counter() - begin < seconds:
                await sender.send(requests[number % len(requests)], outcome, time.perf_counter())
                number += clients

        await asyncio.gather(*(client(number) for number in range(clients)))
        outcome.wall_s = time.perf_counter() - begin
    return outcome


async def one_by_one(address: str, requests: Sequence[Request], calls: int) -> Outcome:
    """Requests without any other load."""
    outcome = Outcome()
    async with Sender(address) as sender:
        begin = time.perf_counter()
        for number in range(calls):
            await sender.send(requests[number % len(requests)], outcome, time.perf_counter())
        outcome.wall_s = time.perf_counter() - begin
    return outcome
