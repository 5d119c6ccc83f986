"""Starts and supervises a parallel run on this machine: the store, one agent a device, and what they say.

The processes are torch's: a ``TCPStore`` of its own, and one elastic agent a device, which starts the worker, meets
the other agents and starts again with those that are left. This file starts them, prints what happens, passes Ctrl-C
on, and ends what is left of a run that cannot go on.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from airlam.edge.parallel.launching import processes as p
from airlam.edge.parallel.launching.events import EVENTS, durable_step, follow, line_of, read_events, record
from airlam.edge.parallel.launching.store import listen
from airlam.errors import RecipeError
from airlam.io import check_folder, locked, write_json

PROCESSES = "processes.json"
POLL = 0.1  # s
STOPPING = "stopping after this step; again ends it at once"


@dataclass(frozen=True)
class Launch:
    """What to start, and how long to wait.

    Attributes:
        folder: of the run, with ``parallel.json``. command: of a worker, called with the folder as its last argument.
        devices: names; one agent and one worker each. resume: the command line that goes on from the last durable step.
        port: of the store; 0 takes a free one. timeout: seconds that a collective may take before the rank that is
        missing is named and left out. start_timeout: seconds within which all workers must have started.
        keep_alive: seconds between two signs of life of an agent; after three missed ones its device is lost.
        last_call: seconds that agents wait for missing ones when they meet. grace: seconds in which a worker must
        notice that its peers timed out. deaths: how often a worker may be killed before its device is left out.
    """

    folder: Path
    command: tuple[str, ...]
    devices: tuple[str, ...]
    resume: str
    port: int = 0
    timeout: float = 300.0
    start_timeout: float = 300.0
    keep_alive: int = 2
    last_call: int = 4
    grace: float = 10.0
    deaths: int = 3

    def __post_init__(self) -> None:
        bad = next((name for name in self.devices if not name or set(name) & set(", /\\")), None)
        if bad is not None or len(set(self.devices)) != len(self.devices) or not self.devices:
            given = ", ".join(self.devices)
            raise RecipeError(f"devices are {given!r}, but names must differ, without commas, blanks and slashes")
        if not self.timeout > 0:
            raise RecipeError(f"timeout is {self.timeout}, but must be above 0 s")


@dataclass(frozen=True)
class Outcome:
    """How a run ended: the exit code, and one line to print; empty after success."""

    code: int
    line: str = ""


def launch(what: Launch) -> Outcome:
    """Run to the end, with whatever ranks are left. Ctrl-C saves a durable step; a second one ends at once.

    Raises:
        RecipeError: the port is in use. StoreError: another run uses the folder.
    """
    folder = check_folder(what.folder)
    with locked(folder / EVENTS, by="another run"):
        run = Run(what)
        with passed_on(run):
            try:
                run.start()
                while (outcome := run.look()) is None:
                    time.sleep(POLL)
            finally:
                run.end()
        if outcome.code != p.DONE:
            kind = "interrupted" if run.interrupts or outcome.code == p.INTERRUPTED else "ended"
            record(folder, kind, code=outcome.code, text=outcome.line)
        return outcome


@contextlib.contextmanager
def passed_on(run: Run) -> Iterator[None]:
    """SIGINT and SIGTERM become a wish to stop."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, run.interrupt) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@dataclass
