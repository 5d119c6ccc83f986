"""Engines of the classical predictors against the predictors."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from airlam.baselines import ARPredictor, EigenARPredictor
from airlam.realtime import kernels
from airlam.realtime.classics import AREngine, EigenAREngine

_spec = importlib.util.spec_from_file_location("realtime_links", Path(__file__).parent / "links.py")
links = importlib.util.module_from_spec(_spec)
sys.modules["realtime_links"] = links
_spec.loader.exec_module(links)
SIZES, distance, measured, rays, windows = links.SIZES, links.distance, links.measured, links.rays, links.windows


@pytest.fixture(params=[True, False], ids=["compiled", "plain"])
def kind(request, monkeypatch):
    """Runs a test with numba and without."""
    if request.param and not kernels.available():
        pytest.skip("needs numba")
    monkeypatch.setattr(kernels, "available", lambda: request.param)


def expected(predictor, window, port_shape):
    return predictor.predict(torch.from_numpy(window), 4, port_shape=port_shape).numpy()


@pytest.mark.parametrize("shape, port_shape, history", SIZES)
@pytest.mark.parametrize("shrinkage", [0.0, 3.0, float("inf")])
def test_ar_is_the_predictor_at_every_slot(kind, shape, port_shape, history, shrinkage):
    predictor = ARPredictor(num_bins=20, shrinkage=shrinkage)
    engine = AREngine(predictor, shape, 4, history=history, port_shape=port_shape)
    h = rays(shape, history + 6)
    every = list(windows(h, history, history - 1))
    memory, out = engine.refresh(every[0]), np.zeros((4, *shape), np.complex64)
    for i, new in ((0, 0), (1, 1), (2, 1), (5, 3)):
        engine.advance(memory, every[i], new, out)
        assert distance(out, expected(predictor, every[i], port_shape)) < 5e-4


@pytest.mark.parametrize("shape, port_shape, history", SIZES)
def test_eigen_ar_is_the_predictor_with_a_fresh_basis(kind, shape, port_shape, history):
    predictor = EigenARPredictor(num_bins=40)
    engine = EigenAREngine(predictor, shape, 4, history=history, port_shape=port_shape, basis_every=1)
    still = EigenAREngine(predictor, shape, 4, history=history, port_shape=port_shape)
    h = rays(shape, history + 6)
    every = list(windows(h, history, history - 1))
    memory, fixed = engine.refresh(every[0]), still.refresh(every[0])
    out, kept = np.zeros((4, *shape), np.complex64), np.zeros((4, *shape), np.complex64)
    for i, new in ((0, 0), (1, 1), (2, 1), (5, 3)):
        engine.advance(memory, every[i], new, out)
        still.advance(fixed, every[i], new, kept)
        assert distance(out, expected(predictor, every[i], port_shape)) < 5e-4
        assert distance(kept, expected(predictor, every[i], port_shape)) < (5e-4 if i == 0 else 0.3)


def test_measured_links(kind):
    """At 20 dB rounding turns the modes of noise; in double precision it does so less, and is as far off."""
    h = measured(18)
    every = list(windows(h, 16, 15))
    out = np.zeros((4, 48, 1, 32), np.complex64)
    for predictor, engine in (
        (ARPredictor(), AREngine(ARPredictor(), (48, 1, 32), 4, port_shape=(2, 4, 4))),
        (EigenARPredictor(), EigenAREngine(EigenARPredictor(), (48, 1, 32), 4, port_shape=(2, 4, 4), basis_every=1)),
    ):
        memory = engine.refresh(every[0])
        for window in every[1:]:
            engine.advance(memory, window, 1, out)
        exact = predictor.predict(torch.from_numpy(every[-1]).to(torch.complex128), 4, port_shape=(2, 4, 4))
        assert distance(out, exact) < (1e-4 if predictor.name == "ar" else 0.03)


def test_what_an_engine_cannot_do_is_refused():
    for predictor in (ARPredictor(tail="hold", num_bins=4), ARPredictor(mean_share=0.5)):
        with pytest.raises(ValueError, match="needs"):
            AREngine(predictor, (4, 1, 4), 2)
    for predictor in (EigenARPredictor(mean_share=0.5), EigenARPredictor(forward_backward=False)):
        with pytest.raises(ValueError, match="needs"):
            EigenAREngine(predictor, (4, 1, 4), 2)
    with pytest.raises(ValueError, match="basis_every"):
        EigenAREngine(EigenARPredictor(), (4, 1, 4), 2, basis_every=-1)
    with pytest.raises(ValueError, match="history"):
        AREngine(ARPredictor(), (4, 1, 4), 2, history=0)
