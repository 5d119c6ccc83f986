"""Nodes that answer nonsense: what they say is rejected and named, the round goes on, nobody else's figure moves."""

from __future__ import annotations

import io

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, MetricRecord
from flwr.proto.node_pb2 import NodeInfo
from rich.console import Console

from airlam.edge.federated.adapters import average, stacked
from airlam.edge.federated.client.app import build_client_app
from airlam.edge.federated.client.workshop import Workshop
from airlam.edge.federated.commands.console import progress
from airlam.edge.federated.engines.credentials import make_node_key, public_pem
from airlam.edge.federated.engines.deployment import write_app
from airlam.edge.federated.engines.in_process import InProcessGrid
from airlam.edge.federated.messages import shown
from airlam.edge.federated.server.app import serve
from airlam.edge.federated.server.record import RoundRecord
from airlam.edge.federated.server.roster import Roster
from airlam.errors import RecipeError

NODE = 1


HOSTILE = {
    "closing tag": "no file [/x/y]",
    "markup": "[bold red]no[/] [link=https://example.org]file[/link] :boom:",
    "control": "one\ntwo\x1b[2J\x07\u202e\ud800",
    "long": "x" * 10_000_000,
}


def client_of(f):
    workshop = Workshop(f)
    return build_client_app(lambda _: workshop)


def run(f, kind, change):
    """A run in which the replies of one node to messages of a kind are tampered with; the records of its rounds."""
    client = client_of(f)

    def tampered(message, context):
        reply = client(message, context)
        if context.node_config["partition-id"] == NODE and message.metadata.message_type == kind:
            change(reply.content)
        return reply

    grid, records = InProcessGrid(tampered, len(f.site_specs)), []
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
        (without("arrays"), "it has no arrays"),
        (without("metrics"), "num-examples is None"),
        (garbled, "cannot be read"),
        (say(num_examples=float("nan")), "num-examples is nan"),
        (say(num_examples=-8), "num-examples is -8"),
        (say(num_examples=0), "has no users"),
        (say(num_examples=1.7e308), "beyond"),
        (say(num_examples=5), "claims 5 training users, but its site has 4"),
        (say(seconds=1e300), "beyond"),
        (say(loss=-1e300), "beyond"),
        (retyped("<U8"), "of type <U8"),
        (retyped("complex64"), "complex64"),
        (retyped("float64"), "float64"),
        (say(loss=[1.0, 2.0]), "loss is [1.0, 2.0]"),
        (say(seconds=None), "seconds is None"),
    ],
    ids=lambda value: value if isinstance(value, str) else None,
)
def test_updates_that_say_nonsense(federation, change, words):
    records = run(federation(rounds=1, num_train=4, num_val=2), "train", change)
    assert words in records[1].rejected["city"] and records[1].used == 2


@pytest.mark.slow
def test_nodes_cannot_speak_for_others(federation):
    f = federation(rounds=1, num_train=4, num_val=2)
    honest = run(f, "evaluate", lambda content: None)
    for wrong in (say(site=0, figure=-99.0), say(site=1000, figure=-99.0)):
        records = run(f, "evaluate", wrong)
        assert records[1].figures["street"] == honest[1].figures["street"] and records[1].figures["city"] == -99.0
    broken = run(f, "evaluate", say(figure=float("nan")))
    assert "city" not in broken[1].figures and "figure is nan" in broken[1].strays[0]


@pytest.mark.slow
def test_a_node_that_does_not_say_who_it_is_stays_out(federation):
    f = federation(rounds=1, num_train=4, num_val=2)
    for wrong in (say(site=None), say(site=7), say(site=0.5), say(flops=float("inf")), say(num_examples=1e9)):
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
        ("x", lambda x: np.full_like(x, np.nan), "not finite"),
        ("x", lambda x: x[..., :5].copy(), "has shape"),
        ("gradient", lambda g: g[:1].copy(), "has shape"),
        ("gradient", lambda g: g.astype(np.float64), "float64"),
    ],
    ids=["NaN", "width", "batch", "double"],
)
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


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE.keys())
def test_texts_of_nodes_are_one_short_printable_line(text):
    line = shown(text)
    assert line.isprintable() and len(line) < 250
    assert shown("no file [/x/y]") == "no file [/x/y]"  # what it says is not changed
    assert shown("one\ntwo\x1b") == r"one\ntwo\x1b"


