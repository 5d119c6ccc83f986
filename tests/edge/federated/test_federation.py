"""What a run refuses, each in one line that names the value and the fix."""

from __future__ import annotations

import dataclasses
import inspect

import pytest

from airlam.edge.federated import Federation
from airlam.errors import RecipeError
from airlam.recipes import argument_defaults

TWO = {"a": {"channel": "umi_nlos"}, "b": {"channel": "uma_nlos"}}
RANKS = {**TWO, "c": {"channel": "inf_nlos", "lora_rank": 2}}
BAD = [
    ({"sites": {}}, "sites is empty"),
    ({"sites": {"a": {}}}, "must name a channel recipe"),
    ({"sites": {"a": {"channel": "umi_nlos", "device": "phon"}}}, "did you mean 'phone'"),
    ({"sites": {"a": {"channel": "umi_nlos", "copies": 0}}}, "sites.a.copies is 0"),
    ({"sites": {"a": {"channel": "umi_nlos", "links": 9999}}}, "must be at most num_train"),
    ({"sites": {"a": {"channel": "umi_nlos", "mode": "splt"}}}, "did you mean 'split'"),
    ({"strategy": "fedavgg"}, "did you mean 'fedavg'"),
    ({"aggregation": "exact"}, "must be one of naive, ffa"),
    ({"rounds": 0}, "rounds is 0, but must be a whole number of at least 1"),
    ({"rounds": 2.5}, "rounds is 2.5"),
    ({"learning_rate": -1.0}, "learning_rate is -1, but must be between"),
    ({"learning_rate": 0.0}, "learning_rate is 0"),
    ({"csi_snr_db": -400}, "csi_snr_db is -400"),
    ({"csi_snr_db": float("nan")}, "csi_snr_db is nan"),
    ({"dropout": 1.0}, "dropout is 1, but must be between"),
    ({"lora_rank": 0}, "lora_rank is 0"),
    ({"strategy": "fedprox"}, "proximal_mu"),
    ({"strategy": "fedadam"}, "averages products by itself"),
    ({"strategy": "fedtrimmedavg", "aggregation": "ffa", "strategy_args": {"beta": 0.2}}, "trims nobody out of 3"),
    ({"strategy": "fedavg", "strategy_args": {"alpha": 1}, "aggregation": "ffa"}, "takes no strategy_args"),
    ({"model": {"kind": "gru"}}, "lora_rank null"),
    ({"model": {"kind": "gruu"}, "lora_rank": None}, "gruu"),
    ({"mode": "split", "aggregation": "stacking"}, "mode split takes aggregation naive, ffa or svd"),
    ({"mode": "split", "lora_rank": None}, "mode split needs adapters"),
    ({"privacy": {"clip": 1.0}}, "privacy.noise_multiplier is None"),
    ({"privacy": {"clip": 1.0, "noise": 1.0}}, "privacy has no key 'noise'"),
    ({"attack": {"sites": ["nobody"]}}, "attack.sites is 'nobody'"),
    ({"selection": {"policy": "fast"}}, "selection.policy is 'fast'"),
    ({"selection": {"policy": "random", "devices": 9}}, "must be 1 to 3, the sites"),
    ({"selection": {"policy": "random", "max_joules": 1.0}}, "max_joules means nothing to policy random"),
    ({"selection": {"policy": "fastest", "max_age": -3}}, "max_age is -3"),
    ({"sites": {"a": {"channel": "umi_nlos", "distance_m": 5}}}, "sites.a: distance is 5"),
    ({"sites": {"a": {"channel": "umi_nlos", "distance_m": "near"}}}, "sites.a.distance_m is 'near'"),
    ({"sites": {"a": {"channel": "umi_nlos", "seed": -1}}}, "sites.a.seed is -1"),
    ({"lora_rank": True}, "lora_rank is True"),
    ({"max_update_norm": "big"}, "max_update_norm is 'big'"),
    ({"attack": {"sites": "street"}}, "must be a list of the attackers' labels"),
    ({"attack": {"kind": "nan"}}, "attack.sites is None"),
    ({"attack": "nan"}, "attack is 'nan'"),
    ({"cell": {"bandwidth": "wide"}}, "bandwidth is 'wide'"),
    ({"strategy": "krum", "aggregation": "ffa", "strategy_args": {"num_malicious_nodes": 1}}, "2 f + 3 devices"),
    ({"strategy": "fedavg", "aggregation": "ffa", "strategy_args": {"fraction_train": 0.5}}, "said by selection"),
    ({"strategy": "fedadam", "aggregation": "ffa", "strategy_args": {"etaa": 0.1}}, "did you mean 'eta'"),
    ({"strategy": "fedadam", "aggregation": "ffa", "strategy_args": {"eta": float("nan")}}, "strategy_args.eta is nan"),
    ({"strategy": "fedadam", "aggregation": "ffa", "strategy_args": {"tau": 0}}, "strategy_args.tau is 0"),
    ({"strategy": "multikrum", "aggregation": "ffa", "strategy_args": {"num_nodes_to_select": 4}}, "between 1 and 3"),
    ({"strategy": "fedmedian", "aggregation": "ffa", "sites": RANKS}, "the same lora_rank"),
    ({"sites": {"a": {"channel": "umi_nlos", "seed": 7}, "b": {"channel": "uma_nlos", "seed": 7}}}, "the same seed 7"),
    ({"sites": {"a": {"channel": "umi_nlos", "copies": None}}}, "sites.a.copies is None"),
    ({"sites": {"a": {"channel": "umi_nlos", "split_layers": None}}}, "sites.a.split_layers is None"),
    ({"sites": {"a": {"channel": "umi_nlos", "devise": "phone"}}}, "sites.a: a umi recipe has no key 'devise'"),
    ({"sites": {"a": {"channel": "umi_nlos", "devise": "phone"}}}, "did you mean 'device'"),
    ({"model": {"kind": "gru", "width": -4}, "lora_rank": None}, "model is {'kind': 'gru', 'width': -4}"),
    ({"privacy": {}}, "privacy is {}"),
    ({"cell": {"shadowing": "no"}}, "shadowing is 'no'"),
    ({"precision": "bfloat16", "task": "beamforming", "model": "airlam-precoder"}, "beamforming trains in float32"),
    ({"secure_aggregation": True, "aggregation": "ffa", "sites": TWO}, "three sites or more"),
    ({"mode": "split", "strategy": "fedprox", "strategy_args": {"proximal_mu": 1.0}}, "no proximal term"),
    ({"secure_aggregation": True, "lora_rank": None}, "within +-8"),
    ({"cell": {"bandwith": 1e6}}, "did you mean 'bandwidth'"),
    ({"cell": {"scenario": "rma"}}, "no path loss"),
    ({"feedback": {"bits": 3}}, "has no key 'bits'"),
    ({"secure_aggregation": True, "aggregation": "ffa", "dropout": 0.1}, "sums alone"),
    ({"wire": "int4"}, "wire is 'int4'"),
    ({"wire": "int8", "lora_rank": None}, "wire float32 for all weights"),
    ({"wire": "int8", "mode": "split"}, "nearly all activations"),
    ({"wire": "int8", "secure_aggregation": True, "aggregation": "ffa"}, "scales of its own"),
]


