"""Real processes that are killed, stopped and interrupted: training goes on, or ends with the command that resumes.

A toy model stands in for the real one (toy_worker.py); all else is what `airlam parallel` runs. Nothing here measures
time: each wait ends with what is waited for, and the limits only keep a broken run from hanging.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from airlam.edge.parallel.launching.events import read_events
from airlam.io import read_json

HERE = Path(__file__).parent
LIMIT = 300.0  # s; only a broken run needs it
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform != "linux", reason="looks processes up in /proc"),
]


def wait_for(what, of="it"):
    """The first true value of ``what()``."""
    end = time.monotonic() + LIMIT
    while time.monotonic() < end:
        if value := what():
            return value
        time.sleep(0.05)
    raise AssertionError(f"{of} did not come within {LIMIT:.0f} s")


class ToyRun:
    """A launched toy run."""

    def __init__(self, folder: Path, devices: str, **settings: str) -> None:
        self.folder = folder
        folder.mkdir(exist_ok=True)
        options = {"devices": devices.split(), "timeout": 4, "start_timeout": 250, "grace": 4}
        options |= {"keep_alive": 1, "last_call": 3}
        toy = {"TOY_STEPS": "60", "TOY_SECONDS": "0.04"} | settings
        self.begun = len(read_events(folder))
        self.errors = open(folder / "errors.txt", "w+")
        self.process = subprocess.Popen(
            [sys.executable, str(HERE / "toy_launch.py"), str(folder), json.dumps(options)],
            env=os.environ | toy,
            stdout=subprocess.DEVNULL,
            stderr=self.errors,
            start_new_session=True,
        )

    def events(self, kind):
        return [event for event in read_events(self.folder)[self.begun :] if event["event"] == kind]

    def wait_for(self, kind, count=1):
        """Until that many events of a kind were written."""

        def enough():
            assert self.process.poll() is None or len(self.events(kind)) >= count, self.text()
            return len(self.events(kind)) >= count

        wait_for(enough, f"event {kind}, in {self.text()}")
        return self.events(kind)[-1]

    def worker(self, device):
        return read_json(self.folder / "workers" / device)

    def kill_worker(self, device, number=signal.SIGKILL):
        os.kill(self.worker(device)["pid"], number)

    def ids(self):
        return read_json(self.folder / "processes.json")

    def text(self):
        return (self.folder / "errors.txt").read_text()

    def end(self):
        """Exit code and what was printed; no process of the run may be left."""
        code = self.process.wait(LIMIT)
        wait_for(lambda: not self.processes(), f"the end of {self.processes()}")
        self.errors.close()
        return code, self.text()

    def processes(self):
        """Command lines of all processes that name the run's folder."""
        found = []
        for path in Path("/proc").glob("[0-9]*/cmdline"):
            try:
                line = path.read_bytes().replace(b"\0", b" ").decode()
            except OSError:
                continue
            if str(self.folder) in line:
                found.append(line)
        return found

    def weights(self):
        return read_json(sorted((self.folder / "steps").glob("*.json"))[-1])


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    """What 60 steps on two ranks end with when nothing happens."""
    run = ToyRun(tmp_path_factory.mktemp("runs") / "undisturbed", "a b", TOY_SECONDS="0")
    assert run.end()[0] == 0
    assert run.weights()["step"] == 60
    return run.weights()


def test_killed_workers_come_back_and_the_result_is_the_same_to_the_bit(tmp_path, undisturbed):
    run = ToyRun(tmp_path / "run", "a b")
    run.wait_for("saved", 2)
    run.kill_worker("b")
    resumed = run.wait_for("resumed")
    assert resumed["step"] >= 20 and resumed["step"] % 10 == 0
    assert resumed["devices"] == ["a", "b"] and resumed["away"] == []
    assert run.worker("a")["rank"] == 0
    run.kill_worker("a")
    run.wait_for("resumed", 2)
    code, text = run.end()
    assert code == 0
    assert run.weights() == undisturbed
    assert "the worker of b is lost (SIGKILL)" in text and "the worker of a is lost (SIGKILL)" in text
    assert "training goes on at step" in text
    for event in run.events("resumed"):
        assert 0 <= event["lost_steps"] < 10 and event["recovery_s"] > 0