class Run:
    """The processes of a run, and what is known of them."""

    what: Launch
    store: subprocess.Popen[str] | None = None
    agents: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)
    codes: dict[str, int] = field(default_factory=dict)
    events: list[dict[str, Any]] = field(default_factory=list)
    interrupts: int = 0
    signal: int = 0

    def __post_init__(self) -> None:
        path = self.what.folder / EVENTS
        self.offset = path.stat().st_size if path.is_file() else 0
        self.deadline = float("inf")  # after which what is left is ended
        self.told = False

    def start(self) -> None:
        """Start the store and the agents."""
        what = self.what
        logs = what.folder / "logs"
        logs.mkdir(exist_ok=True)
        listener = listen(port=what.port)
        address = f"127.0.0.1:{listener.getsockname()[1]}"
        environment = worker_environment(what)
        with listener, open(logs / "store.log", "a") as log:
            os.set_inheritable(listener.fileno(), True)
            self.store = subprocess.Popen(
                [sys.executable, "-m", "airlam.edge.parallel.launching.store", "--fd", str(listener.fileno())],
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
                text=True,
                env=environment,
                pass_fds=[listener.fileno()],
                start_new_session=True,
            )
        run_id = uuid.uuid4().hex
        for device, visible in zip(what.devices, gpus(len(what.devices)), strict=True):
            self.agents[device] = subprocess.Popen(
                [*agent_command(what, address, device, run_id), "--", *what.command, str(what.folder)],
                stdin=subprocess.DEVNULL,
                env=environment | visible,
                start_new_session=True,
            )
        ids = {device: agent.pid for device, agent in self.agents.items()}
        write_json(what.folder / PROCESSES, {"store": self.store.pid, "address": address, "agents": ids})

    def look(self) -> Outcome | None:
        """Print what is new, act on what ended; the outcome when nothing is left to wait for."""
        self.read()
        assert self.store is not None
        if self.store.poll() is not None and self.deadline == float("inf"):
            why = p.signal_name(self.store.returncode)
            return Outcome(p.FAULT, f"the rendezvous store is lost ({why}): every rank was ended; {self.go_on()}")
        for device, agent in self.agents.items():
            if device not in self.codes and agent.poll() is not None:
                self.codes[device] = agent.returncode
                self.ended(device, agent.returncode)
        if self.interrupts and not self.told:
            self.told = True
            begun = any(event["event"] in ("started", "resumed") for event in self.events)
            self.tell("stop", "interrupted")
            self.wait_at_most(self.what.timeout + 60 if begun else 0)
            if begun:
                say(STOPPING)
        left = len(self.agents) - len(self.codes)
        return self.outcome() if not left or self.interrupts > 1 or time.monotonic() > self.deadline else None

    def ended(self, device: str, code: int) -> None:
        """An agent ended: the others go on, or end too."""
        if code in (p.DONE, p.INTERRUPTED):
            self.wait_at_most(25)
        elif 0 < code < p.PEER_LOST or code == p.NO_PROGRESS:
            self.wait_at_most(0.5)
        elif code != p.LEFT_OUT and self.deadline == float("inf"):
            why = {p.STORE_LOST: "it lost the store", p.CLOSED: "it met nobody"}.get(code, p.signal_name(code))
            record(self.what.folder, "lost", what="agent", device=device, why=why)
            self.tell(f"lost/{device}", why)
            self.tell("fault", json.dumps({"time": time.time()}))

    def outcome(self) -> Outcome:
        """How it ended, with one line."""
        self.read()
        kinds = [event["event"] for event in self.events]
        if "finished" in kinds:
            return Outcome(p.DONE)
        if self.interrupts or p.INTERRUPTED in self.codes.values():
            code = 128 + self.signal if self.signal else p.INTERRUPTED
            return Outcome(code, f"interrupted; {self.go_on()}")
        if "failed" in kinds:
            failed = self.events[kinds.index("failed")]
            mistake = p.MISTAKE in self.codes.values()
            if mistake:
                who = "" if failed["error"].startswith("rank ") else f"{failed['device']}: "
                return Outcome(p.MISTAKE, f"{who}{failed['error']}")
            where = f"traceback in {self.what.folder / 'logs'}; {self.go_on()}"
            return Outcome(p.FAULT, f"{failed['device']}: {failed['error']}; {where}")
        ends = ", ".join(f"{device}: {p.signal_name(code)}" for device, code in self.codes.items())
        return Outcome(p.FAULT, f"no device is left ({ends}): every rank was ended; {self.go_on()}")

    def go_on(self) -> str:
        """Where the next run begins, and the command."""
        step = durable_step(read_events(self.what.folder))
        at = "no step was saved" if step is None else f"the last durable step is {step}"
        return f"{at}; go on with: {self.what.resume}"

    def read(self) -> None:
        """New events, printed."""
        new, self.offset = follow(self.what.folder, self.offset)
        self.events += new
        for event in new:
            if line := line_of(event):
                say(line)

    def tell(self, key: str, value: str) -> None:
        """Set a key of the store, unless it is set."""
        assert self.store is not None and self.store.stdin is not None
        with contextlib.suppress(OSError):
            self.store.stdin.write(f"{key} {value}\n")
            self.store.stdin.flush()

    def wait_at_most(self, seconds: float) -> None:
        """End what is left after so many seconds; an earlier limit stays."""
        self.deadline = min(self.deadline, time.monotonic() + seconds)

    def interrupt(self, number: int, frame: Any) -> None:
        """A signal handler: a wish to stop."""
        self.interrupts, self.signal = self.interrupts + 1, number

    def end(self) -> None:
        """End all that still runs: agents with their workers, then the store."""
        for number, seconds in ((signal.SIGTERM, 5.0), (signal.SIGKILL, 5.0)):
            for agent in self.agents.values():
                if agent.poll() is None:
                    agent.send_signal(number)
            end = time.monotonic() + seconds
            for agent in self.agents.values():
                with contextlib.suppress(subprocess.TimeoutExpired):
                    agent.wait(max(0.0, end - time.monotonic()))
        if self.store is not None:
            self.store.kill()
            self.store.wait(5)
            if self.store.stdin is not None:
                with contextlib.suppress(OSError):
                    self.store.stdin.close()
        self.read()
        (self.what.folder / PROCESSES).unlink(missing_ok=True)