@pytest.mark.parametrize("kind", ["train", "evaluate", "query.describe", "train.split"])
def test_what_a_failing_node_says_is_kept_short_and_printed_as_it_is(federation, kind):
    f = federation(rounds=1, num_train=4, num_val=2, mode="split" if kind == "train.split" else "local")

    def fail(content):
        raise ValueError("".join(HOSTILE.values()))

    records = run(f, kind, fail)
    kept = [*records[1].lost.values(), *records[1].strays, *records[0].strays]
    assert kept and all(why.isprintable() and len(why) < 250 and "ValueError" in why for why in kept)
    assert printed(f, records).count("ValueError") == len(kept)


def printed(f, records) -> str:
    """What the progress bar prints of records, as plain text."""
    console = Console(file=io.StringIO(), width=10_000)
    with progress(f, console) as watch:
        for record in records:
            watch(record)
    return console.file.getvalue()


def test_markup_of_nodes_is_printed_and_not_obeyed(federation):
    record = RoundRecord(1)
    record.lose("street", HOSTILE["closing tag"])
    record.reject("city", HOSTILE["markup"])
    text = printed(federation(), [record])
    assert "street lost (no file [/x/y])" in text and HOSTILE["markup"] in text


@pytest.mark.parametrize("aggregation", ["naive", "ffa", "svd", "stacking", "residual"])
def test_claims_of_examples_cannot_empty_the_model(federation, aggregation):
    """Two nodes claim 1.7e308 examples each: their sum is infinite, and every share of it would be 0."""
    f = federation(rounds=1, num_train=4, num_val=2, aggregation=aggregation)
    client = client_of(f)

    def boasting(message, context):
        reply = client(message, context)
        if context.node_config["partition-id"] != 1 and message.metadata.message_type == "train":
            say(num_examples=1.7e308)(reply.content)
        return reply

    grid, records = InProcessGrid(boasting, 3), []
    with grid.identity():
        state = serve(f, grid, None, watch=records.append)
    assert list(records[1].rejected) == ["street", "factory"] and records[1].used == 1
    assert any(np.abs(value).max() > 0 for value in state.arrays.values())


@pytest.mark.parametrize("weights", [[1.7e308, 1.7e308], [0.0, 0.0], [float("nan"), 1.0]], ids=str)
def test_weights_without_a_sum_are_refused(weights):
    one = {"A/x": np.ones((2, 3), np.float32), "B/x": np.ones((4, 2), np.float32)}
    for combined in (lambda: average([one, one], weights), lambda: stacked([one, one], weights, "x")):
        with pytest.raises(ValueError, match="weights of 2 updates sum to"):
            combined()


class KnownGrid(InProcessGrid):
    """Nodes with public keys, as the SuperLink knows them under node authentication."""

    keys: list[bytes]

    def get_nodes(self):
        return [NodeInfo(node_id=node, public_key=self.keys[n]) for n, node in enumerate(self.get_node_ids())]


def test_a_node_has_the_site_of_its_key_alone(federation, tmp_path):
    """Node 0 claims site 1. Without keys it has it, and the owner is shut out; with keys it is refused."""
    f = federation(rounds=1, num_train=4, num_val=2)
    keys = [public_pem(make_node_key(tmp_path / str(n)).with_name(f"{n}.pub")).encode() for n in range(3)]
    client = client_of(f)

    def lying(message, context):
        reply = client(message, context)
        if context.node_config["partition-id"] == 0 and message.metadata.message_type == "query.describe":
            say(site=1)(reply.content)
        return reply

    def sites_with(given):
        grid = KnownGrid(lying, 3)
        grid.keys = keys
        roster = Roster(f, given)
        with grid.identity():
            roster.meet(grid)
        return {node - 2: site for node, site in roster.sites.items()}, roster.troubles

    assert sites_with([])[0] == {0: 1, 2: 2}
    found, troubles = sites_with(keys)
    assert found == {1: 1, 2: 2} and "its key is not that site's" in troubles[0]
    with pytest.raises(RecipeError, match="keys has 1 files, but there are 3 sites"):
        write_app(tmp_path, f, tmp_path, keys=[tmp_path / "0.pub"])
