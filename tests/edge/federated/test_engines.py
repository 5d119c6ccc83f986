"""Flower's engines: the same run gives the same numbers in all of them. What is private in Flower is used here too."""

from __future__ import annotations

import importlib.util
import os
import time

import numpy as np
import pytest
from flwr.app import Message, RecordDict
from flwr.clientapp import ClientApp
from flwr.supercore.task_identity import TaskIdentity

from airlam.edge.federated import run_rounds
from airlam.edge.federated.engines.in_process import InProcessGrid
from airlam.edge.federated.server.state import STATE, State
from airlam.edge.federated.server.subset import NodeSubset
from airlam.errors import RecipeError


@pytest.fixture
def echo() -> ClientApp:
    app = ClientApp()

    @app.query("who")
    def who(message, context):
        if context.node_config["partition-id"] == 1:
            raise ValueError("not me")
        return Message(RecordDict(), reply_to=message)

    return app


def test_messages_are_answered_and_failures_are_answers(echo):
    grid = InProcessGrid(echo, 3)
    with grid.identity():
        nodes = list(grid.get_node_ids())
        replies = list(grid.send_and_receive([Message(RecordDict(), node, "query.who") for node in nodes]))
    assert [reply.metadata.src_node_id for reply in replies] == nodes
    assert [reply.has_error() for reply in replies] == [False, True, False]
    assert "ValueError: not me" in replies[1].error.reason
    assert len({reply.metadata.reply_to_message_id for reply in replies}) == 3


def test_replies_are_handed_out_once(echo):
    grid = InProcessGrid(echo, 1)
    with grid.identity():
        ids = list(grid.push_messages([Message(RecordDict(), node, "query.who") for node in grid.get_node_ids()]))
    assert len(list(grid.pull_messages(ids))) == 1 and not list(grid.pull_messages(ids))


def test_the_identity_is_given_back(echo):
    before = (TaskIdentity._run_id, TaskIdentity._node_id, TaskIdentity._task_id)
    with InProcessGrid(echo, 1).identity():
        assert TaskIdentity.run_id == 1
    assert (TaskIdentity._run_id, TaskIdentity._node_id, TaskIdentity._task_id) == before


def test_a_subset_shows_some_nodes(echo):
    grid = InProcessGrid(echo, 3)
    some = NodeSubset(grid, list(grid.get_node_ids())[1:])
    assert len(list(some.get_node_ids())) == 2 and some.run is None


def test_unknown_engines_are_refused(federation):
    with pytest.raises(RecipeError, match="engine is 'cloud'"):
        run_rounds(federation(), engine="cloud")


def same(one: State, other: State) -> bool:
    return all(np.array_equal(one.arrays[name], other.arrays[name]) for name in one.arrays)


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["local", "split"])
def test_the_simulation_gives_the_same_numbers(federation, mode):
    pytest.importorskip("ray")
    f = federation(mode=mode, rounds=2, dropout=0.2)
    here, there = run_rounds(f), run_rounds(f, engine="simulation")
    assert same(here, there)
    assert [r.figures for r in here.rounds] == [r.figures for r in there.rounds]
    assert [r.up_bytes for r in here.rounds] == [r.up_bytes for r in there.rounds]


@pytest.mark.slow
def test_secure_aggregation_gives_the_average_and_no_update(federation, monkeypatch):
    """The sum of masked updates is that of the clear to the quantisation; what single devices send is noise."""
    pytest.importorskip("ray")
    from flwr.server.workflow.secure_aggregation import secaggplus_workflow

    seen = []
    plain = secaggplus_workflow.factor_extract

    def spy(arrays):
        seen.append([np.array(a) for a in arrays])
        return plain(arrays)

    monkeypatch.setattr(secaggplus_workflow, "factor_extract", spy)
    sites = {f"place-{n}": {"channel": "umi_nlos", "seed": 7 + n} for n in range(4)}
    f = federation(sites=sites, aggregation="ffa", rounds=1)
    here = run_rounds(f)
    secure = federation(sites=sites, aggregation="ffa", rounds=1, secure_aggregation=True)
    there = run_rounds(secure, engine="simulation")
    moved = max(np.abs(value).max() for value in here.arrays.values())
    off = max(np.abs(here.arrays[name] - there.arrays[name]).max() for name in here.arrays)
    assert off < 1e-5 < 1e-3 < moved  # 22 bits over 16: 4e-6
    assert len(seen) <= 1  # the server unpacks the sum, once, and never a single update
    assert there.rounds[1].figures.keys() == here.rounds[1].figures.keys()


@pytest.mark.parametrize("engine", ["in_process"])
def test_secure_aggregation_is_refused_where_it_would_do_nothing(federation, engine):
    with pytest.raises(RecipeError, match="would average in the clear"):
        run_rounds(federation(aggregation="ffa", secure_aggregation=True), engine=engine)


@pytest.mark.slow
def test_deployed_nodes_give_the_same_numbers_and_strangers_are_refused(federation, tmp_path):
    """SuperLink and SuperNodes with TLS and keys; one node is killed in the second round, one has a strange key."""
    from airlam.edge.federated.engines.credentials import make_node_key
    from airlam.edge.federated.engines.deployment import deployed, submit

    sites = {name: federation().config["sites"][name] for name in ("street", "city")}
    f = federation(sites=sites, rounds=2, num_train=4, num_val=2, num_test=2, local_steps=1)
    here = run_rounds(f)
    with deployed(tmp_path / "deployment", 2) as deployment:
        stranger = deployment.start_node(7, 2, key=make_node_key(tmp_path / "stranger"))
        submit(deployment, f, tmp_path)
        wait(lambda: (tmp_path / STATE).is_file(), 300)
        deployment.nodes[1].send_signal(9)
        os.killpg(deployment.nodes[1].pid, 9)  # with whatever it was computing
        wait(lambda: deployment.status().startswith("finished"), 600)
        assert deployment.status() == "finished:completed"
        log = (tmp_path / "deployment" / "superlink.log").read_text()
        assert "No SuperNode found with the given public key" in log and log.count("Activated node_id") == 2
        assert stranger.poll() != 0  # it gave up, or is still trying
    there = State.load(tmp_path, f)
    assert there.rounds[1].figures == here.rounds[1].figures
    assert there.rounds[1].up_bytes == here.rounds[1].up_bytes
    assert there.done == 2


def wait(ready, seconds: float) -> None:
    end = time.monotonic() + seconds
    while not ready():
        assert time.monotonic() < end, f"nothing after {seconds} s"
        time.sleep(1)


def test_flower_is_there():
    assert importlib.util.find_spec("flwr") is not None
