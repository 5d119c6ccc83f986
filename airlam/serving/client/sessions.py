"""A user's stream on a server: the client keeps the last history, so that a lost replica costs no slot."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from airlam.csi import PortShape
from airlam.serving.client.calls import arrays_of, comma, packed
from airlam.serving.client.protocol import (
    AGAIN,
    LONGEST_PAUSE_S,
    PAUSE_S,
    Directory,
    Reply,
    Send,
    Talk,
    Unreachable,
    Wait,
)
from airlam.serving.errors import ServingError
from airlam.serving.wire import SAFETENSORS

MOVE_S = 2.0  # how long a replica that ends is given to hand over a session
SAME = 2  # how often the same address is asked again for a slot before the session moves


@dataclass
class Talks:
    """The talk of one session with servers.

    Attributes:
        next: number of the slot that is due. rebuilt: numbers of the slots at which the stream was begun anew, because
            its replica was lost. moved: numbers of the slots before which it was taken, as it was, from a replica that
            ends to another one. replayed: answers that the server had stored. address: where the session lives.
    """

    directory: Directory
    name: str
    model: str
    num_future: int
    port_shape: PortShape | None = None
    adapter: str = ""
    window: int = 16
    next: int = 0
    rebuilt: list[int] = field(default_factory=list)
    moved: list[int] = field(default_factory=list)
    replayed: int = 0
    address: str = ""

    def __post_init__(self) -> None:
        self._history: deque[NDArray] = deque(maxlen=self.window)
        self._future: NDArray | None = None
        self._leaving = False  # whether the session's replica said that it will end

    @property
    def _path(self) -> str:
        return f"/v1/sessions/{self.name}"

    def start(self, h_past: Any, slot: int | None = None) -> Talk[Tensor]:
        """Begin with a whole history; ``slot`` is the number of its newest slot."""
        history = _plain(h_past)
        if history.ndim != 4 or not len(history):
            raise ValueError(f"h_past is {history.shape}, but must be [slot, subcarrier, rx_ant, tx_ant]")
        self._history.clear()
        self._history.extend(history)
        self.next = len(history) if slot is None else slot + 1
        self.address = ""
        reply = yield from self._begin()
        return self._read(reply)

    def push(self, h_slot: Any, slot: int | None = None) -> Talk[Tensor]:
        """The newest slot; ``None``: it was not measured. A higher number than the next says how many were lost."""
        slot = self.next if slot is None else slot
        if slot < self.next and self._history:
            raise ServingError(
                409, "stale_slot", f"slot {slot} was pushed before; {self.next} is next", expected_slot=self.next
            )
        if not self._history:
            self.next = slot
        while self._history and self.next < slot:
            yield from self._one(None)
        return (yield from self._one(h_slot))

    def _one(self, h_slot: Any) -> Talk[Tensor]:
        value = None if h_slot is None else _plain(h_slot)
        if value is None and not self._history:
            raise ValueError("the first slot of a session is None, but must be measured")
        # in the history that a stream is begun anew from, the prediction stands for a slot that was not measured
        self._history.append(self._expected() if value is None else value)
        self.next += 1
        reply = yield from (self._push(value) if self.address else self._begin())
        return self._read(reply)

    def _expected(self) -> NDArray:
        return self._history[-1] if self._future is None else self._future[0]

    def end(self) -> Talk[None]:
        """Let the server forget the user."""
        if self.address:
            try:
                yield Send(self.address, "DELETE", self._path)
            except Unreachable:
                pass
        self.address = ""

    def _push(self, value: NDArray | None) -> Talk[Reply]:
        """Send the slot to the session's replica, as often as it takes; begin anew where the session is lost."""
        content, kind = (b"", "") if value is None else packed({"h": value})
        path, tries, pause = f"{self._path}/slots/{self.next - 1}", 0, PAUSE_S
        give_up = time.monotonic() + self.directory.patience_s
        if self._leaving and not (yield from self._move()):
            return (yield from self._again())
        while True:
            try:
                reply = yield Send(self.address, "POST", path, {}, content, kind)
            except Unreachable:
                tries += 1
                if tries > SAME:
                    self.directory.drop(self.address)
                    return (yield from self._again())
                yield Wait(pause)
                continue
            if reply.status < 400:
                return reply
            error = reply.error()
            if reply.status == 404 or (reply.status == 409 and error.code in ("gap", "stale_slot")):
                return (yield from self._again())
            if reply.status not in AGAIN:
                self._history.pop()  # it was refused: the stream is as it was
                self.next -= 1
                raise error
            tries += reply.status not in (429, 503)
            if tries > SAME:
                return (yield from self._again())
            wait = min(max(error.retry_after_s or pause, PAUSE_S), LONGEST_PAUSE_S)
            if time.monotonic() + wait > give_up:
                raise error
            self.directory.retries += 1
            yield Wait(wait)
            pause = min(2 * pause, LONGEST_PAUSE_S)

    def _again(self) -> Talk[Reply]:
        self.rebuilt.append(self.next - 1)
        self.address = ""
        yield from self.directory.refresh()
        return (yield from self._begin())

    def _begin(self) -> Talk[Reply]:
        """Start the stream from the last history."""
        content, kind = packed({"h": np.stack(self._history)})
        return (yield from self._put(self._path, content, kind, slot=self.next - 1))

    def _move(self) -> Talk[bool]:
        """Take the session's state to a replica that stays; whether that worked out."""
        yield from self.directory.refresh()
        self._leaving, old = False, self.address
        if old in self.directory.addresses:
            return True
        try:
            reply = yield Send(old, "GET", f"{self._path}/state", timeout_s=MOVE_S)
            if reply.status >= 400:
                return False
            yield from self._put(f"{self._path}/state", reply.content, SAFETENSORS)
        except (Unreachable, ConnectionError, ServingError):
            return False
        self.moved.append(self.next - 1)
        return True

    def _put(self, path: str, content: bytes, kind: str, **further: Any) -> Talk[Reply]:
        """Give a session to the replica that is its home, or to another one."""
        query = {
            "model": self.model,
            "num_future": self.num_future,
            "port_shape": comma(self.port_shape),
            "adapter": self.adapter or None,
            "window": self.window,
            **further,
        }
        yield from self.directory.find()
        tried: list[str] = []

        def make(address: str) -> Send:
            home = self.directory.home(self.name)
            self.address = home if home not in tried else address
            tried.append(self.address)
            return Send(self.address, "PUT", path, query, content, kind)

        return (yield from self.directory.call(make))

    def _read(self, reply: Reply) -> Tensor:
        (future,) = arrays_of(reply).values()
        self.replayed += reply.headers.get("x-airlam-session") == "replayed"
        self._future = future.numpy()
        self._leaving = "x-airlam-leaving" in reply.headers
        return future


