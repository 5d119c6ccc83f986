"""Mixtures: draws, bounds, batches of many scenarios."""

from __future__ import annotations

import collections
import pickle

import pytest
import torch

from airlam.channels import LinkBatch, MixtureChannel, load_channel
from airlam.errors import RecipeError

TINY = {
    "scenario": "mixture",
    "num_subcarriers": 4,
    "bs_panel": {"rows": 1, "columns": 2, "polarisation": "single"},
    "components": [{"scenario": "cdl_a", "weight": 3}, {"scenario": "tdl_a"}, {"scenario": "umi", "state": "los"}],
}


def test_draws_are_repeatable_and_fixed():
    mixture = load_channel("mixture_broad")
    assert isinstance(mixture, MixtureChannel)
    for seed in range(5):
        assert mixture.draw(seed).recipe == mixture.draw(seed).recipe
    recipes = [mixture.draw(seed).recipe for seed in range(60)]
    assert len({r["carrier_frequency"] for r in recipes}) == 60
    assert len({r["scenario"] for r in recipes}) > 6


def test_broad_draws_stay_in_bounds():
    mixture = load_channel("mixture_broad")
    for seed in range(300):
        model = mixture.draw(seed)
        r = model.recipe
        assert model.num_tx_ant <= 64 and 12 <= model.num_subcarriers <= 96
        assert 0.7e9 <= r["carrier_frequency"] <= 30e9 and 30e3 <= r["subcarrier_spacing"] <= 720e3
        assert 0.25e-3 <= r["slot_duration"] <= 5e-3
        turns = r["speed_kmh"][1] / 3.6 * r["carrier_frequency"] / 299792458.0 * r["slot_duration"]
        assert turns <= 0.5 * (1 + 1e-9)
        assert 1 <= r["bs_panel"]["rows"] <= 8 and isinstance(r["bs_panel"]["rows"], int)


def test_broad_draws_sample():
    mixture = load_channel("mixture_broad")
    for seed in range(8):
        model = mixture.draw(seed)
        h = model.sample(3, 5, seed=seed).h
        assert h.shape == (3, 5, model.num_subcarriers, model.num_rx_ant, model.num_tx_ant)
        assert torch.isfinite(torch.view_as_real(h)).all()


def test_weights():
    mixture = load_channel(TINY)
    counts = collections.Counter(mixture.draw(seed).recipe["scenario"] for seed in range(500))
    assert counts["cdl_a"] == pytest.approx(300, abs=55)  # five standard deviations


def test_sample_mixes_and_is_repeatable():
    mixture = load_channel({**TINY, "chunk": 4})
    batch = mixture.sample(40, 3, seed=0)
    assert batch.h.shape == (40, 3, 4, 1, 2) and len(batch.drop.unique()) == 40
    assert 0 < batch.los.sum() < 40 and batch.recipe["scenario"] == "mixture"
    for name in ("h", "gain_db", "speed", "drop"):
        assert torch.equal(getattr(batch, name)[:13], getattr(mixture.sample(13, 3, seed=0), name))
    again = pickle.loads(pickle.dumps(mixture)).sample(40, 3, seed=0)
    assert torch.equal(batch.h, again.h)
    assert mixture.port_shape == (1, 2, 1) and mixture.num_tx_ant == 2 and mixture.slot_duration == 0.5e-3


def test_rays_of_mixed_batches():
    recipe = {**TINY, "components": [{"scenario": "cdl_a"}, {"scenario": "umi", "state": "los"}], "chunk": 2}
    batch = load_channel(recipe).sample(8, 2, seed=0, return_rays=True)
    assert batch.rays.power.shape[0] == 8


def test_batches_concatenate():
    a, b = (
        load_channel({"scenario": "umi", "links_per_drop": 2, "num_subcarriers": 2}).sample(4, 2, seed=s)
        for s in (0, 1)
    )
    both = LinkBatch.concatenate([a, b])
    assert both.drop.tolist() == [0, 0, 1, 1, 2, 2, 3, 3] and torch.equal(both.h[4:], b.h)


def test_random_arrays_cannot_share_a_batch():
    mixture = load_channel("mixture_broad")
    for call in (lambda: mixture.sample(4, 2, seed=0), lambda: mixture.port_shape, lambda: mixture.num_subcarriers):
        with pytest.raises(ValueError, match=r"use draw\(seed\)"):
            call()


@pytest.mark.parametrize(
    "change, text",
    [
        ({"components": []}, "needs 'components'"),
        ({"components": ["uma"]}, r"components\[0\] is 'uma'"),
        ({"components": [{"scenario": "umaa"}]}, "did you mean 'uma'"),
        ({"components": [{"scenario": "mixture"}]}, "do not nest"),
        ({"components": [{"scenario": "uma", "delay_spread": 1e-7}]}, "no key 'delay_spread'"),
        ({"components": [{"scenario": "uma", "weight": 0}]}, r"components\[0\].weight is 0"),
        ({"carrier_frequency": {"min": 1e8, "max": 2e9}}, "carrier_frequency is 1e\\+08"),
        ({"carrier_frequency": {"min": 1e9, "max": 2e12}}, "carrier_frequency is 2e\\+12"),
        ({"carrier_frequency": {"min": 3e9, "max": 2e9}}, "must not exceed max"),
        ({"carrier_frequency": {"min": 1e9}}, "carrier_frequency.max is None"),
        ({"carrier_frequency": {"min": 1e9, "max": 2e9, "scale": "lin"}}, "must be uniform or log"),
        ({"speed_kmh": {"min": 0, "max": 5, "scale": "log"}}, "must be positive where scale is log"),
        ({"num_subcarriers": {"choices": []}}, "must be a list that is not empty"),
        ({"num_subcarriers": {"choices": [4, 8], "weights": [1]}}, "one number for each of the 2 choices"),
        ({"num_subcarriers": {"choices": [4, -8]}}, "num_subcarriers is -8"),
        ({"bs_panel": {"rows": {"min": 0, "max": 4}}}, "bs_panel.rows is 0"),
        ({"num_subcarrier": 4}, "did you mean 'num_subcarriers'"),
        ({"max_ports": 0}, "max_ports is 0"),
    ],
)
def test_mistakes(change, text):
    with pytest.raises(RecipeError, match=text):
        load_channel({**TINY, **change})


def test_impossible_port_limit():
    recipe = {**TINY, "bs_panel": {"rows": 4, "columns": {"min": 2, "max": 4}}, "max_ports": 4}
    with pytest.raises(RecipeError, match="no bs_panel with so few ports"):
        load_channel(recipe).draw(0)