def test_a_killed_agent_loses_one_device_and_a_second_kill_during_recovery_is_survived(tmp_path):
    run = ToyRun(tmp_path / "run", "a b c")
    run.wait_for("saved", 2)
    orphan = run.worker("b")["pid"]
    os.kill(run.ids()["agents"]["b"], signal.SIGKILL)
    wait_for(lambda: not Path(f"/proc/{orphan}").exists(), "the end of the lost agent's worker")
    first = run.worker("c")["round"]
    wait_for(lambda: run.worker("c")["round"] != first, "the next set of workers")
    if not run.events("resumed"):  # nearly always: it has just begun to load
        run.kill_worker("c")
    resumed = run.wait_for("resumed")
    code, text = run.end()
    assert code == 0 and run.weights()["step"] == 60
    assert resumed["devices"] == ["a", "c"] and resumed["away"] == ["b"]
    assert resumed["shares"] == [6, 6]  # planned anew for two
    assert "the agent of b is lost (SIGKILL)" in text and "without b" in text


def test_a_stalled_worker_is_named_and_left_out(tmp_path):
    run = ToyRun(tmp_path / "run", "a b")
    run.wait_for("saved", 2)
    run.kill_worker("b", signal.SIGSTOP)
    run.wait_for("resumed")
    code, text = run.end()
    assert code == 0 and run.weights()["step"] == 60
    assert "rank 0 (a) waited 4 s in the sum of the gradients in step" in text
    assert "for rank 1 (b), which is silent" in text
    assert "b is left out: its worker stalled" in text


def test_ctrl_c_and_a_lost_store_end_the_run_and_it_resumes_to_the_same_bits(tmp_path, undisturbed):
    run = ToyRun(tmp_path / "run", "a b")
    run.wait_for("started")
    os.killpg(run.process.pid, signal.SIGINT)  # as a terminal does
    code, text = run.end()
    step = run.weights()["step"]
    assert code == 130
    assert 0 < step < 60 and f"interrupted; the last durable step is {step}; go on with: toy --resume" in text

    run = ToyRun(tmp_path / "run", "a b")
    assert run.wait_for("started")["step"] == step
    run.wait_for("saved")
    os.kill(run.ids()["store"], signal.SIGKILL)
    code, text = run.end()
    step = run.weights()["step"]
    assert code == 1
    assert "the rendezvous store is lost (SIGKILL): every rank was ended" in text
    assert f"the last durable step is {step}; go on with: toy --resume" in text

    run = ToyRun(tmp_path / "run", "a b", TOY_SECONDS="0")
    code, text = run.end()
    assert code == 0 and run.weights() == undisturbed and text == ""


def test_loss_of_the_last_agent_ends_the_run(tmp_path):
    run = ToyRun(tmp_path / "run", "a")
    run.wait_for("saved")
    os.kill(run.ids()["agents"]["a"], signal.SIGKILL)
    code, text = run.end()
    assert code == 1
    assert "no device is left (a: SIGKILL): every rank was ended; the last durable step is" in text
    assert "go on with: toy --resume" in text


@pytest.mark.parametrize(
    ("settings", "code", "line"),
    [
        ({"TOY_ODD": "b"}, 2, "rank 1 (b) has data odd, but rank 0 (a) has even; give all devices the same recipe"),
        ({"TOY_FAIL": "b:3"}, 1, "airlam parallel: b: ValueError: a toy is broken; traceback in "),
    ],
)
def test_what_no_restart_mends_ends_all_ranks(tmp_path, settings, code, line):
    found, text = ToyRun(tmp_path / "run", "a b", **settings).end()
    last = text.splitlines()[-1]  # on a busy machine the other rank may have timed out before
    assert found == code and line in last


def test_nothing_outlives_a_killed_launcher(tmp_path):
    run = ToyRun(tmp_path / "run", "a")
    run.wait_for("started")
    run.process.kill()
    run.end()
