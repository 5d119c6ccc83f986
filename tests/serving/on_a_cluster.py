"""The services on a real Ray cluster: values, batching, new versions, killed replicas, nodes and proxies under load.

Run by test_cluster.py in a process of its own.
"""

from __future__ import annotations

import asyncio
import http.client
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import httpx
import numpy as np
import pytest
import torch

import airlam
from airlam.realtime import Stream, engine_for
from airlam.serving import AsyncClient, Client, ServingError
from airlam.serving.config import STAGES, ServingConfig
from airlam.serving.placement import Chain, Link, Node, Problem, Service, best_plan
from airlam.serving.placement.command import resource, serving_fields
from airlam.serving.placement.problem import CLIENT
from airlam.testing.histories import PORTS, history

pytest.importorskip("ray.serve", reason="the extra 'serving' is not installed")
pytestmark = pytest.mark.slow

from airlam.serving.cluster import start_cluster  # noqa: E402
from airlam.serving.cluster.emulated import EmulatedNodes, kill, processes  # noqa: E402

CONFIG = ServingConfig(
    predictors={"airlam-tiny": {}, "ar": {}, "hold": {}},
    precoders={"rzf": {}},
    classic="ar",
    listen={"port": 18230, "direct_port": 18300, "direct_ports": 100},
    warm={"slots": 16, "subcarriers": 12, "tx_ants": 8, "port_shape": PORTS},
    replicas=2,
    num_cpus=0.5,
    node={"0": "edge"},
)

# The model has room in the south alone, and needs two replicas there.
PLAN = best_plan(
    Problem(
        [
            Service("tokenizer", 0.002, 10, 1e5),
            Service("backbone", 0.008, 300, 1e5, core=True),
            Service("heads", 0.002, 10, 1e5),
        ],
        [Node("north", 1, 250), Node("south", 2, 1100)],
        [Chain(STAGES, 120, 2e5)],
        {(CLIENT, "north"): Link(0.001, 1e8), (CLIENT, "south"): Link(0.05, 1e8), ("north", "south"): Link(0.001, 1e8)},
        hop_s=0.003,
        process_mb=200,
        order=STAGES,
    )
)


@pytest.fixture(scope="module")
def nodes():
    planned = {node: {resource(int(node == "south")): count} for node, (_, count) in PLAN.nodes.items()}
    offers = {node: {"edge": 1.0, **offered} for node, offered in planned.items()}
    with EmulatedNodes(dict.fromkeys(offers, 2), CONFIG.listen, offers) as made:
        yield made


@pytest.fixture(scope="module")
def cluster(nodes):
    with start_cluster(CONFIG, nodes.address) as running:
        yield running


def test_values_through_every_replica(cluster):
    h_past, predictor = history(3), airlam.load_predictor("airlam-tiny")
    expected = predictor.predict(h_past, 4, port_shape=PORTS)
    assert len(cluster.replicas()) == 2
    for address in (cluster.address, *cluster.replicas()):
        with Client(address, discover=False) as client:
            found = client.predict(h_past, 4, port_shape=PORTS)
            assert (found - expected).abs().max() <= 1e-5 * expected.abs().max()
    with Client(cluster.address) as client:
        client.predict(h_past, 4, port_shape=PORTS)
        assert sorted(client.directory.addresses) == sorted(cluster.replicas())


def test_concurrent_requests_share_passes(cluster):
    h_past = [history(1, seed=k) for k in range(24)]
    expected = [airlam.load_predictor("airlam-tiny").predict(h, 2, port_shape=PORTS) for h in h_past]

    async def main():
        async with AsyncClient(cluster.replicas()[0], discover=False) as client:
            return await asyncio.gather(*(client.predict(h, 2, port_shape=PORTS) for h in h_past))

    # the model in process, too, rounds otherwise where links share a pass
    together = airlam.load_predictor("airlam-tiny").predict(torch.cat(h_past), 2, port_shape=PORTS)
    rounding = max(1e-5, 4 * float((together - torch.cat(expected)).abs().max()))
    for found, value in zip(asyncio.run(main()), expected, strict=True):
        assert (found - value).abs().max() <= rounding * value.abs().max()
    text = httpx.get(cluster.replicas()[0] + "/metrics").text
    count, total = (float(text.split(f"airlam_pass_requests_{name} ")[1].split()[0]) for name in ("count", "sum"))
    assert total > count  # some passes held several requests


