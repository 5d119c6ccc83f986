"""Where a server listens, and what it asks of those who come: token, TLS."""

from __future__ import annotations

import ipaddress
import os
from dataclasses import dataclass
from pathlib import Path

from airlam.errors import RecipeError
from airlam.recipes import check_number

LEAST_TOKEN = 16  # characters
TOKEN = "AIRLAM_SERVING_TOKEN"


@dataclass(frozen=True)
class Listen:
    """The address of a server.

    Attributes:
        host, port: of the address that hands out the replicas' addresses. direct_port: the first of the ports of
            replicas, ``direct_ports`` many.
        token_file: a file with the token that requests must carry; ``AIRLAM_SERVING_TOKEN`` goes before it.
        certificate, key: files (PEM) for TLS.

    Raises:
        RecipeError: an address that other hosts reach, without a token and TLS.

    Example:
        >>> Listen().host
        '127.0.0.1'
        >>> Listen(host="0.0.0.0")
        Traceback (most recent call last):
        airlam.errors.RecipeError: listen.host is '0.0.0.0', which other hosts reach: ...
    """

    host: str = "127.0.0.1"
    port: int = 8000
    direct_port: int = 30000
    direct_ports: int = 1000
    token_file: str = ""
    certificate: str = ""
    key: str = ""

    def __post_init__(self) -> None:
        if not isinstance(self.host, str) or not self.host:
            raise RecipeError(f"listen.host is {self.host!r}, but must be a host or address")
        for name in ("port", "direct_port"):
            check_number(f"listen.{name}", getattr(self, name), 1, 65535, integer=True)
        check_number("listen.direct_ports", self.direct_ports, 1, 65535 - self.direct_port, integer=True)
        if bool(self.certificate) != bool(self.key):
            raise RecipeError("listen.certificate and listen.key go together: give both files for TLS, or neither")
        for name in ("certificate", "key", "token_file"):
            path = getattr(self, name)
            if path and not Path(path).is_file():
                raise RecipeError(f"listen.{name} is {path!r}, but there is no such file")
        if not is_loopback(self.host) and not (self.secret() and self.certificate):
            raise RecipeError(
                f"listen.host is {self.host!r}, which other hosts reach: give a token ({TOKEN} or listen.token_file) "
                "and TLS (listen.certificate, listen.key), or listen on 127.0.0.1"
            )

    def secret(self) -> str:
        """The token; empty: none is asked for. Never printed, and not a field, so that no report holds it."""
        token = os.environ.get(TOKEN, "")
        source = TOKEN
        if not token and self.token_file:
            source = "listen.token_file"
            token = Path(self.token_file).read_text(encoding="utf-8").strip()
        if token and (len(token) < LEAST_TOKEN or not token.isascii() or not token.isprintable() or " " in token):
            raise RecipeError(
                f"the token of {source} has {len(token)} characters, but must be at least {LEAST_TOKEN} ASCII letters, "
                "digits or signs without blanks"
            )
        return token

    @property
    def scheme(self) -> str:
        return "https" if self.certificate else "http"


def is_loopback(host: str) -> bool:
    """Whether only programs of this machine reach ``host``.

    Example:
        >>> [is_loopback(host) for host in ("127.0.0.1", "localhost", "::1", "0.0.0.0", "example.org")]
        [True, True, True, False, False]
    """
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
