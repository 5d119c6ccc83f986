"""Lost answers, lost replicas: no request is lost, no slot is counted twice, and a new start is said."""

from __future__ import annotations

import asyncio
import random

import httpx
import numpy as np
import pytest
import torch

import airlam
from airlam.realtime import Stream, engine_for
from airlam.serving import AsyncClient, Client, ServingError, create_app
from airlam.serving.config import ServingConfig
from airlam.serving.state import Replica

SHAPE, PORTS, FUTURE = (6, 1, 4), (1, 2, 2), 2
CONFIG = ServingConfig(predictors={"ar": {}, "hold": {}}, classic="ar", warm={"slots": 0})


def slots(count: int, seed: int) -> np.ndarray:
    generator = torch.Generator().manual_seed(seed)
    steps = 0.2 * torch.randn(count, *SHAPE, generator=generator, dtype=torch.complex64)
    return (torch.randn(SHAPE, generator=generator, dtype=torch.complex64) + steps.cumsum(0)).numpy()


class Unreliable(httpx.AsyncBaseTransport):
    """Several replicas without a network between; requests or answers are lost, and replicas die."""

    def __init__(self, count: int, loss: float = 0.0, seed: int = 0) -> None:
        self.loss, self.random = loss, random.Random(seed)
        self.dead, self.leaving = set(), set()
        self.replicas = {f"replica-{k}": Replica(CONFIG, addresses=self.addresses) for k in range(count)}
        self.apps = {name: httpx.ASGITransport(create_app(each)) for name, each in self.replicas.items()}

    async def addresses(self) -> list[str]:
        return [f"http://{name}" for name in self.replicas if name not in self.dead | self.leaving]

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        if request.url.host in self.dead:
            raise httpx.ConnectError("refused")
        chance = self.random.random()
        if chance < self.loss / 2:
            raise httpx.ConnectError("the request was lost")
        answer = await self.apps[request.url.host].handle_async_request(request)
        if chance < self.loss or request.url.host in self.dead:
            raise httpx.ReadError("the answer was lost")
        return answer

    def kill(self, name: str) -> None:
        """Its sessions are gone; another replica of that name may begin."""
        self.dead.add(name)

    def leave(self, name: str) -> None:
        """It still answers, but is named no more."""
        self.leaving.add(name)

    def revive(self, name: str) -> None:
        self.replicas[name] = Replica(CONFIG, addresses=self.addresses)
        self.apps[name] = httpx.ASGITransport(create_app(self.replicas[name]))
        self.dead.discard(name)

    def close(self) -> None:
        for replica in self.replicas.values():
            replica.close()


@pytest.fixture
def make():
    made = []

    def unreliable(*args, **kwargs):
        made.append(Unreliable(*args, **kwargs))
        return made[-1]

    yield unreliable
    for each in made:
        each.close()


def stream() -> Stream:
    return Stream(engine_for(airlam.load_predictor("ar"), SHAPE, FUTURE, port_shape=PORTS))


def expected_of(h: np.ndarray, rebuilt: list[int]) -> list[np.ndarray]:
    """What the stream in process gives that begins anew from the last history where the session did."""
    made, out = stream(), [None] * 15
    for number in range(15, len(h)):
        begins = number == 15 or number in rebuilt
        out.append(made.start(h[number - 15 : number + 1], number) if begins else made.push(h[number], number))
    return out


async def run(client: AsyncClient, name: str, h: np.ndarray, on_slot=None):
    session = client.session(name, FUTURE, port_shape=PORTS)
    found = [None] * 15 + [await session.start(h[:16])]
    for number in range(16, len(h)):
        if on_slot is not None:
            on_slot(number)
        found.append(await session.push(h[number]))
    return session.talks, found


def test_lost_requests_and_answers_change_nothing(make):
    async def main():
        transport = make(2, loss=0.3)
        async with AsyncClient("http://replica-0", model="ar", transport=transport) as client:
            return await asyncio.gather(*(run(client, f"user-{k}", slots(60, k)) for k in range(8)))

    replayed = 0
    for k, (talks, found) in enumerate(asyncio.run(main())):
        replayed += talks.replayed
        for value, expected in zip(found[15:], expected_of(slots(60, k), talks.rebuilt)[15:], strict=True):
            assert np.allclose(value, expected, atol=1e-5)
    assert replayed > 10  # the server was asked again for slots that it had counted


def test_killed_replicas_lose_no_slot_and_no_value(make):
    """Replicas die and come back while sessions run; a new start is one from the last history, and is said."""

    async def main():
        transport = make(3)

        def on_slot(number: int) -> None:
            if number in (20, 35, 50):
                transport.kill(f"replica-{number // 15 - 1}")
            if number in (30, 45):
                transport.revive(f"replica-{number // 15 - 2}")

        async with AsyncClient("http://replica-0", model="ar", transport=transport) as client:
            first = run(client, "user-0", slots(70, 0), on_slot)
            return await asyncio.gather(first, *(run(client, f"user-{k}", slots(70, k)) for k in range(1, 12)))

    results = asyncio.run(main())
    for k, (talks, found) in enumerate(results):
        for value, expected in zip(found[15:], expected_of(slots(70, k), talks.rebuilt)[15:], strict=True):
            assert np.allclose(value, expected, atol=1e-5)
    assert sum(len(talks.rebuilt) for talks, _ in results) >= 3


