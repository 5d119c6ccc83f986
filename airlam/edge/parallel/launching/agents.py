"""The agent of one device: torch's elastic agent, with one worker, so that losing an agent loses one device.

Started by the launcher, or by hand on each host of a pool (docs/deploy-parallel.md)::

    python -m airlam.edge.parallel.launching.agents --store 10.0.0.1:29400 --device desk --nnodes 3 --run-id mine
        --folder RUN -- python -m airlam.edge.parallel.worker RUN

What it adds to torch's agent: a name for each device; a worker that stalled while its peers timed out is killed and its
device left out; a worker that keeps dying takes its device with it; what a restart cannot mend ends the run; a worker's
output goes to files, that of rank 0 to the console. No model is imported here.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import sys
import time
from datetime import timedelta
from pathlib import Path
from typing import Any

from torch.distributed import DistStoreError, TCPStore
from torch.distributed.elastic.agent.server import WorkerSpec
from torch.distributed.elastic.agent.server.api import RunResult, WorkerGroup, WorkerState
from torch.distributed.elastic.agent.server.local_elastic_agent import LocalElasticAgent
from torch.distributed.elastic.multiprocessing import LogsSpecs, SignalException
from torch.distributed.elastic.multiprocessing.api import LogsDest
from torch.distributed.elastic.rendezvous import RendezvousClosedError, RendezvousParameters, RendezvousTimeoutError
from torch.distributed.elastic.rendezvous.api import RendezvousConnectionError
from torch.distributed.elastic.rendezvous.registry import get_rendezvous_handler

from airlam.edge.parallel.launching import processes as p
from airlam.edge.parallel.launching.events import record
from airlam.edge.parallel.launching.store import connect
from airlam.errors import AirlamError

LOGS = "logs"
MAX_RESTARTS = 1000  # of torch's own counter: peers that are lost count too; see IDLE_RESTARTS
IDLE_RESTARTS = 10  # sets of workers in a row of which none finished a step
POLL = 0.2  # s


class Leave(Exception):
    """This agent ends with an exit code, and does not close the rendezvous for the others."""

    def __init__(self, code: int) -> None:
        super().__init__(code)
        self.code = code


class RunLogs(LogsSpecs):
    """``logs/DEVICE.ROUND.err`` in the run folder; what workers print, and errors of rank 0, go to the console."""

    def __init__(self, folder: Path, device: str) -> None:
        super().__init__(str(folder / LOGS))
        self._folder, self._device = folder / LOGS, device

    @property
    def root_log_dir(self) -> str:
        return str(self._folder)

    def reify(self, envs: dict[int, dict[str, str]]) -> LogsDest:
        self._folder.mkdir(parents=True, exist_ok=True)
        name = self._folder / f"{self._device}.{os.environ.get(p.ROUND, '0')}"
        first = envs[0]["RANK"] == "0"  # a new plan may make another one rank 0: what ranks print goes to the console
        envs[0]["TORCHELASTIC_ERROR_FILE"] = ""
        return LogsDest(
            stdouts={0: ""},
            stderrs={0: "" if first else f"{name}.err"},
            error_files={0: os.devnull},
            filtered_stdout=os.devnull,
            filtered_stderr=os.devnull,
        )


class DeviceAgent(LocalElasticAgent):
    """torch's agent of one worker, which knows its device and judges how its worker ended.

    Args:
        spec, logs: torch's. device: name. client: of the store. folder: of the run. grace: seconds that a worker has to
        notice that its peers timed out. deaths: how often the worker may be killed before the device is left out.
    """

    def __init__(
        self, spec: WorkerSpec, logs: LogsSpecs, device: str, client: TCPStore, folder: Path, grace: float, deaths: int
    ) -> None:
        super().__init__(spec, logs_specs=logs, exit_barrier_timeout=20, shutdown_timeout=3)
        self._device, self._client, self._folder = device, client, folder
        self._grace, self._deaths_left = grace, deaths
        self._round = 0

    def _rendezvous(self, worker_group: WorkerGroup) -> None:
        while True:
            try:
                super()._rendezvous(worker_group)
                self._name_ranks(worker_group)
                return
            except DistStoreError:  # the first rank was lost before it said where it is: the next round
                logging.getLogger(__name__).warning("a rank was lost while the ranks met; they meet again")

    def _name_ranks(self, group: WorkerGroup) -> None:
        """Agree on the number of this round and on which device has which rank; workers inherit both."""
        store, rank, world_size = group.store, group.group_rank, group.group_world_size
        assert store is not None and world_size is not None  # the rendezvous set them
        store.set(f"device/{rank}", self._device)
        if rank == 0:
            store.set("number", str(self._client.add("rounds", 1)))
        names = store.multi_get([f"device/{other}" for other in range(world_size)])
        self._round = int(store.get("number"))
        os.environ[p.ROUND] = str(self._round)
        os.environ[p.DEVICES] = ",".join(name.decode() for name in names)

    def _stop_workers(self, worker_group: WorkerGroup) -> None:
        self._shutdown(timeout=self._shutdown_timeout)  # torch's would wait 30 s

    def _monitor_workers(self, worker_group: WorkerGroup) -> RunResult:
        result = super()._monitor_workers(worker_group)
        if result.state == WorkerState.FAILED:
            self._judge(next(iter(result.failures.values())).exitcode, worker_group)
        return result

    def _restart_workers(self, worker_group: WorkerGroup) -> None:
        if worker_group.state == WorkerState.HEALTHY:  # peers wait to meet again
            self._check_stall(worker_group)
        super()._restart_workers(worker_group)

    def _judge(self, code: int, group: WorkerGroup) -> None:
        """Return where a restart may help; raise :class:`Leave` elsewhere."""
        worker = group.workers[0]
        p.kill_group(worker.id)  # what the worker started
        if code == p.PEER_LOST:
            self._check_progress()
        elif code < 0:
            self._lost("worker", p.signal_name(code), worker.global_rank)
            self._deaths_left -= 1
            if self._deaths_left < 0:
                self._leave_out(f"its worker was killed again ({p.signal_name(code)})")
        else:
            raise Leave(code)

    def _check_progress(self) -> None:
        """End where restart after restart trains nothing."""
        done = int(self._client.get("progress")) if self._client.check(["progress"]) else 0
        if self._round - done >= IDLE_RESTARTS:
            record(self._folder, "failed", device=self._device, error=f"no step finished in {IDLE_RESTARTS} restarts")
            raise Leave(p.NO_PROGRESS)

    def _check_stall(self, group: WorkerGroup) -> None:
        """Peers timed out and left. A worker in order notices that and ends too; one that does not is the stalled one.

        Raises:
            Leave: it was the stalled one, and is killed.
        """
        if not self._client.check([f"round/{self._round}/stall"]):
            return
        end = time.monotonic() + self._grace
        while time.monotonic() < end:
            result = super()._monitor_workers(group)
            if result.state == WorkerState.FAILED:
                self._judge(next(iter(result.failures.values())).exitcode, group)
                return
            time.sleep(POLL)
        p.kill_group(group.workers[0].id)
        self._lost("worker", "stalled", group.workers[0].global_rank)
        self._leave_out("its worker stalled")

    def _lost(self, what: str, why: str, rank: int) -> None:
        record(self._folder, "lost", what=what, device=self._device, rank=rank, why=why)
        self._client.compare_set("fault", "", json.dumps({"time": time.time()}))

    def _leave_out(self, why: str) -> None:
        record(self._folder, "left out", device=self._device, why=why)
        self._client.set(f"lost/{self._device}", why)
        raise Leave(p.LEFT_OUT)


def wait_for_all(client: TCPStore, agents: int, timeout: float) -> None:
    """Wait until all agents of the first round are there, or the time is up: then those that are here begin."""
    end = time.monotonic() + timeout
    client.add("agents", 1)
    while client.add("agents", 0) < agents and time.monotonic() < end:
        time.sleep(POLL)


def log_to(path: Path) -> None:
    """torch's messages go to a file: what a user must know is in the events."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handler = logging.FileHandler(path)
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    logging.getLogger().handlers = [handler]
    for name in [name for name in logging.root.manager.loggerDict if name.split(".")[0] == "torch"]:
        logging.getLogger(name).handlers = []  # torch's own write to standard error
        logging.getLogger(name).propagate = True


