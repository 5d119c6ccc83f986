"""Control groups: what the kernel lets one process use of a core and of memory. Versions 1 and 2; needs root.

Groups are named after the process that makes them, and go when the ``with`` block ends, in whatever way. What a killed
process left is removed by the next one.
"""

from __future__ import annotations

import contextlib
import os
import re
import signal
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

ROOT = Path("/sys/fs/cgroup")
CONTROLLERS = ("cpu", "cpuset", "memory")
PERIOD = 0.02
"""s over which a quota holds: shorter than the pieces of work between two waits, so that a quota acts as a speed; much
longer than the 5 ms that the kernel hands out at once."""
SHARES = 200_000  # of a busy core, against 1024 of an ordinary process (version 1; version 2 takes its largest weight)
_NAME = re.compile(r"airlam-(\d+)(-.*)?")


@dataclass(frozen=True)
class Limits:
    """Of one process and its children.

    Attributes:
        quota: share of a core; None: all of it. memory: bytes, of anonymous and cached pages; None: no limit.
        core: number of the core to stay on; None: any.
    """

    quota: float | None = None
    memory: int | None = None
    core: int | None = None


def version(root: Path = ROOT) -> int:
    """Of the host's control groups: 1, 2, or 0 where there are none that limit processors and memory."""
    if all((root / name).is_dir() for name in CONTROLLERS):
        return 1
    listed = root / "cgroup.controllers"
    return 2 if listed.is_file() and set(CONTROLLERS) <= set(listed.read_text().split()) else 0


def belongs(name: str) -> int | None:
    """The process that made a group or name space of this name; None where it is not one of ours.

    Example:
        >>> belongs("airlam-71-hub"), belongs("docker-71")
        (71, None)
    """
    found = _NAME.fullmatch(name)
    return int(found[1]) if found else None


def left_over(names: Iterable[str]) -> list[str]:
    """Names that processes left which are gone."""
    return [name for name in names if (pid := belongs(name)) is not None and not Path(f"/proc/{pid}").exists()]


class Group:
    """One process's group. Made by :class:`Groups`."""

    def __init__(self, places: dict[str, Path], kind: int) -> None:
        self.places, self.kind = places, kind

    @property
    def entrances(self) -> list[Path]:
        """Files that a process writes its number to, to come in."""
        return [place / "cgroup.procs" for place in dict.fromkeys(self.places.values())]

    def apply(self, limits: Limits) -> None:
        """Set the limits."""
        cpu, cpuset, memory = (self.places[name] for name in CONTROLLERS)
        period = round(1e6 * PERIOD)
        quota = None if limits.quota is None else max(1000, round(period * limits.quota))
        cores = str(limits.core) if limits.core is not None else None
        if self.kind == 1:
            (cpu / "cpu.cfs_period_us").write_text(str(period))
            (cpu / "cpu.cfs_quota_us").write_text(str(-1 if quota is None else quota))
            parent = cpuset.parent
            (cpuset / "cpuset.mems").write_text((parent / "cpuset.mems").read_text())
            (cpuset / "cpuset.cpus").write_text(cores or (parent / "cpuset.cpus").read_text())
            if limits.memory is not None:
                (memory / "memory.limit_in_bytes").write_text(str(limits.memory))
                if (both := memory / "memory.memsw.limit_in_bytes").exists():
                    both.write_text(str(limits.memory))
            return
        (cpu / "cpu.max").write_text(f"{'max' if quota is None else quota} {period}")
        if cores:
            (cpuset / "cpuset.cpus").write_text(cores)
        if limits.memory is not None:
            (memory / "memory.max").write_text(str(limits.memory))
            (memory / "memory.swap.max").write_text("0")

    def memory(self) -> int:
        """Bytes of anonymous memory that are in use now."""
        name = "rss" if self.kind == 1 else "anon"
        return self._of("memory.stat", name)

    def peak(self) -> int:
        """Most bytes that were charged at once, cached files included."""
        return int(
            (self.places["memory"] / ("memory.max_usage_in_bytes" if self.kind == 1 else "memory.peak")).read_text()
        )

    def kills(self) -> int:
        """Processes that the kernel killed here for memory."""
        return self._of("memory.oom_control" if self.kind == 1 else "memory.events", "oom_kill")

    def _of(self, file: str, name: str) -> int:
        lines = (line.split() for line in (self.places["memory"] / file).read_text().splitlines())
        return next(int(line[1]) for line in lines if line[0] == name)

    def remove(self) -> None:
        """End what is left inside, and remove the group."""
        for place in dict.fromkeys(self.places.values()):
            remove(place)


def remove(place: Path) -> None:
    """Remove a group, in one controller, and end what is left inside."""
    for _ in range(50):
        entrance = place / "cgroup.procs"
        if not entrance.exists():
            return
        for pid in set(entrance.read_text().split()) - {"0"}:  # 0: a process that is not to be seen from here
            with contextlib.suppress(ProcessLookupError):
                os.kill(int(pid), signal.SIGKILL)
        with contextlib.suppress(OSError):
            place.rmdir()
            return
        time.sleep(0.1)


class Groups:
    """All groups of this process.

    Args:
        first: whether they come first on a busy core, as measurements of time need it.

    Example:
        with Groups() as groups:
            group = groups.add("one", Limits(quota=0.5, core=1))
    """

    def __init__(self, *, first: bool = True, root: Path = ROOT) -> None:
        self.first, self.root, self.kind = first, root, version(root)
        self.name = f"airlam-{os.getpid()}"
        self.made: list[Group] = []

    def __enter__(self) -> Groups:
        for base in self._bases().values():
            for old in left_over(path.name for path in base.parent.iterdir() if path.is_dir()):
                for inner in [path for path in (base.parent / old).iterdir() if path.is_dir()]:
                    remove(inner)
                remove(base.parent / old)
        bases = self._bases()
        for base in dict.fromkeys(bases.values()):
            base.mkdir(exist_ok=True)
        if self.kind == 1:
            (bases["cpu"] / "cpu.shares").write_text(str(SHARES if self.first else 1024))
            for file in ("cpuset.mems", "cpuset.cpus"):
                (bases["cpuset"] / file).write_text((bases["cpuset"].parent / file).read_text())
        else:
            for folder in (self.root, bases["cpu"]):
                (folder / "cgroup.subtree_control").write_text(" ".join(f"+{name}" for name in CONTROLLERS))
            (bases["cpu"] / "cpu.weight").write_text("10000" if self.first else "100")
        return self

    def __exit__(self, *_: object) -> None:
        for group in self.made:
            group.remove()
        for base in dict.fromkeys(self._bases().values()):
            remove(base)

    def _bases(self) -> dict[str, Path]:
        return {name: (self.root / name if self.kind == 1 else self.root) / self.name for name in CONTROLLERS}

    def add(self, name: str, limits: Limits) -> Group:
        """A group for one process."""
        places = {key: base / name for key, base in self._bases().items()}
        for place in dict.fromkeys(places.values()):
            place.mkdir()
        group = Group(places, self.kind)
        self.made.append(group)
        group.apply(limits)
        return group
