"""Radio maps without a network: closed forms of kriging, geometry, and profiles that are moved."""

from __future__ import annotations

import math

import pytest
import torch

from airlam.baselines.radio_maps import (
    Drift,
    Field,
    Geometry,
    InverseDistance,
    Kriging,
    MapEstimate,
    drift_terms,
    knife_edge,
    moved,
    neighbours_profile,
)
from airlam.constants import SPEED_OF_LIGHT
from airlam.csi import HeightMap, SiteCSI, SiteMap
from airlam.csi.site_map import DELAYS, FLOOR_DB

STATIONS = torch.tensor([[0.0, 0.0, 10.0, 0.0], [60.0, 20.0, 8.0, 180.0]])


def places(count: int, seed: int = 0) -> torch.Tensor:
    xy = 80 * torch.rand(count, 2, generator=torch.Generator().manual_seed(seed)) - 40
    return torch.cat((xy, torch.full((count, 1), 1.5)), 1)


def site_map(place: torch.Tensor, power_db: torch.Tensor, profile: torch.Tensor | None = None) -> SiteMap:
    """A map with these powers ``[place, station]`` and, where none is given, all power in one delay and beam."""
    if profile is None:
        profile = torch.zeros(*power_db.shape, DELAYS, 4)
        profile[..., 3, 1] = 1.0
    return SiteMap(place, profile * (10 ** (power_db / 10))[..., None, None] * 96 * 4, 96, 1e6)


def test_powers_and_profiles_of_csi_with_noise():
    generator = torch.Generator().manual_seed(0)
    h = torch.randn(400, 2, 96, 8, dtype=torch.complex64, generator=generator)
    true = SiteCSI(3 * h, STATIONS, 1e6, (2, 4, 1), places(400))
    noise = torch.randn(h.shape, dtype=h.dtype, generator=generator)
    seen = SiteMap.of(SiteCSI(true.h + noise, STATIONS, 1e6, (2, 4, 1), true.position))
    exact = SiteMap.of(true, noise=False)
    direct = 10 * true.h.abs().square().mean((2, 3)).log10()
    assert torch.allclose(exact.power_db, direct, atol=1e-4)
    assert torch.allclose(exact.profile.sum((-2, -1)), torch.ones(400, 2), atol=1e-5)
    assert float((seen.power_db - exact.power_db).mean()) == pytest.approx(0, abs=0.02)  # the noise's mean is taken off
    # drawn noise has the mean and the variance of real noise, up to what is clipped at zero
    drawn = exact.measured(float(exact.power_db.amax(1).median()), generator)
    assert float((drawn.taps - exact.taps).mean()) == pytest.approx(float((seen.taps - exact.taps).mean()), abs=0.05)
    assert float((drawn.taps - exact.taps).std()) == pytest.approx(float((seen.taps - exact.taps).std()), rel=0.03)
    assert float(site_map(places(2), torch.full((2, 1), -40.0)).power_db.max()) == FLOOR_DB
    with pytest.raises(ValueError, match="has 50 tones, but maps need a multiple of 32"):
        SiteMap.of(SiteCSI(h[:, :, :50], STATIONS, 1e6, (2, 4, 1), places(400)))


def test_a_wall_in_the_way():
    heights = torch.zeros(40, 40)
    heights[:, 24:26] = 20.0  # a wall 20 m high from x = 8 to 12 m
    site = HeightMap(heights, (-40.0, -40.0), 2.0)
    before, behind, far = torch.tensor([[6.0, 0, 1.5], [16.0, 0, 1.5], [30.0, 0, 1.5]])
    found = Geometry.of(STATIONS[:1], torch.stack((before, behind, far)), site)
    assert found.line_of_sight[:, 0].tolist() == [True, False, False]
    assert found.knife_edge[0, 0] == 0 and found.knife_edge[1, 0] > found.knife_edge[2, 0] > 20
    # over the wall's top, from a station at 10 m to a user at 1.5 m and 30 m
    first, second = 11.9, 18.1
    over = 20 - (10 - 8.5 * first / 30)
    nu = over * math.sqrt(2 / 0.0857 * (1 / first + 1 / second))
    assert float(found.knife_edge[2, 0]) == pytest.approx(float(knife_edge(torch.tensor(nu))), abs=0.3)
    around = found.around[1, 0]  # the first axis looks towards the station, and the wall
    assert around[9:11].max() == 20 and around[:7].max() == 0
    nothing = Geometry.of(STATIONS, torch.stack((before, far)), None)
    assert bool(nothing.line_of_sight.all()) and float(nothing.knife_edge.max()) == 0