def test_bad_requests_are_refused_by_the_replica_itself(cluster):
    address = cluster.replicas()[0]
    answer = httpx.post(f"{address}/v1/predict/nothing?num_future=2", content=b"x")
    assert answer.status_code == 404 and answer.json()["error"]["code"] == "unknown_model"
    connection = http.client.HTTPConnection(address.removeprefix("http://"), timeout=10)
    connection.putrequest("POST", "/v1/predict/ar?num_future=2")
    for name, value in (("content-type", "application/x-npy"), ("content-length", "10000000000")):
        connection.putheader(name, value)
    connection.endheaders(b"the first bytes")
    assert connection.getresponse().status == 413
    connection.close()


class Load:
    """Users whose slots and predictions go on in threads, while something happens."""

    def __init__(self, address: str, users: int = 6) -> None:
        self.address, self.ends, self.done = address, False, 0
        self._pool = ThreadPoolExecutor(users)
        self._users = [self._pool.submit(self._user, k) for k in range(users)]

    def _user(self, k: int):
        h = history(300, slots=1, seed=k)[:, 0].numpy()
        h = h[0] + 0.3 * h  # slots around a mean
        found, asked = [], 0
        with Client(self.address, model="ar", timeout_s=5, patience_s=60) as client:
            session = client.session(f"load-{k}-{time.time_ns()}", 2, port_shape=PORTS)
            while len(found) < 300 and (not self.ends or len(found) < 20):
                found.append(session.push(h[len(found)]).numpy())
                if len(found) % 5 == 0:
                    client.predict(torch.from_numpy(h[:16]), 2, port_shape=PORTS)
                    asked += 1
                self.done += 1
                time.sleep(0.02)
            return h, session.talks, found, asked

    def __enter__(self):
        deadline = time.monotonic() + 30
        while self.done < 10 and time.monotonic() < deadline:
            time.sleep(0.05)
        return self

    def __exit__(self, *_):
        self.ends = True

    def check(self) -> int:
        """Compare every value with the stream in process that begins anew where the session did; how many did."""
        rebuilt = self.moved = 0
        for h, talks, found, _ in [each.result(90) for each in self._users]:
            engine = engine_for(airlam.load_predictor("ar"), h.shape[1:], 2, port_shape=PORTS)
            stream = Stream(engine)
            for number, value in enumerate(found):
                if number in talks.rebuilt:
                    first = max(0, number - 15)
                    stream = Stream(engine)
                    history_ = h[first : number + 1]
                    whole = len(history_) == 16
                    expected = (
                        stream.start(history_, number)
                        if whole
                        else [stream.push(x, first + i) for i, x in enumerate(history_)][-1]
                    )
                else:
                    expected = stream.push(h[number], number)
                assert np.allclose(value, expected, atol=1e-5), (number, talks.rebuilt)
            rebuilt += len(talks.rebuilt)
            self.moved += len(talks.moved)
        self._pool.shutdown()
        return rebuilt


def settled(cluster, count: int) -> None:
    deadline = time.monotonic() + 60
    while len(cluster.replicas()) != count:
        assert time.monotonic() < deadline, cluster.replicas()
        time.sleep(0.2)


def test_a_killed_replica_loses_no_request_and_no_value(cluster):
    with Load(cluster.address) as load:
        kill(processes("ServeReplica:airlam:ingress")[0])
        time.sleep(2)
    load.check()
    settled(cluster, 2)


def test_new_versions_and_numbers_of_replicas_cost_no_request(cluster):
    with Load(cluster.address) as load:
        changed = replace(CONFIG, predictors={**CONFIG.predictors, "wiener": {}}, replicas=1)
        cluster.deploy(changed)
        with Client(cluster.address, model="wiener") as client:
            client.predict(history(1), 2, port_shape=PORTS)
        time.sleep(1)
    load.check()
    assert load.moved  # sessions went with their state
    cluster.deploy(CONFIG)
    settled(cluster, 2)


