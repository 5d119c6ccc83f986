"""Chains and the benchmark of beamforming: names, what a cell measures, orderings, the report."""

from __future__ import annotations

import pytest
import torch

from airlam.baselines import rzf
from airlam.errors import RecipeError
from airlam.evaluation import BeamformingBenchmark, Results
from airlam.evaluation.benchmarks.beamforming.beliefs import Belief, halves
from airlam.evaluation.benchmarks.beamforming.cell import plan
from airlam.evaluation.benchmarks.beamforming.chains import parse_chain
from airlam.evaluation.benchmarks.beamforming.figures import sum_se_vs_csi_snr, sum_se_vs_pilots, sum_se_vs_users
from airlam.evaluation.benchmarks.beamforming.gap import best_classical, gap_closed
from airlam.evaluation.benchmarks.beamforming.precoding import Served, Tuned, rates_of, served
from airlam.evaluation.benchmarks.beamforming.user_errors import UserErrors
from airlam.evaluation.engine.spectral_efficiency import Groups
from airlam.evaluation.report.style import is_learned, look, order
from airlam.evaluation.results import CellRecord, MethodFacts, Series, group_of
from airlam.evaluation.rows import Figure
from airlam.metrics import user_rates
from airlam.models import AirlamPilots, AirlamPilotsConfig, save_checkpoint
from airlam.models.precoder import AirlamPrecoder, AirlamPrecoderConfig

SMALL = dict(
    cells={
        "scenarios": ["umi_nlos"],
        "speeds_kmh": [60.0],
        "channel_overrides": {
            "num_subcarriers": 12,
            "bs_panel": {"rows": 1, "columns": 4, "polarisation": "dual", "pattern": "38.901"},
        },
    },
    sizes={"num_links": 16, "num_tune": 16, "num_train": 64, "side_links": 16, "links_per_drop": 4},
    rates={"users": [2, 4], "transmit_snr_db": [20.0], "tone_step": 6},
    sweep={
        "csi_snr_db": [0.0],
        "speeds_kmh": [60.0],
        "users": [2, 4],
        "csi_periods_ms": [0.5, 5.0],
    },
    static={"csi_snr_db": [0.0]},
)