def test_kriging_is_the_posterior_of_its_gaussian_field():
    """Against the textbook's formulas with all matrices written out, a prior of the drift included."""
    place, asked = places(30)[:, :2].double(), places(7, seed=1)[:, :2].double()
    trend, there = (torch.stack((torch.ones(len(x)).double(), x[:, 0] / 40), 1) for x in (place, asked))
    z = 20 + 5 * trend[:, 1] + torch.randn(30, generator=torch.Generator().manual_seed(2)).double()
    prior = Drift(torch.tensor([18.0, 4.0]).double(), torch.diag(torch.tensor([4.0, 1.0])).double())
    field = Field(place, z, trend, prior, 16.0, 0.2)

    def covariance(a, b, same):
        return field.variance * (
            (1 - 0.2) * torch.exp(-torch.cdist(a, b) / 16) + 0.2 * same * torch.eye(len(a)).double()
        )

    # the prior's share was found with the variance before the last: the covariance that was used
    used = field.variance * field.wide
    known = covariance(place, place, True) + trend @ used @ trend.mT
    cross = (
        covariance(asked, place, False)
        if len(asked) == len(place)
        else field.variance * 0.8 * torch.exp(-torch.cdist(asked, place) / 16)
    )
    cross = cross + there @ used @ trend.mT
    mean = there @ prior.mean + cross @ torch.linalg.solve(known, z - trend @ prior.mean)
    variance = (
        field.variance + ((there @ used) * there).sum(1) - (cross * torch.linalg.solve(known, cross.mT).mT).sum(1)
    )
    found, spread = field.at(asked, there)
    assert torch.allclose(found, mean) and torch.allclose(spread, variance)
    assert torch.allclose(used, prior.covariance, rtol=0.2)


def test_kriging_finds_a_drift_and_passes_through_what_was_measured():
    place = places(60)
    far = torch.linalg.vector_norm(place[:, None, :2] - STATIONS[:, :2], dim=-1)
    power = 60 - 30 * far.clamp_min(1).log10()
    fitted = Kriging("distance").fit(site_map(place, power), STATIONS)
    asked = places(40, seed=3)
    truth = 60 - 30 * torch.linalg.vector_norm(asked[:, None, :2] - STATIONS[:, :2], dim=-1).clamp_min(1).log10()
    assert float((fitted.at(asked).power_db - truth).abs().max()) < 0.1
    assert float((Kriging("none").fit(site_map(place, power), STATIONS).at(place).power_db - power).abs().max()) < 2
    with pytest.raises(ValueError, match="drift is 'slope', but must be one of none, distance, heights"):
        Kriging("slope")


def test_the_stated_spread_holds_for_a_field_of_its_own_kind():
    place = places(300)
    gap = torch.cdist(place[:, :2], place[:, :2]).double()
    root = torch.linalg.cholesky(0.9 * torch.exp(-gap / 32) + 0.1 * torch.eye(300).double())
    noise = torch.randn(300, 8, generator=torch.Generator().manual_seed(4)).double()
    power = (30 + 8 * root @ noise).float()
    stations = STATIONS[:1].expand(8, 4)
    found = Kriging("none").fit(site_map(place, power)[:80], stations).at(place[80:])
    inside = ((found.power_db - power[80:]).abs() < 1.645 * found.spread_db).float().mean()
    assert float(inside) == pytest.approx(0.9, abs=0.05)  # 8 fields, whose range and nugget are estimated


def test_a_prior_from_other_sites_helps_where_little_is_known():
    prior = Drift(torch.tensor([20.0, -3.0]).double(), torch.diag(torch.tensor([4.0, 0.01])).double())

    def power(x):
        trend = drift_terms("distance", Geometry.of(STATIONS, x, None))
        return (trend @ torch.tensor([21.0, -3.0]).double()).float()

    def error(method, seed):
        place, asked = places(6, seed), places(50, seed=100 + seed)
        noise = torch.randn(6, 2, generator=torch.Generator().manual_seed(seed))
        known = site_map(place, power(place) + 2 * noise)
        return float((method.fit(known, STATIONS).at(asked).power_db - power(asked)).square().mean())

    with_prior, without = (
        sum(error(method, seed) for seed in range(10)) for method in (Kriging("distance", prior), Kriging("distance"))
    )
    assert with_prior < 0.6 * without


