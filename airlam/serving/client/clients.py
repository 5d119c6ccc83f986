"""The synchronous and the asynchronous client."""

from __future__ import annotations

import asyncio
import json
import os
import time
from collections.abc import Sequence
from typing import Any

import httpx
from torch import Tensor

from airlam.csi import PortShape, resolve_inputs
from airlam.serving.client import calls
from airlam.serving.client.protocol import Directory, Reply, Send, Talk, Unreachable, Wait
from airlam.serving.client.sessions import AsyncSession, ClientSession, Talks
from airlam.serving.listening import TOKEN


class Settings:
    """What both clients know: where the servers are, and what is asked of them.

    Args:
        addresses: one or several, of ``airlam serve`` or of replicas.
        model: of ``/v1/predict`` and sessions. precoder: of ``/v1/precode``. adapter: of the model.
        token: that the server asks for; ``None``: the environment's ``AIRLAM_SERVING_TOKEN``.
        deadline_ms: of every prediction; later ones are the classic's (:attr:`counts`). ``None``: none.
        links: of one request; larger batches are sent in parts.
        timeout_s: for one answer. patience_s: for one call, with all its retries.
        discover: whether the addresses are asked for those of all replicas.
        verify: for TLS: True, or a file of the certificate authority.
        transport: of httpx, for tests.

    Attributes:
        name: of the row in tables. counts: requests, and how many of them were answered by the classic.
    """

    def __init__(
        self,
        addresses: str | Sequence[str] = "http://127.0.0.1:8000",
        model: str = "airlam-tiny",
        precoder: str = "rzf",
        *,
        adapter: str = "",
        token: str | None = None,
        deadline_ms: float | None = None,
        links: int = 32,
        timeout_s: float = 30.0,
        patience_s: float = 30.0,
        discover: bool = True,
        verify: bool | str = True,
        transport: Any = None,
        name: str | None = None,
    ) -> None:
        seeds = [addresses] if isinstance(addresses, str) else list(addresses)
        self.directory = Directory(seeds, patience_s, discover=discover)
        self.model, self.precoder, self.adapter, self.links = model, precoder, adapter, links
        self.deadline_ms, self.counts = deadline_ms, calls.Counts()
        self.name = name or model
        token = os.environ.get(TOKEN, "") if token is None else token
        self._options: dict[str, Any] = {
            "headers": {"authorization": f"Bearer {token}"} if token else {},
            "timeout": httpx.Timeout(timeout_s, connect=min(5.0, timeout_s)),
            "limits": httpx.Limits(max_connections=256, max_keepalive_connections=64),
        }
        if transport is not None:
            self._options["transport"] = transport
        elif verify is not True:
            self._options["verify"] = _trusted(verify)

    def _predict(self, outputs: tuple[str, ...], h_past, num_future, port_shape, context, subcarriers=None) -> Talk:
        return calls.predict(
            self.directory,
            self.counts,
            self.model,
            h_past,
            num_future,
            port_shape,
            context,
            outputs,
            links=self.links,
            adapter=self.adapter,
            deadline_ms=self.deadline_ms,
            subcarriers=subcarriers,
        )

    def _talks(self, name: str, num_future: int, port_shape: PortShape | None, window: int) -> Talks:
        return Talks(self.directory, name, self.model, num_future, port_shape, self.adapter, window)

    def _models(self) -> Talk[dict[str, Any]]:
        reply = yield from self.directory.call(lambda address: Send(address, "GET", "/v1/models"))
        return json.loads(reply.content)


