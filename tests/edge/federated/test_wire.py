"""Adapters in eight bits: rounding, error feedback, and whole runs with them."""

from __future__ import annotations

import numpy as np
import pytest
from flwr.app import Array
from hypothesis import given, settings
from hypothesis import strategies as st

from airlam.edge.federated import run_rounds
from airlam.edge.federated.client.app import REST, build_client_app
from airlam.edge.federated.client.workshop import Workshop
from airlam.edge.federated.engines.in_process import InProcessGrid
from airlam.edge.federated.learning.sites import Places
from airlam.edge.federated.messages import from_record, size_of
from airlam.edge.federated.server.app import serve
from airlam.edge.federated.wire import decode, encode, encode_change, wire_bytes

PLACES = Places()  # the same users for all runs of this file
SHAPES = {"A/x": (3, 40), "B/x": (25, 3), "W/x": (25, 40), "B/one": (7, 1)}


def drawn(seed=0, scale=1.0):
    rng = np.random.default_rng(seed)
    return {name: (scale * rng.standard_normal(shape)).astype(np.float32) for name, shape in SHAPES.items()}


@given(seed=st.integers(0, 1000), power=st.integers(-30, 30))
@settings(max_examples=40, deadline=None)
def test_an_error_is_below_the_step_of_its_row(seed, power):
    arrays = drawn(seed, 10.0**power)
    back = decode(encode(arrays, seed))
    assert back.keys() == arrays.keys()
    for name, value in arrays.items():
        short = int(value.shape[0] > value.shape[1])
        step = np.abs(value).max(1 - short, keepdims=True) / 127
        assert back[name].dtype == np.float32 and back[name].shape == value.shape
        assert (np.abs(back[name] - value) <= step * (1 + 1e-5)).all()


def test_rounding_has_no_bias():
    """The mean of n roundings is off by a standard deviation of at most step / (2 sqrt(n)) in each value."""
    arrays, n = drawn(), 2000
    mean = {name: np.zeros(shape) for name, shape in SHAPES.items()}
    for seed in range(n):
        for name, value in decode(encode(arrays, seed)).items():
            mean[name] += value / n
    for name, value in arrays.items():
        step = np.abs(value).max() / 127
        assert np.abs(mean[name] - value).max() < 5 * step / (2 * np.sqrt(n))


def test_zeros_stay_zeros_and_ranks_do_not_share_a_scale():
    """A device of a smaller rank is padded with zeros, and a rank may be a thousand times smaller than another."""
    b = np.zeros((6, 3), np.float32)
    b[:, 1], b[:, 2] = 1e-4 * np.arange(6), 100.0
    back = decode(encode({"B/x": b}, 1))["B/x"]
    assert (back[:, 0] == 0).all() and np.abs(back[:, 1] - b[:, 1]).max() <= 5e-4 / 127 * (1 + 1e-5)


def test_the_same_seed_gives_the_same_bytes():
    one, same, other = (encode(drawn(), seed) for seed in (3, 3, 4))
    assert all(np.array_equal(one[name], same[name]) for name in one)
    assert any(not np.array_equal(one[name], other[name]) for name in one)


def test_bytes_are_those_that_are_sent():
    arrays = drawn()
    assert size_of(encode(arrays, 0)) == wire_bytes(arrays, "int8")
    values = sum(value.size for value in arrays.values())
    assert wire_bytes(arrays, "int8") == values + 4 * (3 + 3 + 25 + 1) + 128 * 4
    assert size_of(arrays) == wire_bytes(arrays)


def test_error_feedback_loses_nothing():
    """What was sent over n rounds is what was changed, but for the rest of the last one: below one step."""
    change = drawn(5)
    zero = {name: np.zeros_like(value) for name, value in change.items()}
    sent, rest, plain = dict(zero), {}, dict(zero)
    rounds = 50
    for number in range(rounds):
        coded, rest = encode_change(change, zero, rest, number)
        for name, value in decode(coded).items():
            sent[name] = sent[name] + value
        for name, value in decode(encode(change, number)).items():
            plain[name] = plain[name] + value
    for name, value in change.items():
        step = np.abs(value).max() / 127 * 1.02  # a change with a rest may be a step larger
        assert np.abs(sent[name] - rounds * value).max() <= step + 1e-4  # sums in single precision
        if name != "B/one":
            assert np.abs(plain[name] - rounds * value).max() > 2 * step  # a random walk without it


def test_descent_with_coarse_steps_converges_with_error_feedback():
    """Gradient steps on a quadratic whose coordinates differ by 1e4: rounded changes still reach the minimum."""
    target = np.array([[1.0, 1e-4, -3e-3, 0.5]], np.float32)
    at, rest = {"A/x": np.zeros((1, 4), np.float32)}, {}
    for number in range(300):
        after = {"A/x": at["A/x"] - 0.1 * (at["A/x"] - target)}
        coded, rest = encode_change(after, at, rest, number)
        at = {"A/x": at["A/x"] + decode(coded)["A/x"]}
    assert np.abs(at["A/x"] - target).max() < 1e-5


@pytest.mark.parametrize(
    ("label", "value", "words"),
    [
        ("A/x|0", np.zeros((2, 9), np.float32), "float32, not int8"),
        ("A/x|0", np.zeros(9, np.int8), "not [row, 4 + column]"),
        ("A/x|0", np.zeros((2, 4), np.int8), "not [row, 4 + column]"),
        ("A/x|0", np.full((2, 9), -1, np.int8), "not finite"),  # the bytes of a NaN
        ("A/x|0", np.tile(np.array([0, 0, -128, -65, 1], np.int8), (2, 1)), "below 0"),  # -1.0
        ("A/x|2", np.zeros((2, 9), np.int8), "no name of an 8-bit array"),
        ("A/x", np.zeros((2, 9), np.int8), "no name of an 8-bit array"),
    ],
)
def test_damaged_arrays_are_refused(label, value, words):
    with pytest.raises(ValueError, match=".*") as caught:
        decode({label: value})
    assert words in str(caught.value)


