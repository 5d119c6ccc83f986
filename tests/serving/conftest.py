"""A server in a thread of the test process, and CSI to send to it."""

from __future__ import annotations

import pytest

pytest.importorskip("fastapi", reason="the extra 'serving' is not installed")
pytest.importorskip("prometheus_client", reason="the extra 'serving' is not installed")

from airlam.serving.config import ServingConfig
from airlam.serving.plain import PlainServer

PORTS = (2, 2, 2)


@pytest.fixture(scope="session")
def config() -> ServingConfig:
    return ServingConfig(
        predictors={"airlam-tiny": {}, "eigen-ar": {}, "ar": {}, "hold": {}, "paths": {}},
        precoders={"airlam-precoder": {}, "rzf": {}, "wmmse": {}},
        beams={"airlam-beams": {}},
        limits={"body_mb": 8, "links": 8, "body_s": 1.0},
    )


@pytest.fixture(scope="session")
def server(config):
    with PlainServer(config, port=0) as running:
        yield running
