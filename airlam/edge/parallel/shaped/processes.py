"""Starts the processes of a shaped pool together, and ends them together."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from airlam.edge.parallel.launching import processes as p
from airlam.edge.parallel.shaped.limits import Group, Groups, Limits, version
from airlam.edge.parallel.shaped.links import INTERFACE, Links, call
from airlam.errors import AirlamError

PORT = 29500
POLL = 0.01  # s
READY, GO = "ready-{}", "go"


class ShapedError(AirlamError):
    """A process of a shaped pool failed, or the host cannot shape."""


@dataclass
class Ended:
    """How a process ended.

    Attributes:
        code: exit code; negative: the signal. memory: bytes of anonymous memory, sampled, at the most. charged: bytes
            at the most, cached files included, as the kernel counts. kills: processes that the kernel killed for
            memory. text: the last lines that it printed.
    """

    code: int
    memory: int
    charged: int
    kills: int
    text: str


def missing(links: bool = True) -> str | None:
    """Why this host cannot shape, in one line; None where it can.

    Args:
        links: whether name spaces of the network are wanted too.
    """
    if sys.platform != "linux":
        return f"shaping needs Linux, but this is {sys.platform}"
    if os.geteuid() != 0:
        return "shaping needs root"
    if not version():
        return "there are no control groups for cpu, cpuset and memory under /sys/fs/cgroup"
    for name in ("cpu", "memory") if version() == 1 else (".",):
        if (
            not os.access(f"/sys/fs/cgroup/{name}", os.W_OK)
            or os.statvfs(f"/sys/fs/cgroup/{name}").f_flag & os.ST_RDONLY
        ):
            return "control groups cannot be made here: /sys/fs/cgroup is read-only"
    if links:
        for tool in ("ip", "tc"):
            if shutil.which(tool) is None:
                return f"the command {tool} is missing (package iproute2)"
        try:
            call("unshare", "-n", "true")
        except OSError as error:
            return f"name spaces of the network cannot be made here: {error}"
    return None


@contextlib.contextmanager
def ended_by_signals() -> Iterator[None]:
    """SIGTERM ends the block as Ctrl-C does, so that it cleans up."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(number: int, frame: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def run_together(
    commands: Sequence[Sequence[str]],
    limits: Sequence[Limits],
    folder: Path,
    *,
    rates: Sequence[float | None] | None = None,
    timeout: float = 600.0,
    failing: bool = False,
    full_speed_start: bool = False,
    first: bool = True,
) -> list[Ended]:
    """Run one command a process, as ranks of one group, with its limits and link.

    Output goes to ``folder/process-N.log``. Whatever happens, nothing is left: no process, group or name space.

    Args:
        limits, rates: of each; without rates all share this host's own network.
        failing: return when processes fail, instead of raising.
        full_speed_start: quotas hold from when every process has written ``ready-RANK`` to ``folder`` on; ``go`` then
            appears there, which they wait for. So imports take little time.
        first: whether they come first on a busy core.

    Raises:
        ShapedError: one fails, or all take longer than ``timeout`` seconds; the message has its last lines.
    """
    with contextlib.ExitStack() as stack:
        stack.enter_context(ended_by_signals())
        groups = stack.enter_context(Groups(first=first))
        links = stack.enter_context(Links(rates)) if rates is not None else None
        begin = [replace(one, quota=None) if full_speed_start else one for one in limits]
        entered = [groups.add(str(number), one) for number, one in enumerate(begin)]
        for name in [READY.format(number) for number in range(len(commands))] + [GO]:
            (folder / name).unlink(missing_ok=True)
        processes: list[subprocess.Popen[bytes]] = []
        stack.callback(_end, processes)
        logs = [folder / f"process-{number}.log" for number in range(len(commands))]
        for number, command in enumerate(commands):
            prefix = links.prefix(number) if links else []
            environment = {
                "RANK": number,
                "LOCAL_RANK": 0,
                "WORLD_SIZE": len(commands),
                "MASTER_ADDR": links.address(0) if links else "127.0.0.1",
                "MASTER_PORT": PORT if links else PORT + os.getpid() % 1000,
                "GLOO_SOCKET_IFNAME": INTERFACE if links else "lo",
                "OMP_NUM_THREADS": 1,
                "MKL_NUM_THREADS": 1,
                "TORCH_CPP_LOG_LEVEL": "ERROR",
                p.PARENT: os.getpid(),
            }
            come_in = 'for file in $ENTRANCES; do echo $$ > "$file"; done; exec "$@"'
            environment["ENTRANCES"] = " ".join(str(path) for path in entered[number].entrances)
            with open(logs[number], "wb") as log:
                processes.append(
                    subprocess.Popen(
                        ["sh", "-c", come_in, "sh", *prefix, *command],
                        env=os.environ | {key: str(value) for key, value in environment.items()},
                        stdin=subprocess.DEVNULL,
                        stdout=log,
                        stderr=log,
                        start_new_session=True,
                    )
                )

        def started() -> bool:
            if not all((folder / READY.format(number)).exists() for number in range(len(commands))):
                return False
            for group, one in zip(entered, limits, strict=True):
                group.apply(one)
            (folder / GO).touch()
            return True

        memory = _wait(processes, entered, time.monotonic() + timeout, started if full_speed_start else lambda: True)
        bad = [number for number, process in enumerate(processes) if process.poll()]
        late = not bad and any(process.returncode is None for process in processes)
        _end(processes)
        found = [
            Ended(process.returncode, most, group.peak(), group.kills(), _tail(log))
            for process, most, group, log in zip(processes, memory, entered, logs, strict=True)
        ]
    if late and not failing:
        raise ShapedError(f"the processes took longer than {timeout:.0f} s: {found[0].text or logs[0]}")
    if bad and not failing:
        first = found[bad[0]]
        raise ShapedError(f"process {bad[0]} ended with {p.signal_name(first.code)}: {first.text or logs[bad[0]]}")
    return found


def wait_to_go(folder: Path, rank: int) -> None:
    """In a process of :func:`run_together`: say that this one has started, and wait for the others."""
    (folder / READY.format(rank)).touch()
    while not (folder / GO).exists():
        time.sleep(POLL)


def _wait(
    processes: list[subprocess.Popen[bytes]], groups: list[Group], end: float, started: Callable[[], bool]
) -> list[int]:
    """Wait until all are done, one fails, or the time is up; the most memory of each."""
    most, begun = [0] * len(processes), False
    while time.monotonic() < end:
        begun = begun or started()
        codes = [process.poll() for process in processes]
        most = [max(before, group.memory()) for before, group in zip(most, groups, strict=True)]
        if all(code is not None for code in codes):
            break
        if any(codes):
            time.sleep(1.0)  # the others may say why
            break
        time.sleep(POLL)
    return most


def _end(processes: list[subprocess.Popen[bytes]]) -> None:
    for process in processes:
        if process.poll() is None:
            p.kill_group(process.pid)
    for process in processes:
        process.wait(20)


def _tail(log: Path) -> str:
    """The last line that says something."""
    lines = [line.strip() for line in log.read_text(errors="replace").splitlines()[-20:] if line.strip()]
    return lines[-1] if lines else ""