class Client(Settings):
    """A server as a predictor and a precoder: every benchmark can run against it. Arguments: :class:`Settings`.

    Example:
        >>> client = Client("http://127.0.0.1:8000", model="airlam-tiny", precoder="rzf")
        >>> client.name
        'airlam-tiny'
        >>> client.close()
    """

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._http = httpx.Client(**self._options)

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: Any) -> None:
        self.close()

    def close(self) -> None:
        """End the connections."""
        self._http.close()

    @resolve_inputs
    def predict(
        self, h_past: Tensor, num_future: int, *, port_shape: PortShape | None = None, context: dict | None = None
    ) -> Tensor:
        """See :meth:`airlam.interfaces.Predictor.predict`.

        Raises:
            ServingError: the server refuses. ConnectionError: no address answers within ``patience_s``.
        """
        return self._drive(self._predict(("future",), h_past, num_future, port_shape, context))[0]

    @resolve_inputs
    def predict_with_variance(
        self, h_past: Tensor, num_future: int, *, port_shape: PortShape | None = None, context: dict | None = None
    ) -> tuple[Tensor, Tensor]:
        """See :meth:`airlam.models.AirlamPredictor.predict_with_variance`."""
        future, variance = self._drive(self._predict(("future", "variance"), h_past, num_future, port_shape, context))
        return future, variance

    @resolve_inputs
    def predict_with_covariance(
        self,
        h_past: Tensor,
        num_future: int,
        *,
        port_shape: PortShape | None = None,
        context: dict | None = None,
        subcarriers: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """See :meth:`airlam.models.AirlamPredictor.predict_with_covariance`."""
        outputs = ("future", "covariance")
        future, covariance = self._drive(self._predict(outputs, h_past, num_future, port_shape, context, subcarriers))
        return future, covariance

    @resolve_inputs
    def precode(
        self, h: Tensor, power: float | Tensor, no: float | Tensor, *, error_covariance: Tensor | None = None
    ) -> Tensor:
        """See :meth:`airlam.interfaces.Precoder.precode`."""
        return self._drive(calls.precode(self.directory, self.precoder, h, power, no, error_covariance))

    def session(
        self, name: str, num_future: int, *, port_shape: PortShape | None = None, window: int = 16
    ) -> ClientSession:
        """A user's stream; it begins with its first slot or history."""
        return ClientSession(self._talks(name, num_future, port_shape, window), self._drive)

    def models(self) -> dict[str, Any]:
        """What the server serves."""
        return self._drive(self._models())

    def _drive(self, talk: Talk) -> Any:
        """Carry out what a talk wants."""
        try:
            wanted = next(talk)
            while True:
                if isinstance(wanted, Wait):
                    time.sleep(wanted.seconds)
                    wanted = talk.send(None)  # type: ignore[arg-type]
                    continue
                try:
                    reply = self._send(wanted)
                except httpx.TransportError as error:
                    wanted = talk.throw(Unreachable(f"{type(error).__name__} {error}".strip()))
                else:
                    wanted = talk.send(reply)
        except StopIteration as end:
            return end.value

    def _send(self, wanted: Send) -> Reply:
        found = self._http.request(**_arguments(wanted))
        return Reply(found.status_code, found.headers, found.content)


class AsyncClient(Settings):
    """As :class:`Client`, awaited. Arguments: :class:`Settings`.

    Example:
        >>> AsyncClient(["http://10.0.0.1:8000", "http://10.0.0.2:8000"], model="ar").directory.addresses
        ['http://10.0.0.1:8000', 'http://10.0.0.2:8000']
    """

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._http = httpx.AsyncClient(**self._options)

    async def __aenter__(self) -> AsyncClient:
        return self

    async def __aexit__(self, *_: Any) -> None:
        await self.close()

    async def close(self) -> None:
        await self._http.aclose()

    async def predict(
        self, h_past: Tensor, num_future: int, *, port_shape: PortShape | None = None, context: dict | None = None
    ) -> Tensor:
        """See :meth:`Client.predict`."""
        return (await self._drive(self._predict(("future",), h_past, num_future, port_shape, context)))[0]

    async def predict_with_variance(
        self, h_past: Tensor, num_future: int, *, port_shape: PortShape | None = None, context: dict | None = None
    ) -> tuple[Tensor, Tensor]:
        """See :meth:`Client.predict_with_variance`."""
        outputs = ("future", "variance")
        future, variance = await self._drive(self._predict(outputs, h_past, num_future, port_shape, context))
        return future, variance

    async def precode(
        self, h: Tensor, power: float | Tensor, no: float | Tensor, *, error_covariance: Tensor | None = None
    ) -> Tensor:
        """See :meth:`airlam.interfaces.Precoder.precode`."""
        return await self._drive(calls.precode(self.directory, self.precoder, h, power, no, error_covariance))

    def session(
        self, name: str, num_future: int, *, port_shape: PortShape | None = None, window: int = 16
    ) -> AsyncSession:
        """See :meth:`Client.session`."""
        return AsyncSession(self._talks(name, num_future, port_shape, window), self._drive)

    async def models(self) -> dict[str, Any]:
        """What the server serves."""
        return await self._drive(self._models())

    async def _drive(self, talk: Talk) -> Any:
        try:
            wanted = next(talk)
            while True:
                if isinstance(wanted, Wait):
                    await asyncio.sleep(wanted.seconds)
                    wanted = talk.send(None)  # type: ignore[arg-type]
                    continue
                try:
                    found = await self._http.request(**_arguments(wanted))
                    reply = Reply(found.status_code, found.headers, found.content)
                except httpx.TransportError as error:
                    wanted = talk.throw(Unreachable(f"{type(error).__name__} {error}".strip()))
                else:
                    wanted = talk.send(reply)
        except StopIteration as end:
            return end.value


def _arguments(wanted: Send) -> dict[str, Any]:
    out: dict[str, Any] = {
        "method": wanted.method,
        "url": wanted.address + wanted.path,
        "params": wanted.parameters,
        "content": wanted.content,
        "headers": {"content-type": wanted.kind} if wanted.kind else {},
    }
    if wanted.timeout_s is not None:
        out["timeout"] = wanted.timeout_s
    return out


def _trusted(verify: bool | str) -> Any:
    """What httpx verifies servers with."""
    import ssl

    return ssl.create_default_context(cafile=verify) if isinstance(verify, str) else verify
