"""Streams of users on one replica: each slot is counted once, however often it is sent."""

from __future__ import annotations

import hashlib
import threading
import time
from collections import OrderedDict
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from airlam.csi import PortShape
from airlam.realtime import Refresher, Stream, engine_for
from airlam.realtime.engine import Engine
from airlam.serving.catalogue import Catalogue, Method
from airlam.serving.config import Sessions as Bounds
from airlam.serving.errors import ServingError, one_line, refused

CONTINUED, STARTED, REPLAYED = "continued", "started", "replayed"


@dataclass
class Answer:
    """What a push returns.

    Attributes:
        future: ``complex64 [num_future, subcarrier, rx_ant, tx_ant]``. slot: its newest slot.
        kind: :data:`CONTINUED`, :data:`STARTED` (from a history) or :data:`REPLAYED` (the stored answer).
    """

    future: NDArray
    slot: int
    kind: str
    version: str


@dataclass
class Session:
    """One user's stream.

    Attributes:
        newest: number of the slot that was pushed last, -1 before the first. digest: of what was pushed. answer: to it.
        touched: when, of ``time.monotonic``.
    """

    stream: Stream
    facts: dict[str, Any]
    newest: int = -1
    digest: bytes = b""
    answer: NDArray | None = None
    touched: float = 0.0


