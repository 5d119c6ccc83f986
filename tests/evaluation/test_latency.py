"""The latency benchmark: turns, core and collector, streams, what is written. No test looks at a time."""

from __future__ import annotations

import functools
import gc
import json
import os
import threading

import numpy as np
import pytest
import torch

from airlam.errors import CheckpointError, RecipeError
from airlam.evaluation.latency.benchmark import LatencyBenchmark, busy_line, table, write
from airlam.evaluation.latency.reference import REFERENCE, reference_predict
from airlam.evaluation.latency.streams import STREAMS, Setting
from airlam.evaluation.latency.timing import Timing, on_one_core, time_in_turn

SMALL = {"scenario": "cdl_c", "num_subcarriers": 4, "bs_panel": {"rows": 1, "columns": 2}}


@pytest.fixture
def setting(monkeypatch) -> Setting:
    """Random CSI in the place of a channel's."""
    slots = torch.randn(1, 20, 12, 1, 8, dtype=torch.complex64, generator=torch.Generator().manual_seed(0))
    made = Setting(slots.cumsum(1), 16, 4, (2, 2, 2))
    monkeypatch.setattr(LatencyBenchmark, "setting", lambda self: made)
    return made


def test_calls_take_turns():
    seen, told = [], []
    calls = {name: functools.partial(seen.append, name) for name in ("a", "b")}
    found = time_in_turn(calls, "a", rounds=3, seconds=0, report=told.append)
    assert seen == ["a", "a", "b", "b", *"ab" * 3] and told == [*"ab" * 4]
    assert found["a"].ratio == found["a"].cpu_ratio == 1 and found["a"].calls == 3
    assert 0 < found["b"].p50_ms <= found["b"].p99_ms and 0 < found["b"].cpu_share <= 1
    seen.clear()
    assert time_in_turn(calls, "a", rounds=1, seconds=0.002)["a"].calls > 3


def test_one_core_one_thread_no_collector_and_all_as_before():
    before = os.sched_getaffinity(0)
    inside = {}

    def look():
        inside.update(cores=os.sched_getaffinity(0), collector=gc.isenabled(), threads=torch.get_num_threads())

    threads = torch.get_num_threads()
    with on_one_core() as core:
        time_in_turn({"look": look}, "look", rounds=1, seconds=0)
        assert os.sched_getaffinity(0) == {core}
    assert inside == {"cores": {core}, "collector": False, "threads": 1} and core in before
    assert os.sched_getaffinity(0) == before and gc.isenabled() and torch.get_num_threads() == threads
    assert not gc.get_freeze_count()
    with pytest.raises(RecipeError, match="core is 99999, but this process may use"):
        with on_one_core(99999):
            pass
    with pytest.raises(ZeroDivisionError), on_one_core():
        time_in_turn({"broken": lambda: 1 / 0}, "broken")
    assert os.sched_getaffinity(0) == before and gc.isenabled()


def test_a_busy_machine_is_named():
    share = {"method": "ar", "busy": True}, {"method": "hold", "busy": False}
    assert busy_line({"methods": share}).startswith("busy machine: other programs used the core while ar ran")
    assert busy_line({"methods": share[1:]}) == ""
    assert Timing(1, 1, 1, 1, 1, 0.89, 1).busy and not Timing(1, 1, 1, 1, 1, 0.91, 1).busy
    waits = time_in_turn({"waits": functools.partial(threading.Event().wait, 0.01)}, "waits", rounds=1, seconds=0)
    assert waits["waits"].busy  # a call that waits has no processor time


def test_methods_streams_and_streams_of_others(setting, tmp_path):
    class Mine:
        engine = "quick"

        def __call__(self, h):
            return h

    streams = {**STREAMS, "mine": lambda s: functools.partial(Mine(), s.h_past)}
    found = LatencyBenchmark(rounds=1, seconds=0).run(["hold", "mine", "airlam-tiny:push"], streams)
    assert [row["method"] for row in found["methods"]] == [REFERENCE, "hold", "mine", "airlam-tiny:push"]
    assert [row["engine"] for row in found["methods"]] == ["", "", "quick", ""]
    assert found["schema"] == "airlam-latency/1" and found["setting"]["shape"] == [1, 16, 12, 1, 8]
    assert found["environment"]["versions"]["torch"] == torch.__version__
    assert json.loads(write(tmp_path / "new" / "l.json", found).read_text()) == found
    assert table(found).row_count == 4


@pytest.mark.parametrize("name", STREAMS)
def test_shipped_streams(setting, name):
    call = STREAMS[name](setting)
    with torch.inference_mode():
        for _ in range(6):  # past the end of the slots, which begin again
            out = call()
    if "push" in name or "fast" in name:
        assert out.shape[-4:] == (4, 12, 1, 8)
    if "network" in name:
        assert out[0].shape[0] == 1 and call.func.engine


@pytest.mark.parametrize("name", ["ar:push", "airlam-tiny:push", "airlam-tiny:push-basis", "paths:push"])
def test_a_stream_begins_again_with_its_slots(setting, name):
    """No push refreshes, for that would be timed: each turn predicts what the first one did."""
    call, slots = STREAMS[name](setting), setting.slots.shape[1] - setting.history
    with torch.inference_mode():
        turns = [[call().copy() for _ in range(slots)] for _ in range(2)]
    assert slots > 1
    np.testing.assert_array_equal(*turns)


def test_the_channel_is_measured():
    found = LatencyBenchmark(channel=SMALL, links=3, history=4).setting()
    assert found.h_past.shape == (3, 4, 4, 1, 4) and found.slots.shape[1] > 4
    assert reference_predict()(found.h_past, 2, found.port_shape).shape == (3, 2, 4, 1, 4)


def test_mistakes(setting):
    for fields, said in (
        ({"rounds": 0}, "rounds is 0"),
        ({"history": 1}, "history is 1"),
        ({"links": 1.5}, "links is 1.5"),
        ({"seconds": -1.0}, "seconds is -1"),
        ({"core": -1}, "core is -1"),
        ({"csi_snr_db": float("nan")}, "csi_snr_db is nan"),
    ):
        with pytest.raises(RecipeError, match=said):
            LatencyBenchmark(**fields)
    with pytest.raises(CheckpointError, match="did you mean 'airlam-tiny:push'"):
        LatencyBenchmark().run(["airlam-tiny:psh"])
    with pytest.raises(CheckpointError, match="did you mean 'eigen-ar'"):
        LatencyBenchmark().run(["eigen-a"])
