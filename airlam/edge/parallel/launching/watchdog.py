"""The worker's side of a run that survives faults: it tells where it is, and ends when others are lost.

A worker is ``sys.exit(run(RUNFOLDER, train))``, where ``train(watch)`` loads the last durable step and trains from
there::

    def train(watch):
        step = load_newest(watch.folder)
        shares = watch.shares or equal_shares(watch.world_size)
        while step < steps:
            if watch.begin(step):       # every rank gets True in the same step: the user asked to stop
                save(step)              # atomically
                watch.saved(step)
                return
            with watch.waiting("all_reduce of the gradients"):
                ...
            step += 1
            if step % every == 0:
                save(step)
                watch.saved(step)

``train`` never catches what a collective raises. ``run`` does: it names the rank that is missing, ends with the exit
code that lets the agent start the worker again with the devices that are left, and writes any traceback to ``logs/``.
A rank that hangs is told from ranks that wait for it by :func:`waiting` alone: put it around collectives.
"""

from __future__ import annotations

import contextlib
import faulthandler
import json
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any, TextIO

import torch.distributed as dist

from airlam.edge.parallel.launching import processes as p
from airlam.edge.parallel.launching.events import line_of, record
from airlam.edge.parallel.launching.membership import (
    PeerLostError,
    Place,
    StopRequested,
    facts_of,
    first_line,
    join,
    lost_peer,
    meet,
    open_store,
    reordered,
    within,
)
from airlam.edge.parallel.launching.store import StoreLostError
from airlam.errors import AirlamError

BEAT = 0.5  # s
Replan = Callable[[Sequence[str]], Any]


