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
from airlam.errors import StoreError
from airlam.realtime import Refresher, State, Stream, engine_for
from airlam.realtime.engine import Engine
from airlam.serving.catalogue import Catalogue, Method
from airlam.serving.config import Sessions as Bounds
from airlam.serving.errors import ServingError, one_line, refused

CONTINUED, STARTED, REPLAYED, MOVED = "continued", "started", "replayed", "moved"


@dataclass(frozen=True)
class Asked:
    """What a session predicts, and with what.

    Attributes:
        num_future: slots to predict. port_shape: (polarisations, columns, rows) of ``tx_ant``. window: slots that a
            prediction uses.
    """

    method: Method
    num_future: int
    port_shape: PortShape | None = None
    window: int = 16

    def key(self, shape: tuple) -> tuple:
        """Equal for streams of slots of ``shape`` that may share an engine."""
        return self.method.name, self.method.adapter, shape, self.num_future, self.port_shape, self.window


@dataclass
class Answer:
    """What a push returns.

    Attributes:
        future: ``complex64 [num_future, subcarrier, rx_ant, tx_ant]``. slot: its newest slot.
        kind: :data:`CONTINUED`, :data:`STARTED` (from a history), :data:`REPLAYED` (the stored answer) or :data:`MOVED`
            (from the state of another replica).
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


class Engines:
    """Engines by what they predict with; those that no stream runs on any more make room.

    Args:
        most: that are kept.
    """

    def __init__(self, most: int) -> None:
        self.most = most
        self._engines: dict[tuple, Engine] = {}

    def get(self, asked: Asked, shape: tuple, used: set[int]) -> Engine:
        """The engine for slots of ``shape``.

        Args:
            used: ``id`` of the engines that streams run on.

        Raises:
            ServingError: 400 where the method cannot run slot by slot, 429 where all engines are in use.
        """
        key = asked.key(shape)
        if key not in self._engines:
            if len(self._engines) >= self.most:
                self._engines = {k: engine for k, engine in self._engines.items() if id(engine) in used}
            if len(self._engines) >= self.most:
                raise ServingError(
                    429,
                    "too_many_shapes",
                    f"this replica runs streams of {self.most} shapes; use one of those, or another replica",
                    retry_after_s=30.0,
                )
            try:
                self._engines[key] = engine_for(
                    asked.method.predictor,
                    shape,
                    asked.num_future,
                    history=asked.window,
                    port_shape=asked.port_shape,
                )
            except (ValueError, TypeError) as error:
                raise refused("session", one_line(error)) from None
        return self._engines[key]


class Sessions:
    """The sessions of a replica. All methods may be called from any thread; pushes run one at a time.

    A slot is named by its number. The same slot with the same content returns the stored answer, so that a retry never
    advances a stream twice; any other number than the next is refused with 409, which names the expected one.

    Example:
        >>> from airlam.serving import ServingConfig
        >>> catalogue = Catalogue(ServingConfig(predictors={"paths": {}}, classic=""))
        >>> sessions = Sessions(catalogue, Bounds())
        >>> history = (np.random.randn(16, 6, 1, 4) + 0j).astype(np.complex64)
        >>> sessions.start("user 7", Asked(catalogue.method("paths"), 2), history, 15).slot
        15
        >>> sessions.push("user 7", history[3], 16).kind
        'continued'
        >>> sessions.push("user 7", history[3], 16).kind  # the retry of a client that saw no answer
        'replayed'
    """

    def __init__(self, catalogue: Catalogue, bounds: Bounds) -> None:
        self.catalogue, self.bounds = catalogue, bounds
        self._sessions: OrderedDict[str, Session] = OrderedDict()  # those that were touched last at the end
        self._engines = Engines(bounds.engines)
        self._lock = threading.Lock()
        self._refresher = Refresher() if bounds.background else None

    def __len__(self) -> int:
        return len(self._sessions)

    def start(self, name: str, asked: Asked, history: NDArray, slot: int) -> Answer:
        """Begin a session, or begin it anew, from a history whose newest slot has the number ``slot``.

        Raises:
            ServingError: 409 where a later slot was pushed already; 429 where the replica holds no more sessions.
        """
        digest = _digest(history, asked.num_future, asked.port_shape, asked.window, asked.method.version)
        with self._lock:
            self._forget_idle()
            held = self._sessions.get(name)
            if held is not None and slot == held.newest and digest == held.digest:
                return self._answer(held, REPLAYED)
            if held is not None and slot < held.newest:
                raise _stale(name, slot, held.newest + 1)
            self._admit(name)
            engine = self._engine(asked, history.shape[1:])
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
            return self._answer(self._keep(name, asked, stream, slot, digest, future), STARTED)

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

    def saved(self, name: str) -> bytes:
        """All that is kept of a session's stream, for :meth:`resume` elsewhere."""
        with self._lock:
            return self._held(name).stream.state.to_bytes()

    def resume(self, name: str, asked: Asked, saved: bytes) -> Answer:
        """Go on with a session of another replica exactly where that one stood; the answer is its last one.

        Args:
            saved: what :meth:`saved` gave there.

        Raises:
            ServingError: 400 for a damaged state, 409 for that of other weights, sizes or another version, or where a
                later slot was pushed here already.
        """
        with self._lock:
            self._forget_idle()
            self._admit(name)
            state, engine = self._state(saved, asked)
            held, newest = self._sessions.get(name), state.slot - 1
            if held is not None and newest < held.newest:
                raise _stale(name, newest, held.newest + 1)
            stream = Stream(engine, self._refresher, refresh_every=self.bounds.refresh_every)
            stream.state = state
            assert state.future is not None
            future = np.multiply(state.future, np.float32(state.gain))
            return self._answer(self._keep(name, asked, stream, newest, b"", future), MOVED)

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

    def _admit(self, name: str) -> None:
        """Raises ServingError 429 where there is no room for one more session."""
        if name not in self._sessions and len(self._sessions) >= self.bounds.most:
            raise ServingError(
                429,
                "too_many_sessions",
                f"this replica holds {self.bounds.most} sessions; end some (DELETE), or add replicas",
                retry_after_s=min(self.bounds.idle_s, 30.0),
            )

    def _keep(self, name: str, asked: Asked, stream: Stream, newest: int, digest: bytes, future: NDArray) -> Session:
        facts = {"model": asked.method.name, "adapter": asked.method.adapter, "num_future": asked.num_future}
        self._sessions[name] = session = Session(stream, facts, newest, digest, future, time.monotonic())
        self._sessions.move_to_end(name)
        return session

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

    def _engine(self, asked: Asked, shape: tuple) -> Engine:
        return self._engines.get(asked, shape, {id(session.stream.engine) for session in self._sessions.values()})

    def _state(self, saved: bytes, asked: Asked) -> tuple[State, Engine]:
        """The state of another replica, and the engine that goes on with it."""
        try:
            state = State.from_bytes(saved, "the body")
            if state.window.ndim != 4 or state.future is None:
                raise StoreError("the body is the state of a stream that has predicted nothing; push its slots")
            engine = self._engine(asked, state.window.shape[1:])
            if state.identity != engine.identity:
                message = f"the state belongs to {state.identity}, but this replica runs {engine.identity}"
                raise ServingError(409, "another_state", f"{message}; start anew from the last history")
            state.check(engine, "the body")
        except StoreError as error:
            raise refused("state", one_line(error)) from None
        return state, engine

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