@pytest.fixture(scope="module")
def precoder(tmp_path_factory, tiny_backbone):
    """A learned precoder with random weights: no result depends on what it learned."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = AirlamPrecoder(AirlamPrecoderConfig(backbone=tiny_backbone))
        torch.nn.init.normal_(model.head.weight, std=0.3)
    return str(save_checkpoint(model, tmp_path_factory.mktemp("precoder") / "graph"))


@pytest.fixture(scope="module")
def pilots(tmp_path_factory, tiny_backbone):
    return str(
        save_checkpoint(AirlamPilots(AirlamPilotsConfig(tiny_backbone)), tmp_path_factory.mktemp("pilots") / "reader")
    )


@pytest.fixture(scope="module")
def report(pilots, precoder, tmp_path_factory):
    out = tmp_path_factory.mktemp("out")
    arrays = {"two receive antennas": {"ut_panel": {"rows": 1, "columns": 2, "polarisation": "single"}}}
    learned = {"precoder": precoder, "controls": {"random-start": precoder}}
    changes = {
        "sweep": SMALL["sweep"] | {"arrays": arrays},
        "pilots": {"model": pilots, "control": pilots, "counts": [2, 8], "csi_snr_db": [20.0]},
    }
    benchmark = BeamformingBenchmark(**learned, **(SMALL | changes))
    path = benchmark.run(out)
    return path, Results.load(out / "results.json"), benchmark


def test_names_of_chains():
    chain = parse_chain("ar  +  robust wmmse", ["ar"], ["graph"])
    assert (chain.name, chain.robust) == ("ar + robust wmmse", True)
    assert parse_chain("ar + graph", ["ar"], ["graph"]).robust
    for text, message in (
        ("ar", "must name CSI and precoder"),
        ("arr + rzf", "did you mean 'ar'"),
        ("ar + rzff", "did you mean 'rzf'"),
        ("ar + robust zf", "no robust form"),
        ("ar + dpc", "no precoder 'dpc'"),
    ):
        with pytest.raises(RecipeError, match=message):
            parse_chain(text, ["ar", "perfect"], [])


def test_looks_and_order_of_chains():
    names = ["perfect + rzf", "airlam-tiny + graph", "ar + tuned", "hold + rzf", "airlam-tiny + rzf"]
    assert order(names) == ["hold + rzf", "ar + tuned", "airlam-tiny + rzf", "airlam-tiny + graph", "perfect + rzf"]
    assert look("ar + tuned").label == "AR + tuned" and not is_learned("ar + tuned") and is_learned(names[1])
    assert len({(look(name).color, look(name).line) for name in names}) == len(names)


def test_rates_of_exact_csi_are_those_of_the_precoder():
    h = torch.randn(6, 1, 3, 1, 8, dtype=torch.complex64, generator=torch.Generator().manual_seed(0))
    groups = Groups(torch.tensor([[0, 1, 2], [3, 4, 5]]), torch.tensor([0, 1]))
    here = served(Belief(h), h, groups)

    class RZF:
        def precode(self, h, power, no, *, error_covariance=None):
            return rzf(h, power, no)

    found = rates_of(RZF(), here, 0.05)
    rows = h[groups.users, 0, :, 0].transpose(1, 2)  # [group, tone, user, tx_ant]
    torch.testing.assert_close(found[..., 0], user_rates(rows, rzf(rows, 1.0, 0.05), 0.05).mean(1))


def test_covariance_follows_the_receive_direction():
    h = torch.zeros(2, 1, 1, 2, 4, dtype=torch.complex64)
    h[:, 0, 0, 1] = torch.randn(2, 4, dtype=torch.complex64)  # all that a user receives is on its second antenna
    spread = torch.zeros(2, 1, 1, 2, 4, 4, dtype=torch.complex64)
    spread[..., 0, :, :], spread[..., 1, :, :] = 5 * torch.eye(4), torch.eye(4)
    here = served(Belief(h, spread), h, Groups(torch.tensor([[0, 1]]), torch.tensor([0])))
    torch.testing.assert_close(here.covariance, torch.eye(4, dtype=torch.complex64).expand(1, 1, 1, 2, 4, 4))


def test_tuning_finds_the_error_it_was_not_told():
    generator = torch.Generator().manual_seed(1)
    truth = torch.randn(12, 1, 8, 4, 1, 8, dtype=torch.complex64, generator=generator)
    error = 0.7 * torch.randn(12, 1, 8, 4, 8, dtype=torch.complex64, generator=generator)
    csi = truth.squeeze(-2) - error
    white = (0.49 * torch.eye(8, dtype=torch.complex64)).expand(*csi.shape, 8)
    tuned = Tuned.on(Served(csi, white, truth), 0.01)
    assert tuned.robust or tuned.value > 1  # exact CSI would want neither
    exact = Tuned.on(Served(truth.squeeze(-2), None, truth), 0.01)
    assert not exact.robust and exact.value == 1


def _ageing(users=24, slots=3, tones=16, ports=8, seed=0):
    """Errors ``[user, slot, tone, 1, port]`` along each user's own two directions, growing by slot, and the history."""
    generator = torch.Generator().manual_seed(seed)

    def noise(*shape):
        return torch.randn(*shape, dtype=torch.complex64, generator=generator)

    directions = noise(users, 2, ports)
    history = noise(users, 12, tones, 1, 2) @ directions[:, None, None]
    level = torch.tensor([0.1, 0.3, 0.5])[:slots, None, None, None].sqrt()
    error = level * (noise(users, slots, tones, 1, 2) @ directions[:, None, None])
    return error + 0.2 * noise(users, slots, tones, 1, ports), history


def test_errors_of_each_user_follow_its_own_history():
    error, history = _ageing()
    found = UserErrors.fit(error, history)
    torch.testing.assert_close(found.share, torch.tensor([0.1, 0.3, 0.5]), rtol=0.15, atol=0)
    torch.testing.assert_close(found.floor, torch.full((3,), 0.04), rtol=0.4, atol=0)
    other, seen = _ageing(seed=1)  # users that were not fitted
    spread = found(seen)
    assert spread.shape == (24, 3, 1, 1, 8, 8)
    assert float(torch.linalg.eigvalsh(spread).min()) > 0
    true = torch.einsum("ltfra,ltfrb->ltab", other.conj(), other) / 16
    own, shared = (((true - x).abs() ** 2).sum() for x in (spread[:, :, 0, 0], found.mean))
    assert own < 0.5 * shared
    # white errors: nothing of them follows the channel, and neither share is ever negative
    generator = torch.Generator().manual_seed(2)
    white = torch.randn(error.shape, dtype=error.dtype, generator=generator)
    flat = UserErrors.fit(white, history)
    assert float(flat.share.min()) >= 0 and float(flat.share.max()) < 0.01
    torch.testing.assert_close(flat.floor, torch.ones(3), rtol=0.05, atol=0)