def _plain(value: Any) -> NDArray:
    array = torch.as_tensor(value).detach().resolve_conj().resolve_neg().cpu().numpy()
    return np.ascontiguousarray(array, np.complex64) if np.iscomplexobj(array) else array


class ClientSession:
    """One user's stream on a server. Made by :meth:`airlam.serving.Client.session`.

    Attributes:
        talks: with ``rebuilt``, the slots at which the stream was begun anew from the last history.
    """

    def __init__(self, talks: Talks, drive: Callable[[Talk], Any]) -> None:
        self.talks, self._drive = talks, drive

    def start(self, h_past: Any, slot: int | None = None) -> Tensor:
        """Begin with a whole history ``[slot, subcarrier, rx_ant, tx_ant]``, and predict."""
        return self._drive(self.talks.start(h_past, slot))

    def push(self, h_slot: Any, slot: int | None = None) -> Tensor:
        """Take the newest slot ``[subcarrier, rx_ant, tx_ant]`` (``None``: not measured), and predict
        ``complex64 [num_future, subcarrier, rx_ant, tx_ant]``."""
        return self._drive(self.talks.push(h_slot, slot))

    def end(self) -> None:
        """Let the server forget the user."""
        self._drive(self.talks.end())


class AsyncSession:
    """As :class:`ClientSession`, awaited."""

    def __init__(self, talks: Talks, drive: Callable[[Talk], Awaitable[Any]]) -> None:
        self.talks, self._drive = talks, drive

    async def start(self, h_past: Any, slot: int | None = None) -> Tensor:
        return await self._drive(self.talks.start(h_past, slot))

    async def push(self, h_slot: Any, slot: int | None = None) -> Tensor:
        return await self._drive(self.talks.push(h_slot, slot))

    async def end(self) -> None:
        await self._drive(self.talks.end())
