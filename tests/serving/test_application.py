"""The HTTP application without a network: routes, bounds, refusals, deadlines."""

from __future__ import annotations

import asyncio
import json
import re
import time

import httpx
import numpy as np
import pytest
import torch

import airlam
from airlam.serving import create_app
from airlam.serving.config import ServingConfig
from airlam.serving.state import Replica
from airlam.serving.wire import JSON, NPY, SAFETENSORS, decode, encode

PORTS = (2, 2, 2)


def csi(*shape: int, seed: int = 0) -> np.ndarray:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.complex64).numpy()


HISTORY = csi(2, 16, 12, 1, 8)


@pytest.fixture(scope="module")
def replica(config):
    made = Replica(config)
    yield made
    made.close()


@pytest.fixture(scope="module")
def app(replica):
    return create_app(replica)


def talk(app, *requests: tuple, together: bool = False):
    """Answers to ``(method, path, body, headers)``."""

    async def run():
        transport = httpx.ASGITransport(app, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
            calls = [client.request(m, path, content=body, headers=headers) for m, path, body, headers in requests]
            return list(await asyncio.gather(*calls)) if together else [await call for call in calls]

    return asyncio.run(run())


def post(app, path: str, arrays: dict | bytes, kind: str = NPY, **headers: str) -> httpx.Response:
    body = arrays if isinstance(arrays, bytes) else encode(arrays, kind)
    return talk(app, ("POST", path, body, {"content-type": kind, **headers}))[0]


def refusal(answer: httpx.Response) -> dict:
    error = answer.json()["error"]
    assert "\n" not in error["message"] and error["code"]
    return error


def test_status_routes(app):
    for path in ("/healthz", "/readyz", "/metrics", "/v1/models", "/v1/addresses", "/openapi.json"):
        assert talk(app, ("GET", path, b"", {}))[0].status_code == 200, path


@pytest.mark.parametrize("kind", [NPY, SAFETENSORS, JSON])
def test_every_format_gives_the_same(app, kind):
    answer = post(app, "/v1/predict/ar?num_future=2&port_shape=2,2,2", {"h": HISTORY}, kind)
    assert answer.status_code == 200 and answer.headers["content-type"] == kind
    (future,) = decode(answer.content, kind).values()
    expected = airlam.load_predictor("ar").predict(torch.from_numpy(HISTORY), 2, port_shape=PORTS).numpy()
    assert np.allclose(future, expected, atol=1e-5)


def test_several_outputs_come_as_safetensors(app):
    path = "/v1/predict/airlam-tiny?num_future=2&port_shape=2,2,2&outputs=variance,pooled"
    answer = post(app, path, {"h": HISTORY})
    found = decode(answer.content, answer.headers["content-type"])
    assert {name: value.shape for name, value in found.items()} == {
        "future": (2, 2, 12, 1, 8),
        "variance": (2, 2, 12, 1, 8),
        "pooled": (2, 256),
    }


def test_beams(app):
    power, measured = np.random.rand(2, 8, 16).astype(np.float32), np.random.rand(8, 16) < 0.5
    answer = post(
        app, "/v1/beams/airlam-beams?port_shape=1,4,4&horizon=2", {"power": power, "measured": measured}, SAFETENSORS
    )
    assert answer.status_code == 200
    (scores,) = decode(answer.content, SAFETENSORS).values()
    assert np.allclose(np.exp(scores).sum(-1), 1, atol=1e-4)


PREDICT = "/v1/predict/airlam-tiny?num_future=2"


@pytest.mark.parametrize(
    ("path", "arrays", "kind", "status", "message"),
    [
        ("/v1/predict/airlam-tini?num_future=2", {"h": HISTORY}, NPY, 404, "did you mean 'airlam-tiny'"),
        (PREDICT + "&adapter=site-7", {"h": HISTORY}, NPY, 404, "no adapter 'site-7' is served"),
        ("/v1/predict/airlam-tiny", {"h": HISTORY}, NPY, 422, "num_future"),
        ("/v1/predict/airlam-tiny?num_future=0", {"h": HISTORY}, NPY, 422, "num_future is '0'"),
        ("/v1/predict/airlam-tiny?num_future=65", {"h": HISTORY}, NPY, 422, "less than or equal to 64"),
        (PREDICT + "&port_shape=2,2,3", {"h": HISTORY}, NPY, 400, "folds 12 ports, but the CSI has 8"),
        (PREDICT + "&port_shape=2;2", {"h": HISTORY}, NPY, 422, "port_shape"),
        (PREDICT + "&outputs=wisdom", {"h": HISTORY}, NPY, 400, "does not answer wisdom|does not answer 'wisdom'"),
        (PREDICT + "&subcarriers=1,99", {"h": HISTORY}, NPY, 400, "from 0 to 11"),
        (PREDICT + "&deadline_ms=-1", {"h": HISTORY}, NPY, 400, "deadline_ms is -1, but must be positive"),
        (PREDICT + "&deadline_ms=nan", {"h": HISTORY}, NPY, 422, "deadline_ms is 'nan'"),
        (PREDICT, {"h": HISTORY.real.copy()}, NPY, 400, "h is float32, but must be complex64"),
        (PREDICT, {"h": HISTORY[0, 0]}, NPY, 400, "h has 3 axes"),
        (PREDICT, {"h": HISTORY * np.nan}, NPY, 400, "NaN or infinity"),
        (PREDICT, {"h": HISTORY[:, :0]}, NPY, 400, "empty axis"),
        (PREDICT, {"h": csi(9, 2, 2, 1, 2)}, NPY, 400, "9 entries, but at most 8 a request"),
        (PREDICT, {"h": HISTORY, "g": HISTORY}, SAFETENSORS, 400, "the body holds 'g'"),
        (PREDICT, {"g": HISTORY}, SAFETENSORS, 400, "the body holds 'g'"),
        (PREDICT, {"h": HISTORY, "observed": np.ones((2, 3), bool)}, SAFETENSORS, 400, r"must be bool \(2, 16\)"),
        (PREDICT, {"h": HISTORY, "observed": np.zeros((2, 16), bool)}, SAFETENSORS, 400, "without any measured slot"),
        (PREDICT, b"", NPY, 400, "the body is empty"),
        (PREDICT, encode({"h": HISTORY}, NPY)[:-9], NPY, 400, "bytes, but .* follow it"),
        (PREDICT, b"\x80\x04K\x01.", "application/x-pickle", 415, "no pickle is read"),
        (PREDICT, b'{"h": NaN}', JSON, 400, "not valid JSON"),
        ("/v1/precode/rzf?power=1", {"h": HISTORY}, NPY, 400, "no is missing"),
        ("/v1/precode/rzf?power=-1&no=1", {"h": HISTORY}, NPY, 422, "power is '-1'"),
        ("/v1/precode/rsf?power=1&no=1", {"h": HISTORY}, NPY, 404, "did you mean 'rzf'"),
        ("/v1/nothing", {"h": HISTORY}, NPY, 404, "there is no /v1/nothing"),
        ("/v1/models", {"h": HISTORY}, NPY, 405, "POST is not for /v1/models"),
    ],
)
def test_bad_input_is_refused_with_value_bound_and_fix(app, path, arrays, kind, status, message):
    answer = post(app, path, arrays, kind)
    assert answer.status_code == status, answer.text
    assert re.search(message, refusal(answer)["message"]), answer.text


def test_a_large_body_is_refused_before_it_is_read(app):
    headers = {"content-type": NPY, "content-length": str(10 * 10**9)}
    (answer,) = talk(app, ("POST", PREDICT, b"x", headers))
    assert answer.status_code == 413 and answer.headers["connection"] == "close"
    headers["content-length"] = "9" * 400
    assert talk(app, ("POST", PREDICT, b"x", headers))[0].status_code == 413


def test_a_body_without_a_length_is_bounded_too(app):
    async def endless():
        while True:
            yield bytes(10**6)

    assert talk(app, ("POST", PREDICT, endless(), {"content-type": NPY}))[0].status_code == 413


def test_a_slow_body_is_given_up(app):
    async def slow():
        yield b"\x93NUMPY"
        await asyncio.sleep(30)

    (answer,) = talk(app, ("POST", PREDICT, slow(), {"content-type": NPY}))
    assert answer.status_code == 408 and refusal(answer)["code"] == "slow_body"


def test_requests_of_one_pass_do_not_touch_each_other(replica):
    """Requests of unlike shapes, one of them bad, collected into one pass, give what each gives alone."""
    from airlam.serving.jobs import Job, run

    method = replica.catalogue.method("airlam-tiny")
    inputs = [csi(1, 16, 12, 1, 8), csi(2, 16, 12, 1, 8, seed=1), csi(1, 10, 12, 1, 8, seed=2), csi(1, 16, 6, 1, 4)]
    wanted = [{"future"}, {"future", "variance"}, {"future"}, {"future", "covariance"}]
    jobs = [
        Job(method, torch.from_numpy(h), 2, wanted=frozenset(names)).check()
        for h, names in zip(inputs, wanted, strict=True)
    ]
    together = run(jobs)
    for job, found in zip(jobs, together, strict=True):
        (alone,) = run([job])
        assert set(found) == set(job.wanted)
        for name in job.wanted:
            assert torch.allclose(found[name], alone[name], atol=1e-5 * float(alone[name].abs().max()))


class Slow:
    """Holds the last slot, after as long as is asked."""

    name = "slow"

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds

    def predict(self, h_past, num_future, *, port_shape=None, context=None):
        time.sleep(self.seconds)
        return h_past[..., -1:, :, :, :].expand(*h_past.shape[:-4], num_future, *h_past.shape[-3:])


@pytest.fixture
def slow():
    made = Replica(ServingConfig(predictors={"ar": {}, "hold": {}}, classic="ar", limits={"waiting": 2}))
    made.catalogue.method("hold").predictor = Slow(0.4)
    yield create_app(made)
    made.close()


def test_requests_that_wait_share_the_next_pass(config):
    replica = Replica(ServingConfig(predictors={"airlam-tiny": {}, "hold": {}}, classic="hold"))
    app, inputs = create_app(replica), [csi(1, 16, 12, 1, 8, seed=k) for k in range(12)]
    path, headers = "/v1/predict/airlam-tiny?num_future=2&port_shape=2,2,2", {"content-type": NPY}
    answers = talk(app, *[("POST", path, encode({"h": h}, NPY), headers) for h in inputs], together=True)
    text = replica.metrics.text().decode()
    replica.close()
    passes, jobs = (float(text.split(f"airlam_pass_requests_{name} ")[1].split()[0]) for name in ("count", "sum"))
    assert jobs == 12 and passes < 12
    predictor = airlam.load_predictor("airlam-tiny")
    for answer, h in zip(answers, inputs, strict=True):
        expected = predictor.predict(torch.from_numpy(h), 2, port_shape=PORTS).numpy()
        assert np.abs(decode(answer.content, NPY)["h"] - expected).max() <= 1e-5 * np.abs(expected).max()


def test_what_would_come_too_late_is_answered_by_the_classic(slow):
    path, h = "/v1/predict/hold?num_future=2", csi(1, 16, 12, 1, 8)
    in_time = post(slow, path + "&deadline_ms=60000", {"h": h})
    assert "x-airlam-late" not in in_time.headers and in_time.headers["x-airlam-answered-by"] == "hold"
    for deadline in (300, 200):  # one that the mean shows to be too short, and one that is not known to be
        late = post(slow, f"{path}&deadline_ms={deadline}", {"h": h})
        assert late.status_code == 200, late.text
        assert late.headers["x-airlam-answered-by"] == "ar" and late.headers["x-airlam-late"] == "1"
        expected = airlam.load_predictor("ar").predict(torch.from_numpy(h), 2).numpy()
        assert np.allclose(decode(late.content, NPY)["h"], expected, atol=1e-5)


def test_the_classic_answers_before_a_pass_that_takes_unexpectedly_long(slow):
    late = post(slow, "/v1/predict/hold?num_future=2&deadline_ms=250", {"h": csi(1, 16, 12, 1, 8)})
    assert late.status_code == 200 and late.headers["x-airlam-late"] == "1"


def test_a_deadline_that_nothing_meets(slow):
    answer = post(slow, "/v1/predict/hold?num_future=2&deadline_ms=0.001", {"h": csi(1, 16, 12, 1, 8)})
    assert answer.status_code == 408 and refusal(answer)["code"] == "deadline"


def test_what_would_wait_too_long_is_refused_not_queued(slow):
    body, headers = encode({"h": csi(1, 16, 12, 1, 8)}, NPY), {"content-type": NPY}
    answers = talk(slow, *[("POST", "/v1/predict/hold?num_future=2", body, headers)] * 8, together=True)
    assert sorted(answer.status_code for answer in answers) == [200, 200, 503, 503, 503, 503, 503, 503]
    busy = next(answer for answer in answers if answer.status_code == 503)
    assert int(busy.headers["retry-after"]) >= 1 and refusal(busy)["code"] == "busy"


def test_token(config, monkeypatch):
    monkeypatch.setenv("AIRLAM_SERVING_TOKEN", "open-sesame-open-sesame")
    replica = Replica(ServingConfig(predictors={"hold": {}}, classic="hold"))
    app = create_app(replica)
    statuses = [
        talk(app, ("GET", "/v1/models", b"", {"authorization": given}))[0].status_code
        for given in ("", "Bearer wrong", "open-sesame-open-sesame", "Bearer open-sesame-open-sesame")
    ]
    assert statuses == [401, 401, 401, 200]
    assert talk(app, ("GET", "/healthz", b"", {}))[0].status_code == 200
    assert "open-sesame" not in talk(app, ("GET", "/metrics", b"", {"authorization": "x"}))[0].text
    replica.close()


def test_a_fault_is_one_line_and_leaks_nothing(config, caplog):
    replica = Replica(ServingConfig(predictors={"hold": {}}, classic="hold"))

    def broken(*_, **__):
        raise RuntimeError("a secret of the machine room")

    replica.catalogue.method("hold").predictor.predict = broken
    answer = post(create_app(replica), "/v1/predict/hold?num_future=2", {"h": HISTORY})
    replica.close()
    assert answer.status_code == 500 and refusal(answer)["code"] == "fault"
    assert "secret" not in answer.text and "secret" in caplog.text


def test_metrics_count_what_happened(config):
    replica = Replica(ServingConfig(predictors={"hold": {}}, classic="hold"))
    app = create_app(replica)
    post(app, "/v1/predict/hold?num_future=2", {"h": HISTORY})
    post(app, "/v1/predict/nothing?num_future=2", {"h": HISTORY})
    text = replica.metrics.text().decode()
    replica.close()
    assert 'airlam_requests_total{route="/v1/predict/{model}",status="200"} 1.0' in text
    assert 'airlam_requests_total{route="/v1/predict/{model}",status="404"} 1.0' in text
    assert "airlam_predictions_busy_seconds" in text and "airlam_sessions 0.0" in text


def test_openapi_describes_every_route(app):
    description = app.openapi()
    assert json.dumps(description)
    for path, methods in description["paths"].items():
        for method, route in methods.items():
            assert route.get("summary") and "200" in route["responses"], (method, path)
