"""Streams of many users behind one inbox: one thread serves them, another renews their filters."""

from __future__ import annotations

import atexit
import copy
import gc
import threading
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray
from torch import Tensor

from airlam.realtime.engine import Engine
from airlam.realtime.refresher import Refresher
from airlam.realtime.stream import Stream

Deliver = Callable[[Hashable, int, NDArray | Exception], None]
COLLECT_S, WHOLLY_S = 1.0, 60.0  # least time between two collections of garbage: of young objects, of all


@dataclass
class Load:
    """What a pool did: slots ``served``, slots that were ``dropped`` because newer ones of their user came first, slots
    that were ``refused`` as bad."""

    served: int = 0
    dropped: int = 0
    refused: int = 0


class StreamPool:
    """Streams of many users, pushed by one thread in the order in which their slots arrive.

    Where slots come faster than they are served, the oldest waiting slots of a user are dropped and counted; its stream
    takes them as lost. A history that waits is dropped for a newer history only. Garbage is collected when no slot
    waits, never inside a push.

    Args:
        engine: of all streams.
        deliver: is called by the pool's thread with user, number of the slot, and the prediction ``complex64
            [num_future, subcarrier, rx_ant, tx_ant]`` or the error that the slot was refused with. It should be quick.
        refresh_every: slots after which a user's filters are to be renewed.
        waiting: slots of one user that may wait.

    Attributes:
        load: counts. error: the last one that ``deliver`` raised; the pool goes on.

    Example:
        >>> import torch
        >>> from airlam.baselines.paths import PathPredictor
        >>> from airlam.realtime import engine_for
        >>> found = []
        >>> with StreamPool(engine_for(PathPredictor(), (6, 1, 4), 2), lambda *each: found.append(each)) as pool:
        ...     pool.offer("user 1", torch.zeros(6, 1, 4, dtype=torch.complex64))
        >>> found[0][:2], found[0][2].shape
        (('user 1', 0), (2, 6, 1, 4))
    """

    def __init__(self, engine: Engine, deliver: Deliver, *, refresh_every: int = 32, waiting: int = 2) -> None:
        for name, value in (("waiting", waiting), ("refresh_every", refresh_every)):
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise ValueError(f"{name} is {value!r}, but must be a whole number of at least 1")
        if not callable(deliver):
            raise TypeError(f"deliver is {deliver!r}, but must be a function of user, slot and prediction")
        self.engine, self.deliver, self.refresh_every, self.waiting = engine, deliver, refresh_every, waiting
        self.load, self.refresher = Load(), Refresher()
        self.error: Exception | None = None
        self.refresher.know(engine)
        self.streams: dict[Hashable, Stream] = {}
        self._next: dict[Hashable, int] = {}
        # users in the order in which their oldest waiting slot came
        self._inbox: OrderedDict[Hashable, deque[tuple[int, Any]]] = OrderedDict()
        self._changed, self._ends = threading.Condition(), False
        self._thread = threading.Thread(target=self._run, name="airlam-streams", daemon=True)
        self._thread.start()
        atexit.register(self.close)  # else the interpreter would end inside a push

    def __enter__(self) -> StreamPool:
        return self

    def __exit__(self, *_: Any) -> None:
        self.close()

    def offer(self, user: Hashable, h_slot: Tensor | NDArray | None, slot: int | None = None) -> None:
        """Put a user's newest slot into the inbox; see :meth:`airlam.realtime.Stream.push`. From any thread.

        A whole history ``[slot, subcarrier, rx_ant, tx_ant]`` begins the user's stream (anew), see
        :meth:`airlam.realtime.Stream.start`; ``slot`` is then the number of its newest slot.
        """
        with self._changed:
            if self._ends:
                raise RuntimeError("the pool is closed")
            number = self._next.get(user, 0) if slot is None else slot
            if isinstance(number, int):
                self._next[user] = max(self._next.get(user, 0), number + 1)
            queue = self._inbox.setdefault(user, deque())
            self.load.dropped += self._make_room(queue, h_slot)
            # a copy: its owner may go on to use it
            queue.append((number, h_slot.clone() if isinstance(h_slot, Tensor) else copy.copy(h_slot)))
            self._changed.notify()

    def _make_room(self, queue: deque[tuple[int, Any]], h_slot: Any) -> int:
        """Drop what a user's next slot outdates, and say how much: all before a history, the oldest slot of too many.
        A history that waits itself stays, for nothing after it makes sense without."""
        if self._begins(h_slot):
            dropped = len(queue)
            queue.clear()
            return dropped
        first = 1 if queue and self._begins(queue[0][1]) else 0
        if len(queue) - first < self.waiting:
            return 0
        del queue[first]
        return 1

    def _begins(self, h_slot: Any) -> bool:
        """Whether a stream can begin with it."""
        shape: tuple[int, ...] = tuple(getattr(h_slot, "shape", ()))
        return len(shape) == 4 and shape[0] >= self.engine.history and shape[1:] == self.engine.shape

    def forget(self, user: Hashable) -> None:
        """End a user's stream; slots that wait are dropped."""
        with self._changed:
            if (stream := self.streams.get(user)) is not None:
                self.refresher.forget(stream)
            for each in (self.streams, self._next, self._inbox):
                each.pop(user, None)

    def close(self) -> None:
        """Serve what waits, and end both threads."""
        with self._changed:
            self._ends = True
            self._changed.notify()
        atexit.unregister(self.close)
        if threading.current_thread() is not self._thread:
            self._thread.join()
            self.refresher.close()

    def _run(self) -> None:
        was_on, collected, wholly = gc.isenabled(), time.monotonic(), time.monotonic()
        gc.disable()
        try:
            while True:
                now = time.monotonic()
                if not self._inbox and now - collected > COLLECT_S:
                    whole = now - wholly > WHOLLY_S
                    gc.collect(2 if whole else 1)
                    collected, wholly = now, now if whole else wholly
                with self._changed:
                    if not self._inbox and not self._ends:
                        self._changed.wait(COLLECT_S)
                    if not self._inbox:
                        if self._ends:
                            return
                        continue
                    user, queue = next(iter(self._inbox.items()))
                    number, h_slot = queue.popleft()
                    del self._inbox[user]
                    if queue:
                        self._inbox[user] = queue  # behind those who have waited meanwhile
                    if user not in self.streams:
                        self.streams[user] = Stream(self.engine, self.refresher, refresh_every=self.refresh_every)
                    stream = self.streams[user]
                self._push(user, stream, number, h_slot)
        finally:
            if was_on:
                gc.enable()

    def _push(self, user: Hashable, stream: Stream, number: int, h_slot: Any) -> None:
        found: NDArray | Exception
        try:
            history = getattr(h_slot, "ndim", 3) == 4
            future = stream.start(h_slot, number) if history else stream.push(h_slot, number)
            found = future.numpy() if isinstance(future, Tensor) else future
            self.load.served += 1
        except Exception as error:  # of one slot; other users go on
            found = error
            self.load.refused += 1
        try:
            self.deliver(user, number, found)
        except Exception as error:
            self.error = error