def test_profiles_move_with_the_distance():
    """Where the line of sight is all there is, the neighbours' profiles tell the place's own."""
    length = SPEED_OF_LIGHT / (1e6 * DELAYS)
    place, asked = places(40), places(20, seed=7)

    def truth(x):
        far = torch.linalg.vector_norm(x[:, None] - STATIONS[:, :3], dim=-1)
        first = torch.zeros(len(x), 2, DELAYS, 4)
        first[..., 0, 2] = 1.0
        return moved(first, far, length)

    known = site_map(place, torch.full((40, 2), 20.0), truth(place))
    nearest = neighbours_profile(known, asked, STATIONS, reach=0.0)
    assert float((nearest - truth(asked)).abs().max()) < 0.5  # interpolated twice
    assert torch.allclose(nearest.sum((-2, -1)), torch.ones(20, 2), atol=1e-5)
    centre = (nearest.sum(-1) * torch.arange(DELAYS)).sum(-1) - (truth(asked).sum(-1) * torch.arange(DELAYS)).sum(-1)
    assert float(centre.abs().max()) < 1e-3
    deaf = site_map(place, torch.full((40, 2), -40.0))
    assert torch.allclose(neighbours_profile(deaf, asked, STATIONS), torch.tensor(1 / (DELAYS * 4)))


def test_inverse_distance():
    place = torch.tensor([[0.0, 0, 1.5], [10.0, 0, 1.5]])
    known = site_map(place, torch.tensor([[10.0], [40.0]]))
    asked = torch.tensor([[2.0, 0, 1.5], [5.0, 0, 1.5]])
    assert InverseDistance(torch.inf).fit(known, STATIONS[:1]).at(asked).power_db[:, 0].tolist() == [10.0, 10.0]
    found = InverseDistance().fit(known, STATIONS[:1]).at(asked).power_db[:, 0]
    assert found.tolist() == pytest.approx([(10 / 4 + 40 / 64) / (1 / 4 + 1 / 64), 25.0], rel=1e-4)


def test_drawn_csi_has_the_power_and_the_profile_that_were_said():
    profile = torch.zeros(1, 1, DELAYS, 4)
    profile[..., 4, 1], profile[..., 9, 3] = 0.75, 0.25
    said = MapEstimate(torch.full((1, 1), 20.0), torch.zeros(1, 1), profile)
    many = MapEstimate(*(x.expand(500, *x.shape[1:]) for x in (said.power_db, said.spread_db, said.profile)))
    known = site_map(places(2), torch.zeros(2, 1))
    drawn = many.draw(known, STATIONS[:1], (2, 4, 1), torch.Generator().manual_seed(8))
    assert drawn.h.shape == (500, 1, 96, 8)
    taps = drawn.delay_beam_power().unflatten(2, (DELAYS, -1)).sum(3).mean(0)[0]
    assert 10 * drawn.h.abs().square().mean().log10() == pytest.approx(20.0, abs=0.2)  # 500 x 12 exponentials
    assert torch.allclose(taps / taps.sum(), profile[0, 0], atol=0.03)


@pytest.mark.parametrize("method", [InverseDistance(), Kriging("none")], ids=["inverse distance", "kriging"])
def test_bad_sites_and_places_are_refused_in_one_line(method):
    known, asked = site_map(places(20), 40 * torch.rand(20, 2)), places(5, seed=1)
    with pytest.raises(ValueError, match="known holds no place; a map needs at least one"):
        method.fit(known[:0], STATIONS)
    with pytest.raises(ValueError, match=r"stations has shape \[1, 4\], but known has 2 stations: give \[2, 4\]"):
        method.fit(known, STATIONS[:1])
    fitted = method.fit(known, STATIONS.double())
    for bad, words in ((asked[:, :2], "must be .place, 3."), (asked[:0], "at least one"), (asked * math.nan, "NaN")):
        with pytest.raises(ValueError, match=words):
            fitted.at(bad)
    assert torch.isfinite(method.fit(known[:1], STATIONS).at(asked.double()).power_db).all()
