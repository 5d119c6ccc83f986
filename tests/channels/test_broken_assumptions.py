"""Rays with delays of their own, and errors of the array."""

from __future__ import annotations

import pytest
import torch

from airlam.channels import load_channel
from airlam.channels.array_errors import mixing
from airlam.csi import mean_power
from airlam.errors import RecipeError


def test_rays_of_a_cluster_arrive_up_to_twice_the_spread_after_it():
    recipe = {"scenario": "umi", "state": "nlos", "num_subcarriers": 8}
    together = load_channel(recipe).sample(3, 2, seed=1, return_rays=True).rays
    apart = load_channel({**recipe, "ray_delay_spread": 5e-9}).sample(3, 2, seed=1, return_rays=True).rays
    for link in range(3):
        first, later = together.delay[link], apart.delay[link, apart.power[link] > 0]
        behind = (later[:, None] - first[first <= later.max()]).clamp_min(-1.0)
        since = torch.where(behind < -1e-12, 1.0, behind).amin(1)  # since the last cluster that arrived
        assert float(since.max()) < 10.1e-9
    # uniform: the mean over all rays is the spread itself; thousands of rays
    assert len(apart.delay[0].unique()) > 5 * len(together.delay[0].unique())


def test_array_errors_multiply_the_channel_of_all_slots():
    recipe = {"scenario": "uma", "state": "nlos", "num_subcarriers": 4, "links_per_drop": 2}
    errors = {"gain_std_db": 2.0, "phase_std": 0.4, "coupling_db": -12.0}
    true = load_channel(recipe).sample(4, 6, seed=3)
    wrong = load_channel({**recipe, "array_errors": errors}).sample(4, 6, seed=3)
    assert torch.allclose(mean_power(wrong.h), torch.ones(4), atol=1e-5)
    for drop in (0, 2):
        # one matrix explains all slots, subcarriers and both users of a drop, up to each link's scale
        a, b = true.h[drop : drop + 2].flatten(0, 3), wrong.h[drop : drop + 2].flatten(0, 3)
        scale = 10 ** ((wrong.gain_db - true.gain_db)[drop : drop + 2] / 20)
        b = b * scale.repeat_interleave(len(b) // 2)[:, None]
        solved = torch.linalg.lstsq(a.to(torch.complex128), b.to(torch.complex128), driver="gelsd")
        assert float((a.to(torch.complex128) @ solved.solution - b).abs().max()) < 1e-3
    assert not torch.allclose(true.h, wrong.h, atol=0.1)


def test_mixing_has_the_levels_it_is_told():
    g = torch.Generator().manual_seed(0)
    made = mixing({"gain_std_db": 1.0, "phase_std": 0.2, "coupling_db": -20.0}, (2, 3, 2), 400, g)
    own = made.diagonal(dim1=1, dim2=2)
    assert float((20 * own.abs().log10()).std()) == pytest.approx(1.0, rel=0.05)  # 4,800 draws
    assert float(own.angle().std()) == pytest.approx(0.2, rel=0.05)
    coupled = (made / own[..., None]).abs()[0]
    # port 0 of 12: neighbours are the next row and the next column, not the other polarisation
    assert torch.allclose(coupled[0], torch.tensor([1.0, 0.1, 0.1] + [0.0] * 9), atol=1e-6)


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("array_errors", 3, "array_errors is 3"),
        ("array_errors", {"gain": 1}, "gain"),
        ("array_errors", {"coupling_db": 3}, "array_errors.coupling_db is 3"),
        ("ray_delay_spread", -1e-9, "ray_delay_spread is -1e-09"),
    ],
)
def test_bad_values_are_named(key, value, message):
    with pytest.raises(RecipeError, match=message):
        load_channel({"scenario": "uma", key: value})


def test_recipes_without_the_keys_keep_their_hashes():
    assert not {"array_errors", "ray_delay_spread"} & set(load_channel("uma_nlos").recipe)
    assert not {"array_errors", "ray_delay_spread"} & set(load_channel("cdl_c").recipe)
    with pytest.raises(RecipeError, match="fast is 'stock'"):
        load_channel({"scenario": "uma", "fast": "stock", "ray_delay_spread": 1e-9})
