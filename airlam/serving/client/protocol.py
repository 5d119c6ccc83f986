"""What a client says to servers and when it says it again, without any input or output of its own.

Each function is a generator: it yields a :class:`Send` or a :class:`Wait`, and is resumed with the :class:`Reply` (or
:class:`Unreachable` is thrown into it). So the synchronous and the asynchronous client share every decision.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import time
from collections.abc import Generator, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from airlam.serving.errors import ServingError

PAUSE_S, LONGEST_PAUSE_S = 0.05, 1.0
BUSY = (429, 502, 503, 504)
REMEMBERED = 64  # addresses, of which some may have come back
AGAIN = (*BUSY, 500, 408)  # 500 and 408 can come from Serve for a replica that ends


class Unreachable(Exception):
    """No answer from an address: refused, reset, or too late."""


@dataclass
class Send:
    """A request. ``path`` begins with a slash, ``query`` leaves out what is None."""

    address: str
    method: str
    path: str
    query: Mapping[str, Any] = field(default_factory=dict)
    content: bytes = b""
    kind: str = ""
    timeout_s: float | None = None

    @property
    def parameters(self) -> dict[str, str]:
        return {name: str(value) for name, value in self.query.items() if value is not None}


@dataclass
class Wait:
    seconds: float


@dataclass
class Reply:
    status: int
    headers: Mapping[str, str]
    content: bytes

    def error(self) -> ServingError:
        """The refusal that it is."""
        try:
            found = json.loads(self.content)["error"]
            code, message = str(found.pop("code")), str(found.pop("message"))
        except (ValueError, KeyError, TypeError, AttributeError):
            text = self.content[:200].decode("utf-8", "replace")
            return ServingError(self.status, "http", f"HTTP {self.status}: {' '.join(text.split())}")
        return ServingError(self.status, code, message, retry_after_s=self.retry_after_s, **found)

    @property
    def retry_after_s(self) -> float | None:
        for name, unit in (("x-airlam-retry-after-ms", 1e-3), ("retry-after", 1.0)):
            try:
                return unit * float(self.headers[name])
            except (KeyError, ValueError):
                continue
        return None


T = TypeVar("T")
Talk = Generator[Send | Wait, Reply, T]


class Directory:
    """Addresses of servers, and which of them answered last.

    Args:
        seeds: addresses that never go away, such as that of ``airlam serve``.
        patience_s: how long a request is tried again before its error is raised.

    Attributes:
        retries: requests that were sent again.

    Example:
        >>> Directory(["http://127.0.0.1:8000/"]).addresses
        ['http://127.0.0.1:8000']
    """

    def __init__(self, seeds: list[str], patience_s: float = 30.0, *, discover: bool = True) -> None:
        if not seeds:
            raise ValueError("addresses is empty; give at least one, such as http://127.0.0.1:8000")
        self.seeds = [seed.rstrip("/") for seed in seeds]
        for seed in self.seeds:
            if not seed.startswith(("http://", "https://")):
                raise ValueError(f"address is {seed!r}, but must begin with http:// or https://")
        self.addresses, self.patience_s, self.retries = list(self.seeds), patience_s, 0
        self._ever = dict.fromkeys(self.seeds)  # all that were heard of, the newest at the end
        self._known = not discover
        self._discover = discover
        self._turn = itertools.count()

    def find(self) -> Talk[None]:
        """Ask for the replicas' own addresses, once."""
        if not self._known:
            yield from self.refresh()

    def refresh(self) -> Talk[None]:
        """Ask every known address in turn where the replicas are now."""
        if not self._discover:
            return
        for address in dict.fromkeys([*self.addresses, *reversed(self._ever)]):
            try:
                reply = yield Send(address, "GET", "/v1/addresses", timeout_s=2.0)
            except Unreachable:
                continue
            if reply.status == 401:
                raise reply.error()
            if reply.status == 200:
                found = [each.rstrip("/") for each in json.loads(reply.content)["addresses"]]
                self.addresses, self._known = found or [address], True
                self._remember(self.addresses)
                return

    def next(self) -> str:
        """The next address in turn."""
        return self.addresses[next(self._turn) % len(self.addresses)]

    def home(self, name: str) -> str:
        """The address of a session: the same for a name as long as it is among the known ones."""
        return max(self.addresses, key=lambda address: hashlib.blake2b(f"{name} {address}".encode()).digest())

    def drop(self, address: str) -> None:
        """An address that does not answer."""
        self.addresses = [each for each in self.addresses if each != address] or list(self._ever)

    def _remember(self, addresses: list[str]) -> None:
        for address in addresses:
            self._ever.pop(address, None)
            self._ever[address] = None
        for address in list(self._ever)[:-REMEMBERED]:
            if address not in self.seeds:
                del self._ever[address]

    def call(self, make: Any) -> Talk[Reply]:
        """Send what may be sent twice, until an address answers.

        Args:
            make: ``address -> Send``.

        Raises:
            ServingError: a refusal; of those of a busy or failing server the last one, after ``patience_s``.
            ConnectionError: nobody answered.
        """
        yield from self.find()
        give_up, pause = time.monotonic() + self.patience_s, PAUSE_S
        last: Exception = ConnectionError(f"no server answers at {', '.join(self.addresses)}")
        while True:
            address = self.next()
            try:
                reply = yield make(address)
            except Unreachable as error:
                last = ConnectionError(f"no answer from {address}: {error}")
                self.drop(address)
                wait = pause
            else:
                if reply.status < 400:
                    return reply
                refusal = reply.error()
                if reply.status not in AGAIN or refusal.code in ("deadline", "fault"):
                    raise refusal
                last, wait = refusal, min(max(refusal.retry_after_s or pause, PAUSE_S), LONGEST_PAUSE_S)
            if time.monotonic() + wait > give_up:
                raise last
            self.retries += 1
            yield Wait(wait)
            pause = min(2 * pause, LONGEST_PAUSE_S)
            if isinstance(last, ConnectionError):
                yield from self.refresh()
