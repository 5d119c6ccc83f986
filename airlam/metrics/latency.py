"""Wall-clock latency of a call, with the threads it ran on."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from typing import NamedTuple

import torch

BUSY_BELOW = 0.9
"""Share of a core below which a timing is marked: the calls took at least a ninth longer than their own work."""


class Latency(NamedTuple):
    """Latency of one call.

    Attributes:
        p50: median [s].
        p99: 99th percentile [s] (linearly interpolated: with fewer than 100 repeats close to the maximum).
        threads: torch intra-op threads during the measurement.
        repeats: measured calls.
        cpu_share: processor time of the calling thread over wall-clock time of the measured calls. It is 1 on an idle
            machine; other programs that take the core lower it.
    """

    p50: float
    p99: float
    threads: int
    repeats: int
    cpu_share: float = 1.0

    @property
    def busy(self) -> bool:
        """Whether other programs held the core for so long that the figures are too high (of one thread)."""
        return self.threads == 1 and self.cpu_share < BUSY_BELOW


@contextlib.contextmanager
def cpu_threads(count: int | None) -> Iterator[None]:
    """Run torch on ``count`` CPU threads (None: as many as before); afterwards on as many as before.

    Example:
        >>> with cpu_threads(1):
        ...     print(torch.get_num_threads())
        1
    """
    before = torch.get_num_threads()
    if count is not None:
        torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def measure_latency(
    fn: Callable[[], object], *, warmup: int = 10, repeats: int = 100, threads: int | None = 1
) -> Latency:
    """Time ``fn()`` on this machine's CPU, without gradients.

    Args:
        fn: the call, its inputs bound; it should make its output anew each time.
        warmup: unmeasured calls first (allocator, lazy initialisation, caches).
        repeats: measured calls.
        threads: torch threads during the measurement, restored after; ``None`` leaves them.

    Example:
        >>> measure_latency(lambda: torch.ones(10).sum(), repeats=20).threads
        1
    """
    if warmup < 0 or repeats < 1:
        raise ValueError(f"warmup must be >= 0 and repeats >= 1, got {warmup} and {repeats}")
    with cpu_threads(threads), torch.inference_mode():
        for _ in range(warmup):
            fn()
        seconds, wall, processor = [], time.perf_counter(), time.thread_time()
        for _ in range(repeats):
            start = time.perf_counter()
            fn()
            seconds.append(time.perf_counter() - start)
        processor, wall = time.thread_time() - processor, time.perf_counter() - wall
        used = torch.get_num_threads()
    values = torch.tensor(seconds, dtype=torch.float64)
    p50, p99 = torch.quantile(values, torch.tensor([0.5, 0.99], dtype=torch.float64)).tolist()
    return Latency(p50, p99, used, repeats, min(1.0, processor / wall) if wall > 0 else 1.0)
