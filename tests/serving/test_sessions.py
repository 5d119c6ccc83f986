"""A session is a stream: its values are those of the stream in process, whatever is sent twice or too late."""

from __future__ import annotations

import httpx
import numpy as np
import pytest
import torch
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

import airlam
from airlam.realtime import State, Stream, engine_for
from airlam.serving import Client
from airlam.serving.catalogue import Catalogue
from airlam.serving.config import ServingConfig, Sessions
from airlam.serving.errors import ServingError
from airlam.serving.sessions import Asked
from airlam.serving.sessions import Sessions as Held
from airlam.serving.wire import NPY, decode, encode

SHAPE, PORTS, FUTURE = (6, 1, 4), (1, 2, 2), 2


def slots(count: int, seed: int = 0) -> np.ndarray:
    """A few plane waves and a little noise."""
    random = np.random.default_rng(seed)
    t, f, a = np.arange(count)[:, None, None, None], np.arange(SHAPE[0])[:, None, None], np.arange(SHAPE[2])
    h = sum(
        np.exp(2j * np.pi * (random.uniform(-0.1, 0.1) * t + random.uniform() * f + random.uniform() * a))
        for _ in range(3)
    )
    noise = random.normal(size=(count, *SHAPE)) + 1j * random.normal(size=(count, *SHAPE))
    return (h + 0.01 * noise).astype(np.complex64)


def stream_of(name: str) -> Stream:
    return Stream(engine_for(airlam.load_predictor(name), SHAPE, FUTURE, port_shape=PORTS))


@pytest.mark.parametrize("name", ["airlam-tiny", "eigen-ar", "ar", "paths"])
def test_values_are_those_of_the_stream_in_process(server, name):
    h, stream = slots(60), stream_of(name)
    with Client(server.address, model=name) as client:
        session = client.session(f"parity-{name}", FUTURE, port_shape=PORTS)
        expected, found = stream.start(h[:16]), session.start(h[:16])
        assert np.allclose(found, expected, atol=1e-5)
        for number, slot in enumerate(h[16:], 16):
            slot = None if number in (20, 33) else slot
            assert np.allclose(session.push(slot), stream.push(slot), atol=1e-5)
        assert not session.talks.rebuilt and not session.talks.replayed
        session.end()


def test_a_session_may_begin_with_its_first_slot(server):
    h, stream = slots(20), stream_of("ar")
    with Client(server.address, model="ar") as client:
        session = client.session("from-nothing", FUTURE, port_shape=PORTS)
        for slot in h:
            assert np.allclose(session.push(slot), stream.push(slot), atol=1e-5)


class Retries(RuleBasedStateMachine):
    """Slots in order, sent any number of times, mixed with late and early ones."""

    catalogue = Catalogue(ServingConfig(predictors={"ar": {}}, classic=""))

    def __init__(self):
        super().__init__()
        self.held, self.stream, self.h = Held(self.catalogue, Sessions()), stream_of("ar"), slots(200)
        self.next, self.expected = 0, None
        self.begin()

    def begin(self):
        method = self.catalogue.method("ar")
        found = self.held.start("u", Asked(method, FUTURE, PORTS), self.h[:16], 15)
        self.next, self.expected = 16, self.stream.start(self.h[:16])
        assert np.array_equal(found.future, self.expected)

    @rule()
    def push(self):
        found = self.held.push("u", self.h[self.next], self.next)
        self.expected = self.stream.push(self.h[self.next])
        self.next += 1
        assert found.kind == "continued" and np.array_equal(found.future, self.expected)

    @rule()
    def lost(self):
        found = self.held.push("u", None, self.next)
        self.expected = self.stream.push(None)
        self.next += 1
        assert np.array_equal(found.future, self.expected)

    @precondition(lambda self: self.next > 16)
    @rule()
    def again(self):
        for content in (self.h[self.next - 1], None):
            try:
                found = self.held.push("u", content, self.next - 1)
            except ServingError as error:
                assert error.facts["expected_slot"] == self.next
            else:
                assert found.kind == "replayed" and np.array_equal(found.future, self.expected)

    @rule(far=st.integers(1, 50))
    def early(self, far):
        with pytest.raises(ServingError, match="push the missing slots") as error:
            self.held.push("u", self.h[self.next], self.next + far)
        assert error.value.status == 409 and error.value.facts["expected_slot"] == self.next

    @rule(back=st.integers(2, 16))
    def late(self, back):
        with pytest.raises(ServingError, match="was pushed before") as error:
            self.held.push("u", self.h[0], self.next - back)
        assert error.value.status == 409 and error.value.facts["expected_slot"] == self.next

    @rule()
    def damaged(self):
        bad = self.h[self.next].copy()
        bad[0, 0, 0] = np.nan
        with pytest.raises(ServingError, match="NaN"):
            self.held.push("u", bad, self.next)

    @rule()
    def an_old_start(self):
        if self.next > 16:
            with pytest.raises(ServingError, match="was pushed before"):
                self.held.start("u", Asked(self.catalogue.method("ar"), FUTURE, PORTS), self.h[:16], 15)

    @invariant()
    def it_is_where_it_should_be(self):
        assert self.held.info("u")["expected_slot"] == self.next


Retries.TestCase.settings = settings(max_examples=20, stateful_step_count=30, deadline=None)
TestRetries = Retries.TestCase


