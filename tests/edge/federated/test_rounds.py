"""Whole runs in the embedded engine."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from safetensors.numpy import save_file

from airlam.edge.federated import run_rounds
from airlam.edge.federated.adapters import product_error
from airlam.edge.federated.aggregation import SCHEMES
from airlam.edge.federated.learning.learner import Learner
from airlam.edge.federated.learning.sites import TRAIN, Places
from airlam.edge.federated.server.state import State
from airlam.edge.federated.wire import wire_bytes
from airlam.errors import StoreError


def records_of(federation, **kwargs):
    records = []
    state = run_rounds(federation, watch=records.append, **kwargs)
    return state, records


@pytest.mark.parametrize("changes", [{"lora_rank": None}, {"aggregation": "ffa"}], ids=["all weights", "adapters"])
def test_one_full_batch_step_is_the_centralised_step(federation, changes):
    """FedAvg of one SGD step over all users is one step on the mean loss of everybody's users."""
    same = {f"place-{n}": {"channel": "umi_nlos", "speed_kmh": [3, 60], "seed": 7 + n} for n in range(3)}
    f = federation(sites=same, rounds=1, local_steps=1, batch_size=8, optimizer="sgd", learning_rate=0.1, **changes)
    state, _ = records_of(f)
    learner = Learner(f, f.lora_rank)
    start = learner.start()
    learner.load(start, 1)
    learner.model.train()
    places = Places()
    sites = [places.site(f, n) for n in range(3)]
    errors = []
    for site in sites:
        order = torch.arange(len(site.train))
        errors.append(learner.objective.error(site, site.train, order, TRAIN, f.seed, 1, 0))
    torch.cat(errors).log().mean().backward()
    with torch.no_grad():
        for p in learner.model.parameters():
            if p.grad is not None:
                p -= 0.1 * p.grad
    central = learner.arrays()
    moved = max(np.abs(central[name] - start[name]).max() for name in central)
    assert moved > 1e-4
    # single precision: the same sums in another order
    assert max(np.abs(central[name] - state.arrays[name]).max() for name in central) < 1e-6


@pytest.mark.slow
def test_every_aggregation_learns_and_says_how_exact_it_was(federation):
    for aggregation in ("naive", "ffa", "svd", "stacking", "residual"):
        _, records = records_of(federation(aggregation=aggregation, rounds=1, local_steps=4))
        assert records[1].mean_figure < records[0].mean_figure
        error = records[1].aggregation_error
        assert error < 1e-5 if aggregation in ("ffa", "stacking", "residual") else error > 1e-4
        if aggregation == "svd":
            assert error < records[1].naive_error


def test_devices_of_different_ranks(federation):
    sites = copy.deepcopy(federation().config["sites"])
    sites["street"]["lora_rank"], sites["factory"]["lora_rank"] = 1, 2
    state, records = records_of(federation(sites=sites, aggregation="residual", rounds=1))
    ups = records[1].up_bytes
    assert ups[0] < ups[2] < ups[1] and not records[1].rejected
    assert records[1].aggregation_error < 1e-5 < records[1].naive_error
    assert state.arrays["A/head"].shape[0] == 4


@pytest.mark.parametrize("strategy", ["fedprox", "fedadam", "fedmedian", "krum", "multikrum", "fedtrimmedavg"])
def test_strategies_of_flower(federation, strategy):
    arguments = {
        "fedprox": {"proximal_mu": 0.1},
        "fedtrimmedavg": {"beta": 0.34},
        "multikrum": {"num_nodes_to_select": 2},
        "fedadam": {"eta": 0.003},
    }
    f = federation(strategy=strategy, strategy_args=arguments.get(strategy), aggregation="ffa", rounds=1)
    state, records = records_of(f)
    assert all(np.isfinite(value).all() for value in state.arrays.values()) and len(records) == 2


@pytest.mark.slow
def test_the_proximal_term_holds_devices_back(federation):
    free, _ = records_of(federation(aggregation="ffa", rounds=1, local_steps=6))
    held, _ = records_of(
        federation(aggregation="ffa", rounds=1, local_steps=6, strategy="fedprox", strategy_args={"proximal_mu": 1e3})
    )
    size = [sum(np.square(v).sum() for v in state.arrays.values()) for state in (free, held)]
    assert size[1] < 0.7 * size[0]


def test_bytes_follow_the_formula(federation):
    f = federation(aggregation="ffa", rounds=1)
    state, records = records_of(f)
    assert set(records[1].down_bytes.values()) == {wire_bytes(state.arrays)} == set(records[1].up_bytes.values())
    values = sum(v.size for v in state.arrays.values())
    assert wire_bytes(state.arrays) == 4 * values + 128 * len(state.arrays)


