"""Tracks: slots as points of a path through one spatially consistent snapshot."""

from __future__ import annotations

import pytest
import torch

from airlam.channels import load_channel
from airlam.channels.drops import draw_drops
from airlam.csi import beam_power, dft_codebook
from airlam.errors import RecipeError

TRACKS = {
    **{k: v for k, v in load_channel("umi_tracks_28ghz").recipe.items()},
    "num_subcarriers": 4,
    "links_per_drop": 2,
    "chunk": 4,
    "bs_panel": {"rows": 2, "columns": 4, "polarisation": "single", "pattern": "38.901"},
}


def channel(**changes):
    return load_channel(TRACKS | changes)


def powers(h):
    return beam_power(h, dft_codebook((1, 4, 2)))


def test_points_lie_on_the_path():
    made = channel(speed_kmh=36.0)
    drops = draw_drops(made.recipe, 3, torch.Generator().manual_seed(0))
    tracks = drops.along_tracks(5, 0.1)
    steps = tracks.ut_position.unflatten(1, (2, 5)).diff(dim=2)
    torch.testing.assert_close(steps, 0.1 * drops.velocity[:, :, None].expand(-1, -1, 4, -1), rtol=0, atol=1e-4)
    torch.testing.assert_close(steps.norm(dim=-1), torch.ones(3, 2, 4), rtol=0, atol=1e-4)  # 36 km/h for 0.1 s
    assert tracks.track.tolist() == [0] * 5 + [1] * 5


def test_who_stands_still_keeps_his_channel():
    """Points at one place are perfectly correlated; what is left is the regularised root of their covariance."""
    h = channel(speed_kmh=0.0).sample(4, 4, seed=1).h
    error = (h - h[:, :1]).abs().square().sum((1, 2, 3, 4)) / h.abs().square().sum((1, 2, 3, 4))
    assert float(error.max()) < 1e-3


def test_beams_change_with_the_way():
    """Over metres the strongest beams change, over centimetres they fade but mostly stay."""

    def kept(speed):
        p = powers(channel(speed_kmh=speed, chunk=32).sample(64, 6, seed=2).h)
        return float((p.argmax(-1)[:, -1] == p.argmax(-1)[:, 0]).float().mean())

    assert kept(1.0) > kept(200.0) + 0.1  # 6 cm against 11 m


def test_links_are_normalised_over_the_path_and_reproducible():
    made = channel()
    some, more = made.sample(4, 3, seed=5), made.sample(8, 3, seed=5)
    assert torch.equal(some.h, more.h[:4])
    torch.testing.assert_close(some.h.abs().square().mean((1, 2, 3, 4)), torch.ones(4))
    assert some.position.shape == (4, 3) and some.gain_db.isfinite().all()
    level = powers(channel(speed_kmh=90.0, chunk=32).sample(32, 8, seed=3).h).sum(-1)
    assert float((level.amax(1) / level.amin(1)).log10().mean()) > 0.2  # levels along a path are kept: 2 dB and more


def test_the_line_of_sight_turns_as_the_distance_grows():
    """Pure line of sight would turn by -2 pi over a wavelength of way; clusters 9 dB below it disturb that a little."""
    made = channel(speed_kmh=3.0, slot_duration=1e-3, state="los", chunk=32, num_subcarriers=1)
    links = made.sample(64, 10, seed=6)
    start, step = links.position - torch.tensor([0.0, 0.0, 10.0]), links.velocity * 1e-3  # the mast of UMi: 10 m
    way = (start[:, None] + step[:, None] * torch.arange(10.0)[:, None]).double().norm(dim=-1)
    geometric = -2 * torch.pi * (way - way[:, :1]) * 28e9 / 299792458.0
    h = links.h[:, :, 0, 0] @ dft_codebook((1, 4, 2))
    strongest = h.abs().square().sum(1).argmax(-1)
    beam = h.gather(-1, strongest[:, None, None].expand(-1, 10, 1))[..., 0]

    def coherence(times):
        turned = beam * torch.polar(torch.ones_like(geometric), -times * geometric)
        return (turned.mean(1).abs() / beam.abs().mean(1)).median()

    assert float(coherence(1)) > 0.9 > 0.6 > float(coherence(2))


def test_what_tracks_refuse():
    with pytest.raises(RecipeError, match="spatial_consistency is not"):
        channel(spatial_consistency=False)
    with pytest.raises(ValueError, match="other rays at every slot"):
        channel().sample(2, 3, seed=0, return_rays=True)
    with pytest.raises(RecipeError, match="fast is 'stock'"):
        channel(fast="stock")
    with pytest.raises(RecipeError, match="must be true or false"):
        channel(tracks="yes")


def test_outdoor_users_see_the_base_station_by_chance():
    made = load_channel({"scenario": "umi", "state": "outdoor", "num_subcarriers": 2, "chunk": 64})
    links = made.sample(128, 1, seed=0)
    assert not links.indoor.any() and 0.2 < float(links.los.float().mean()) < 0.8


def test_recipes_without_tracks_keep_their_hash():
    assert "tracks" not in load_channel("uma_nlos").recipe
    assert load_channel(load_channel("umi_tracks_28ghz").recipe).recipe["tracks"] is True