def test_predictions_go_on_while_replicas_die(make):
    h = torch.from_numpy(slots(16, 0))
    expected = airlam.load_predictor("ar").predict(h, FUTURE, port_shape=PORTS)

    async def main():
        transport = make(3, loss=0.2)
        async with AsyncClient("http://replica-0", model="ar", transport=transport) as client:
            await client.predict(h, FUTURE, port_shape=PORTS)  # it has heard of the others
            calls = [asyncio.ensure_future(client.predict(h, FUTURE, port_shape=PORTS)) for _ in range(60)]
            await asyncio.sleep(0.05)
            transport.kill("replica-1")
            transport.kill("replica-0")  # where the client began
            return await asyncio.gather(*calls)

    # requests share passes, in which the predictor itself rounds otherwise; this input is far from well conditioned
    together = airlam.load_predictor("ar").predict(h.expand(16, *h.shape), FUTURE, port_shape=PORTS)
    rounding = max(1e-5, 4 * float((together - expected).abs().max()))
    for found in asyncio.run(main()):
        assert (found - expected).abs().max() <= rounding


def test_missing_slots_are_kept_for_a_new_start(make):
    async def main():
        transport = make(2)
        async with AsyncClient("http://replica-0", model="ar", transport=transport) as client:
            h = slots(40, 1)
            session = client.session("user", FUTURE, port_shape=PORTS)
            await session.start(h[:16])
            await session.push(None)
            future = await session.push(h[18], 18)  # 17 was lost, too
            assert session.talks.next == 19
            transport.kill(session.talks.address.removeprefix("http://"))
            moved = await session.push(h[19])
            return session.talks, future, moved

    talks, future, moved = asyncio.run(main())
    assert talks.rebuilt == [19] and future.shape == moved.shape == (FUTURE, *SHAPE)


def test_nobody_answers():
    with Client("http://127.0.0.1:9", model="ar", patience_s=0.3) as client:
        with pytest.raises(ConnectionError, match="no answer from http://127.0.0.1:9"):
            client.predict(torch.from_numpy(slots(16, 0)), 2)


def test_a_refusal_is_raised_at_once(server):
    with Client(server.address, model="airlam-tini") as client:
        with pytest.raises(ServingError, match="did you mean 'airlam-tiny'") as error:
            client.predict(torch.from_numpy(slots(16, 0)), 2)
    assert error.value.status == 404 and client.directory.retries == 0
    with pytest.raises(ValueError, match="must begin with http"):
        Client("127.0.0.1:8000")


def test_a_refused_slot_leaves_the_session_as_it_was(server):
    h = slots(20, 3)
    with Client(server.address, model="ar") as client:
        session = client.session("refused", FUTURE, port_shape=PORTS)
        session.start(h[:16])
        with pytest.raises(ServingError, match="NaN"):
            session.push(h[16] * np.nan)
        expected = stream()
        expected.start(h[:16])
        assert np.allclose(session.push(h[16]), expected.push(h[16]), atol=1e-5)
        with pytest.raises(ServingError, match="16 was pushed before"):
            session.push(h[16], 16)


async def while_one_leaves(transport, monkeypatch, users: int = 8, *, gone: bool = False):
    """Talks and values of users, one of whose three replicas leaves (``gone``: and dies) after a third of the slots."""
    monkeypatch.setattr("airlam.serving.fleet.FRESH_S", 0.0)

    def on_slot(number: int) -> None:
        if number == 30:
            transport.leave("replica-2")
        if number == 45 and gone:
            transport.kill("replica-2")

    async with AsyncClient("http://replica-0", model="ar", transport=transport) as client:
        first = run(client, "user-0", slots(60, 0), on_slot)
        return await asyncio.gather(first, *(run(client, f"user-{k}", slots(60, k)) for k in range(1, users)))


@pytest.mark.parametrize("gone", [False, True])
def test_a_replica_that_leaves_hands_its_sessions_over(make, monkeypatch, gone):
    """Values go on as in one stream: neither lost nor begun anew."""
    transport, moved = make(3), 0
    for k, (talks, found) in enumerate(asyncio.run(while_one_leaves(transport, monkeypatch, gone=gone))):
        assert not talks.rebuilt and talks.address != "http://replica-2"
        moved += len(talks.moved)
        for value, expected in zip(found[15:], expected_of(slots(60, k), [])[15:], strict=True):
            assert np.allclose(value, expected, atol=1e-5)
    assert moved >= 2
    assert sum(len(each.sessions) for name, each in transport.replicas.items() if name != "replica-2") == 8


def test_a_session_that_cannot_be_handed_over_begins_anew(make, monkeypatch):
    """Other weights, or a state that the leaving replica has no more."""
    transport = make(3)
    for name in ("replica-0", "replica-1"):
        method = transport.replicas[name].catalogue.methods["ar", ""]
        method.predictor = airlam.load_predictor("ar", order=3)
    talks = [talks for talks, _ in asyncio.run(while_one_leaves(transport, monkeypatch))]
    assert not any(each.moved for each in talks) and sum(len(each.rebuilt) for each in talks) >= 2