def test_modelled_costs_hang_together(federation):
    _, records = records_of(federation(rounds=1, cell={"shadowing": False}))
    record = records[1]
    assert record.delay == pytest.approx(max(sum(s) for s in record.seconds.values()))
    assert sum(record.bandwidth.values()) == pytest.approx(20e6)
    assert all(j > 0 for j in record.joules.values())
    # the vehicle computes ten times as fast as the phone
    assert record.seconds[0][1] == pytest.approx(10 * record.seconds[1][1])


def test_a_lost_device_does_not_stop_the_round(federation):
    f = federation(dropout=0.5, rounds=3)
    state, records = records_of(f)
    lost = [label for record in records for label in record.lost]
    assert lost and len(records) == 4 and all("was lost" in why for r in records for why in r.lost.values())
    assert all(np.isfinite(v).all() for v in state.arrays.values())


@pytest.mark.slow
def test_what_a_round_cannot_promise_any_more_is_said(federation):
    places = {f"p{n}": {"channel": "umi_nlos"} for n in range(5)}
    some = dict(sites=places, rounds=3, aggregation="ffa", dropout=0.5, num_train=4, num_val=2)
    krum = federation(strategy="krum", strategy_args={"num_malicious_nodes": 1}, **some)
    trim = federation(strategy="fedtrimmedavg", strategy_args={"beta": 0.2}, **some)
    for f, words in ((krum, "no guarantee"), (trim, "a plain mean")):
        _, records = records_of(f)
        short = [r for r in records[1:] if 0 < r.used < 5]
        assert short and all(words in r.notes[0] for r in short)


def test_a_round_in_which_all_are_lost_changes_nothing(federation):
    f = federation(dropout=0.999, rounds=1)
    state, records = records_of(f)
    assert "stays as it was" in records[1].notes[0] and not records[1].used
    start = Learner(f, f.lora_rank).start()
    assert all(np.array_equal(state.arrays[name], start[name]) for name in start)


@pytest.mark.parametrize(
    ("kind", "words"), [("nan", "not finite"), ("shape", "has shape"), ("huge", "is above")], ids=str
)
@pytest.mark.slow
def test_broken_updates_are_rejected_and_named(federation, kind, words):
    _, records = records_of(federation(attack={"sites": ["city"], "kind": kind}, rounds=1))
    assert list(records[1].rejected) == ["city"] and words in records[1].rejected["city"]
    honest, _ = records_of(federation(rounds=1))
    state, _ = records_of(federation(attack={"sites": ["city"], "kind": kind}, rounds=1))
    assert all(np.isfinite(v).all() for v in state.arrays.values())
    assert any(not np.array_equal(state.arrays[n], honest.arrays[n]) for n in state.arrays)


@pytest.mark.slow
def test_trimmed_mean_keeps_poison_out_where_the_mean_does_not(federation):
    """Five places of one kind, one poisoned: how far from the honest round each ends."""
    same = {f"place-{n}": {"channel": "umi_nlos", "speed_kmh": [3, 60], "seed": 7 + n} for n in range(5)}
    base = dict(sites=same, aggregation="ffa", rounds=1, local_steps=3)
    attack = {"sites": ["place-1"], "kind": "sign_flip", "scale": 8.0}
    honest, _ = records_of(federation(**base))
    mean, _ = records_of(federation(**base, attack=attack))
    trimmed, _ = records_of(federation(**base, attack=attack, strategy="fedtrimmedavg", strategy_args={"beta": 0.2}))

    def away(state):
        return sum(np.square(state.arrays[n] - honest.arrays[n]).sum() for n in honest.arrays) ** 0.5

    assert away(trimmed) < 0.3 * away(mean)


def test_selection_in_turn(federation):
    _, records = records_of(federation(selection={"policy": "round_robin", "devices": 1}, rounds=3))
    assert [r.chosen for r in records[1:]] == [[0], [1], [2]]
    assert all(len(r.figures) == 3 for r in records)  # everyone validates


def test_a_starved_device_has_its_turn(federation):
    f = federation(selection={"policy": "fastest", "devices": 1, "max_age": 3}, rounds=4)
    _, records = records_of(f)
    assert {n for r in records for n in r.chosen} == {0, 1, 2}


@pytest.mark.slow
def test_privacy_is_counted(federation):
    f = federation(aggregation="ffa", privacy={"clip": 0.1, "noise_multiplier": 2.0, "noise_seed": 1})
    state, records = records_of(f)
    assert 0 < records[1].epsilon < records[2].epsilon
    again, _ = records_of(f)
    assert all(np.array_equal(state.arrays[n], again.arrays[n]) for n in state.arrays)
    secret, _ = records_of(federation(aggregation="ffa", privacy={"clip": 0.1, "noise_multiplier": 2.0}))
    assert any(not np.array_equal(state.arrays[n], secret.arrays[n]) for n in state.arrays)


class Killed(BaseException):
    """As by a signal: nothing catches it."""


