"""Shaped pools: limits and links that hold, nothing left behind, and reasons to skip."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from airlam.edge.parallel.shaped import limits, processes
from airlam.edge.parallel.shaped.experiment import Node, measure_steps, run_job, steps_of
from airlam.edge.parallel.shaped.limits import Groups, Limits, belongs, left_over
from airlam.edge.parallel.shaped.processes import ShapedError, missing, run_together

needs_groups = pytest.mark.skipif(missing(links=False) is not None, reason=str(missing(links=False)))
needs_links = pytest.mark.skipif(missing() is not None, reason=str(missing()))
SHARE = "import time; b = time.monotonic(); c = time.process_time()\nwhile time.monotonic() - b < 1.5: pass\n"


def everything() -> set[str]:
    """Names of our groups and name spaces of the network."""
    groups = {str(path) for path in limits.ROOT.glob("**/airlam-*") if path.is_dir()}
    listed = subprocess.run(["ip", "netns", "list"], capture_output=True, text=True)
    return groups | {line.split()[0] for line in listed.stdout.splitlines() if belongs(line.split()[0])}


def mine(names):
    return {name for name in names if f"airlam-{os.getpid()}" in name}


def test_groups_of_both_versions_are_told_apart(tmp_path):
    assert limits.version(tmp_path) == 0
    (tmp_path / "cgroup.controllers").write_text("cpuset cpu io memory pids\n")
    assert limits.version(tmp_path) == 2
    for name in limits.CONTROLLERS:
        (tmp_path / name).mkdir()
    assert limits.version(tmp_path) == 1


def test_only_what_is_ours_and_whose_process_is_gone_is_left_over():
    gone = subprocess.Popen(["true"])
    gone.wait()
    names = [f"airlam-{gone.pid}", f"airlam-{gone.pid}-hub", f"airlam-{os.getpid()}-0", "docker-1", "airlam-x"]
    assert left_over(names) == names[:2]


def test_limits_of_version_2_are_written_as_the_kernel_wants_them(tmp_path):
    (tmp_path / "cgroup.controllers").write_text("cpuset cpu memory")
    with Groups(root=tmp_path) as groups:
        group = groups.add("one", Limits(quota=0.25, memory=1_000_000, core=1))
        inside = tmp_path / f"airlam-{os.getpid()}" / "one"
        written = {path.name: path.read_text() for path in inside.iterdir()}
        assert group.entrances == [inside / "cgroup.procs"]
        (inside / "memory.stat").write_text("anon 4096\nfile 10\n")
        (inside / "memory.events").write_text("oom 1\noom_kill 2\n")
        assert (group.memory(), group.kills()) == (4096, 2)
    assert written == {
        "cpu.max": "5000 20000",
        "cpuset.cpus": "1",
        "memory.max": "1000000",
        "memory.swap.max": "0",
    }


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"platform": "darwin"}, "shaping needs Linux, but this is darwin"),
        ({"user": 1000}, "shaping needs root"),
        ({"version": 0}, "there are no control groups for cpu, cpuset and memory under /sys/fs/cgroup"),
    ],
)
def test_the_reason_to_skip_is_one_line(monkeypatch, change, reason):
    monkeypatch.setattr(processes.sys, "platform", change.get("platform", "linux"))
    monkeypatch.setattr(processes.os, "geteuid", lambda: change.get("user", 0))
    monkeypatch.setattr(processes, "version", lambda: change.get("version", 1))
    assert missing() == reason


def test_a_step_lasts_from_the_last_end_to_the_last_end():
    def result(ends, sent):
        record = {"bytes": {"send": sent}, "seconds": {"tokens": 0.5}, "loss": 0.0}
        return {"ends": ends, "records": [record] * len(ends)}

    steps = steps_of([result([1, 2, 3.0, 4.0, 7.0], 8), result([1, 2, 3.5, 4.5, 6.0], 16)])
    assert steps.every == [1.5, 1.0, 2.5] and steps.seconds == 1.5
    assert steps.bytes == [{"send": 8}, {"send": 16}] and steps.phases[0] == {"tokens": 0.5}


@needs_groups
@pytest.mark.slow
def test_a_quota_and_a_memory_limit_hold(tmp_path):
    program = SHARE + "print(c := time.process_time() - c)\n"
    run_together([[sys.executable, "-c", program]], [Limits(quota=0.2)], tmp_path)
    used = float((tmp_path / "process-0.log").read_text())
    assert used < 0.35 * 1.5  # whatever else runs, no more than its quota (and what the start had saved up)
    eats = [sys.executable, "-c", "x = bytearray(200_000_000)"]
    limited, free = Limits(memory=60_000_000), Limits()
    ended = run_together([eats], [limited], tmp_path, failing=True)[0]
    assert ended.code == -signal.SIGKILL and ended.kills == 1
    assert run_together([eats], [free], tmp_path)[0].code == 0
    assert not mine(everything())


@needs_links
@pytest.mark.slow
def test_processes_that_fail_take_the_others_along_and_leave_nothing(tmp_path):
    fails, waits = [sys.executable, "-c", "raise SystemExit('no such weights')"], ["sleep", "600"]
    with pytest.raises(ShapedError, match="process 1 ended with exit code 1: no such weights"):
        run_together([waits, fails], [Limits(quota=0.5)] * 2, tmp_path, rates=[1e6, None])
    with pytest.raises(ShapedError, match="took longer than 1 s"):
        run_together([waits], [Limits()], tmp_path, timeout=1.0)
    assert not mine(everything())


@needs_links
@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_nothing_is_left_of_a_run_that_is_ended(tmp_path, number):
    program = (
        "from airlam.edge.parallel.shaped.processes import *\n"
        f"run_together([['sleep', '600']] * 2, [Limits()] * 2, Path({str(tmp_path)!r}), rates=[1e6, 2e6])\n"
    )
    run = subprocess.Popen([sys.executable, "-c", program], stderr=subprocess.DEVNULL)
    name, end = f"airlam-{run.pid}", time.monotonic() + 60
    while not any(f"{name}-1" in one for one in everything()) and time.monotonic() < end:
        time.sleep(0.1)
    time.sleep(0.5)
    run.send_signal(number)
    run.wait(60)
    if number == signal.SIGKILL:  # the next one cleans up
        run_together([["true"]], [Limits()], tmp_path, rates=[None])
    assert not [one for one in everything() if name in one]


@needs_links
@pytest.mark.slow
def test_a_shaped_training_sends_what_the_formula_says_as_slowly_as_its_link():
    from airlam.edge.parallel.cost_model.volume import tensor_volume
    from airlam.edge.parallel.recipe import ParallelTraining

    model = {"num_tokens": 16, "num_groups": 0, "group_size": 16}
    model["backbone"] = {
        "model_type": "roberta-prelayernorm", "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2,
        "intermediate_size": 64, "hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0, "vocab_size": 2,
        "max_position_embeddings": 514, "pad_token_id": 1, "bos_token_id": 0, "eos_token_id": 1,
    }  # fmt: skip
    task = {"class_path": "airlam.tasks.ChannelPrediction", "init_args": {"model": model}}
    run = ParallelTraining(task, "tiny", mode="tensor", nproc=2, steps=10)
    batch = {"links": 8, "history": 8, "horizon": 2, "subcarriers": 12, "ports": [1, 2, 2]}
    found = measure_steps(run.to_dict(), batch, [Node(0.4, 1e6), Node(0.4, 1e6)], steps=3)
    tokens = found.bytes[0]["all_reduce"] // tensor_volume(links=8, tokens=1, width=32, layers=2, ranks=2)["all_reduce"]
    expected = tensor_volume(links=8, tokens=tokens, width=32, layers=2, ranks=2)
    assert found.bytes == [dict(expected)] * 2
    # a bucket lets 16 kB of each burst pass at once; headers and waits can only add to the rest
    assert found.seconds > 8 * (found.bytes[0]["all_reduce"] - 8 * 16_000) / 1e6
    assert all(loss == loss for loss in found.losses)


@needs_links
@pytest.mark.slow
def test_the_rate_of_a_link_is_what_it_was_set_to():
    job = {"kind": "collectives", "kinds": ["send"], "sizes": [500_000], "repeats": 2}
    seconds = run_job(job, [Node(0.4, 8e6), Node(0.4, 8e6)])[0]["send"]["500000"]
    assert 8 * (500_000 - 2 * 16_000) / 8e6 < seconds < 3.0
    assert Path("/proc/self").exists()
