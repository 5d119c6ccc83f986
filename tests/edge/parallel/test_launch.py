"""How ranks meet, agree to stop, and tell who is missing: with threads for ranks, and no process of its own."""

from __future__ import annotations

import json
import queue
import socket
import threading
import time
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
import torch.distributed as dist

from airlam.edge.parallel.launching import launch as launching
from airlam.edge.parallel.launching import processes as p
from airlam.edge.parallel.launching.events import durable_step, follow, line_of, read_events, record
from airlam.edge.parallel.launching.launch import Launch, Outcome, Run, launch, worker_environment
from airlam.edge.parallel.launching.membership import (
    PeerLostError,
    Place,
    StopRequested,
    first_line,
    lost_peer,
    meet,
    reordered,
)
from airlam.edge.parallel.launching.store import StoreLostError, connect, listen, serve
from airlam.edge.parallel.launching.watchdog import Watchdog, _shares, blame
from airlam.errors import RecipeError, StoreError


@pytest.fixture
def store():
    """A store's server, and a way to make clients of it."""
    listener = listen()
    address = f"127.0.0.1:{listener.getsockname()[1]}"
    server = serve(listener)
    yield lambda: connect(address, 20)
    del server


@pytest.fixture(autouse=True)
def left(monkeypatch):
    """Exit codes with which watchdogs would have ended their process, which here is that of the tests."""
    codes = queue.SimpleQueue()
    monkeypatch.setattr(p, "leave", codes.put)
    return codes


def places(folder, devices="phone desk car", **changes):
    names = tuple(devices.split())
    first = Place(Path(folder), 0, len(names), names, (), "1", timeout=5.0, start_timeout=0.5)
    return [replace(first, rank=rank, **changes) for rank in range(len(names))]


