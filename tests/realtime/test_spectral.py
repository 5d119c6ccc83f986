"""The spectral engine and the fast full prediction against airlam-tiny itself."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from airlam import load_predictor
from airlam.metrics import nmse
from airlam.models import AirlamPredictor
from airlam.realtime import full as full_predictions
from airlam.realtime import kernels
from airlam.realtime.full import FastPredictor
from airlam.realtime.network import fastest_network
from airlam.realtime.spectral import SpectralEngine

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


@pytest.fixture(scope="module")
def predictor() -> AirlamPredictor:
    return load_predictor("airlam-tiny")


def full(predictor, window, port_shape, future=4):
    return predictor.predict(torch.from_numpy(window), future, port_shape=port_shape).numpy()


@pytest.mark.parametrize("jitter", [0.0, 0.2])
@pytest.mark.parametrize("shape, port_shape, history", SIZES)
def test_right_after_a_refresh_it_is_the_predictor(kind, predictor, shape, port_shape, history, jitter):
    h = rays(shape, history, jitter=jitter)
    engine = SpectralEngine(predictor, shape, 4, history=history, port_shape=port_shape)
    out = np.zeros((4, *shape), np.complex64)
    engine.advance(engine.refresh(h), h, 0, out)
    assert distance(out, full(predictor, h, port_shape)) < 5e-4
    fast = FastPredictor(predictor).predict(torch.from_numpy(h), 4, port_shape=port_shape)
    assert distance(fast, full(predictor, h, port_shape)) < 5e-4


@pytest.mark.parametrize("shape, port_shape, history", SIZES[:2])
def test_new_slots_are_projected_as_the_model_would(kind, predictor, shape, port_shape, history):
    """Tracker and projection onto the basis of the refresh, slot after slot."""
    h, model = rays(shape, history + 3, jitter=0.1), predictor.model
    engine = SpectralEngine(predictor, shape, 4, history=history, port_shape=port_shape)
    first, *later = windows(h, history, history - 1)
    memory, out = engine.refresh(first), np.zeros((4, *shape), np.complex64)
    with torch.inference_mode():
        tracked = model.track(torch.from_numpy(first)[None])
        tokens = model.tokenize(tracked, 4, (port_shape or (1,))[0])

        def project(x: torch.Tensor) -> torch.Tensor:
            bins = tokens.basis.forward(x)
            return bins.gather(1, tokens.index[..., None].expand(-1, -1, bins.shape[-1]))

        expected = project(tracked)
        for window in later:
            engine.advance(memory, window, 1, out)
            newest = model.track(torch.from_numpy(window)[None])[:, -1:]
            expected = torch.cat([expected[..., 1:], project(newest)], -1)
    sizes = np.hypot(*memory["series"]).T
    assert sizes.shape == expected[0].shape
    assert distance(np.sort(sizes, 0), np.sort(expected[0].abs().numpy(), 0)) < 1e-3


def test_every_way_to_follow_predicts_about_as_well_as_a_refresh_every_slot(kind, predictor):
    h = measured(16 + 12 + 4, seed=3)
    every = list(windows(h[:28], 16, 15))
    future = [h[i + 16 : i + 20] for i in range(len(every))]
    errors = {}
    for basis_every in (0, 1, 3):
        engine = SpectralEngine(predictor, (48, 1, 32), 4, port_shape=(2, 4, 4), basis_every=basis_every)
        memory, out = engine.refresh(every[0]), np.zeros((4, 48, 1, 32), np.complex64)
        total = 0.0
        for window, true in zip(every[1:], future[1:], strict=True):
            engine.advance(memory, window, 1, out)
            total += distance(out, true) ** 2
        errors[basis_every] = total
    best = sum(
        float(nmse(torch.from_numpy(full(predictor, w, (2, 4, 4)))[None], torch.from_numpy(t)[None]))
        for w, t in zip(every[1:], future[1:], strict=True)
    )
    for error in errors.values():
        assert error < 1.3 * best


def test_several_new_slots_at_once(kind, predictor):
    h = rays((7, 2, 6), 20)
    every = list(windows(h, 16, 15))
    for basis_every in (0, 2):
        engine = SpectralEngine(predictor, (7, 2, 6), 2, port_shape=(2, 3, 1), basis_every=basis_every)
        one, many = engine.refresh(every[0]), engine.refresh(every[0])
        a, b = np.zeros((2, 7, 2, 6), np.complex64), np.zeros((2, 7, 2, 6), np.complex64)
        engine.advance(one, every[1], 1, a)
        engine.advance(one, every[2], 1, a)
        engine.advance(many, every[2], 2, b)
        assert distance(a, b) < 1e-2  # the tracker sees one slot more of the older of the two
        engine.advance(many, every[4], 99, b)
        assert np.isfinite(b).all()


def test_a_memory_is_arrays_of_its_own(kind, predictor):
    h = rays((6, 1, 4), 17)
    engine = SpectralEngine(predictor, (6, 1, 4), 2, port_shape=(2, 2, 1), basis_every=1)
    first = engine.refresh(np.ascontiguousarray(h[:16]))
    kept = {name: x.copy() for name, x in first.items()}
    second = engine.refresh(np.ascontiguousarray(h[1:]))
    engine.advance(second, np.ascontiguousarray(h[1:]), 1, np.zeros((2, 6, 1, 4), np.complex64))
    assert all(isinstance(x, np.ndarray) for x in first.values())
    for name, x in first.items():
        np.testing.assert_array_equal(x, kept[name])


def test_full_prediction_of_a_batch_at_any_scale(kind, predictor):
    h = torch.from_numpy(np.stack([rays((5, 1, 4), 12, seed=s) for s in range(3)]))
    scale = torch.tensor([1.0, 1e-9, 1e9])[:, None, None, None, None]
    fast = FastPredictor(predictor)
    found = fast.predict(h * scale, 3, port_shape=(2, 2, 1)) / scale
    assert distance(found, predictor.predict(h, 3, port_shape=(2, 2, 1))) < 5e-4
    assert fast.predict(h[:0], 3, port_shape=(2, 2, 1)).shape == (0, 3, 5, 1, 4)
    assert fast.predict(h[0].to(torch.complex128), 2).dtype == torch.complex128
    silent = fast.predict(torch.zeros(4, 5, 1, 4, dtype=torch.complex64), 2)
    assert not silent.any()
    longer = torch.from_numpy(rays((5, 1, 4), 40))
    assert distance(fast.predict(longer, 1), fast.predict(longer[-32:], 1)) == 0


def test_arrays_of_many_shapes_are_not_kept(predictor, monkeypatch):
    """A server's clients choose the shapes."""
    monkeypatch.setattr(full_predictions, "MOST_SHAPES", 2)
    h = torch.from_numpy(rays((5, 1, 4), 12))
    fast = FastPredictor(predictor)
    first = fast.predict(h, 2)
    for horizon in (3, 4, 2, 5):
        fast.predict(h, horizon)
    assert [link.num_future for link in fast._shapes] == [2, 5]
    assert len({id(analyser.network) for analyser, _ in fast._shapes.values()}) == 1  # the trial is held once
    assert torch.equal(fast.predict(h, 2), first)


