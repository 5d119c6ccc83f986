"""What may stand in a recipe, and what people get who mistype."""

from __future__ import annotations

import subprocess
import sys

import pytest
import yaml

from airlam.channels import load_channel, recipe_names
from airlam.channels.recipe import DEFAULTS
from airlam.errors import RecipeError

EXPECTED = {
    "uma_nlos",
    "umi_nlos",
    "uma_los",
    "umi_los",
    "rma_nlos",
    "inh_los",
    "inf_nlos",
    "cdl_a",
    "cdl_b",
    "cdl_c",
    "cdl_d",
    "cdl_e",
    "tdl_a",
    "mixture_headline",
    "mixture_broad",
    "umi_site",
}
UMA = {"scenario": "uma"}


def test_names():
    assert set(recipe_names()) >= EXPECTED


@pytest.mark.parametrize("name", recipe_names())
def test_every_recipe_resolves_and_a_resolved_one_resolves_to_itself(name):
    model = load_channel(name)
    assert load_channel(model.recipe).recipe == model.recipe
    assert yaml.safe_load(yaml.safe_dump(model.recipe)) == model.recipe  # plain data


def test_a_name_a_path_and_a_dict_are_the_same(tmp_path, repo_root):
    path = repo_root / "channels" / "uma_nlos.yaml"
    by_dict = load_channel(yaml.safe_load(path.read_text()))
    assert load_channel("uma_nlos").recipe == load_channel(path).recipe == by_dict.recipe
    assert load_channel("channels/uma_nlos.yaml").recipe == by_dict.recipe
    assert load_channel(UMA).recipe["num_subcarriers"] == DEFAULTS["num_subcarriers"]


def test_a_recipe_in_the_current_folder_is_found_by_name(tmp_path, monkeypatch):
    (tmp_path / "channels").mkdir()
    (tmp_path / "channels" / "mine.yaml").write_text("{scenario: uma, state: nlos, carrier_frequency: 35e8}")
    (tmp_path / "other.yml").write_text("{scenario: umi}")
    monkeypatch.chdir(tmp_path)
    for name in ("mine", "channels/mine", "channels/mine.yaml", tmp_path / "channels" / "mine.yaml"):
        assert load_channel(name).carrier_frequency == 3.5e9
    assert load_channel("other.yml").recipe["scenario"] == "umi"
    assert load_channel("uma_nlos").carrier_frequency == 2.4e9  # those that ship are there as before


def test_panels_of_a_mixture_may_be_texts():
    mixture = {"scenario": "mixture", "max_ports": 8, "components": [{"scenario": "uma"}]}
    model = load_channel({**mixture, "bs_panel": {"rows": "2", "columns": 2.0}}).draw(seed=1)
    assert model.num_tx_ant == 8


def test_headline():
    model = load_channel("uma_nlos")
    assert (model.num_subcarriers, model.subcarrier_spacing, model.num_rx_ant, model.num_tx_ant) == (48, 180e3, 1, 32)
    assert (model.carrier_frequency, model.slot_duration, model.port_shape) == (2.4e9, 0.5e-3, (2, 4, 4))


