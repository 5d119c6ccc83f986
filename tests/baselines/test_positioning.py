"""Positioning without a network: geometry in closed form, maps that learn from few places, calibrated ellipses."""

from __future__ import annotations

import pytest
import torch

from airlam.baselines.positioning import (
    INSIDE_90,
    FeatureRegression,
    Multilateration,
    NearestFingerprints,
    PositionEstimate,
    RadioMap,
    SiteCSI,
    calibration,
    delay_angle,
    heard,
    lengths,
    solve,
    tuned,
)
from airlam.baselines.positioning.features import NAMES

C = 299_792_458.0
STATIONS = torch.tensor([[0.0, 0, 8, 45], [60, 0, 8, 135], [60, 60, 8, -135], [0, 60, 8, -45]])
SPACING, TONES = 1e6, 64


def rays_from(place, stations=STATIONS, excess=0.0, noise=1.0, seed=0):
    """Users with one ray to each station, 25 dB over the noise at 20 m, two ports of each of four columns."""
    generator = torch.Generator().manual_seed(seed)
    place = place.double()
    far = lengths(stations, place[:, :2], 1.5) + excess
    x, y = (place[:, i, None] - stations[:, i] for i in range(2))
    angle = torch.atan2(y, x) - torch.deg2rad(stations[:, 3])
    tone = (torch.arange(TONES) - TONES // 2) * SPACING
    delay = torch.polar(torch.ones(1).double(), -2 * torch.pi * tone * far[..., None] / C)
    column = torch.polar(torch.ones(1).double(), torch.pi * torch.arange(4) * angle.sin()[..., None])
    phase = torch.polar(torch.ones(1).double(), 2 * torch.pi * torch.rand(*far.shape, 2, generator=generator).double())
    port = (phase[..., :, None] * column[..., None, :]).flatten(2)
    h = (17.8 * 20 / far)[..., None, None] * delay[..., None] * port[:, :, None]
    h = h.to(torch.complex64) + noise * torch.randn(h.shape, dtype=torch.complex64, generator=generator)
    position = torch.cat((place[:, :2], torch.full((len(place), 1), 1.5)), 1)
    return SiteCSI(h, stations, SPACING, (2, 4, 1), position)


def places(count, seed=0, size=60.0):
    return size * torch.rand(count, 2, generator=torch.Generator().manual_seed(seed))


def test_features_are_those_of_the_ray():
    csi = rays_from(places(50))
    found = dict(zip(NAMES, delay_angle(csi).unbind(-1), strict=True))
    far = lengths(STATIONS, csi.known()[:, :2], 1.5)
    # a tap is 4.7 m, a point of the profile 0.59 m: the peak is within half of that, moved a little by the noise
    assert (found["peak"] - far).abs().max() < 0.6
    assert (found["power"] - 20 * (17.8 * 20 / far).log10()).abs().max() < 0.5
    x, y = (csi.known()[:, i, None] - STATIONS[:, i] for i in range(2))
    phase = torch.pi * (torch.atan2(y, x) - torch.deg2rad(STATIONS[:, 3])).sin()
    told = torch.complex(found["lag_re"], found["lag_im"]).angle()
    assert (torch.polar(torch.ones(1).double(), told - phase).angle()).abs().median() < 0.02
    assert bool(heard(delay_angle(csi)).all())
    silent = SiteCSI(torch.randn(200, 4, TONES, 8, dtype=torch.complex64), STATIONS, SPACING, (2, 4, 1))
    # noise alone: its mean power has a spread of 1 / sqrt(512) = 4 %, and -7 dB is 20 % above zero
    assert not heard(delay_angle(silent)).any()


@pytest.mark.parametrize("clock", [False, True])
def test_multilateration_finds_places_and_clocks(clock):
    truth = places(40).double()
    length = lengths(STATIONS, truth, 1.5) + (35.0 if clock else 0.0)
    found = solve(Multilateration(), length, STATIONS, clock=clock)
    # exact but for the prior, of (3 m / 23 m)^2 of a station's weight: at most some 2 % of the 40 m to the middle
    assert (found.mean - truth).norm(dim=1).max() < 0.8
    if clock:  # who does not know of the clock's error is wrong
        assert (solve(Multilateration(), length, STATIONS).mean - truth).norm(dim=1).median() > 1.0


def test_multilateration_withstands_one_late_station_and_refuses_too_few():
    truth = places(40).double()
    late = lengths(STATIONS, truth, 1.5) + torch.tensor([40.0, 0, 0, 0])
    robust, plain = ((solve(Multilateration(huber=h), late, STATIONS).mean - truth).norm(dim=1) for h in (1.0, 1e3))
    assert robust.median() < 0.25 * plain.median()
    with pytest.raises(ValueError, match="2 stations cannot tell 3 unknowns"):
        Multilateration(clock=True).fit(rays_from(places(9), STATIONS[:2]))
    with pytest.raises(ValueError, match="1 station cannot tell 2 unknowns"):
        solve(Multilateration(), torch.ones(3, 1), STATIONS[:1])


@pytest.mark.parametrize("kind", [NearestFingerprints, FeatureRegression, Multilateration, RadioMap])
def test_classics_find_users_and_state_how_well(kind):
    labelled, validation, test = (
        rays_from(places(60)),
        rays_from(places(80, 1), seed=1),
        rays_from(places(150, 2), seed=2),
    )
    made = tuned(kind, labelled, validation)
    found = made.locate(test)
    error = (found.mean - test.known()[:, :2]).norm(dim=1)
    # 60 labels on (60 m)^2 are 4 m from their nearest neighbour; a guess in the middle is 23 m off
    assert (
        error.median() < {NearestFingerprints: 6.0, FeatureRegression: 3.0, Multilateration: 1.0, RadioMap: 1.5}[kind]
    )
    inside = (found.distance(test.known()) < INSIDE_90).float().mean()
    # 80 validation and 150 test users: 0.9 within three standard deviations of both
    assert 0.77 < inside <= 1.0
    assert made.settings in list(kind.GRID)


def test_maps_need_fewer_labels_than_fingerprints():
    """An excess delay that varies slowly over places, as in TR 38.901: few labels pin the map down, not the prints."""

    def site(count, seed):
        place = places(count, seed)
        return rays_from(place, excess=6 + 6 * (place / 15).sin().sum(1, keepdim=True).double(), seed=seed)

    labelled, validation, test = site(40, 0), site(80, 1), site(150, 2)
    errors = {}
    for kind in (NearestFingerprints, RadioMap):
        found = tuned(kind, labelled, validation).locate(test)
        errors[kind] = torch.quantile((found.mean - test.known()[:, :2]).norm(dim=1), 0.9)
    assert errors[RadioMap] < 0.6 * errors[NearestFingerprints]


def test_calibration_makes_ellipses_hold_nine_of_ten():
    generator = torch.Generator().manual_seed(0)
    truth = 3.0 * torch.randn(4000, 2, generator=generator).double()
    stated = PositionEstimate(torch.zeros_like(truth), torch.eye(2).double().expand(4000, 2, 2))
    factor = calibration(PositionEstimate(stated.mean[:2000], stated.covariance[:2000]), truth[:2000])
    assert factor == pytest.approx(9.0, rel=0.1)  # 2000 users give a 90 % point to about 3 %
    inside = (stated.scaled(factor).distance(truth)[2000:] < INSIDE_90).double().mean()
    assert inside == pytest.approx(0.9, abs=0.03)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"h": torch.full((2, 4, 8, 8), torch.nan, dtype=torch.complex64)}, "h holds NaN"),
        ({"h": torch.zeros(2, 4, 8, dtype=torch.complex64)}, "must be .user, station"),
        ({"stations": STATIONS[:3]}, r"stations must be \[4, 4\]"),
        ({"position": torch.tensor([[0.0, 0, 1], [1, torch.inf, 1]])}, "position holds NaN or infinite"),
        ({"position": torch.zeros(3, 3)}, r"position must be \[2, 3\]"),
    ],
)
def test_bad_sites(change, words):
    values = {"h": torch.zeros(2, 4, 8, 8, dtype=torch.complex64), "stations": STATIONS, "position": None, **change}
    with pytest.raises(ValueError, match=words) as caught:
        SiteCSI(values["h"], values["stations"], SPACING, (2, 4, 1), values["position"])
    assert "\n" not in str(caught.value)


def test_a_site_without_positions_is_refused():
    csi = rays_from(places(9))
    csi.position = None
    for kind in (NearestFingerprints, FeatureRegression, Multilateration, RadioMap):
        with pytest.raises(ValueError, match="no positions"):
            kind().fit(csi)
    with pytest.raises(TypeError, match="complex"):
        SiteCSI(torch.zeros(2, 4, 8, 8), STATIONS, SPACING, (2, 4, 1))