@pytest.mark.parametrize(
    "changes",
    [{}, {"strategy": "fedadam", "strategy_args": {"eta": 0.003}, "aggregation": "ffa"}, {"mode": "split"}],
    ids=["svd", "fedadam", "split"],
)
@pytest.mark.slow
def test_a_killed_run_goes_on_to_the_same_end(federation, tmp_path, changes):
    f = federation(rounds=3, selection={"policy": "random", "devices": 2}, **changes)
    whole, _ = records_of(f)

    def kill(record):
        if record.number == 2:
            raise Killed

    with pytest.raises(Killed):
        run_rounds(f, tmp_path, watch=kill)
    again, seen = records_of(f, folder=tmp_path, resume=True)
    assert [r.number for r in seen] == [3] and [r.number for r in again.rounds] == [0, 1, 2, 3]
    assert all(np.array_equal(whole.arrays[name], again.arrays[name]) for name in whole.arrays)
    assert [r.chosen for r in again.rounds] == [r.chosen for r in whole.rounds]


def test_a_run_does_not_start_from_an_earlier_ones_end(federation):
    f = federation(lora_rank=None, rounds=1)
    one, two = (records_of(f)[1] for _ in range(2))
    assert one[0].figures == two[0].figures and one[1].figures == two[1].figures


def test_nobody_who_can_take_part_is_an_error(federation):
    with pytest.raises(RuntimeError, match="no site can take part: .*nonsense"):
        run_rounds(federation(sites={"a": {"channel": "nonsense"}}))


def test_a_site_that_cannot_take_part_is_told(federation):
    sites = {**federation().config["sites"], "city": {"channel": "nonsense"}}
    _, records = records_of(federation(sites=sites, rounds=1))
    assert any("nonsense" in why for why in records[0].strays + records[1].strays)
    assert set(records[1].figures) == {"street", "factory"}


def test_huge_updates_of_one_of_two_are_rejected(federation):
    sites = {name: federation().config["sites"][name] for name in ("street", "city")}
    _, records = records_of(federation(sites=sites, rounds=1, attack={"sites": ["city"], "kind": "huge"}))
    assert list(records[1].rejected) == ["city"]


def test_a_state_of_another_run_is_refused(federation, tmp_path):
    run_rounds(federation(rounds=1), tmp_path)
    with pytest.raises(StoreError, match="batch_size was 4, now it is 2"):
        run_rounds(federation(rounds=1, batch_size=2), tmp_path, resume=True)
    longer, seen = records_of(federation(rounds=2), folder=tmp_path, resume=True)
    assert [r.number for r in seen] == [2]
    with pytest.raises(StoreError, match="holds a run already"):
        run_rounds(federation(rounds=2), tmp_path)
    save_file({"x": np.zeros(2)}, tmp_path / "state.safetensors")
    with pytest.raises(StoreError, match="no state of a federated run"):
        run_rounds(federation(rounds=2), tmp_path, resume=True)
    State({"A/x": np.zeros(2)}).save(tmp_path, federation(rounds=2))
    with pytest.raises(StoreError, match="does not fit the model"):
        run_rounds(federation(rounds=2), tmp_path, resume=True)
    (tmp_path / "state.safetensors").write_bytes(b"nothing")
    with pytest.raises(StoreError, match="damaged"):
        run_rounds(federation(rounds=2), tmp_path, resume=True)


def test_sites_are_places(federation):
    f = federation(sites={"a": {"channel": "umi_nlos", "links": 5}})
    site = Places().site(f, 0)
    assert len(site.train) == 5 and len(site.val) == 4 and len(site.test) == 4
    assert len(torch.cat([site.train.drop, site.val.drop, site.test.drop]).unique()) == 1
    positions = torch.cat([site.train.position, site.val.position, site.test.position])
    assert len(positions.unique(dim=0)) == 13
    noisy = site.measured(site.train, torch.tensor([3, 1]), 5)
    assert torch.equal(noisy[1], site.measured(site.train, torch.tensor([1]), 5)[0])


def test_combine_of_equal_updates_is_the_update():
    one = {"A/x": np.ones((2, 3), np.float32), "B/x": np.ones((4, 2), np.float32)}
    assert product_error([one, one], [1.0, 2.0], SCHEMES.find("naive")().combine([one, one], [1.0, 2.0], {}, 2)) < 1e-7


def test_a_precoder_is_adapted(federation):
    f = federation(
        model="airlam-precoder",
        task="beamforming",
        num_train=16,
        num_val=8,
        rounds=1,
        local_steps=1,
        batch_size=8,
        feedback=None,
    )
    state, records = records_of(f)
    assert all(np.isfinite(list(r.figures.values())).all() for r in records)
    assert any(np.abs(v).max() > 0 for n, v in state.arrays.items() if n.startswith("B/"))


def test_a_comparator_is_trained(federation):
    f = federation(model={"kind": "rnn", "width": 8, "num_subcarriers": 12}, lora_rank=None, rounds=2, local_steps=3)
    _, records = records_of(f)
    assert records[-1].mean_figure < records[0].mean_figure