class Sessions:
    """The sessions of a replica. All methods may be called from any thread; pushes run one at a time.

    A slot is named by its number. The same slot with the same content returns the stored answer, so that a retry never
    advances a stream twice; any other number than the next is refused with 409, which names the expected one.

    Example:
        >>> from airlam.serving import ServingConfig
        >>> catalogue = Catalogue(ServingConfig(predictors={"paths": {}}, classic=""))
        >>> sessions = Sessions(catalogue, Bounds())
        >>> history = (np.random.randn(16, 6, 1, 4) + 0j).astype(np.complex64)
        >>> sessions.start("user 7", catalogue.method("paths"), history, 15, 2).slot
        15
        >>> sessions.push("user 7", history[3], 16).kind
        'continued'
        >>> sessions.push("user 7", history[3], 16).kind  # the retry of a client that saw no answer
        'replayed'
    """

    def __init__(self, catalogue: Catalogue, bounds: Bounds) -> None:
        self.catalogue, self.bounds = catalogue, bounds
        self._sessions: OrderedDict[str, Session] = OrderedDict()  # those that were touched last at the end
        self._engines: dict[tuple, Engine] = {}
        self._lock = threading.Lock()
        self._refresher = Refresher() if bounds.background else None

    def __len__(self) -> int:
        return len(self._sessions)

    def start(
        self,
        name: str,
        method: Method,
        history: NDArray,
        slot: int,
        num_future: int,
        port_shape: PortShape | None = None,
        window: int = 16,
    ) -> Answer:
        """Begin a session, or begin it anew, from a history whose newest slot has the number ``slot``.

        Args:
            window: slots that a prediction uses.

        Raises:
            ServingError: 409 where a later slot was pushed already; 429 where the replica holds no more sessions.
        """
        digest = _digest(history, num_future, port_shape, window, method.version)
        with self._lock:
            self._forget_idle()
            held = self._sessions.get(name)
            if held is not None and slot == held.newest and digest == held.digest:
                return self._answer(held, REPLAYED)
            if held is not None and slot < held.newest:
                raise _stale(name, slot, held.newest + 1)
            if held is None and len(self._sessions) >= self.bounds.most:
                raise ServingError(
                    429,
                    "too_many_sessions",
                    f"this replica holds {self.bounds.most} sessions; end some (DELETE), or add replicas",
                    retry_after_s=min(self.bounds.idle_s, 30.0),
                )
            engine = self._engine(method, history.shape[1:], num_future, port_shape, window)
            stream = Stream(engine, self._refresher, refresh_every=self.bounds.refresh_every)
            first = slot + 1 - len(history)
            if first < 0:
                raise refused(
                    "slot", f"slot is {slot}, but a history of {len(history)} slots ends at {len(history) - 1}"
                )
            try:
                if len(history) >= engine.history:
                    future = stream.start(history, slot)
                else:
                    future = [stream.push(each, first + k) for k, each in enumerate(history)][-1]
            except (ValueError, TypeError) as error:
                raise refused("csi", one_line(error)) from None
            facts = {"model": method.name, "adapter": method.adapter, "num_future": num_future}
            session = Session(stream, facts, slot, digest, future, time.monotonic())
            self._sessions[name] = session
            self._sessions.move_to_end(name)
            return self._answer(session, STARTED)

    def push(self, name: str, h_slot: NDArray | None, slot: int) -> Answer:
        """The next slot of a session; ``None``: it was not measured.

        Raises:
            ServingError: 404 for a session that this replica does not hold, 409 for another slot than the next.
        """
        digest = _digest(h_slot)
        with self._lock:
            session = self._held(name)
            if slot == session.newest and digest == session.digest:
                return self._answer(session, REPLAYED)
            expected = session.newest + 1
            if slot < expected:
                raise _stale(name, slot, expected)
            if slot > expected:
                raise ServingError(
                    409,
                    "gap",
                    f"slot {slot} was pushed to session {name!r}, but {expected} is next: push the missing slots (an "
                    "empty body where one was not measured), or start anew from the last history",
                    expected_slot=expected,
                )
            try:
                future = session.stream.push(h_slot, slot)
            except (ValueError, TypeError) as error:
                raise refused("csi", one_line(error)) from None
            session.newest, session.digest, session.answer = slot, digest, future
            session.touched = time.monotonic()
            self._sessions.move_to_end(name)
            return self._answer(session, CONTINUED)

    def end(self, name: str) -> None:
        with self._lock:
            session = self._held(name)
            if self._refresher is not None:
                self._refresher.forget(session.stream)
            del self._sessions[name]

    def info(self, name: str) -> dict[str, Any]:
        """What is known of a session, as plain data."""
        with self._lock:
            session = self._held(name)
            return {
                **session.facts,
                "expected_slot": session.newest + 1,
                "version": session.stream.engine.identity,
                "shape": list(session.stream.engine.shape),
                "history": session.stream.engine.history,
            }

    def close(self) -> None:
        if self._refresher is not None:
            self._refresher.close()

    def _held(self, name: str) -> Session:
        session = self._sessions.get(name)
        if session is None:
            raise ServingError(
                404,
                "unknown_session",
                f"no session {name!r} on this replica: it never began, was idle for {self.bounds.idle_s:g} s, or was "
                "lost with its replica; start it (PUT) from the last history",
            )
        return session

    def _engine(
        self, method: Method, shape: tuple, num_future: int, port_shape: PortShape | None, window: int
    ) -> Engine:
        key = (method.name, method.adapter, shape, num_future, port_shape, window)
        if key not in self._engines:
            if len(self._engines) >= self.bounds.engines:
                used = {id(session.stream.engine) for session in self._sessions.values()}
                self._engines = {k: engine for k, engine in self._engines.items() if id(engine) in used}
            if len(self._engines) >= self.bounds.engines:
                raise ServingError(
                    429,
                    "too_many_shapes",
                    f"this replica runs streams of {self.bounds.engines} shapes; use one of those, or another replica",
                    retry_after_s=30.0,
                )
            try:
                self._engines[key] = engine_for(
                    method.predictor, shape, num_future, history=window, port_shape=port_shape
                )
            except (ValueError, TypeError) as error:
                raise refused("session", one_line(error)) from None
        return self._engines[key]

    def _forget_idle(self) -> None:
        limit = time.monotonic() - self.bounds.idle_s
        while self._sessions and next(iter(self._sessions.values())).touched < limit:
            self._sessions.popitem(last=False)

    def _answer(self, session: Session, kind: str) -> Answer:
        assert session.answer is not None
        return Answer(session.answer, session.newest, kind, session.stream.engine.identity)


def _stale(name: str, slot: int, expected: int) -> ServingError:
    return ServingError(
        409,
        "stale_slot",
        f"slot {slot} of session {name!r} was pushed before, with another content or a later slot after it; "
        f"{expected} is next",
        expected_slot=expected,
    )


def _digest(value: NDArray | None, *facts: Any) -> bytes:
    """Of a slot or history, so that a retry is told from another slot with the same number."""
    digest = hashlib.blake2b(repr(facts).encode(), digest_size=16)
    if value is not None:
        digest.update(f"{value.dtype} {value.shape}".encode())
        digest.update(np.ascontiguousarray(value).data)
    return digest.digest()