def in_threads(*calls):
    """What each call returns, or the error that it raises."""
    found = [None] * len(calls)

    def one(index, call):
        try:
            found[index] = call()
        except Exception as error:
            found[index] = error

    threads = [threading.Thread(target=one, args=pair) for pair in enumerate(calls)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    return found


def test_a_rank_that_does_not_come_is_named(tmp_path, store):
    first, second, _ = places(tmp_path)
    found = in_threads(lambda: meet(first, store(), {}), lambda: meet(second, store(), {}))
    for error in found:
        assert isinstance(error, PeerLostError) and error.stalled
        assert str(error) == "rank 2 (car) did not start within 0.5 s"


def test_a_device_that_is_lost_before_it_starts_is_not_waited_for(tmp_path, store):
    first = places(tmp_path, start_timeout=1000.0)[0]
    client = store()
    client.set("lost/desk", "SIGKILL")
    with pytest.raises(PeerLostError, match=r"rank 1 \(desk\) was lost before it started"):
        meet(first, client, {})
    client.set("stop", "interrupted")
    with pytest.raises(StopRequested):
        meet(first, client, {})


def test_ranks_that_differ_are_named_on_all_ranks(tmp_path, store):
    facts = [{"recipe": "ab", "torch": "2.13"}, {"recipe": "ab", "torch": "2.13"}, {"recipe": "ab", "torch": "2.12"}]
    calls = zip(places(tmp_path, start_timeout=30.0), facts, strict=True)
    found = in_threads(*(lambda a=a, f=f: meet(a, store(), f) for a, f in calls))
    for error in found:
        assert isinstance(error, RecipeError)
        assert "rank 2 (car) has torch 2.12, but rank 0 (phone) has 2.13" in str(error)


def test_under_torchrun_each_rank_brings_its_name(tmp_path, store, monkeypatch):
    ranks = places(tmp_path, "rank-0 rank-1", start_timeout=30.0)
    monkeypatch.setenv(p.POOL, "phone,desk,car")
    other = dist.PrefixStore("round/1", store())
    other.set("here/1", json.dumps({"device": "car", "facts": {}}))
    monkeypatch.setenv(p.DEVICE, "phone")
    place, _ = meet(ranks[0], store(), {})
    assert (place.devices, place.away) == (("phone", "car"), ("desk",))


def test_all_ranks_stop_before_the_same_step(tmp_path, store):
    """Rank 0 hears of the wish at a step of its choice; the barrier is what a collective is in training."""
    ranks, barrier = places(tmp_path), threading.Barrier(3)

    def train(place):
        watch = Watchdog(place, base := store(), dist.PrefixStore("round/1", base.clone()))
        for step in range(50):
            if place.rank == 0 and step == 7:
                watch._asked.set()
            if watch.begin(step):
                return step
            barrier.wait(30)
        return None

    assert in_threads(*(lambda place=place: train(place) for place in ranks)) == [8, 8, 8]


def watchdogs(folder, store):
    """Three ranks whose heartbeats run, but for that of the last."""
    found = []
    for place in places(folder):
        base = store()
        found.append(Watchdog(place, base, dist.PrefixStore("round/1", base.clone())))
    return found


def ended(watches):
    for watch in watches:
        watch._ended.set()
        watch._thread.join(5)


def test_a_rank_without_heartbeat_is_the_missing_one(tmp_path, store):
    watches = watchdogs(tmp_path, store)
    for watch in watches[:2]:
        watch._thread.start()
    watches[0].begin(4)
    lost = PeerLostError("Timed out waiting 5000ms for recv operation to complete", stalled=True)
    with pytest.raises(RuntimeError), watches[0].waiting("the sum of the gradients"):
        raise RuntimeError
    line = watches[0].explain(lost)
    ended(watches[:2])
    assert line == ("rank 0 (phone) waited 5 s in the sum of the gradients in step 4 for rank 2 (car), which is silent")
    (event,) = read_events(tmp_path)
    assert (event["event"], event["text"]) == ("timeout", line)


def test_a_rank_that_computes_while_the_others_wait_is_the_missing_one(tmp_path, store):
    watches = watchdogs(tmp_path, store)
    for watch in watches:
        watch.begin(4)
        watch._marked = True
    watches[0]._doing = watches[2]._doing = "the sum of the gradients"
    for watch in watches:
        watch._thread.start()
    line = watches[0].explain(PeerLostError("timed out", stalled=True))
    ended(watches)
    assert line.endswith("in step 4 for rank 1 (desk), which waits for nobody")


def test_a_main_thread_that_hangs_in_a_group_without_time_out_is_given_up(tmp_path, store, left):
    """Groups that libraries make may wait longer than the run's time-out: the heartbeat ends such a rank."""
    first = places(tmp_path, timeout=0.5)[0]
    watch = Watchdog(first, base := store(), dist.PrefixStore("round/1", base.clone()))
    watch.begin(4)
    watch._doing, watch._since = "a group of its own", time.monotonic() - 100
    watch._thread.start()
    assert left.get(timeout=60) == p.PEER_LOST
    ended([watch])
    (event,) = read_events(tmp_path)
    assert event["text"].startswith("rank 0 (phone) waited 0.5 s in a group of its own in step 4 for rank 1 (desk), ")
    assert "_give_up" in (tmp_path / "logs" / "phone.traceback.txt").read_text()


def test_only_the_first_time_out_is_told(tmp_path, store):
    base = store()
    for place in places(tmp_path):
        blame(place, base, dist.PrefixStore("round/1", base), f"rank {place.rank} waited")
    assert [event["text"] for event in read_events(tmp_path)] == ["rank 0 waited"]
    assert json.loads(base.get("fault"))["time"] > 0


def test_errors_of_collectives_are_told_from_errors_of_the_program():
    gloo = "[/pytorch/third_party/gloo/gloo/transport/tcp/unbound_buffer.cc:81] Timed out waiting 4000ms for recv"
    assert lost_peer(RuntimeError(gloo)).stalled
    assert lost_peer(dist.DistNetworkError("Connection reset by peer")) is not None
    assert lost_peer(RuntimeError("CUDA out of memory")) is None
    assert lost_peer(ValueError("Connection closed by peer")) is None
    try:
        try:
            raise RuntimeError(gloo)
        except RuntimeError as error:
            raise ValueError("while training") from error
    except ValueError as error:
        assert lost_peer(error) is not None  # whatever wraps it


def test_errors_that_distributed_checkpoints_collect_are_looked_into():
    from torch.distributed.checkpoint.api import CheckpointException

    lost = RuntimeError("[gloo/transport/tcp/pair.cc:553] Connection closed by peer")
    assert lost_peer(CheckpointException("writing", {1: (lost, None)})) is not None
    own = CheckpointException("writing", {1: (ValueError("no such tensor"), None)})
    assert lost_peer(own) is None and first_line(own) == "no such tensor"


def test_shares_are_planned_by_rank_0_for_the_devices_that_are_left(tmp_path, store):
    ranks = [replace(place, away=("tablet",)) for place in places(tmp_path, "phone desk")]
    plans = [lambda devices: {"data": [9, 3]}, lambda devices: pytest.fail("only rank 0 plans")]
    rounds = dist.PrefixStore("round/1", store())
    found = [_shares(place, rounds, plan) for place, plan in zip(ranks, plans, strict=True)]
    assert found == [{"data": [9, 3]}] * 2
    assert _shares(places(tmp_path)[0], rounds, plans[0]) is None  # nobody is away: the recipe's own


def test_place_of_torchrun_of_an_agent_and_alone(tmp_path, monkeypatch):
    for name in ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT", p.DEVICES, p.POOL, p.ROUND):
        monkeypatch.delenv(name, raising=False)
    alone = Place.from_environment(tmp_path)
    assert (alone.rank, alone.world_size, alone.device, alone.away) == (0, 1, "rank-0", ())
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert Place.from_environment(tmp_path).name(1) == "rank 1 (rank-1)"
    monkeypatch.setenv(p.DEVICES, "phone,car")
    monkeypatch.setenv(p.POOL, "phone,desk,car")
    place = Place.from_environment(tmp_path)
    assert (place.device, place.away) == ("car", ("desk",))


def test_a_port_in_use_is_one_line(tmp_path):
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        with pytest.raises(RecipeError, match=f"port {port} is in use; name another one with --master-port"):
            launch(Launch(tmp_path, ("false",), ("a", "b"), resume="", port=port))
    with pytest.raises(RecipeError, match="master-port is 70000"):
        listen(port=70000)


def test_a_store_that_does_not_answer_is_one_line():
    free = listen()
    address = f"127.0.0.1:{free.getsockname()[1]}"
    free.close()
    with pytest.raises(StoreLostError, match=f"no rendezvous store answers at {address} within 1 s"):
        connect(address, 1)
    with pytest.raises(RecipeError, match="must be HOST:PORT"):
        connect("nowhere", 1)


def test_a_folder_takes_one_run_at_a_time(tmp_path, monkeypatch):
    what = Launch(tmp_path, ("false",), ("a",), resume="")

    def second(run):
        with pytest.raises(StoreError, match="another run"):
            launch(what)

    monkeypatch.setattr(Run, "start", second)
    monkeypatch.setattr(Run, "look", lambda run: Outcome(p.DONE))
    assert launch(what).code == p.DONE


@pytest.mark.parametrize("devices", [(), ("a", "a"), ("a,b",), ("a b",), ("../a",)])
def test_names_of_devices_that_could_not_be_told_apart(tmp_path, devices):
    with pytest.raises(RecipeError, match="devices are"):
        Launch(tmp_path, ("false",), devices, resume="")


def test_each_rank_gets_a_gpu_or_none_does(monkeypatch, capsys):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3,5")
    assert launching.gpus(2) == [{"CUDA_VISIBLE_DEVICES": "3"}, {"CUDA_VISIBLE_DEVICES": "5"}]
    assert launching.gpus(3) == [{"CUDA_VISIBLE_DEVICES": ""}] * 3
    assert "2 GPUs are fewer than 3 ranks" in capsys.readouterr().err
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert launching.gpus(2) == [{}, {}]


def test_what_the_user_set_stays_in_the_environment(tmp_path, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    found = worker_environment(Launch(tmp_path, ("false",), ("a", "b"), resume=""))
    assert (found["OMP_NUM_THREADS"], found[p.POOL]) == ("7", "a,b")


def test_events_are_read_as_they_grow_and_half_a_line_waits(tmp_path):
    record(tmp_path, "saved", step=10)
    found, offset = follow(tmp_path, 0)
    with open(tmp_path / "events.jsonl", "a") as file:
        file.write('{"event": "sav')
        file.flush()
        assert follow(tmp_path, offset) == ([], offset)
        file.write('ed", "step": 20}\n')
    more, _ = follow(tmp_path, offset)
    assert durable_step(found + more) == 20 and durable_step([]) is None
    assert line_of(more[0]) is None


def test_limits_of_store_operations_can_be_set(store):
    client = store()
    client.set_timeout(timedelta(seconds=0.3))
    with pytest.raises(dist.DistStoreError):
        client.get("never")


def test_ranks_follow_the_order_of_the_run_whatever_order_devices_came_in(tmp_path):
    came = places(tmp_path, "phone desk car")
    found = [reordered(place, ["car", "phone", "lost", "desk"]) for place in came]  # who is away leaves no gap
    assert [place.rank for place in found] == [1, 2, 0]
    assert [place.device for place in found] == ["phone", "desk", "car"]
    assert reordered(came[1], ()) == reordered(came[1], ["device-0", "device-1"]) == came[1]
    with pytest.raises(RecipeError, match=r"phone, desk is none of the run's devices \(car, bus\)"):
        reordered(came[0], ["car", "bus"])


def test_two_devices_of_one_name_are_refused(tmp_path, store, monkeypatch):
    other = dist.PrefixStore("round/1", store())
    other.set("here/1", json.dumps({"device": "phone", "facts": {}}))
    monkeypatch.setenv(p.DEVICE, "phone")
    with pytest.raises(RecipeError, match="phone is the name of several devices"):
        meet(places(tmp_path, "rank-0 rank-1", start_timeout=30.0)[0], store(), {})
