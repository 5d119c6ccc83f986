"""Requests made up from the OpenAPI description: every answer is a success or a refusal, none a fault."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from airlam.serving import create_app
from airlam.serving.config import ServingConfig
from airlam.serving.state import Replica
from airlam.serving.wire import KINDS

schemathesis = pytest.importorskip("schemathesis", reason="comes with airlam[dev]")

from schemathesis import GenerationMode  # noqa: E402

CONFIG = ServingConfig(
    predictors={"ar": {}, "hold": {}, "airlam-tiny": {}},
    precoders={"rzf": {}},
    beams={"airlam-beams": {}},
    classic="ar",
)
for kind in KINDS[:2]:
    schemathesis.openapi.media_type(kind, st.binary(max_size=400))


@pytest.fixture(scope="module")
def schema():
    replica = Replica(CONFIG)
    yield schemathesis.openapi.from_asgi("/openapi.json", create_app(replica))
    replica.close()


ROUTES = (
    ("GET", "/v1/sessions/{session}"),
    ("DELETE", "/v1/sessions/{session}"),
    ("POST", "/v1/predict/{model}"),
    ("POST", "/v1/precode/{precoder}"),
    ("POST", "/v1/beams/{model}"),
    ("PUT", "/v1/sessions/{session}"),
    ("POST", "/v1/sessions/{session}/slots/{slot}"),
)


@pytest.mark.parametrize("mode", list(GenerationMode), ids=lambda mode: mode.value)
@pytest.mark.parametrize(("method", "path"), ROUTES, ids=lambda text: text.strip("/").replace("/", "-"))
def test_nothing_is_a_fault(schema, method, path, mode):
    operation = schema[path][method]

    @given(operation.as_strategy(generation_mode=mode))
    @settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck), database=None)
    def run(case):
        answer = case.call()
        assert answer.status_code < 500 or answer.status_code == 503, (answer.status_code, answer.text)
        if answer.status_code >= 400:
            error = answer.json()["error"]
            assert error["code"] and "\n" not in error["message"] and len(error["message"]) < 700

    run()