def test_copies_follow_the_load(cluster):
    """More replicas while many requests wait, fewer afterwards, and no request lost on the way."""
    scale = {"most": 2, "requests": 2, "up_s": 1, "down_s": 1}
    cluster.deploy(replace(CONFIG, replicas=1, autoscale=scale))
    settled(cluster, 1)
    h_past = history(8)

    async def main():
        async with AsyncClient(cluster.address) as client:

            async def user():
                deadline = time.monotonic() + 60
                while len(cluster_now) < 2 and time.monotonic() < deadline:
                    await client.predict(h_past, 4, port_shape=PORTS)

            async def look():
                while len(cluster_now) < 2:
                    cluster_now[:] = await asyncio.to_thread(cluster.replicas)
                    await asyncio.sleep(0.3)

            cluster_now: list[str] = []
            await asyncio.wait_for(asyncio.gather(look(), *(user() for _ in range(12))), 90)

    asyncio.run(main())
    with Load(cluster.address) as load:
        settled(cluster, 1)
    load.check()
    cluster.deploy(CONFIG)
    settled(cluster, 2)


def test_a_killed_proxy_is_not_missed(cluster):
    with Load(cluster.address) as load:
        for number in processes("ProxyActor"):
            kill(number)
        time.sleep(1)
    assert load.check() == 0


def light_services_elsewhere(cluster, h_past) -> None:
    """Classics and precoders on a replica of their own give the same, and refuse the same."""
    groups = [["tokenizer", "backbone", "heads"], ["classics", "precoding"]]
    cluster.deploy(replace(CONFIG, groups=groups, replicas=1))
    assert processes("ServeReplica:airlam:classics-precoding")
    h, covariance = h_past[:, 0, :, 0], torch.eye(8, dtype=torch.complex64)
    with Client(cluster.address, model="ar", precoder="rzf") as client:
        found = client.predict(h_past, 2, port_shape=PORTS)
        assert torch.equal(found, airlam.load_predictor("ar").predict(h_past, 2, port_shape=PORTS))
        w = client.precode(h, 1.0, 0.01)
        assert torch.equal(w, airlam.load_precoder("rzf").precode(h, 1.0, 0.01))
        with pytest.raises(ServingError, match="error_covariance") as refused:
            client.precode(h, 1.0, 0.01, error_covariance=covariance[:3])
        assert refused.value.status == 400 and "Traceback" not in refused.value.message
        with pytest.raises(ServingError, match="served: rzf"):
            Client(cluster.address, precoder="zf").precode(h, 1.0, 0.01)
    told = httpx.get(cluster.replicas()[0] + "/metrics").text
    assert 'airlam_worker_waiting{lane="stage"' in told and 'airlam_worker_busy_seconds{lane="precoding"' in told
    with Load(cluster.address) as load:  # its predictions come from there
        kill(processes("ServeReplica:airlam:classics-precoding")[0])
        time.sleep(2)
    load.check()


def test_stages_on_several_replicas_give_the_same(cluster, nodes):
    """Three replicas wherever there is room, then those of a plan, where it says."""
    h_past, predictor = history(2), airlam.load_predictor("airlam-tiny")
    future, variance = predictor.predict_with_variance(h_past, 2, port_shape=PORTS)
    for fields in ({"groups": [["tokenizer"], ["backbone"], ["heads"]], "replicas": 1}, serving_fields(PLAN)):
        cluster.deploy(replace(CONFIG, **fields))
        with Client(cluster.address) as client:
            found = client.predict_with_variance(h_past, 2, port_shape=PORTS)
        assert (found[0] - future).abs().max() <= 1e-5 * future.abs().max()
        assert (found[1] - variance).abs().max() <= 1e-5 * variance.abs().max()
    places = [nodes.name_of(number) for number in processes("ServeReplica:airlam:")]
    assert sorted(places) == ["north", "south", "south"]
    light_services_elsewhere(cluster, h_past)
    cluster.deploy(CONFIG)
    settled(cluster, 2)


def test_a_killed_node_loses_no_request_and_no_value(cluster, nodes):
    """The node does not come back."""
    with Load(cluster.address) as load:
        nodes.kill("north")
        time.sleep(3)
    load.check()


def test_without_the_head_replicas_answer_on(cluster, nodes):
    """The last test: nothing can be started any more."""
    settled(cluster, 2)  # a replica that is still starting would be lost with the head
    h_past, addresses = history(1), cluster.replicas()
    with Load(addresses[0]) as load:
        nodes.kill_head()
        time.sleep(6)
        with Client(addresses) as client:
            client.predict(h_past, 4, port_shape=PORTS)
    load.check()