def parser() -> argparse.ArgumentParser:
    """Options of the agent."""
    found = argparse.ArgumentParser(
        prog="python -m airlam.edge.parallel.launching.agents", description="The agent of a device."
    )
    found.add_argument("--store", required=True, metavar="HOST:PORT", help="of the rendezvous store")
    found.add_argument("--device", required=True, metavar="NAME", help="name of this device in the pool")
    found.add_argument("--nnodes", type=int, required=True, metavar="N", help="devices at most")
    found.add_argument("--run-id", required=True, metavar="ID", help="the same for all agents of a run")
    found.add_argument("--folder", type=Path, required=True, metavar="RUN", help="run folder")
    found.add_argument("--address", metavar="HOST", help="of this host for the others (default: its name)")
    found.add_argument("--keep-alive", type=int, default=2, metavar="S", help="of three missed ones a device is lost")
    found.add_argument("--last-call", type=int, default=4, metavar="S", help="wait for devices that are missing")
    found.add_argument("--timeout", type=float, default=300.0, metavar="S", help="of a collective")
    found.add_argument("--start-timeout", type=float, default=300.0, metavar="S", help="until all ranks have started")
    found.add_argument("--grace", type=float, default=10.0, metavar="S", help="to notice that peers timed out")
    found.add_argument("--deaths", type=int, default=3, metavar="N", help="restarts of a worker that is killed")
    found.add_argument("command", nargs="+", help="of the worker, behind --")
    return found


