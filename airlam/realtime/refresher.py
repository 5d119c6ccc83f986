"""The slow clock: refreshes of many streams, one after another, in one background thread of low priority."""

from __future__ import annotations

import contextlib
import os
import sys
import threading
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from airlam.metrics import cpu_threads
from airlam.realtime.engine import Engine, Memory
from airlam.realtime.state import State

SWITCH_S = 2e-4  # of the interpreter: how long a push may wait for its lock


class Waiting(Protocol):
    """A stream that wants new filters."""

    def begin(self) -> None: ...


@dataclass
class Job:
    """New filters for one user on their way.

    Attributes:
        engine: the background's twin. slot: number of the slot that follows what the filters have seen. began: the same
            of the window that they were found from. edits: of the window that they saw. caught_up: whether they have
            seen later slots since.
    """

    future: Future
    engine: Engine
    slot: int
    began: int
    edits: int
    caught_up: bool = False

    def done(self) -> bool:
        return self.future.done()

    def result(self) -> Memory | None:
        """The filters; ``None`` if the refresh failed or was called off."""
        return None if self.future.cancelled() or self.future.exception() is not None else self.future.result()


class Refresher:
    """A background thread that renews filters for any number of streams, those that wait longest first.

    While one is open, NumPy and SciPy multiply matrices on one thread. All streams of one refresher are pushed from one
    thread. Once it is closed, they go on with the filters that they have.

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
        self.refreshed, self.closed = 0, False
        self._waiting: OrderedDict[int, Waiting] = OrderedDict()
        self._twins: dict[int, tuple[Engine, Engine]] = {}
        self._now: Future | None = None
        self._thread = ThreadPoolExecutor(1, "airlam-refresh", initializer=_lower)
        _quiet.open()

    def __enter__(self) -> Refresher:
        return self

    def __exit__(self, *_: Any) -> None:
        self.close()

    def close(self) -> None:
        """Wait for the running job and end the thread."""
        if not self.closed:
            self.closed = True
            self._waiting.clear()
            self._thread.shutdown(cancel_futures=True)
            _quiet.close()

    @property
    def free(self) -> bool:
        """Whether the thread has nothing to do."""
        return self._now is None or self._now.done()

    def know(self, engine: Engine) -> None:
        """Make the twin of an engine ahead of its first refresh, which takes milliseconds."""
        if id(engine) not in self._twins:
            self._twins[id(engine)] = (engine, engine.twin())

    def ask(self, stream: Waiting) -> None:
        """Put a stream at the end of the queue, if it does not stand there yet."""
        if not self.closed:
            self._waiting.setdefault(id(stream), stream)

    def forget(self, stream: Waiting) -> None:
        """Take a stream out of the queue."""
        self._waiting.pop(id(stream), None)

    def serve(self) -> None:
        """Let the first of the queue begin, if the thread is free."""
        if self._waiting and self.free and not self.closed:
            _, stream = self._waiting.popitem(last=False)
            stream.begin()

    def start(self, engine: Engine, window: NDArray, state: State, edits: int) -> Job:
        """Find filters from a window, which ends before the slot that ``state`` has due next."""
        self.know(engine)
        twin = self._twins[id(engine)][1]

        def refresh(memory: Memory | None) -> Memory:
            found = twin.refresh(window, memory)
            self.refreshed += 1
            return found

        self._now = self._submit(refresh, dict(state.memory) or None)
        return Job(self._now, twin, state.slot, state.slot, edits)

    def catch_up(self, job: Job, window: NDArray, slot: int, new: int, edits: int) -> Job:
        """Let new filters see the ``new`` newest slots of a later window."""
        memory = job.future.result()

        def see() -> Memory:
            job.engine.advance(memory, window, new, np.empty((job.engine.num_future, *job.engine.shape), np.complex64))
            return memory

        self._now = self._submit(see)
        return Job(self._now, job.engine, slot, job.began, edits, True)

    def _submit(self, function: Callable[..., Memory], *arguments: Any) -> Future:
        def work() -> Memory:
            try:
                with cpu_threads(1):
                    return function(*arguments)
            except BaseException as error:
                self.error = error
                raise

        try:
            return self._thread.submit(work)
        except RuntimeError:  # the interpreter is ending
            called_off: Future = Future()
            called_off.cancel()
            return called_off


class _Quiet:
    """What the process is set to while any refresher is open."""

    def __init__(self) -> None:
        self._open, self._lock = 0, threading.Lock()

    def open(self) -> None:
        with self._lock:
            self._open += 1
            if self._open == 1:
                # several threads for products of this size wait for each other longer than they compute
                self._blas, self._switch = threadpool_limits(1, "blas"), sys.getswitchinterval()
                sys.setswitchinterval(SWITCH_S)

    def close(self) -> None:
        with self._lock:
            self._open -= 1
            if not self._open:
                self._blas.restore_original_limits()
                sys.setswitchinterval(self._switch)


_quiet = _Quiet()


def _lower() -> None:
    """Let this thread run only when no other wants the core (on Linux, where threads have priorities of their own).

    A low priority alone does not do: the scheduler lets a thread finish its slice of some milliseconds before one that
    wakes gets the core, whatever their priorities, unless the former is idle work.
    """
    if sys.platform == "linux":
        with contextlib.suppress(OSError):
            os.sched_setscheduler(threading.get_native_id(), os.SCHED_IDLE, os.sched_param(0))
