"""Where the replicas listen, so that clients of one that ends hear of it in time."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable

from airlam.serving.errors import one_line

FRESH_S = 0.5  # how long addresses are taken as they were
PATIENCE_S = 2.0  # how long an answer is waited for; without one they stay as they were
log = logging.getLogger("airlam.serving")


class Fleet:
    """The replicas' addresses.

    Args:
        ask: answers with them.

    Example:
        >>> async def ask():
        ...     return ["http://127.0.0.1:30001", "http://127.0.0.1:30002"]
        >>> asyncio.run(Fleet(ask).now())
        ['http://127.0.0.1:30001', 'http://127.0.0.1:30002']
    """

    def __init__(self, ask: Callable[[], Awaitable[list[str]]]) -> None:
        self._ask, self._asked = ask, -FRESH_S
        self._known: list[str] = []
        self._update: asyncio.Task | None = None

    async def now(self) -> list[str]:
        """The addresses, at most :data:`FRESH_S` old unless nobody answers."""
        self._renew()
        if self._update is not None:
            await asyncio.shield(self._update)
        return self._known

    def without(self, host: str) -> bool:
        """Whether the replica at ``host`` is no longer among those that were told last: it will end soon.

        Nobody waits for this. What is old is renewed beside it.

        Args:
            host: name or address and port, as in the header of a request.
        """
        self._renew()
        return bool(self._known) and not any(address.endswith(f"//{host}") for address in self._known)

    def _renew(self) -> None:
        if self._update is not None and not self._update.done():
            return
        self._update = None
        if time.monotonic() - self._asked >= FRESH_S:
            self._update = asyncio.get_running_loop().create_task(self._take())

    async def _take(self) -> None:
        try:
            self._known = list(await asyncio.wait_for(self._ask(), PATIENCE_S))
        except Exception as error:  # the cluster's head may be gone; the replicas are where they were
            log.warning("addresses of the replicas are not known anew: %s", one_line(error))
        self._asked = time.monotonic()
