"""Name spaces of the network: one for each process, joined by a bridge, each behind a link of a chosen rate.

Every link is shaped both ways by a token bucket (``tc tbf``): what a process sends, and what is sent to it. Delay is
not added. Needs root and ``ip`` and ``tc``; all goes when the ``with`` block ends.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import Sequence

from airlam.edge.parallel.shaped.limits import left_over

INTERFACE = "edge0"
BURST = 16_000  # bytes that may pass at once: ten packets
QUEUE = 16_000_000  # bytes that may wait, more than sockets hold: nothing is dropped
SETTINGS = {"tcp_limit_output_bytes": 16_384, "tcp_slow_start_after_idle": 0}
"""Of TCP: no connection fills the queue before others' acknowledgements, and none starts anew after a pause."""
SEGMENTS = 4  # packets that the kernel may hand on as one: fewer than fit into the burst


def call(*words: object) -> str:
    """What a command prints.

    Raises:
        OSError: it fails; with what it said.
    """
    try:
        done = subprocess.run([str(word) for word in words], capture_output=True, text=True, check=True, timeout=30)
    except subprocess.CalledProcessError as error:
        said = (error.stderr.strip() or error.stdout.strip() or f"exit code {error.returncode}").splitlines()[0]
        raise OSError(f"{' '.join(map(str, words))}: {said}") from None
    return done.stdout


def spaces() -> list[str]:
    """Names of the name spaces that there are."""
    return [line.split()[0] for line in call("ip", "netns", "list").splitlines() if line.strip()]


class Links:
    """Links of as many processes.

    Args:
        rates: bit/s of each one's link, both ways; None: not shaped.
    """

    def __init__(self, rates: Sequence[float | None]) -> None:
        self.rates = list(rates)
        self.hub = f"airlam-{os.getpid()}-hub"

    def name(self, number: int) -> str:
        """The name space of a process."""
        return f"airlam-{os.getpid()}-{number}"

    def address(self, number: int) -> str:
        """Of a process."""
        return f"10.77.0.{number + 1}"

    def prefix(self, number: int) -> list[str]:
        """What to put before a command to run it in a process's name space."""
        return ["ip", "netns", "exec", self.name(number)]

    def __enter__(self) -> Links:
        for old in left_over(spaces()):
            call("ip", "netns", "del", old)
        try:
            call("ip", "netns", "add", self.hub)
            call("ip", "-n", self.hub, "link", "add", "bridge", "type", "bridge")
            call("ip", "-n", self.hub, "link", "set", "bridge", "up")
            for number, rate in enumerate(self.rates):
                self._join(number, rate)
        except BaseException:
            self.__exit__()
            raise
        return self

    def _join(self, number: int, rate: float | None) -> None:
        space, port = self.name(number), f"port{number}"
        call("ip", "netns", "add", space)
        pair = ("link", "add", INTERFACE, "netns", space, "type", "veth", "peer", "name", port, "netns", self.hub)
        call("ip", *pair)
        call("ip", "-n", self.hub, "link", "set", port, "master", "bridge", "up")
        call("ip", "-n", space, "addr", "add", f"{self.address(number)}/24", "dev", INTERFACE)
        for device in ("lo", INTERFACE):
            call("ip", "-n", space, "link", "set", device, "up")
        if rate is not None:
            call("ip", "-n", space, "link", "set", INTERFACE, "gso_max_segs", SEGMENTS)
            for name, value in SETTINGS.items():
                call(*self.prefix(number), "sh", "-c", f"echo {value} > /proc/sys/net/ipv4/{name}")
            for where, device in ((space, INTERFACE), (self.hub, port)):
                bucket = ("rate", f"{round(rate)}bit", "burst", BURST, "limit", QUEUE)
                call("tc", "-n", where, "qdisc", "add", "dev", device, "root", "tbf", *bucket)

    def __exit__(self, *_: object) -> None:
        for name in (*(self.name(number) for number in range(len(self.rates))), self.hub):
            with contextlib.suppress(OSError):
                call("ip", "netns", "del", name)