def say(line: str) -> None:
    """One line on standard error."""
    print(f"airlam parallel: {line}", file=sys.stderr, flush=True)


def agent_command(what: Launch, address: str, device: str, run_id: str) -> list[str]:
    """The command of an agent, up to that of its worker."""
    options = {
        "store": address,
        "device": device,
        "nnodes": len(what.devices),
        "run-id": run_id,
        "folder": what.folder,
        "address": "127.0.0.1",
        "keep-alive": what.keep_alive,
        "last-call": what.last_call,
        "timeout": what.timeout,
        "start-timeout": what.start_timeout,
        "grace": what.grace,
        "deaths": what.deaths,
    }
    flags = [text for name, value in options.items() for text in (f"--{name}", str(value))]
    return [sys.executable, "-m", "airlam.edge.parallel.launching.agents", *flags]


def worker_environment(what: Launch) -> dict[str, str]:
    """The environment that store, agents and workers inherit; what the user set stays."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    defaults = {
        "OMP_NUM_THREADS": str(max(1, cores // len(what.devices))),
        "TORCH_CPP_LOG_LEVEL": "ERROR",
        "GLOO_SOCKET_IFNAME": "lo0" if sys.platform == "darwin" else "lo",
    }
    # PYTHONSAFEPATH: `python -m` would put the current folder, and so datasets/, on sys.path
    own = {p.PARENT: str(os.getpid()), p.POOL: ",".join(what.devices), "PYTHONSAFEPATH": "1"}
    return defaults | os.environ | own


def gpus(devices: int) -> list[dict[str, str]]:
    """For each device the variable that shows it one GPU of its own; none where there are fewer GPUs than devices."""
    given = os.environ.get("CUDA_VISIBLE_DEVICES")
    found = sorted(path.name[6:] for path in Path("/dev").glob("nvidia[0-9]*")) if given is None else given.split(",")
    found = [number for number in found if number]
    if not found:
        return [{}] * devices
    if len(found) < devices:
        say(f"{len(found)} GPUs are fewer than {devices} ranks: all ranks train on the CPU")
        return [{"CUDA_VISIBLE_DEVICES": ""}] * devices
    return [{"CUDA_VISIBLE_DEVICES": number} for number in found[:devices]]