def test_measured_links(kind, predictor):
    h = measured(16)
    found = FastPredictor(predictor).predict(torch.from_numpy(h), 4, port_shape=(2, 4, 4))
    assert distance(found, full(predictor, h, (2, 4, 4))) < 0.01


def test_a_network_of_ones_own(kind, predictor):
    calls = []
    own = fastest_network(predictor.model, 80)

    def network(*inputs):
        calls.append([x.shape for x in inputs])
        return own(*inputs)

    h = measured(16)
    fast = FastPredictor(predictor, network)
    fast.predict(torch.from_numpy(h), 4, port_shape=(2, 4, 4))
    SpectralEngine(predictor, (48, 1, 32), 4, port_shape=(2, 4, 4), network=network).refresh(h)
    assert calls == [[(1, 80, 211), (1, 80, 129), (1, 80)]] * 2


def test_what_it_cannot_do_is_refused(predictor):
    with pytest.raises(TypeError, match="airlam's own"):
        FastPredictor(load_predictor("ar"))
    with pytest.raises(ValueError, match="options"):
        SpectralEngine(load_predictor("airlam-tiny", views=2), (4, 1, 4), 2)
    with pytest.raises(ValueError, match="history"):
        SpectralEngine(predictor, (4, 1, 4), 2, history=33)
    with pytest.raises(ValueError, match="basis_every"):
        SpectralEngine(predictor, (4, 1, 4), 2, basis_every=True)
    h = torch.randn(4, 4, 1, 4, dtype=torch.complex64)
    with pytest.raises(ValueError, match="gaps"):
        FastPredictor(predictor).predict(h, 2, context={"observed": torch.ones(4, dtype=torch.bool)})