def test_a_vector_is_refused_and_nan_is_no_number_after_the_way():
    with pytest.raises(ValueError, match="8 bits are for matrices"):
        encode({"bias": np.zeros(3, np.float32)}, 0)
    broken = {"A/x": np.array([[1.0, np.nan], [np.inf, 0.0]], np.float32)}
    sent, rest = encode_change(broken, {"A/x": np.zeros((2, 2), np.float32)}, {}, 0)
    assert rest == {}
    with pytest.raises(ValueError, match="not finite"):
        decode(sent)


@pytest.mark.parametrize(
    "aggregation",
    ["naive", "svd", "stacking", *(pytest.param(name, marks=pytest.mark.slow) for name in ("ffa", "residual"))],
)
def test_every_scheme_learns_in_eight_bits(federation, aggregation):
    """The same run with both wires: nearly the same model, a third of the bytes, and bytes as the formula says."""
    ends, sent = {}, {}
    for wire in ("float32", "int8"):
        f = federation(aggregation=aggregation, rounds=2, local_steps=1, wire=wire, evaluate_every=2)
        records = []
        state = run_rounds(f, places=PLACES, watch=records.append)
        assert [r.used for r in records[1:]] == [3, 3]
        sent[wire] = sum(r.bytes for r in records)
        ends[wire] = records[-1].mean_figure, records[0].mean_figure
        assert set(records[1].down_bytes.values()) == {wire_bytes(state.arrays, wire)}
        assert all(value.dtype == np.float32 for value in state.arrays.values())
    assert sent["int8"] < 0.4 * sent["float32"]
    gain = ends["float32"][1] - ends["float32"][0]
    assert abs(ends["int8"][0] - ends["float32"][0]) < max(0.1 * gain, 0.02)  # dB


@pytest.mark.parametrize(("aggregation", "kept"), [("naive", True), ("svd", False)])
def test_a_device_keeps_what_rounding_left_where_the_factors_are_kept(federation, aggregation, kept):
    """After an SVD the factors are other coordinates: a rest would be added to what it does not belong to."""
    workshop = Workshop(federation(wire="int8", aggregation=aggregation, rounds=1, local_steps=1), PLACES)
    grid = InProcessGrid(build_client_app(lambda _: workshop), 3)
    with grid.identity():
        serve(workshop.federation, grid, None)
    for context in grid.contexts.values():
        assert (REST in context.state) == kept
        if kept:
            rest = from_record(context.state[REST])
            assert rest.keys() == workshop.learner(4).start().keys()
            assert 0 < max(np.abs(value).max() for value in rest.values()) < 1e-3  # below a step of the change


def run(f, change):
    """The records of a run in which the updates of node 1 are tampered with."""
    workshop = Workshop(f, PLACES)
    client = build_client_app(lambda _: workshop)

    def tampered(message, context):
        reply = client(message, context)
        if context.node_config["partition-id"] == 1 and message.metadata.message_type == "train":
            change(reply.content["arrays"])
        return reply

    grid, records = InProcessGrid(tampered, 3), []
    with grid.identity():
        state = serve(f, grid, None, watch=records.append)
    assert all(np.isfinite(value).all() for value in state.arrays.values())
    return records


def cut(record):
    name = next(iter(record))
    record[name] = Array(dtype="int8", shape=record[name].shape, stype="numpy.ndarray", data=record[name].data[:-5])


def scaled_by_nan(record):
    name = next(iter(record))
    value = record[name].numpy().copy()
    value[:, :4] = -1
    record[name] = Array(value)


def narrowed(record):
    name = next(iter(record))
    record[name] = Array(np.ascontiguousarray(record[name].numpy()[:, :-1]))


def plain(record):
    name = next(iter(record))
    record[name] = Array(record[name].numpy().astype(np.float32))


def missing(record):
    del record[next(iter(record))]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (cut, "cannot be read"),
        (scaled_by_nan, "a scale that is not finite"),
        (narrowed, "has shape"),
        (plain, "float32, not int8"),
        (missing, "missing or unknown"),
    ],
)
def test_a_damaged_update_is_rejected_and_the_others_train(federation, change, words):
    records = run(federation(wire="int8", rounds=1, local_steps=1), change)
    assert list(records[1].rejected) == ["city"] and words in records[1].rejected["city"]
    assert records[1].used == 2


@pytest.mark.parametrize(("kind", "words"), [("nan", "not finite"), ("shape", "has shape"), ("huge", "norm")])
def test_broken_devices_are_rejected_in_eight_bits_too(federation, kind, words):
    f = federation(wire="int8", rounds=1, local_steps=1, attack={"sites": ["city"], "kind": kind})
    records = []
    run_rounds(f, places=PLACES, watch=records.append)
    assert words in records[1].rejected["city"] and records[1].used == 2


def test_privacy_rounds_what_is_noisy_already(federation):
    """Epsilon is that of the noise: rounding comes after it."""
    privacy = {"clip": 0.5, "noise_multiplier": 2.0, "noise_seed": 1}
    spent = []
    for wire in ("float32", "int8"):
        records = []
        f = federation(wire=wire, privacy=privacy, rounds=1, local_steps=1)
        run_rounds(f, places=PLACES, watch=records.append)
        spent.append(records[-1].epsilon)
    assert spent[0] == spent[1] is not None