class Watchdog:
    """What a worker says of itself and knows of the others. Made by :func:`run`.

    Attributes:
        place: rank, devices, time-outs. shares: what ``replan`` gave for the devices that are left; None with all
        there. stopping: whether the ranks agreed to stop.
    """

    def __init__(self, place: Place, base: dist.Store, store: dist.Store, shares: Any = None) -> None:
        self.place, self.shares, self.stopping = place, shares, False
        self._base, self._store = base, store
        self._asked = threading.Event()  # a stop, by anybody
        self._ended = threading.Event()
        self._steps = 0  # begun in this process
        self._step: int | None = None
        self._reached = 0  # steps that were done before a fault
        self._said = False  # that training began, or goes on
        self._doing = ""  # the collective that this rank waits in
        self._marked = False  # whether collectives are marked at all
        self._since = time.monotonic()  # last sign of the main thread
        self._given_up = False
        self._stop_at = 0
        self._thread = threading.Thread(target=self._beat, daemon=True, name="watchdog")

    @property
    def folder(self) -> Path:
        """Of the run."""
        return self.place.folder

    @property
    def rank(self) -> int:
        """Of this worker."""
        return self.place.rank

    @property
    def world_size(self) -> int:
        """Workers in this round."""
        return self.place.world_size

    @property
    def devices(self) -> tuple[str, ...]:
        """Names of the devices that are here, by rank."""
        return self.place.devices

    def start(self) -> None:
        """Begin to send heartbeats. An interrupt (SIGINT) from now on is a wish to stop, agreed on by all ranks."""
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGINT, lambda *_: self._asked.set())
        self._thread.start()

    def begin(self, step: int) -> bool:
        """Say that ``step`` steps are done and the next begins; True where all ranks agreed to stop before it.

        Rank 0 decides, at the beginning of a step, that the ranks stop before the next one. Nobody can have begun that:
        it takes rank 0's part in this step. The store answers each operation, so the others read what rank 0 wrote.
        """
        self._step, self._since = step, time.monotonic()
        self._steps += 1
        if self.rank == 0:
            if self._steps == 1 and self._base.check(["reached"]):
                self._reached = int(self._base.get("reached"))
            elif self._steps == 2:
                self._went_on(step)
            self._base.set("reached", str(step if self._said else max(step, self._reached)))
            if self._asked.is_set() and not self._stop_at:
                self._stop_at = self._store.add("stop_at", step + 1)
        else:
            self._stop_at = self._store.add("stop_at", 0)
        self.stopping = 0 < self._stop_at <= step
        return self.stopping

    def saved(self, step: int) -> None:
        """Say that the state after ``step`` steps is on the disk under its final name. All ranks call it."""
        if self.rank == 0:
            record(self.folder, "saved", step=step)

    @contextlib.contextmanager
    def waiting(self, what: str) -> Iterator[None]:
        """Say that this rank waits for others, so that a rank that does not is the one they wait for."""
        before, self._doing, self._marked, self._since = self._doing, what, True, time.monotonic()
        yield
        # not after an error: it says what the rank waited for
        self._doing, self._since = before, time.monotonic()

    def close(self) -> None:
        """All is done: wait a moment for the others, so that whoever holds the store ends last."""
        self._store.add("bye", 1)
        end = time.monotonic() + 10
        while self.rank == 0 and self._store.add("bye", 0) < self.world_size and time.monotonic() < end:
            time.sleep(0.05)
        if self.rank == 0 and not self.stopping:
            if self._step is not None:
                self._went_on(self._step + 1)
            record(self.folder, "finished")
        self._ended.set()
        self._thread.join(2)

    def explain(self, lost: PeerLostError) -> str:
        """Who is missing, from the heartbeats; told to all, so that the agent of that rank can judge it."""
        text = str(lost)
        if not lost.stalled:
            return text
        where = f" in step {self._step}" if self._step is not None else ""
        doing = f" in {self._doing}" if self._doing else ""
        suspects, why = self._suspects() if self._thread.is_alive() else ([], "")
        names = ", ".join(self.place.name(rank) for rank in suspects)
        found = f" for {names}, which {why}" if names else f": {text}"
        line = f"{self.place.name(self.rank)} waited {self.place.timeout:g} s{doing}{where}{found}"
        blame(self.place, self._base, self._store, line)
        return line

    def _overdue(self) -> bool:
        """Whether the main thread waits too long, in a group whose own time-out is longer, or gives no sign at all.

        Before its first step it may load for as long as the others wait.
        """
        limit = self.place.timeout
        if not self._doing:
            return self._steps > 0 and time.monotonic() - self._since > 3 * limit
        return time.monotonic() - self._since > limit + max(2.0, 0.1 * limit)

    def _give_up(self) -> None:
        """End this rank from outside of its main thread, which hangs."""
        with _trace_file(self.place) as file:
            faulthandler.dump_traceback(file)
        with contextlib.suppress(RuntimeError):
            print(f"airlam worker: {self.explain(PeerLostError('no answer', stalled=True))}", file=sys.stderr)
        p.leave(p.PEER_LOST)

    def _suspects(self) -> tuple[list[int], str]:
        """Ranks that are silent; else those that wait for nobody while others do; else those behind in steps."""
        others = [rank for rank in range(self.world_size) if rank != self.rank]
        before = {rank: self._store.add(f"beat/{rank}", 0) for rank in others}
        time.sleep(5 * BEAT)
        silent = [rank for rank in others if self._store.add(f"beat/{rank}", 0) == before[rank]]
        if silent:
            return silent, "is silent" if len(silent) == 1 else "are silent"
        keys = [f"state/{rank}" for rank in others]
        states = dict(zip(others, map(json.loads, self._store.multi_get(keys)), strict=True))
        busy = [rank for rank, state in states.items() if not state["doing"]]
        if self._doing and busy and len(busy) < self.world_size - 1:
            return busy, "waits for nobody" if len(busy) == 1 else "wait for nobody"
        behind = [rank for rank, state in states.items() if (state["step"] or 0) < (self._step or 0)]
        return behind, "is behind" if len(behind) == 1 else "are behind"

    def _went_on(self, step: int) -> None:
        """The first step of this round is done: say what a fault before it cost."""
        if self._said:
            return
        self._said = True
        if self.place.number.isdigit():
            self._base.set("progress", self.place.number)
        fault = self._base.compare_set("fault", "", "").decode()
        if not fault:
            record(self.folder, "started", step=step - 1, devices=list(self.devices), shares=self.shares)
            return
        found = json.loads(fault)
        say(
            record(
                self.folder,
                "resumed",
                step=step - 1,
                devices=list(self.devices),
                away=list(self.place.away),
                shares=self.shares,
                lost_steps=max(0, self._reached - (step - 1)),
                recovery_s=round(time.time() - found["time"], 2),
            )
        )
        self._base.compare_set("fault", fault, "")

    def _beat(self) -> None:
        """Heartbeats, and what others say: a stop, a time-out; ends the process when the store or the agent is gone."""
        base, store = self._base, self._store
        try:
            while not self._ended.wait(BEAT):
                store.set(f"state/{self.rank}", json.dumps({"step": self._step, "doing": self._doing}))
                store.add(f"beat/{self.rank}", 1)
                if self._asked.is_set():
                    base.set("stop", "interrupted")
                elif base.check(["stop"]):
                    self._asked.set()
                if self._overdue() and not self._given_up:
                    self._given_up = True
                    threading.Thread(target=self._give_up, daemon=True).start()
                if p.orphaned():
                    p.leave(p.CLOSED)
                if (self._doing or not self._marked) and store.check(["stall"]):
                    if not self._ended.wait(2 * BEAT):  # the collective may say it first
                        p.leave(p.PEER_LOST)
        except RuntimeError as error:
            if not self._ended.is_set():
                time.sleep(2 * BEAT)  # where rank 0 holds the store, a collective says more
                print(f"airlam worker: the store is lost: {first_line(error)}", file=sys.stderr)
                p.leave(p.STORE_LOST if os.environ.get(p.STORE) else p.PEER_LOST)


