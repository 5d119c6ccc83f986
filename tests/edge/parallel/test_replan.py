"""A run that lost a device is planned anew: within the memory of those that are left, and the result is the same."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace

import pytest
import yaml

from airlam.edge.parallel.command import prepare_data
from airlam.edge.parallel.cost_model.cost import simulate
from airlam.edge.parallel.cost_model.plan import plan_from
from airlam.edge.parallel.cost_model.pool import make_pool
from airlam.edge.parallel.cost_model.profiling import count_profile
from airlam.edge.parallel.engine.building import model_config
from airlam.edge.parallel.engine.loop import fewer
from airlam.edge.parallel.engine.reporting import read_log
from airlam.edge.parallel.launching.events import line_of, read_events
from airlam.edge.parallel.planning.replan import planned, replan, resolved
from airlam.edge.parallel.recipe import ParallelTraining, Replanning, Shares
from airlam.errors import RecipeError
from airlam.io import read_json

BATCH = 16  # of the data set tiny
SPEEDS = {"desk": 8e10, "car": 1e10, "phone": 4e10}


def pool(**memory):
    devices = {
        name: {"profile": "phone", "flops_per_second": speed, "memory_bytes": memory.get(name, 4e9)}
        for name, speed in SPEEDS.items()
    }
    return {"devices": devices, "links": {"rate": 1e9, "latency": 1e-4}}


@pytest.fixture
def run(arguments):
    given = arguments(mode="pipeline", nproc=3, micro_batches=4, precision="64-true", optimiser="adamw")
    return ParallelTraining(
        **{**given, "shares": Shares(pipeline=[2, 1, 1]), "devices": list(SPEEDS), "replanning": Replanning(pool())}
    )


def test_the_new_plan_is_for_the_devices_that_are_left(run):
    made = replan(run, ["car", "phone"])
    assert sorted(made["devices"]) == ["car", "phone"] and made["nproc"] == 2
    new = planned(run, made)
    assert (new.task, new.data, new.seed) == (run.task, run.data, run.seed)
    (shares,) = (part for part in made["shares"].values() if part)
    assert shares[made["devices"].index("phone")] > shares[made["devices"].index("car")]  # it is four times as fast


def test_no_device_gets_more_than_it_can_hold(run):
    profile = count_profile(model_config(run))
    kept = fewer(run, [0, 1])  # proportions of those that are left: too much for the car
    cost = simulate(plan_from(kept.to_dict(), make_pool(pool()), profile, BATCH), profile, make_pool(pool()))
    memory = {"car": 0.9 * cost.memory[1]}
    run = replace(run, replanning=Replanning(pool(**memory)))
    left = make_pool(pool(**memory)).part([0, 1])
    assert not simulate(plan_from(kept.to_dict(), left, profile, BATCH), profile, left).fits
    made = replan(run, ["desk", "car"])
    assert made is not None
    assert simulate(plan_from(planned(run, made).to_dict(), left, profile, BATCH), profile, left).fits


def test_without_a_plan_proportions_are_kept(run):
    assert replan(replace(run, replanning=None), ["desk", "car"]) is None
    assert replan(run, ["rank-0", "rank-1"]) is None  # torchrun without names
    assert replan(replace(run, replanning=Replanning(pool(desk=1e5, car=1e5))), ["desk", "car"]) is None


def test_what_is_refused_before_anything_starts(run):
    with pytest.raises(RecipeError, match="'desk' of devices is no device of the pool in replanning"):
        resolved(replace(run, replanning=Replanning({**pool(), "devices": {"car": "phone", "phone": "phone"}})))
    with pytest.raises(RecipeError, match="replanning needs devices"):
        resolved(replace(run, devices=None))
    with pytest.raises(RecipeError, match=r"replanning.goal"):
        Replanning(pool(), goal="speed")
    with pytest.raises(RecipeError, match="links is None"):
        resolved(replace(run, replanning=Replanning({"devices": pool()["devices"]})))


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="ends a process group by its number")
def test_real_training_goes_on_planned_anew_with_the_same_result(run, tmp_path):
    """Three real workers; the agent of the first rank is killed. Steps after that are those of an undisturbed run."""
    run = replace(run, steps=80, checkpoint_every=10, log_every=1, keep=2, timeout=60.0)
    airlam = [sys.executable, "-c", "from airlam.cli import main; raise SystemExit(main())", "parallel"]

    def start(name, run):
        recipe = tmp_path / f"{name}.yaml"
        given = json.loads(json.dumps(run.to_dict()))
        recipe.write_text(yaml.safe_dump({"class_path": "airlam.edge.parallel.ParallelTraining", "init_args": given}))
        errors = open(tmp_path / f"{name}.err", "w")
        command = [*airlam, "--config", str(recipe), "--out", str(tmp_path / name)]
        return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=errors, start_new_session=True)

    alone = replace(run, mode="data", nproc=1, shares=Shares(), devices=["desk"])
    prepare_data(run)  # two runs at once cannot both make it
    undisturbed, disturbed = start("alone", alone), start("disturbed", run)
    folder, end = tmp_path / "disturbed", time.monotonic() + 240
    try:
        while not any(one["event"] == "saved" for one in read_events(folder)):
            assert disturbed.poll() is None and time.monotonic() < end, (tmp_path / "disturbed.err").read_text()
            time.sleep(0.02)
        os.kill(read_json(folder / "processes.json")["agents"]["desk"], signal.SIGKILL)
        assert disturbed.wait(300) == 0, (tmp_path / "disturbed.err").read_text()
        assert undisturbed.wait(300) == 0
    finally:
        for process in (undisturbed, disturbed):
            process.kill()  # what it started ends with it
    (resumed,) = (one for one in read_events(folder) if one["event"] == "resumed")
    assert sorted(resumed["devices"]) == ["car", "phone"] and resumed["away"] == ["desk"]
    assert "without desk, planned anew (" in line_of(resumed)
    losses = [line["nmse_db"] for line in read_log(folder)]
    # float64 from the tokens on: modes add up in another order
    assert losses == pytest.approx([line["nmse_db"] for line in read_log(tmp_path / "alone")], abs=1e-6)
    assert len(losses) == 80
