"""The network of radio maps: it starts as kriging, and nothing in it belongs to a site."""

from __future__ import annotations

import math

import pytest
import torch

from airlam.baselines.radio_maps import Kriging
from airlam.baselines.radio_maps.kriging import CITIES
from airlam.csi import HeightMap, SiteMap
from airlam.csi.site_map import DELAYS
from airlam.models.radio_map import AirlamMap, AirlamMapConfig, MapInputs, map_loss, start_of

STATIONS = torch.tensor([[3.0, -5.0, 12.0, 30.0], [60.0, 20.0, 8.0, 180.0]])


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    made = AirlamMap(AirlamMapConfig()).eval()
    torch.nn.init.normal_(made.head[-1].weight, std=0.05)  # so that it says something of its own
    return made


def site(count: int = 30, seed: int = 0) -> SiteMap:
    generator = torch.Generator().manual_seed(seed)
    place = torch.cat((80 * torch.rand(count, 2, generator=generator) - 40, torch.full((count, 1), 1.5)), 1)
    taps = 1e3 * torch.rand(count, 2, DELAYS, 4, generator=generator) ** 8
    return SiteMap(place, taps, 96, 1e6)


def roofs(seed: int = 1) -> HeightMap:
    blocks = 20 * (torch.rand(12, 12, generator=torch.Generator().manual_seed(seed)) > 0.6).float()
    return HeightMap(blocks.repeat_interleave(5, 0).repeat_interleave(5, 1), (-60.0, -60.0), 2.0)


def test_new_weights_give_krigings_answer():
    known, asked = site(), site(9, seed=2).place
    fitted = AirlamMap(AirlamMapConfig()).eval().fit(known, STATIONS, roofs())
    found, want = fitted.at(asked), Kriging("heights", CITIES).fit(known, STATIONS, roofs()).at(asked)
    assert torch.allclose(found.power_db, want.power_db, atol=1e-4)
    assert torch.allclose(found.spread_db, want.spread_db.clamp(1, 40), rtol=1e-4)
    # a thousandth is added to each share before the logarithm
    assert torch.allclose(found.profile, (want.profile + 1e-3) / (1 + 1e-3 * DELAYS * 4), atol=1e-4)


def test_a_site_that_is_moved_and_turned_by_a_quarter_has_the_same_map(model):
    known, asked, heights = site(), site(9, seed=2).place, roofs()

    def turned(place):
        return torch.stack((-place[..., 1] + 100, place[..., 0] - 40, place[..., 2]), -1)

    other = HeightMap(heights.height.flip(0).mT.contiguous(), (100.0 - 60, -40.0 - 60), heights.step)
    stations = torch.cat((turned(STATIONS[:, :3]), STATIONS[:, 3:] + 90), 1)
    moved = SiteMap(turned(known.place), known.taps, known.tones, known.subcarrier_spacing)
    first = model.fit(known, STATIONS, heights).at(asked)
    second = model.fit(moved, stations, other).at(turned(asked))
    # places that fall on an edge of the grid may see another cell: most must agree to the last digits
    assert float((first.power_db - second.power_db).abs().median()) < 1e-3
    flat, again = model.fit(known, STATIONS).at(asked), model.fit(moved, stations).at(turned(asked))
    assert torch.allclose(flat.power_db, again.power_db, atol=1e-3)
    assert torch.allclose(flat.profile, again.profile, atol=1e-4)


def test_neither_order_nor_company_matters(model):
    known, asked = site(), site(9, seed=2).place
    whole = model.fit(known, STATIONS, roofs()).at(asked)
    order = torch.randperm(len(known), generator=torch.Generator().manual_seed(3))
    shuffled = model.fit(known[order], STATIONS, roofs()).at(asked)
    assert torch.allclose(whole.power_db, shuffled.power_db, atol=1e-3)
    alone = model.fit(known, STATIONS, roofs()).at(asked[4:5])
    assert torch.allclose(whole.power_db[4:5], alone.power_db, atol=1e-3)
    swapped = SiteMap(known.place, known.taps.flip(1), known.tones, known.subcarrier_spacing)
    found = model.fit(swapped, STATIONS.flip(0), roofs()).at(asked)
    assert torch.allclose(whole.power_db, found.power_db.flip(1), atol=1e-3)


def test_sites_of_a_batch_do_not_see_each_other(model):
    one, other = site(), site(20, seed=5)
    parts = [MapInputs.of(start_of(x, STATIONS, roofs()), site(4, seed=6).place) for x in (one, other)]
    together = model(*MapInputs.joined(parts))
    apart = [torch.cat(found) for found in zip(*(model(*part) for part in parts), strict=True)]
    for a, b in zip(together, apart, strict=True):
        assert torch.allclose(a, b, atol=1e-3)


def test_shares_sum_to_one_and_few_measured_places_do(model):
    found = model.fit(site(3), STATIONS).at(site(5, seed=2).place)
    assert torch.allclose(found.profile.sum((-2, -1)), torch.ones(5, 2), atol=1e-5)
    assert bool((found.spread_db > 0).all()) and bool(torch.isfinite(found.power_db).all())


def test_a_checkpoint_says_the_same_and_another_panel_is_refused(model, tmp_path):
    known, asked = site(), site(9, seed=2).place
    model.save_pretrained(tmp_path)
    again = AirlamMap.from_pretrained(tmp_path).eval()
    assert torch.equal(model.fit(known, STATIONS).at(asked).power_db, again.fit(known, STATIONS).at(asked).power_db)
    narrow = SiteMap(known.place, known.taps[..., :2], known.tones, known.subcarrier_spacing)
    with pytest.raises(ValueError, match="the CSI has 2 beams, but this network knows 4"):
        model.fit(narrow, STATIONS).at(asked)


def test_the_loss_is_least_where_power_spread_and_profile_are_right():
    generator = torch.Generator().manual_seed(7)
    scale = 3.0
    u = torch.rand(20_000, generator=generator) - 0.5
    truth = 10 - scale * u.sign() * (1 - 2 * u.abs()).log()  # Laplace
    profile = torch.rand(1, DELAYS, 4, generator=generator).flatten(1).softmax(-1).view(1, DELAYS, 4)

    def loss(power, spread, said):
        found = (torch.full_like(truth, power), torch.full_like(truth, spread), said.log().expand(len(truth), -1, -1))
        return float(map_loss(*found, truth, profile.expand(len(truth), -1, -1)).mean())

    best = loss(10.0, scale * math.sqrt(2), profile)
    flat = torch.full_like(profile, 1 / (DELAYS * 4))
    others = [(9.0, scale * 2**0.5, profile), (10.0, 3.0, profile), (10.0, 6.0, profile), (10.0, scale * 2**0.5, flat)]
    assert all(loss(*other) > best for other in others)


def test_bad_sites_and_places_are_refused_in_one_line(model):
    known, asked = site(), site(5, seed=2).place
    with pytest.raises(ValueError, match="known holds no place"):
        model.fit(known[:0], STATIONS)
    with pytest.raises(ValueError, match="known has 2 stations"):
        model.fit(known, torch.cat((STATIONS, STATIONS[:1])))
    with pytest.raises(ValueError, match="NaN"):
        model.fit(known, STATIONS).at(asked * math.nan)
