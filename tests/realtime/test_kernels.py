"""Kernels against airlam's own functions: the compiled ones, and those that stand in for them."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from airlam import load_predictor
from airlam.baselines.ar import ar_filters, rollout
from airlam.baselines.eigen_ar import Eigenbasis, class_filters, roll_out
from airlam.models import AirlamConfig
from airlam.models.doppler import wiener
from airlam.models.phase_tracker import PhaseTracker
from airlam.models.tokens import make_tokens
from airlam.realtime import kernels
from airlam.realtime.features import make_features, token_of_bins
from airlam.realtime.link import LIMIT, ARSettings, LinkShape, num_classes

_spec = importlib.util.spec_from_file_location("realtime_links", Path(__file__).parent / "links.py")
links = importlib.util.module_from_spec(_spec)
sys.modules["realtime_links"] = links
_spec.loader.exec_module(links)
SIZES, distance, measured, rays = links.SIZES, links.distance, links.measured, links.rays

COMPILED = pytest.param(True, marks=pytest.mark.skipif(not kernels.available(), reason="needs numba"))
TOLERANCE = 1e-4


@pytest.fixture(params=[COMPILED, False], ids=["compiled", "plain"])
def k(request):
    return kernels.load(request.param)


def planes(x: torch.Tensor) -> np.ndarray:
    """``complex [bin, slot]`` -> ``float32 [2, slot, bin]``."""
    return np.ascontiguousarray(np.stack([x.real.numpy().T, x.imag.numpy().T]))


def series(bins: int, slots: int, seed: int) -> torch.Tensor:
    """Sums of three tones and noise, ``complex64 [bin, slot]``, strongest first."""
    g = torch.Generator().manual_seed(seed)
    angle = 2 * np.pi * 0.2 * torch.rand(bins, 3, 1, generator=g) * torch.arange(slots)
    gain = torch.randn(bins, 3, 1, dtype=torch.complex64, generator=g)
    x = (gain * torch.polar(torch.ones_like(angle), angle)).sum(1)
    x = x + 0.1 * torch.randn(bins, slots, dtype=torch.complex64, generator=g)
    return x * torch.logspace(0, -1.5, bins)[:, None]


def fitted(k, x: torch.Tensor, chosen: ARSettings, classes: int, future: int) -> tuple[np.ndarray, np.ndarray]:
    """Taps and roll-out of series ``[bin, slot]``, complex, bins first."""
    bins, slots = x.shape
    s = planes(x)
    sums = np.zeros((classes, slots, slots), np.complex64)
    k.multiply(s, slots, sums)
    taps, out = np.zeros((2, chosen.order, bins), np.float32), np.zeros((2, future, bins), np.float32)
    k.ar_taps(s, sums, *chosen, taps)
    k.roll_out(s, taps, LIMIT, out)
    return tuple((y[0] + 1j * y[1]).T for y in (taps, out))


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    bins=st.sampled_from([1, 31, 65, 300]),
    slots=st.integers(2, 32),
    order=st.integers(1, 12),
    shrinkage=st.sampled_from([0.3, 3.0, float("inf")]),
    seed=st.integers(0, 99),
)
def test_ar_filters_of_classes_and_pooled(k, bins, slots, order, shrinkage, seed):
    x = series(bins, slots, seed)
    wide = x.to(torch.complex128)
    chosen = ARSettings.by_class(order, 1e-3, shrinkage, slots)
    classes = num_classes(4, bins)
    # in double: single precision itself is this far off where a Gram matrix is close to singular
    expected = class_filters(wide[None], order=order, ridge=1e-3, num_classes=4, shrinkage=shrinkage)
    _, future = fitted(k, x, chosen, classes, 3)
    assert distance(future, roll_out(wide[None], expected, 3)[0]) < 10 * TOLERANCE
    chosen = ARSettings.pooled(order, 1e-3, shrinkage, slots)
    _, future = fitted(k, x, chosen, 1, 3)
    expected = ar_filters(wide, order, 1e-3, shrinkage).weights
    assert distance(future, rollout(wide, expected, 3, 1.5)) < 10 * TOLERANCE


def test_ar_filters_of_silence(k):
    taps, future = fitted(k, torch.zeros(40, 16, dtype=torch.complex64), ARSettings.by_class(12, 1e-4, 3.0, 16), 1, 2)
    assert np.isfinite(taps).all() and not future.any()


def test_a_new_slot_changes_sums_as_all_slots_do(k):
    x = series(70, 20, 1)
    moving, anew = np.zeros((2, 16, 16), np.complex64), np.zeros((2, 16, 16), np.complex64)
    k.multiply(planes(x[:, :16]), 16, moving)
    for stop in (17, 20):
        new = 1 if stop == 17 else 3
        window = planes(x[:, stop - 16 : stop])
        k.multiply(window, new, moving)
        k.multiply(window, 16, anew)
    assert distance(moving, anew) < 1e-6


@pytest.mark.parametrize("jitter", [0.0, 0.3])
@pytest.mark.parametrize("shape, history", [((48, 1, 8), 16), ((7, 2, 3), 8), ((1, 1, 1), 2), ((3, 1, 2), 32)])
def test_tracker_of_all_slots_and_of_the_newest(k, shape, history, jitter):
    module = load_predictor("airlam-tiny").model.tracker
    assert isinstance(module, PhaseTracker)
    h = rays(shape, history + 3, jitter=jitter)
    tracker = k.Tracker(module, history)
    products, offsets = tracker.products(history, shape[0]), np.zeros((2, history), np.float32)
    work = tracker.scratch(history)

    def expected(first: int) -> np.ndarray:
        window = torch.from_numpy(h[None, first : first + history])
        with torch.inference_mode():
            return module.offsets(module.observe(module.covariance(window)))[0].numpy()

    tracker.update(np.ascontiguousarray(h[:history]), history, products, offsets, work)
    assert np.abs(offsets - expected(0)).max() < TOLERANCE
    before = offsets.copy()
    for first, new in ((1, 1), (3, 2)):
        tracker.update(np.ascontiguousarray(h[first : first + history]), new, products, offsets, work)
        assert np.abs(offsets[:, -new:] - expected(first)[:, -new:]).max() < TOLERANCE
    np.testing.assert_array_equal(offsets[:, :-3], before[:, 3:])


@pytest.mark.parametrize("shape, port_shape, history", SIZES)
def test_basis_spans_what_the_eigenbasis_does_and_leads_back(k, shape, port_shape, history):
    h = rays(shape, history)
    link = LinkShape.of(shape, port_shape, history, history)
    folded, half, bins = (link.folded(history) for _ in range(3))
    k.fold(h, np.zeros((2, history), np.float32), 0, folded)
    tone, port = (
        np.zeros((link.tones,) * 2, np.float32),
        np.zeros((link.polarisations,) + (link.ports,) * 2, np.float32),
    )
    frequency, modes = np.zeros_like(tone), np.zeros_like(port)
    k.covariances(folded, tone, port)
    for find, tolerance in ((k.eigenvectors, 1e-5), (k.fast_eigenvectors, 1e-4)):
        find(tone, port, frequency, modes)
        assert np.abs(frequency.T @ frequency - np.eye(link.tones)).max() < 1e-5
        k.project(folded, frequency, modes, half, bins)
        energy = link.energy()
        k.energies(bins, energy)
        basis = Eigenbasis.of(torch.from_numpy(h)[None], link.polarisations, forward_backward=True)
        x = basis.forward(torch.from_numpy(h)[None])[0]
        sizes = (link.tones, link.rx_ants, link.polarisations, link.ports)
        expected = x.abs().square().sum(-1).reshape(sizes).permute(2, 0, 1, 3).reshape(energy.shape)
        assert np.abs(energy - expected.numpy()).max() < tolerance * float(expected.max())
    rows, cols = np.zeros(link.num_bins, np.int32), np.zeros(link.num_bins, np.int32)
    k.pick(energy, rows, cols)
    assert (np.diff(energy[rows, cols]) <= 0).all() and len({*zip(rows, cols, strict=True)}) == link.num_bins
    kept = np.zeros((2, history, link.num_bins), np.float32)
    k.gather(bins, 0, rows, cols, kept)
    out = np.zeros_like(h)
    k.synthesise(kept, rows, cols, frequency, modes, link.grid(), link.grid(), out)
    assert distance(out, h) < TOLERANCE


@pytest.mark.parametrize("size", [1, 2, 4, 17])
@pytest.mark.parametrize("kind", ["zero", "rank one", "full"])
def test_fast_eigenvectors_of_any_matrix(k, size, kind):
    x = np.random.default_rng(size).standard_normal((size, {"zero": 0, "rank one": 1, "full": 40}[kind]))
    matrix = (x @ x.T).astype(np.float32)
    found, modes = np.zeros_like(matrix), np.zeros((1, 1, 1), np.float32)
    k.fast_eigenvectors(matrix, modes + 1, found, modes)
    assert np.abs(found.T @ found - np.eye(size)).max() < 1e-5
    inside = found.T @ matrix @ found
    values = np.diag(inside)
    assert np.abs(inside - np.diag(values)).max() <= 1e-5 * max(np.abs(matrix).max(), 1e-30)
    assert (np.diff(values) >= -1e-5 * np.abs(matrix).max()).all()


def test_a_ring_of_slots(k):
    link = LinkShape.of((5, 1, 4), (2, 2, 1), 4, 1)
    h, none = rays((5, 1, 4), 6), np.zeros((2, 4), np.float32)
    ring, one, old = link.folded(4), link.folded(1), link.folded(1)
    k.fold(h[:4], none, 0, ring)
    tone, port = np.zeros((5, 5), np.float32), np.zeros((2, 2, 2), np.float32)
    k.covariances(ring, tone, port)
    for head, stop in enumerate((5, 6)):
        k.fold(h[stop - 4 : stop], none, 3, one)
        k.exchange(ring, head, one, old)
        k.update_covariances(one, old, tone, port)
    newest, anew, ports = link.folded(4), np.zeros_like(tone), np.zeros_like(port)
    k.fold(h[2:], none, 0, newest)
    k.covariances(newest, anew, ports)
    assert distance(tone, anew) < 1e-5 and distance(port, ports) < 1e-5
    rows, cols = np.arange(10, dtype=np.int32), np.arange(10, dtype=np.int32) % 2
    kept, expected = np.zeros((2, 4, 10), np.float32), np.zeros((2, 4, 10), np.float32)
    k.gather(ring, 2, rows, cols, kept)
    k.gather(newest, 0, rows, cols, expected)
    assert distance(kept, expected) < 1e-6


def test_filters_go_to_the_bin_that_overlaps_most(k):
    g = np.random.default_rng(0)
    basis = np.linalg.qr(g.standard_normal((6, 6)))[0].astype(np.float32)
    ports = np.stack([np.linalg.qr(g.standard_normal((4, 4)))[0] for _ in range(2)]).astype(np.float32)
    rows, cols = np.divmod(np.arange(96, dtype=np.int32), 8)
    order = g.permutation(96)
    token = np.arange(96, dtype=np.int32)
    found = np.zeros(96, np.int32)
    # the same modes, in another order and with other signs
    swap, port_swap = g.permutation(6), g.permutation(4)
    new = (basis[:, swap] * g.choice([-1, 1], 6)).astype(np.float32), np.ascontiguousarray(ports[:, :, port_swap])
    k.hand_over(basis, ports, rows[order], cols[order], token[order], *new, rows, cols, found)
    old_rows = rows // 6 * 6 + swap[rows % 6]
    old_cols = cols // 4 * 4 + port_swap[cols % 4]
    np.testing.assert_array_equal(found, old_rows * 8 + old_cols)


def test_wiener_filters_and_blend(k):
    g = torch.Generator().manual_seed(0)
    power = torch.softmax(3 * torch.randn(5, 33, generator=g), -1)
    noise = torch.tensor([1e-6, 1e-3, 0.1, 1.0, 0.01])
    for slots, targets in ((1, 1), (2, 3), (16, 4)):
        weights = np.zeros((5, 2, targets, slots), np.float32)
        k.wiener_filters(power.numpy(), noise.numpy(), weights)
        expected = wiener(power, noise, slots, torch.arange(slots, slots + targets))[0].resolve_conj()
        assert distance(weights[:, 0] + 1j * weights[:, 1], expected) < TOLERANCE
        token, gate = np.array([0, 1, 2, 3, 4, 4], np.int32), np.linspace(0, 1, 5, dtype=np.float32)
        x = torch.randn(6, slots, dtype=torch.complex64, generator=g)
        future = np.random.default_rng(0).standard_normal((2, targets, 6)).astype(np.float32)
        start = (future[0] + 1j * future[1]).T
        k.blend(planes(x), weights, token, gate, future)
        filtered = (expected[token].to(torch.complex64) @ x[..., None])[..., 0].numpy()
        blended = start + gate[token][:, None] * (filtered - start)
        assert distance((future[0] + 1j * future[1]).T, blended) < TOLERANCE


@pytest.mark.parametrize("history", [1, 4, 16])
def test_features_are_those_of_the_tokens(k, history):
    config = AirlamConfig(num_tokens=8, num_groups=3, group_size=4, max_history=16, forward_backward=True)
    h = torch.from_numpy(rays((7, 2, 6), history))[None]
    h = h / h.abs().square().mean().sqrt()
    tokens = make_tokens(config, h, 4, 2)
    energy = (tokens.power[0] * history).reshape(7, 2, 2, 3).permute(2, 0, 1, 3).reshape(14, 6).numpy()
    index = tokens.index[0].numpy()
    rows = (index // 3 % 2 * 7 + index // 12).astype(np.int32)
    cols = (index // 6 % 2 * 3 + index % 3).astype(np.int32)
    filled = LinkShape.of((7, 2, 6), (2, 3, 1), history, 4).filled
    kept = planes((tokens.series * tokens.scale)[0])
    scale = 1e-3  # a link of another scale has the same features
    found = make_features(
        k, config, scale * kept, scale * planes(tokens.start[0]), scale**2 * energy, rows, cols, (7, 2, 3), filled
    )
    for mine, expected in zip(found, (tokens.features, tokens.log_periodogram, tokens.noise), strict=True):
        assert np.abs(mine - expected.numpy()).max() < 10 * TOLERANCE
    assert len(token_of_bins(config, 84)) == len(index)


def test_real_histories_agree_with_and_without_numba():
    if not kernels.available():
        pytest.skip("needs numba")
    h = measured(16)
    link = LinkShape.of((48, 1, 32), (2, 4, 4), 16, 4)
    both = []
    for k in (kernels.load(True), kernels.load(False)):
        folded, half, bins, energy = link.folded(16), link.folded(16), link.folded(16), link.energy()
        k.fold(h, np.full((2, 16), 0.3, np.float32), 0, folded)
        tone, port = np.zeros((48, 48), np.float32), np.zeros((2, 16, 16), np.float32)
        k.covariances(folded, tone, port)
        if not both:
            frequency, modes = np.zeros_like(tone), np.zeros_like(port)
            k.eigenvectors(tone, port, frequency, modes)
        k.project(folded, frequency, modes, half, bins)
        k.energies(bins, energy)
        both.append((folded, tone, port, bins, energy))
    for a, b in zip(*both, strict=True):
        assert distance(a, b) < TOLERANCE


def test_slots_are_compared_and_bounded(k):
    g = np.random.default_rng(0)
    value, expected, newest = (
        (g.standard_normal((5, 2, 3)) + 1j * g.standard_normal((5, 2, 3))).astype(np.complex64) for _ in range(3)
    )
    both, held = np.vdot(expected, value), np.vdot(newest, value).real
    energies = [np.sum(np.abs(x) ** 2) for x in (value, expected, newest)]
    np.testing.assert_allclose(k.compare(value, expected, newest), [*energies, both.real, both.imag, held], rtol=1e-5)
    future = np.stack([value, 3 * value])
    k.bound(future, 2.0 * float(energies[0]))
    np.testing.assert_array_equal(future[0], value)
    np.testing.assert_allclose(future[1], np.sqrt(2) * value, rtol=1e-5)


def test_without_numba_the_other_kernels_are_chosen(monkeypatch):
    monkeypatch.setattr(kernels, "available", lambda: False)
    assert kernels.load().__name__.endswith("plain")
