"""The same application in one process without Ray and replicas: for notebooks, tests, comparisons."""

from __future__ import annotations

import socket
import threading
import time
from typing import Any

import uvicorn

from airlam.serving.app import create_app
from airlam.serving.config import ServingConfig
from airlam.serving.state import Replica


class PlainServer:
    """A server in a thread of this process.

    Args:
        port: ``None``: that of the configuration; 0: a free one.

    Example:
        >>> from airlam.serving import Client
        >>> config = ServingConfig(predictors={"hold": {}}, classic="hold")
        >>> with PlainServer(config, port=0) as server, Client(server.address, model="hold") as client:
        ...     client.models()["predictors"][0]["name"]
        'hold'
    """

    def __init__(self, config: ServingConfig, port: int | None = None) -> None:
        listen = config.listen
        self.replica = Replica(config, addresses=self._addresses)
        self._socket = socket.socket(socket.AF_INET6 if ":" in listen.host else socket.AF_INET)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._socket.bind((listen.host, listen.port if port is None else port))
        self.port = self._socket.getsockname()[1]
        self.address = f"{listen.scheme}://{listen.host}:{self.port}"
        tls: dict[str, Any] = {}
        if listen.certificate:
            tls = {"ssl_certfile": listen.certificate, "ssl_keyfile": listen.key}
        self.server = uvicorn.Server(
            uvicorn.Config(
                create_app(self.replica), log_level="warning", access_log=False, ws="none", timeout_keep_alive=75, **tls
            )
        )
        self._thread = threading.Thread(target=self.run, name="airlam-server", daemon=True)

    async def _addresses(self) -> list[str]:
        return [self.address]

    def run(self) -> None:
        """Serve in this thread until :meth:`close`."""
        self.server.run(sockets=[self._socket])

    def __enter__(self) -> PlainServer:
        self._thread.start()
        while not self.server.started and self._thread.is_alive():
            time.sleep(0.01)
        return self

    def __exit__(self, *_: Any) -> None:
        self.close()

    def close(self) -> None:
        self.server.should_exit = True
        if self._thread.is_alive():
            self._thread.join(10)
        self.replica.close()
        self._socket.close()