def test_tuning_tries_each_users_own_covariance():
    """Errors of each user along its own directions: told so, the precoder serves better than with one mean for all."""
    generator = torch.Generator().manual_seed(5)

    def noise(*shape):
        return torch.randn(*shape, dtype=torch.complex64, generator=generator)

    truth = noise(16, 1, 6, 4, 1, 8)
    directions = noise(16, 1, 1, 4, 2, 8)
    error = 0.8 * torch.einsum("...d,...da->...a", noise(16, 1, 6, 4, 2), directions)
    own = 0.64 * torch.einsum("...da,...db->...ab", directions.conj(), directions)
    shared = own.mean((0, 3), keepdim=True).expand(16, 1, 6, 4, 8, 8)
    own = own.expand(16, 1, 6, 4, 8, 8)
    groups = Served(truth.squeeze(-2) - error, shared, truth, own)
    tuned = Tuned.on(groups, 0.01)
    assert tuned.form == "user" and tuned.settings["form"] == "user" and tuned.robust
    alone = Tuned.on(Served(groups.h, shared, truth), 0.01)
    assert alone.form != "user"
    rate = [float(rates_of(made, groups, 0.01).sum(1).mean()) for made in (tuned, alone)]
    assert rate[0] > rate[1]
    # on the validation groups nothing of the grid is better than what was chosen
    for kind in ("rzf", "wmmse"):
        for form in ("shared", "user"):
            other = Tuned((kind, form, 1.0), 20)
            assert float(rates_of(other, groups, 0.01).sum(1).mean()) <= rate[0] + 1e-2


def test_robust_wmmse_has_a_trust_of_its_own(monkeypatch):
    """Rates in which zero forcing wants little trust and WMMSE much: the tuning finds WMMSE with much."""
    from airlam.evaluation.benchmarks.beamforming import precoding

    def rates(made, groups, no):
        value = {("rzf", "shared", 0.5): 2.0, ("wmmse", "shared", 2.0): 3.0}.get(made.choice, 1.0)
        return torch.full((2, 2, 1), value)

    monkeypatch.setattr(precoding, "rates_of", rates)
    h = torch.zeros(2, 1, 1, 2, 4, dtype=torch.complex64)
    groups = Served(h, h[..., None].expand(*h.shape, 4), h[..., None, :])
    assert Tuned.on(groups, 0.1).choice == ("wmmse", "shared", 2.0)


def test_shares_count_to_perfect_csi_with_its_best_precoder():
    def figures(value):
        return {"sum_se_k4": Figure(value, "bit/s/Hz", "measured")}

    rows = {"ar + tuned": figures(10.0), "mine": figures(12.0), "perfect + rzf": figures(14.0)}
    assert gap_closed(rows, 4, "mine", "ar + tuned") is None  # no yardstick, no share
    rows["perfect + tuned"] = figures(15.0)
    assert gap_closed(rows, 4, "mine", "ar + tuned") == pytest.approx(0.4)
    assert gap_closed(rows, 4, "perfect + rzf", "ar + tuned") is None


def test_the_strongest_classical_chain():
    def record(**rates):
        made = CellRecord({"users": (2,)}, {group_of(2): [0]})
        for method, rate in rates.items():
            made.methods[method] = MethodFacts()
            made.add(Series(method, "user_rate", "bit/s/Hz", [[rate, rate]], group_of(2), [0.0, 1.0], "user"))
        return made

    rates = {"ar + tuned": 1.0, "eigen-ar + tuned": 2.0, "eigen-ar + graph": 9.0, "perfect + rzf": 9.0}
    assert best_classical([record(**rates)]) == "eigen-ar + tuned"  # a learned precoder is not classical
    assert best_classical([record(**{"perfect + rzf": 9.0})], 2) is None


def test_validation_drops_are_halved():
    class Links:
        drop = torch.tensor([4, 4, 7, 7, 9, 9])

    assert [part.tolist() for part in halves(Links())] == [[0, 1], [2, 3, 4, 5]]
    Links.drop = torch.tensor([1, 1])
    assert [part.tolist() for part in halves(Links())] == [[0, 1], [0, 1]]


