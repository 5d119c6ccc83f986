"""Nodes that answer nonsense: what they say is rejected and named, the round goes on, nobody else's figure moves."""

from __future__ import annotations

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, MetricRecord

from airlam.edge.federated.client_app import build_client_app
from airlam.edge.federated.grids import InProcessGrid
from airlam.edge.federated.server_app import serve

NODE = 1


def run(f, kind, change):
    """A run in which the replies of one node to messages of a kind are tampered with; the records of its rounds."""
    client = build_client_app(f.to_json())

    def tampered(message, context):
        reply = client(message, context)
        if context.node_config["partition-id"] == NODE and message.metadata.message_type == kind:
            change(reply.content)
        return reply

    grid, records = InProcessGrid(tampered, len(f.sites)), []
    with grid.identity():
        state = serve(f, grid, None, watch=records.append)
    assert all(np.isfinite(value).all() for value in state.arrays.values())
    return records


def say(**metrics):
    def change(content):
        said = dict(content["metrics"]) | {name.replace("_", "-"): value for name, value in metrics.items()}
        content["metrics"] = MetricRecord({name: value for name, value in said.items() if value is not None})

    return change


def without(what):
    def change(content):
        del content[what]

    return change


def garbled(content):
    name = next(iter(content["arrays"]))
    content["arrays"][name] = Array(dtype="float32", shape=(2, 2), stype="numpy.ndarray", data=b"garbage")


def retyped(kind):
    def change(content):
        arrays = {name: array.numpy().astype(kind) for name, array in content["arrays"].items()}
        content["arrays"] = ArrayRecord({name: Array(value) for name, value in arrays.items()})

    return change


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (without("arrays"), "it has no arrays"), (without("metrics"), "num-examples is None"),
        (garbled, "cannot be read"), (say(num_examples=float("nan")), "num-examples is nan"),
        (say(num_examples=-8), "num-examples is -8"), (say(num_examples=0), "has no users"),
        (retyped("<U8"), "of type <U8"), (retyped("complex64"), "complex64"), (retyped("float64"), "float64"),
        (say(loss=[1.0, 2.0]), "loss is [1.0, 2.0]"), (say(seconds=None), "seconds is None"),
    ],
    ids=lambda value: value if isinstance(value, str) else None,
)  # fmt: skip
def test_updates_that_say_nonsense(federation, change, words):
    records = run(federation(rounds=1, num_train=4, num_val=2), "train", change)
    assert words in records[1].rejected["city"] and records[1].used == 2


def test_nodes_cannot_speak_for_others(federation):
    f = federation(rounds=1, num_train=4, num_val=2)
    honest = run(f, "evaluate", lambda content: None)
    for wrong in (say(site=0, figure=-99.0), say(site=1000, figure=-99.0)):
        records = run(f, "evaluate", wrong)
        assert records[1].figures["street"] == honest[1].figures["street"] and records[1].figures["city"] == -99.0
    broken = run(f, "evaluate", say(figure=float("nan")))
    assert "city" not in broken[1].figures and "figure is nan" in broken[1].strays[0]


def test_a_node_that_does_not_say_who_it_is_stays_out(federation):
    f = federation(rounds=1, num_train=4, num_val=2)
    for wrong in (say(site=None), say(site=7), say(flops=float("inf"))):
        records = run(f, "query.describe", wrong)
        assert records[1].chosen == [0, 2] and records[1].strays


def spoil(name, value):
    def change(content):
        if name in content["arrays"]:
            content["arrays"][name] = Array(value(content["arrays"][name].numpy()))

    return change


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("x", lambda x: np.full_like(x, np.nan), "not finite"), ("x", lambda x: x[..., :5].copy(), "has shape"),
        ("gradient", lambda g: g[:1].copy(), "has shape"), ("gradient", lambda g: g.astype(np.float64), "float64"),
    ],
    ids=["NaN", "width", "batch", "double"],
)  # fmt: skip
def test_split_devices_cannot_spoil_everybodys_batch(federation, name, value, words):
    f = federation(mode="split", rounds=1, num_train=4, num_val=2)
    records = run(f, "train.split", spoil(name, value))
    assert words in records[1].rejected["city"] and records[1].used == 2 and not records[1].lost


@pytest.mark.parametrize("name", ["x", "gradient"])
def test_a_split_device_with_huge_values_is_out_and_the_others_train(federation, name):
    f = federation(mode="split", rounds=1, num_train=4, num_val=2)
    records = run(f, "train.split", spoil(name, lambda x: np.full_like(x, 3e38)))
    assert list(records[1].rejected) == ["city"] and "3e+38" in records[1].rejected["city"]
    assert records[1].used == 2 and not records[1].lost


def test_an_update_without_values(federation):
    f = federation(rounds=1, num_train=4, num_val=2)

    def empty(content):
        content["arrays"] = ArrayRecord()

    assert "missing or unknown" in run(f, "train", empty)[1].rejected["city"]