def run(known: Any) -> int:
    """Serve until the training is done, or this device is given up; returns the exit code."""
    client = connect(known.store, known.start_timeout)
    client.set_timeout(timedelta(seconds=30))
    handler = get_rendezvous_handler(
        RendezvousParameters(
            "c10d",
            known.store,
            known.run_id,
            min_nodes=1,
            max_nodes=known.nnodes,
            local_addr=known.address,
            is_host=False,
            read_timeout=15,
            join_timeout=int(known.start_timeout) + 60,
            last_call_timeout=known.last_call,
            keep_alive_interval=known.keep_alive,
            keep_alive_max_attempt=3,
        )
    )
    spec = WorkerSpec(
        role="worker",
        local_world_size=1,
        rdzv_handler=handler,
        entrypoint=known.command[0],
        args=tuple(known.command[1:]),
        max_restarts=MAX_RESTARTS,
        monitor_interval=POLL,
    )
    logs = RunLogs(known.folder, known.device)
    agent = DeviceAgent(spec, logs, known.device, client, known.folder, known.grace, known.deaths)
    wait_for_all(client, known.nnodes, known.start_timeout)
    result = agent.run()
    handler.shutdown()
    return p.FAULT if result is None or result.is_failed() else p.DONE


def main() -> int:
    """Entry; the exit codes are those of :mod:`airlam.edge.parallel.launching.processes`."""
    by_hand = not os.environ.get(p.PARENT)
    if not by_hand:
        p.die_with_parent()
    known = parser().parse_args()
    if by_hand:
        print(f"airlam agent: {known.device} asks the store at {known.store}, for {known.start_timeout:g} s at most")
    os.environ |= {
        p.STORE: known.store,
        p.DEVICE: known.device,
        p.PARENT: str(os.getpid()),
        p.TIMEOUT: str(known.timeout),
        p.START_TIMEOUT: str(known.start_timeout),
        "TORCH_DISABLE_SHARE_RDZV_TCP_STORE": "1",  # else the first restart fails more often than not
        "TORCH_ELASTIC_WORKER_IDENTICAL": "1",  # one worker each: ranks need no round of messages
    }
    os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")
    log_to(known.folder / LOGS / f"{known.device}.agent.log")
    try:
        return run(known)
    except Leave as leave:
        return leave.code
    except SignalException as error:
        return 128 + error.sigval
    except (RendezvousClosedError, RendezvousTimeoutError):
        logging.getLogger(__name__).exception("the other agents ended, or cannot be met")
        return p.CLOSED
    except (RendezvousConnectionError, AirlamError, RuntimeError) as error:
        logging.getLogger(__name__).exception("the rendezvous store is lost")
        if by_hand:  # no launcher says it
            print(f"airlam agent: {known.device}: {str(error).splitlines()[0]}", file=sys.stderr)
        return p.STORE_LOST


if __name__ == "__main__":
    p.leave(main())