@pytest.mark.slow
def test_orderings_and_tables(report):
    path, results, benchmark = report
    rows = {row.method: row.figures for row in results.select(group="mean")}
    for users in (2, 4):
        value = {method: figures[f"sum_se_k{users}"].number for method, figures in rows.items()}
        # two users on eight antennas: dirty paper gains nothing that double precision would show
        assert value["perfect + dpc"] >= value["perfect + wmmse"] - 1e-5
        assert value["perfect + tuned"] >= value["perfect + rzf"] - 0.05  # chosen on other drops
        assert value["perfect + wmmse"] >= value["perfect + rzf"] - 1e-5 > value["ar + rzf"]
        assert value["ar + rzf"] > value["hold + rzf"]
        assert value["airlam-tiny + graph"] == pytest.approx(
            value["airlam-tiny + random-start"]
        )  # the same weights here
    static = {row.method: row.figures["sum_se_k2"].number for row in results.select(group="static")}
    assert static["perfect + rzf"] > static["airlam-tiny + rzf"] > static["raw + tuned"]
    assert static["reader + graph"] > static["raw + tuned"]
    assert {row.settings["array"] for row in results.select(group="array")} == {"two receive antennas"}
    assert {"sum_se_k2", "sum_se_k4"} <= set(results.select(group="users")[0].figures)
    assert results.select(group="age") and results.select(group="csi_period")
    found = results.select(group="pilots")
    pilots = {(row.method, row.settings["pilots"]): row.figures["sum_se_k2"].number for row in found}
    assert pilots["perfect + rzf", 8] > pilots["lmmse + rzf", 8] > pilots["lmmse + rzf", 2]
    # an untrained network is its start
    assert pilots["reader + graph", 2] == pytest.approx(pilots["reader:no-correction + graph", 2], abs=0.1)
    assert pilots["reader:random-start + graph", 2] == pilots["reader + graph", 2]  # the same weights, as a control
    page = path.read_text()
    for text in ("Static users, CSI SNR 0 dB", "two receive antennas", "sum-SE", "dirty paper"):
        assert text in page
    plots = {plot.stem for plot in (path.parent / "plots").glob("*.png")}
    assert {"sum_se_vs_csi_snr", "sum_se_vs_users", "csi_period", "latency_charged", "sum_se_vs_pilots"} <= plots
    assert "sum_se_vs_speed" not in plots  # a single speed
    assert "airlam-tiny + graph against AR + tuned" in results.headline
    assert "perfect CSI with the best classical precoder" in results.headline
    focus, bar, full = (rows[m]["sum_se_k4"].number for m in ("airlam-tiny + graph", "ar + tuned", "perfect + tuned"))
    if full > bar:
        assert f", {100 * (focus - bar) / (full - bar):.0f} % of what it leaves" in results.headline
    table = next(t for t in results.extras["tables"] if t["title"].startswith("Sum-SE of 2 users"))
    assert "16 links from 4 drops in each cell" in table["text"] and "RZF or WMMSE" in table["text"]
    for draw, label in ((sum_se_vs_csi_snr, "[dB]"), (sum_se_vs_users, "users"), (sum_se_vs_pilots, "pilots")):
        figure = draw(results)
        assert figure is not None and all(label in axes.get_xlabel() for axes in figure.axes if axes.get_visible())


@pytest.mark.slow
def test_a_second_run_changes_nothing(report):
    path, results, benchmark = report
    written = {file.name: file.stat().st_mtime_ns for file in (path.parent / "cells").glob("*.json")}
    benchmark.run(path.parent)
    assert written == {file.name: file.stat().st_mtime_ns for file in (path.parent / "cells").glob("*.json")}
    assert [row.figures for row in Results.load(path.parent / "results.json").rows] == [r.figures for r in results.rows]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"methods": ["ar + rzf"]}, "bar is 'ar . tuned', which is not among"),
        ({"rates": {"users": [3]}}, "do not fit drops"),
        ({"rates": {"users": []}}, "rates.users must not be empty"),
        ({"sizes": {"num_links": 7}}, "positive multiple"),
        ({"sizes": {"num_trian": 8}}, "sizes: BeamformingSizes has no argument 'num_trian'; did you mean 'num_train'"),
        ({"sweep": {"speeds_kmh": []}}, "sweep.speeds_kmh is empty"),
        ({"methods": ["{model} + tuned", "ar + tuned"]}, "only chains with classical or perfect CSI"),
        ({"methods": ["perfect + robust rzf", "ar + tuned"]}, "nobody knows the errors"),
        ({"cells": {"scenarios": []}}, "must not be empty"),
        ({"static": {"methods": ["ar + rzf"]}}, "no source of CSI 'ar'"),
        ({"pilots": {"model": "airlam-tiny"}}, "name a network that reads pilots"),
    ],
)
def test_bad_recipes(change, message):
    with pytest.raises(RecipeError, match=message):
        BeamformingBenchmark(precoder="wmmse", **(SMALL | change))


def test_more_pilots_than_ports():
    with pytest.raises(RecipeError, match="has 8 ports: give 1 to 8"):
        plan(BeamformingBenchmark(precoder="wmmse", pilots={"model": "reader", "counts": [4, 9]}, **SMALL))
