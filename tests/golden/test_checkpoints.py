"""The shipped checkpoints compute what they computed when they were released, on a stored input."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

import airlam
from airlam.models import AirlamEstimator, load_beams, load_pilots
from airlam.testing import check_golden
from airlam.testing.histories import PORTS, history

FOLDER = Path(__file__).parent


def numbers(name: str, values: Tensor, count: int = 8) -> dict[str, float]:
    """``count`` entries spread over ``values``, and their root mean square."""
    flat = (torch.view_as_real(values) if values.is_complex() else values).flatten().double()
    picked = flat[torch.linspace(0, len(flat) - 1, count).long()]
    found = {f"{name}[{i}]": float(value) for i, value in enumerate(picked)}
    return found | {f"{name} rms": float(flat.square().mean().sqrt())}


def test_predictors():
    found = {}
    for name in ("airlam-tiny", "airlam-tiny-v1", "airlam-small"):
        predictor = airlam.load_predictor(name)
        found |= numbers(name, predictor.predict(history(3), 4, port_shape=PORTS))
        views = airlam.load_predictor(name, views=2)
        found |= numbers(f"{name} views", views.predict(history(2), 2, port_shape=PORTS))
    for name in ("airlam-tiny", "airlam-tiny-v1", "airlam-paths"):
        predictor = airlam.load_predictor(name)
        found |= numbers(f"{name} variance", predictor.predict_with_variance(history(2), 4, port_shape=PORTS)[1])
    found |= numbers("airlam-paths", predictor.predict(history(3), 4, port_shape=PORTS))
    comb = torch.arange(12) % 4 == 0
    for name in ("airlam-tiny", "airlam-tiny-v1"):
        estimator = AirlamEstimator(airlam.load_predictor(name).model)
        found |= numbers(f"{name} comb", estimator.estimate(history(2), comb, axis="subcarrier", port_shape=PORTS))
    check_golden(FOLDER / "predictors.json", found)


def test_precoders_pilots_and_beams():
    found = {}
    h = torch.randn(3, 4, 8, dtype=torch.complex64, generator=torch.Generator().manual_seed(0))
    spread = 0.1 * torch.eye(8, dtype=torch.complex64).expand(3, 4, 8, 8)
    for name in ("airlam-precoder", "airlam-precoder-random-start", "airlam-precoder-shared"):
        precoder = airlam.load_precoder(name)
        found |= numbers(name, precoder.precode(h, 1.0, 0.01).abs())
        found |= numbers(f"{name} robust", precoder.precode(h, 1.0, 0.01, error_covariance=spread).abs())
    combiner = torch.eye(8, dtype=torch.complex64)[::2]  # every other port
    y = history(3, slots=1)[:, 0, :, 0] @ combiner.T
    for name in ("airlam-pilots", "airlam-pilots-random-start", "airlam-pilots-shared"):
        with torch.no_grad():
            mean, covariance = load_pilots(name)(y, combiner, 0.01, port_shape=PORTS)
        found |= numbers(name, mean) | numbers(f"{name} covariance", covariance.diagonal(dim1=-2, dim2=-1).real)
    power = torch.rand(3, 8, 16, generator=torch.Generator().manual_seed(0))
    measured = (torch.arange(8)[:, None] + torch.arange(16)) % 4 == 0
    for name in ("airlam-beams", "airlam-beams-random-start", "airlam-beams-shared"):
        found |= numbers(name, load_beams(name).scores(power, measured, 1, port_shape=(1, 4, 4)))
    check_golden(FOLDER / "precoders.json", found)