def test_bounds():
    catalogue = Catalogue(ServingConfig(predictors={"ar": {}, "hold": {}}, classic=""))
    held, method, h = Held(catalogue, Sessions(most=2, engines=1)), catalogue.method("ar"), slots(16)
    held.start("a", Asked(method, FUTURE, PORTS), h, 15)
    held.start("b", Asked(method, FUTURE, PORTS), h, 15)
    with pytest.raises(ServingError, match="holds 2 sessions") as error:
        held.start("c", Asked(method, FUTURE, PORTS), h, 15)
    assert error.value.status == 429 and error.value.retry_after_s
    held.end("a")
    with pytest.raises(ServingError, match="streams of 1 shapes"):
        held.start("c", Asked(method, FUTURE + 1, PORTS), h, 15)
    with pytest.raises(ServingError, match="hold.* cannot run slot by slot|HoldPredictor cannot run slot by slot"):
        held.end("b")
        held.start("c", Asked(catalogue.method("hold"), FUTURE, PORTS), h, 15)
    with pytest.raises(ServingError, match="start it .PUT. from the last history"):
        held.push("gone", h[0], 3)


def test_idle_sessions_are_forgotten(monkeypatch):
    catalogue = Catalogue(ServingConfig(predictors={"ar": {}}, classic=""))
    held, method, h = Held(catalogue, Sessions(most=1, idle_s=1)), catalogue.method("ar"), slots(16)
    held.start("a", Asked(method, FUTURE, PORTS), h, 15)
    held._sessions["a"].touched -= 2
    held.start("b", Asked(method, FUTURE, PORTS), h, 15)
    assert len(held) == 1


def test_torch_and_numpy_slots_give_the_same(server):
    h = slots(18)
    with Client(server.address, model="ar") as client:
        found = []
        for kind in (torch.from_numpy, np.asarray):
            session = client.session(f"kind {kind.__name__}".replace(" ", "-"), FUTURE, port_shape=PORTS)
            session.start(kind(h[:16]))
            found.append(session.push(kind(h[16])))
    assert torch.equal(*found)


@pytest.fixture(scope="module")
def served():
    return Catalogue(ServingConfig(predictors={"ar": {}, "paths": {}, "eigen-ar": {}}, classic=""))


@pytest.mark.parametrize("name", ["ar", "eigen-ar", "paths"])
def test_another_replica_goes_on_from_the_state(served, name):
    h, asked, one, other = slots(60), Asked(served.method(name), FUTURE, PORTS), Held(served, Sessions()), None
    one.start("u", asked, h[:16], 15)
    for number in range(16, 60):
        last = one.push("u", h[number], number)
        if number == 40:
            other = Held(served, Sessions())
            found = other.resume("u", asked, one.saved("u"))
            assert found.kind == "moved" and found.slot == 40 and np.array_equal(found.future, last.future)
            assert other.info("u") == one.info("u")
        elif other is not None:
            assert np.array_equal(other.push("u", h[number], number).future, last.future)


def test_states_that_are_refused(served):
    h, asked, one, other = slots(20), Asked(served.method("ar"), FUTURE, PORTS), Held(served, Sessions()), None
    one.start("u", asked, h[:16], 15)
    saved, other = one.saved("u"), Held(served, Sessions())
    one.push("u", h[16], 16)
    damaged = bytearray(saved)
    damaged[-100] ^= 1
    empty = State.of(engine_for(airlam.load_predictor("ar"), SHAPE, FUTURE, port_shape=PORTS)).to_bytes()
    cases = {
        (400, "state"): [b"", b"PK", saved[:-8], bytes(damaged), empty],
        (409, "another_state"): [saved],
    }
    for (status, code), bodies in cases.items():
        for body in bodies:
            with pytest.raises(ServingError) as error:
                other.resume("u", Asked(served.method("ar"), FUTURE + (status == 409), PORTS), body)
            assert (error.value.status, error.value.code) == (status, code)
    assert not len(other)
    with pytest.raises(ServingError, match="was pushed before"):  # it stands later here than there
        one.resume("u", asked, saved)
    assert one.info("u")["expected_slot"] == 17


def test_the_state_over_http(server):
    h, stream = slots(20), stream_of("ar")
    stream.start(h[:16])
    path, sizes = f"{server.address}/v1/sessions", {"model": "ar", "num_future": FUTURE, "port_shape": "1,2,2"}
    with Client(server.address, model="ar") as client:
        session = client.session("there", FUTURE, port_shape=PORTS)
        session.start(h[:16])
        saved = httpx.get(f"{path}/there/state")
        kind = {"content-type": saved.headers["content-type"]}
        assert kind == {"content-type": "application/x-safetensors"}
        moved = httpx.put(f"{path}/here/state", params=sizes, content=saved.content, headers=kind)
        assert moved.status_code == 200 and moved.headers["x-airlam-session"] == "moved"
        found = httpx.post(f"{path}/here/slots/16", content=encode({"h": h[16]}, NPY), headers={"content-type": NPY})
        assert np.array_equal(decode(found.content, NPY)["h"], stream.push(h[16]))
    for further, status in (({"content-type": NPY}, 415), (kind, 400)):
        answer = httpx.put(f"{path}/here/state", params=sizes, content=saved.content[:-1], headers=further)
        assert answer.status_code == status
    assert httpx.get(f"{path}/nobody/state").status_code == 404
