"""A server behind the client passes the contracts of every predictor and precoder."""

from __future__ import annotations

import pytest
import torch

import airlam
from airlam.serving import Client
from airlam.testing import PrecoderContract, PredictorContract
from airlam.testing.histories import PORTS, history

LINKS = 3  # of one request: larger batches go in parts


class TestServedModel(PredictorContract):
    variance_factor = 6.0  # as airlam-tiny in process

    @pytest.fixture
    def predictor(self, server):
        with Client(server.address, model="airlam-tiny", links=LINKS) as client:
            yield client


class TestServedClassic(PredictorContract):
    variance_factor = None

    @pytest.fixture
    def predictor(self, server):
        with Client(server.address, model="ar", links=LINKS) as client:
            client.predict_with_variance = None  # type: ignore[method-assign]
            yield client

    test_variance_has_the_size_of_the_error = None


class TestServedPrecoder(PrecoderContract):
    @pytest.fixture(params=["rzf", "airlam-precoder"])
    def precoder(self, server, request):
        with Client(server.address, precoder=request.param) as client:
            yield client


@pytest.mark.parametrize("name", ["airlam-tiny", "eigen-ar", "ar", "hold", "paths"])
def test_values_are_those_of_the_model_in_process(server, name):
    h_past, predictor = history(5), airlam.load_predictor(name)
    with Client(server.address, model=name, links=2) as client:
        found = client.predict(h_past, 4, port_shape=PORTS)
    expected = predictor.predict(h_past, 4, port_shape=PORTS)
    assert (found - expected).abs().max() <= 1e-5 * expected.abs().max()


def test_all_outputs_of_one_pass_are_those_of_the_model(server):
    h_past, predictor = history(3), airlam.load_predictor("airlam-tiny")
    tones = torch.tensor([0, 5])
    with Client(server.address, model="airlam-tiny") as client:
        future, variance = client.predict_with_variance(h_past, 2, port_shape=PORTS)
        again, covariance = client.predict_with_covariance(h_past, 2, port_shape=PORTS, subcarriers=tones)
    for found, expected in (
        (variance, predictor.predict_with_variance(h_past, 2, port_shape=PORTS)[1]),
        (covariance, predictor.predict_with_covariance(h_past, 2, port_shape=PORTS, subcarriers=tones)[1]),
        (future, again),
    ):
        assert found.shape == expected.shape
        assert (found - expected).abs().max() <= 1e-5 * expected.abs().max()


def test_histories_with_gaps(server):
    h_past, predictor = history(3), airlam.load_predictor("airlam-tiny")
    observed = torch.ones(3, h_past.shape[1], dtype=torch.bool)
    observed[1, 4] = observed[2, 7:9] = False
    h_past[1, 4] = torch.nan  # whatever stands there
    context = {"observed": observed}
    with Client(server.address, model="airlam-tiny") as client:
        found = client.predict(h_past, 4, port_shape=PORTS, context=context)
    expected = predictor.predict(h_past, 4, port_shape=PORTS, context=context)
    assert (found - expected).abs().max() <= 1e-5 * expected.abs().max()


def test_robust_precoding_with_the_covariance_of_a_prediction(server):
    users = history(4)
    with Client(server.address, model="airlam-tiny", precoder="rzf") as client:
        h, c = client.predict_with_covariance(users, 2, port_shape=PORTS)
        h, c = h.movedim(0, -2)[..., 0, :, :], c.movedim(0, -3)[..., 0, :, :, :]
        found = client.precode(h, 1.0, 0.01, error_covariance=c)
        no = torch.full(h.shape[:-2], 0.01)
        by_element = client.precode(h, 1.0, no)
    expected = airlam.load_precoder("rzf").precode(h, 1.0, 0.01, error_covariance=c)
    assert (found - expected).abs().max() <= 1e-5
    assert (by_element - airlam.load_precoder("rzf").precode(h, 1.0, no)).abs().max() <= 1e-5
