"""The slow clock: refreshes of many streams, one after another, in one background thread of low priority."""

from __future__ import annotations

import contextlib
import os
import sys
import threading
from collections import OrderedDict
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from airlam.realtime.engine import Engine, Memory
from airlam.realtime.state import State

LOW = 19  # nice level of the thread: a push that wakes takes the core from it
SWITCH_S = 2e-4  # of the interpreter: how long a push may wait for its lock


class Waiting(Protocol):
    """A stream that wants new filters."""

    def begin(self) -> None: ...


@dataclass
class Job:
    """New filters for one user on their way.

    Attributes:
        engine: the background's twin. slot: number of the slot that follows what the filters have seen. began: the same
            of the window that they were found from. caught_up: whether they have seen later slots since.
    """

    future: Future
    engine: Engine
    slot: int
    began: int
    caught_up: bool = False

    def done(self) -> bool:
        return self.future.done()

    def result(self) -> Memory | None:
        """The filters; ``None`` if the refresh failed."""
        return None if self.future.exception() is not None else self.future.result()


class Refresher:
    """A background thread that renews filters for any number of streams, those that wait longest first.

    While it is open, NumPy and SciPy multiply matrices on one thread. All streams of one refresher are pushed from one
    thread.

    Attributes:
        error: of the last refresh that failed; its stream goes on with the filters that it has.
        refreshed: how many refreshes ended well.

    Example:
        >>> from airlam.baselines.paths import PathPredictor
        >>> from airlam.realtime import Stream, engine_for
        >>> engine = engine_for(PathPredictor(), (6, 1, 4), 2)
        >>> with Refresher() as refresher:
        ...     streams = [Stream(engine, refresher) for user in range(8)]
    """

    def __init__(self) -> None:
        self.error: BaseException | None = None
        self.refreshed = 0
        self._waiting: OrderedDict[int, Waiting] = OrderedDict()
        self._twins: dict[int, tuple[Engine, Engine]] = {}
        self._now: Future | None = None
        self._thread = ThreadPoolExecutor(1, "airlam-refresh", initializer=_lower)
        # several threads for products of this size wait for each other longer than they compute
        self._blas = threadpool_limits(1, "blas")
        self._switch = sys.getswitchinterval()
        sys.setswitchinterval(SWITCH_S)

    def __enter__(self) -> Refresher:
        return self

    def __exit__(self, *_: Any) -> None:
        self.close()

    def close(self) -> None:
        """Wait for the running job and end the thread."""
        self._thread.shutdown(cancel_futures=True)
        self._blas.restore_original_limits()
        sys.setswitchinterval(self._switch)

    @property
    def free(self) -> bool:
        """Whether the thread has nothing to do."""
        return self._now is None or self._now.done()

    def ask(self, stream: Waiting) -> None:
        """Put a stream at the end of the queue, if it does not stand there yet."""
        self._waiting.setdefault(id(stream), stream)

    def serve(self) -> None:
        """Let the first of the queue begin, if the thread is free."""
        if self._waiting and self.free:
            _, stream = self._waiting.popitem(last=False)
            stream.begin()

    def start(self, engine: Engine, window: NDArray, state: State) -> Job:
        """Find filters from a window, which ends before the slot that ``state`` has due next."""
        _, twin = self._twins.setdefault(id(engine), (engine, engine.twin()))
        # the arrays that a refresh reads are those that no push writes to
        self._now = self._thread.submit(self._refresh, twin, window, dict(state.memory) or None)
        return Job(self._now, twin, state.slot, state.slot)

    def catch_up(self, job: Job, window: NDArray, slot: int, new: int) -> Job:
        """Let new filters see the ``new`` newest slots of a later window."""
        self._now = self._thread.submit(_see, job.engine, job.future.result(), window, new)
        return Job(self._now, job.engine, slot, job.began, True)

    def _refresh(self, engine: Engine, window: NDArray, memory: Memory | None) -> Memory:
        try:
            memory = engine.refresh(window, memory)
        except BaseException as error:
            self.error = error
            raise
        self.refreshed += 1
        return memory


def _see(engine: Engine, memory: Memory, window: NDArray, new: int) -> Memory:
    engine.advance(memory, window, new, np.empty((engine.num_future, *engine.shape), np.complex64))
    return memory


def _lower() -> None:
    """Of this thread: one torch thread, and a low priority (on Linux, where threads have their own)."""
    torch.set_num_threads(1)
    if sys.platform == "linux":
        with contextlib.suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), LOW)
