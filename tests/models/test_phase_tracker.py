"""Receiver offsets: what least squares must find, what must not change, and what the shipped tracker gains."""

import math

import pytest
import torch

from airlam.channels import load_channel
from airlam.csi import Impairment, impair, measure
from airlam.loading import load_predictor
from airlam.metrics import nmse
from airlam.models import AirlamConfig, AirlamModel, add_lora, load_checkpoint, save_checkpoint
from airlam.models.phase_tracker import LAGS, PhaseTracker, least_squares, rotate


def increments(offsets):
    """``[slot]`` -> ``[lag, slot]``, each lag's mean taken away, zero where a slot has no predecessor."""
    out = torch.zeros(LAGS, len(offsets))
    for lag in range(1, LAGS + 1):
        d = offsets[lag:] - offsets[:-lag]
        out[lag - 1, lag:] = d - d.mean()
    return out


def test_least_squares_finds_alternating_offsets():
    # far from the slow cosines that count as the channel's motion, but for the window's ends: 15 % of it
    offsets = 0.1 * torch.cos(math.pi * torch.arange(32.0))
    for lags in (1, LAGS):
        found = least_squares(32, 32, lags, 3) @ increments(offsets).flatten()
        assert float((found - offsets).square().sum()) < 0.15**2 * float(offsets.square().sum())


def test_least_squares_leaves_slow_motion_alone():
    slow = 0.5 * (torch.arange(32.0) / 32) ** 2  # a changing Doppler shift: belongs to the channel
    found = least_squares(32, 32, LAGS, 3) @ increments(slow).flatten()
    assert float(found.abs().max()) < 0.01


def test_rotation_and_its_inverse():
    h = torch.randn(2, 5, 12, 1, 4, dtype=torch.complex64, generator=torch.Generator().manual_seed(0))
    offsets = torch.randn(2, 2, 5, generator=torch.Generator().manual_seed(1))
    assert torch.allclose(rotate(rotate(h, offsets), -offsets), h, atol=1e-5)  # single precision
    # the slope is given at the band's edge: 11/12 of it at the last tone's centre
    turned = rotate(torch.ones(1, 1, 12, 1, 1, dtype=torch.complex64), torch.tensor([[[0.0], [0.6]]]))
    assert float(turned[0, 0, -1, 0, 0].angle()) == pytest.approx(0.6 * 11 / 12, rel=1e-5)


@pytest.mark.parametrize("slots", [1, 2, 5, 16, 32])
@pytest.mark.parametrize("tones", [1, 3, 48])
def test_every_shape_gives_finite_csi(slots, tones):
    tracker = PhaseTracker(32)
    for h in (torch.randn(2, slots, tones, 1, 2, dtype=torch.complex64), torch.zeros(2, slots, tones, 1, 2) + 0j):
        out = tracker(h)
        assert out.shape == h.shape and bool(torch.isfinite(torch.view_as_real(out)).all())
        assert torch.allclose(out.abs(), h.abs(), atol=1e-5)  # offsets are phases, nothing else


def test_a_receiver_without_offsets_is_left_alone():
    """A static channel without noise has no increments, and linear filters of nothing are nothing."""
    h = torch.randn(2, 1, 24, 1, 4, dtype=torch.complex64).expand(2, 16, 24, 1, 4)
    assert torch.allclose(PhaseTracker(32)(h), h, atol=1e-4)  # the angle of a sum, in single precision


def test_what_stands_in_a_lost_slot_does_not_matter():
    tracker = PhaseTracker(32)
    h = torch.randn(2, 16, 24, 1, 4, dtype=torch.complex64)
    observed = torch.ones(2, 16, dtype=torch.bool)
    observed[:, [3, 9]] = False
    other = h.clone()
    other[:, [3, 9]] *= 7j
    a, b = (tracker(x, observed)[observed] for x in (h, other))
    assert torch.allclose(a, b, atol=1e-5)


def test_links_phase_and_scale():
    tracker = PhaseTracker(32)
    h = torch.randn(3, 16, 24, 1, 4, dtype=torch.complex64)
    out = tracker(h)
    assert torch.allclose(tracker(h[1:2]), out[1:2], atol=1e-5)
    factor = 0.3 * torch.exp(torch.tensor(2.0j))
    assert torch.allclose(tracker(h * factor), out * factor, atol=1e-4)


def test_a_tracker_is_saved_and_not_adapted(tmp_path):
    model = AirlamModel(AirlamConfig(num_tokens=8, num_groups=0))
    assert model.tracker is None
    model.add_tracker()
    with torch.no_grad():
        model.tracker.filters.normal_()
    again = load_checkpoint(save_checkpoint(model, tmp_path / "saved"))
    assert torch.equal(again.tracker.filters, model.tracker.filters)
    adapted = add_lora(again, 2)
    assert not any("tracker" in name for name, p in adapted.named_parameters() if p.requires_grad)


@pytest.fixture(scope="module")
def links():
    batch = load_channel({"scenario": "umi", "state": "nlos", "speed_kmh": 30}).sample(32, 20, seed=5)
    return batch.h, batch.port_shape


def error_db(predictor, links, impairment):
    h, shape = links
    generator = torch.Generator().manual_seed(1)
    past = impair(h[:, :16], impairment, slot_duration=5e-4, subcarrier_spacing=180e3, generator=generator)
    past = measure(past, 20.0, generator)
    return 10 * math.log10(float(nmse(predictor.predict(past, 4, port_shape=shape), h[:, 16:])))


def test_the_shipped_tracker_pays(links):
    predictor, bar = load_predictor("airlam-tiny"), load_predictor("ar")
    clean = error_db(predictor, links, Impairment())
    for impairment in (Impairment(phase_std=0.1), Impairment(timing_std_s=1e-8)):
        hurt = error_db(predictor, links, impairment)
        tracker, predictor.model.tracker = predictor.model.tracker, None
        try:
            without = error_db(predictor, links, impairment)
            # it costs nothing where nothing is wrong
            assert abs(clean - error_db(predictor, links, Impairment())) < 0.1
        finally:
            predictor.model.tracker = tracker
        # on 32 links of one seed; the benchmark has the figures with intervals
        assert hurt < without - 3
        assert hurt < error_db(bar, links, impairment) - 3
