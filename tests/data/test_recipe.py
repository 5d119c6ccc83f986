"""Data set recipes: what they accept, what they hash to, and seeds that no two blocks share."""

from __future__ import annotations

import inspect
import math
from dataclasses import fields

import pytest

from airlam.data import DatasetRecipe
from airlam.data.recipe import SPLITS, block_seed, blocks_of, load_dataset_recipe
from airlam.errors import RecipeError


def test_arguments_of_the_data_module_are_those_of_the_recipe():
    from airlam.data import CSIDataModule

    parameters = list(inspect.signature(CSIDataModule.__init__).parameters.values())[1:]
    own = ("repeat", "prepare")  # what becomes of batches on their way to training, not what they are
    given = {p.name: p.default for p in parameters if p.name not in own}
    assert given == {f.name: f.default for f in fields(DatasetRecipe)}


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"num_val": -1}, ["num_val is -1", "at least 0"]),
        ({"history": 0}, ["history is 0", "at least 1"]),
        ({"batch_size": 2.5}, ["batch_size is 2.5", "whole number"]),
        ({"num_train": True}, ["num_train is True"]),
        ({"csi_snr_db": 300}, ["csi_snr_db is 300", "between -40 and 100 dB"]),
        ({"csi_snr_db": [30, 0]}, ["csi_snr_db is [30.0, 0.0]", "write [0, 30]"]),
        ({"csi_snr_db": "loud"}, ["csi_snr_db is 'loud'"]),
        ({"num_train": math.inf}, ["num_train is inf", "whole number"]),
        ({"impairments": ["missing"]}, ["impairments is ['missing']", "mapping"]),
        ({"channel_overrides": 3}, ["channel_overrides is 3"]),
        ({"channel": None}, ["channel is missing"]),
        ({"chanel": "uma_nlos"}, ["unknown key 'chanel'", "did you mean 'channel'"]),
    ],
)
def test_bad_values_are_named_with_their_bound(fake, changes, words):
    with pytest.raises(RecipeError) as caught:
        load_dataset_recipe(fake.recipe(**changes))
    message = str(caught.value)
    assert all(word in message for word in words) and "\n" not in message


def test_unknown_recipe_names_the_nearest(tmp_path):
    with pytest.raises(RecipeError, match="did you mean 'uma_nlos'"):
        load_dataset_recipe("uma_nols")
    with pytest.raises(RecipeError, match="did you mean 'datasets/uma_nlos.yaml'"):
        load_dataset_recipe("datasets/uma_nlso.yaml")
    broken = tmp_path / "broken.yaml"
    broken.write_text("channel: [uma_nlos\nseed: 1")
    with pytest.raises(RecipeError, match="broken.yaml is not valid YAML") as caught:
        load_dataset_recipe(broken)
    assert "\n" not in str(caught.value)


def test_hash_covers_the_links_and_nothing_else(fake):
    base = load_dataset_recipe(fake.recipe()).hash
    for same in ({"batch_size": 5}, {"csi_snr_db": 3.0}, {"num_workers": 2}, {"history": 15, "horizon": 5}):
        assert load_dataset_recipe(fake.recipe(**same)).hash == base
    for other in ({"seed": 4}, {"num_val": 7}, {"block_size": 4}, {"horizon": 5}, {"channel_overrides": {"x": 1}}):
        assert load_dataset_recipe(fake.recipe(**other)).hash != base


def test_no_two_blocks_share_a_seed():
    # Also across splits, also in the 32 bits that torch's CPU generator uses.
    for seed in (0, 1, 2**40):
        seeds = [block_seed(seed, split, n) for split in SPLITS for n in range(20_000)]
        assert len({s % 2**32 for s in seeds}) == len(seeds) and min(seeds) >= 0


def test_blocks_cover_the_data_set_in_whole_drops(fake):
    recipe = load_dataset_recipe(fake.recipe(num_train=30, channel={"scenario": "fake", "links_per_drop": 3}))
    blocks = blocks_of(recipe.content)
    assert [b.start for b in blocks] == [0, 9, 18, 27, 30, 36]  # blocks of 8 become blocks of 9: three drops
    assert sum(b.count for b in blocks) == 44
