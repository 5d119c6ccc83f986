"""Processes of a parallel run: exit codes, environment, and how none of them outlives its parent. No torch here.

The tree is launcher -> store and agents, agent -> worker. Each child asks the kernel to be killed when its parent
ends, in whatever way that happens, so no kill of any of them leaves an orphan.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys

DONE = 0
FAULT = 1  # an exception of the program: every rank ends
MISTAKE = 2  # a user's mistake, one line: every rank ends
PEER_LOST = 75  # a collective or a store operation failed because of another rank: start again
STORE_LOST = 76
LEFT_OUT = 77  # this device is given up: the others go on
CLOSED = 78  # the others ended, or cannot be met
NO_PROGRESS = 79  # restarts that trained nothing
INTERRUPTED = 130

STORE = "AIRLAM_PARALLEL_STORE"  # host:port of the store process
DEVICE = "AIRLAM_PARALLEL_DEVICE"  # name of this device
DEVICES = "AIRLAM_PARALLEL_DEVICES"  # names by rank, of this round
POOL = "AIRLAM_PARALLEL_POOL"  # names of all devices that the run began with
ROUND = "AIRLAM_PARALLEL_ROUND"  # number of this set of workers, counted by the store
PARENT = "AIRLAM_PARALLEL_PARENT"  # process id of whoever must not be outlived
TIMEOUT = "AIRLAM_PARALLEL_TIMEOUT"  # s that a collective may take
START_TIMEOUT = "AIRLAM_PARALLEL_START_TIMEOUT"  # s within which all ranks must have started

_PR_SET_PDEATHSIG = 1
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3


def die_with_parent() -> None:
    """End this process (SIGKILL) when its parent ends. Called first thing in a child, from its main thread.

    On Linux the kernel does it, for a stopped process too; elsewhere only a parent that is gone already is noticed
    here, and workers look again with every heartbeat.
    """
    if sys.platform == "linux":
        import ctypes

        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL))
    if orphaned():  # the parent ended before the line above
        os._exit(CLOSED)


def give_memory_back(above: int = 1 << 20) -> bool:
    """From now on, pieces of memory above so many bytes go back to the kernel when they are freed.

    glibc keeps them by default, which is faster; sharded weights, gathered and freed layer by layer, then hold half as
    much again as they need. What the user set (``MALLOC_MMAP_THRESHOLD_``) stays.

    Returns:
        Whether this system's C library can do it.
    """
    if sys.platform != "linux" or "MALLOC_MMAP_THRESHOLD_" in os.environ:
        return False
    import ctypes

    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return False
    return bool(mallopt(_M_MMAP_THRESHOLD, above)) and bool(mallopt(_M_TRIM_THRESHOLD, 32 << 20))


def orphaned() -> bool:
    """Whether the parent that the environment names is no longer the parent."""
    parent = os.environ.get(PARENT)
    return parent is not None and os.getppid() != int(parent)


def signal_name(code: int) -> str:
    """What ended a process, from its exit code: negative is a signal.

    Example:
        >>> signal_name(-9), signal_name(1)
        ('SIGKILL', 'exit code 1')
    """
    if code >= 0:
        return f"exit code {code}"
    try:
        return signal.Signals(-code).name
    except ValueError:
        return f"signal {-code}"


def kill_group(pid: int) -> None:
    """SIGKILL for a session leader and what it started. Nothing happens where there is none left."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, signal.SIGKILL)


def leave(code: int) -> None:
    """End now, with what was printed, and without the destructors of libraries, which may wait for lost peers."""
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(Exception):
            stream.flush()
    os._exit(code)