@pytest.mark.parametrize(("changes", "words"), BAD, ids=[str(next(iter(c.items()))) for c, _ in BAD])
def test_bad_arguments(federation, changes, words):
    with pytest.raises(RecipeError) as caught:
        made = federation(**changes)
        # a few are only known to the classes that they are for
        from airlam.edge.federated.learning.objectives import make_objective
        from airlam.edge.federated.learning.sites import Places

        made.server_strategy.make()
        Places().site(made, 0)
        make_objective(made, made.lora_rank)
    assert words in str(caught.value) and "\n" not in str(caught.value)


def test_json_keeps_everything_and_the_sites_in_order(federation):
    backwards = dict(reversed(federation().config["sites"].items()))
    made = federation(sites=backwards, selection={"policy": "random", "devices": 2})
    again = Federation.from_json(made.to_json())
    assert (
        again.config == made.config
        and again.site_specs == made.site_specs
        and again.participation == made.participation
    )


def test_the_configuration_is_what_was_given():
    """It stands in results and hashes: numbers in texts and mappings stay as they are, defaults are filled in."""
    given = {"sites": TWO, "learning_rate": "0.02", "csi_snr_db": 15, "selection": {"policy": "random", "devices": 1}}
    made = Federation(**given)
    assert list(made.config) == [*inspect.signature(Federation).parameters]
    assert made.config == {**argument_defaults(Federation), **given}
    assert (made.learning_rate, made.participation.devices, made.config["cell"]) == (0.02, 1, None)
    with pytest.raises(dataclasses.FrozenInstanceError):
        made.rounds = 3


def test_other_sites_leave_the_run_as_it_is(federation):
    run = federation()
    one = run.with_sites(run.site_specs[:1], lora_rank=2)
    assert (len(one.site_specs), one.lora_rank, one.config) == (1, 2, run.config)
    assert (len(run.site_specs), run.lora_rank) == (3, 4)


def test_copies_are_other_places(federation):
    made = federation(sites={"a": {"channel": "umi_nlos", "copies": 3}})
    assert [s.label for s in made.site_specs] == ["a-1", "a-2", "a-3"] and len({s.seed for s in made.site_specs}) == 3