def blame(place: Place, base: dist.Store, store: dist.Store, line: str) -> None:
    """Tell all that this round timed out; the first one to say so writes the event."""
    if store.compare_set("stall", "", str(place.rank)).decode() == str(place.rank):
        say(record(place.folder, "timeout", rank=place.rank, device=place.device, text=line))
        fault(base)


def fault(base: dist.Store) -> None:
    """Note when training stopped; the first fault since the last finished step counts."""
    base.compare_set("fault", "", json.dumps({"time": time.time()}))


def say(entry: dict[str, Any]) -> None:
    """Print an event where no launcher does."""
    if p.ROUND not in os.environ and (line := line_of(entry)):
        print(f"airlam parallel: {line}", file=sys.stderr, flush=True)


_current: Watchdog | None = None


def waiting(what: str) -> contextlib.AbstractContextManager[None]:
    """:meth:`Watchdog.waiting` of this process's watchdog; does nothing where none runs."""
    return _current.waiting(what) if _current is not None else contextlib.nullcontext()


def run(
    folder: str | Path,
    train: Callable[[Watchdog], None],
    *,
    facts: Mapping[str, Any] | None = None,
    replan: Replan | None = None,
    order: Sequence[str] = (),
    backend: str = "gloo",
) -> int:
    """Train as one rank of many, and return the exit code of this process.

    Args:
        folder: of the run. train: trains; see the module's example. facts: what must be the same on all ranks besides
            recipe and versions. replan: names of the devices that are left, by rank -> their shares (plain data; of a
            mapping, ``devices`` is the new order of ranks); rank 0 calls it when a device is away. order: names of
            devices by rank, whatever order they came in; those that are away leave no gap.
        backend: of the process group.
    """
    global _current
    p.die_with_parent()
    place = Place.from_environment(folder)
    watch: Watchdog | None = None
    base: dist.Store | None = None
    store: dist.Store | None = None
    try:
        base = open_store(place)
        place, store = meet(place, base, facts_of(place, facts))
        base.set_timeout(timedelta(seconds=max(10.0, min(place.timeout, 60.0))))
        shares = _shares(place, store, replan)
        place = reordered(place, shares["devices"] if isinstance(shares, dict) and "devices" in shares else order)
        join(place, store, backend)
        watch = _current = Watchdog(place, base, store, shares)
        watch.start()
        train(watch)
        watch.close()
        return p.INTERRUPTED if watch.stopping else p.DONE
    except (StopRequested, KeyboardInterrupt):
        return p.INTERRUPTED
    except (SystemExit, GeneratorExit):
        raise
    except BaseException as error:  # errors of torch's distributed checkpoints are no Exceptions
        return _failed(error, place, base, store, watch)
    finally:
        _current = None


def _shares(place: Place, store: dist.Store, replan: Replan | None) -> Any:
    """Rank 0's new shares, the same on all ranks."""
    if replan is None or not place.away:
        return None
    if place.rank == 0:
        store.set("shares", json.dumps(replan(place.devices)))
    return json.loads(store.get("shares"))


def _failed(
    error: BaseException, place: Place, base: dist.Store | None, store: dist.Store | None, watch: Watchdog | None
) -> int:
    """Say what happened and choose the exit code."""
    _keep_traceback(place)
    if isinstance(error, StoreLostError):
        print(f"airlam worker: {error}", file=sys.stderr)
        return p.STORE_LOST
    lost = lost_peer(error)
    if lost is None:
        kind = "" if isinstance(error, AirlamError) else f"{type(within(error) or error).__name__}: "
        if base is None or base.compare_set("failed", "", str(place.rank)).decode() == str(place.rank):
            record(place.folder, "failed", rank=place.rank, device=place.device, error=kind + first_line(error))
        if p.ROUND not in os.environ:
            print(f"airlam worker: {place.name(place.rank)}: {kind}{first_line(error)}", file=sys.stderr)
        return p.MISTAKE if isinstance(error, AirlamError) else p.FAULT
    text = str(lost)
    with contextlib.suppress(RuntimeError):  # the store may be what was lost
        if watch is not None:
            text = watch.explain(lost)
        elif lost.stalled and base is not None and store is not None:
            blame(place, base, store, f"{place.name(place.rank)}: {text}")
        if base is not None:
            fault(base)
    if place.rank:  # rank 0 writes to the console, where the launcher says it
        print(f"airlam worker: {text}", file=sys.stderr, flush=True)
    p.leave(p.PEER_LOST)
    return p.PEER_LOST


def _keep_traceback(place: Place) -> None:
    with _trace_file(place) as file:
        file.write(traceback.format_exc() + "\n")


def _trace_file(place: Place) -> TextIO:
    """Where tracebacks go, with a heading."""
    path = place.folder / "logs" / f"{place.device}.traceback.txt"
    path.parent.mkdir(parents=True, exist_ok=True)
    file = open(path, "a", encoding="utf-8")
    file.write(f"{time.strftime('%F %T')} round {place.number}, rank {place.rank}\n")
    file.flush()
    return file