@pytest.mark.parametrize(
    "recipe, text",
    [
        ({"scenario": "umma"}, "unknown scenario 'umma'; did you mean 'uma'"),
        ({"scenario": "CDL-F"}, "unknown scenario 'CDL-F'; did you mean 'cdl_"),
        ({"scenario": 3}, "scenario is 3"),
        ({}, "no key 'scenario'"),
        ("uma_nloss", "no recipe 'uma_nloss' .*; did you mean 'uma_nlos'"),
        ("missing.yaml", "no recipe 'missing.yaml'"),
        (7, "a recipe's name, a path or a dict, got int"),
        ({**UMA, "speed_kmh": -3}, "speed_kmh is -3, but must be between 0 and 1000 km/h"),
        ({**UMA, "speed_kmh": [30, 3]}, r"write \[3, 30\]"),
        ({**UMA, "speed_kmh": [1, 2, 3]}, r"a number or \[min, max\]"),
        ({**UMA, "speed_kmh": [0, float("nan")]}, r"speed_kmh\[1\] is nan"),
        (
            {**UMA, "carrier_frequency": 0.4e9},
            "carrier_frequency is 4e\\+08, but must be between 5e\\+08 and 1e\\+11 Hz",
        ),
        ({**UMA, "carrier_frequency": 2.4}, "carrier_frequency is 2.4"),
        ({**UMA, "carrier_frequency": 101e9}, "carrier_frequency"),
        ({**UMA, "carrier_frequency": "fast"}, "must be a number in Hz"),
        ({"scenario": "rma", "carrier_frequency": 39e9}, "RMa holds up to 3e\\+10 Hz"),
        ({**UMA, "carier_frequency": 2e9}, "no key 'carier_frequency'; did you mean 'carrier_frequency'"),
        ({**UMA, "delay_spread": 1e-7}, "a uma recipe has no key 'delay_spread'"),
        ({"scenario": "cdl_a", "delay_spread": 1e-4}, "delay_spread is 0.0001"),
        ({"scenario": "cdl_a", "delay_spread": 0}, "delay_spread is 0"),
        ({"scenario": "cdl_a", "links_per_drop": 2}, "no key 'links_per_drop'"),
        ({"scenario": "cdl_a", "state": "los"}, "cdl_a is nlos by definition"),
        ({**UMA, "state": "lost"}, "state is 'lost'.*did you mean 'los'"),
        ({"scenario": "inh", "state": "indoor"}, "every user of inh is"),
        ({"scenario": "inf", "factory": "hh", "state": "nlos"}, "InF-HH has line of sight only"),
        ({"scenario": "inf", "factory": "xx"}, "factory is 'xx'"),
        ({**UMA, "num_subcarriers": 0}, "num_subcarriers is 0"),
        ({**UMA, "num_subcarriers": 4.5}, "num_subcarriers is 4.5, but must be a whole number"),
        ({**UMA, "num_subcarriers": True}, "num_subcarriers is True"),
        ({**UMA, "slot_duration": 0}, "slot_duration is 0"),
        ({**UMA, "bs_panel": {"rows": 0}}, "bs_panel.rows is 0"),
        ({**UMA, "bs_panel": {"row": 4}}, "bs_panel has no key 'row'; did you mean 'rows'"),
        ({**UMA, "bs_panel": [4, 4]}, "must be a mapping with rows"),
        ({**UMA, "bs_panel": {"polarisation": "duel"}}, "did you mean 'dual'"),
        ({**UMA, "ut_panel": {"pattern": "38901"}}, "did you mean '38.901'"),
        ({**UMA, "fast": "yes"}, "fast is 'yes'"),
        ({**UMA, "links_per_drop": 0}, "links_per_drop is 0"),
        ({**UMA, "spatial_consistency": "on"}, "must be true or false"),
    ],
)
def test_mistakes_are_named_in_one_line(recipe, text):
    with pytest.raises(RecipeError, match=text) as caught:
        load_channel(recipe)
    assert "\n" not in str(caught.value)


def test_pattern_may_be_a_number_and_frequencies_strings_as_yaml_reads_them():
    recipe = yaml.safe_load("{scenario: uma, carrier_frequency: 2.4e9, bs_panel: {pattern: 38.901}}")
    assert load_channel(recipe).carrier_frequency == 2.4e9
    assert load_channel(recipe).recipe["bs_panel"]["pattern"] == "38.901"


def test_broken_yaml(tmp_path):
    for text, error in (("scenario: [", "not valid YAML"), ("- uma", "is a list, but a recipe holds keys and values")):
        path = tmp_path / "x.yaml"
        path.write_text(text)
        with pytest.raises(RecipeError, match=error):
            load_channel(path)


def test_reading_recipes_does_not_import_sionna():
    code = (
        "import sys; from airlam.channels import load_channel;"
        "load_channel('uma_nlos'), load_channel('mixture_broad'); assert 'sionna' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
