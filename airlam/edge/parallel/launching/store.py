"""The rendezvous store as a process of its own: torch's ``TCPStore``, which outlives every agent and every worker.

The launcher starts ``python -m airlam.edge.parallel.launching.store --fd N`` with a socket that listens already,
so a port in use is found before anything runs. For several machines, on one of them::

    python -m airlam.edge.parallel.launching.store --host 10.0.0.1 --port 29400

The store is meant for a trusted network: torch's rendezvous unpickles what it reads there.
"""

from __future__ import annotations

import argparse
import errno
import os
import socket
import sys
import time
from datetime import timedelta
from typing import TYPE_CHECKING

from airlam.edge.parallel.launching.processes import PARENT, die_with_parent
from airlam.errors import AirlamError, RecipeError

if TYPE_CHECKING:
    from torch.distributed import TCPStore

PORT = 29400


class StoreLostError(AirlamError):
    """The store does not answer."""


def listen(host: str = "127.0.0.1", port: int = 0) -> socket.socket:
    """A listening socket for the store; port 0 takes a free one.

    Raises:
        RecipeError: the port is in use, or the address is not one of this machine.
    """
    if not 0 <= port <= 65535:
        raise RecipeError(f"master-port is {port}, but must be 1 to 65535, or 0 for a free one")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
        listener.listen(128)
    except OSError as error:
        listener.close()
        if error.errno == errno.EADDRINUSE:
            raise RecipeError(
                f"port {port} is in use; name another one with --master-port, or leave that out: a free one is taken "
                "(a store of its own: --port)"
            ) from None
        raise RecipeError(f"cannot listen on {host}:{port}: {error.strerror or error}") from None
    return listener


def serve(listener: socket.socket) -> TCPStore:
    """The store's server, behind ``listener``. It serves until the object goes."""
    from torch.distributed import TCPStore

    host, port = listener.getsockname()[:2]
    return TCPStore(
        host,
        port,
        is_master=True,
        wait_for_workers=False,
        master_listen_fd=listener.detach(),
        timeout=timedelta(seconds=30),
    )


def connect(address: str, timeout: float) -> TCPStore:
    """A client of the store at ``host:port``, whose operations wait ``timeout`` seconds at most.

    Raises:
        RecipeError: the address means nothing. StoreLostError: nobody answers there.
    """
    from torch.distributed import TCPStore

    host, _, port = address.rpartition(":")
    if not host or not port.isdigit():
        raise RecipeError(f"the store's address is {address!r}, but must be HOST:PORT")
    try:
        return TCPStore(
            host.strip("[]"), int(port), is_master=False, wait_for_workers=False, timeout=timedelta(seconds=timeout)
        )
    except (RuntimeError, ValueError) as error:
        text = str(error).splitlines()[0]
        raise StoreLostError(f"no rendezvous store answers at {address} within {timeout:.0f} s: {text}") from None


def main() -> int:
    """Serves. A line ``KEY VALUE`` on standard input sets a key that is not set yet: so the launcher speaks to all."""
    parser = argparse.ArgumentParser(
        prog="python -m airlam.edge.parallel.launching.store", description=__doc__.splitlines()[0]
    )
    parser.add_argument("--fd", type=int, help="a socket that listens already")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default: %(default)s)")
    parser.add_argument("--port", type=int, default=PORT, help="default: %(default)s")
    known = parser.parse_args()
    if os.environ.get(PARENT):
        die_with_parent()
    try:
        listener = socket.socket(fileno=known.fd) if known.fd is not None else listen(known.host, known.port)
        server = serve(listener)
    except AirlamError as error:
        print(f"airlam store: {error}", file=sys.stderr)
        return 2
    if known.fd is None:
        print(f"the rendezvous store listens on {known.host}:{known.port}; Ctrl-C ends it", flush=True)
        try:
            while True:
                time.sleep(3600)
        except KeyboardInterrupt:
            return 130
    for line in sys.stdin:
        key, _, value = line.strip().partition(" ")
        server.compare_set(key, "", value)
    return 0


if __name__ == "__main__":
    sys.exit(main())
