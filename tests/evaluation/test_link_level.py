"""The benchmark of coded links: what it counts, what it refuses."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch

from airlam.errors import RecipeError
from airlam.evaluation import LinkLevelBenchmark, Results
from airlam.evaluation.benchmarks.link_level.cell import CHOOSING, Sent, best_entry, coded_link, plan, split_groups
from airlam.evaluation.benchmarks.link_level.figures import bler_vs_snr, throughput_vs_snr
from airlam.evaluation.engine.spectral_efficiency import group_users
from airlam.evaluation.results import CellRecord
from airlam.io import read_json

SMALL = dict(
    precoder="wmmse",
    methods=["hold + rzf", "ar + tuned", "{model} + robust rzf", "perfect + rzf"],
    bar="ar + tuned",
    cells={
        "speeds_kmh": [100.0],
        "channel_overrides": {
            "num_subcarriers": 12,
            "bs_panel": {"rows": 1, "columns": 8, "polarisation": "dual", "pattern": "38.901"},
        },
    },
    sizes={"num_links": 16, "num_choose": 8, "num_tune": 16},
    link={"users": 4, "transmit_snr_db": [0.0, 20.0], "mcs": [5, 20], "tone_step": 1},
)


@pytest.mark.slow
def test_throughput_follows_the_csi(tmp_path):
    benchmark = LinkLevelBenchmark(**SMALL)
    path = benchmark.run(tmp_path)
    results = Results.load(tmp_path / "results.json")
    best = {row.method: row.figures["throughput"].value for row in results.select(group="link")}
    assert best["perfect + rzf"][1] > best["airlam-tiny + robust rzf"][1] > best["hold + rzf"][1]
    assert all(high >= low for low, high in best.values())  # over SNR
    lost = results.select(group="link", method="perfect + rzf")[0].figures["bler_mcs20"].value
    assert 0 <= lost[1] <= lost[0] <= 1
    page = path.read_text()
    assert "Over a coded link" in page and "throughput of 4 users" in page
    for draw in (throughput_vs_snr, bler_vs_snr):
        assert all("[dB]" in axes.get_xlabel() for axes in draw(results).figure.axes)


@pytest.mark.slow
def test_the_mcs_is_chosen_on_other_drops(tmp_path):
    """The record says on which drops, and figures are those of the chosen entry alone."""
    benchmark = LinkLevelBenchmark(**SMALL)
    benchmark.run(tmp_path)
    record = CellRecord.from_plain(read_json(next((tmp_path / "cells").glob("*.json"))))
    judged, choosing = set(record.drops["group of 4"]), set(record.drops[CHOOSING])
    assert judged == set(record.drops["link"]) and not judged & choosing
    assert len(record.drops["link"]) == 16 and len(record.drops[CHOOSING]) == 2
    rows = {row.method: row for row in Results.load(tmp_path / "results.json").select(group="link")}
    efficiency = {mcs: coded_link(benchmark, mcs).efficiency for mcs in SMALL["link"]["mcs"]}
    for method, facts in record.methods.items():
        lost = {mcs: record.values(method, f"bler_mcs{mcs}", CHOOSING) for mcs in efficiency}  # [group, snr]
        throughput = record.values(method, "throughput", "group of 4")
        assert throughput.shape == (4, 2) and all(share.shape == (2, 2) for share in lost.values())
        for place, chosen in enumerate(facts.settings["mcs"]):
            arrived = {mcs: rate * (1 - float(lost[mcs][:, place].mean())) for mcs, rate in efficiency.items()}
            assert arrived[chosen] == max(arrived.values())
            blocks = throughput[:, place] / efficiency[chosen] * benchmark.sizes.horizon  # of 4 users and each slot
            torch.testing.assert_close(blocks, blocks.round(), rtol=0, atol=1e-6)
            assert 0 <= float(blocks.min()) and float(blocks.max()) <= 4 * benchmark.sizes.horizon + 1e-6
            assert rows[method].figures["throughput"].value[place] == pytest.approx(float(throughput[:, place].mean()))
        assert rows[method].settings["mcs"] == facts.settings["mcs"]


def test_groups_are_split_between_drops():
    groups = group_users(torch.arange(24) // 8, 4)
    first, second = split_groups(groups, 16)
    assert first.drop.tolist() == [0, 0, 1, 1] and second.drop.tolist() == [2, 2]
    assert second.users.min() == 16


def test_the_entry_that_brings_most_and_its_throughput_by_hand():
    assert best_entry([torch.tensor([0.0, 0.0]), torch.tensor([0.9, 1.0])], [1.0, 4.0]) == 0
    assert best_entry([torch.tensor([0.0, 0.0]), torch.tensor([0.1, 0.3])], [1.0, 4.0]) == 1
    benchmark = LinkLevelBenchmark(**SMALL)
    sent = Sent(torch.zeros(2, 2, 1), torch.tensor([[0.0, 0.5], [0.1, 0.3]], dtype=torch.float64), [0, 1])
    coded = [SimpleNamespace(efficiency=1.0), SimpleNamespace(efficiency=4.0)]
    found = sent.series("ar + rzf", plan(benchmark)[0], benchmark.link, coded)[0].values  # [group, snr]
    expected = torch.tensor([[4.0, 4 * 4 * 0.9], [4 * 0.5, 4 * 4 * 0.7]], dtype=torch.float64)
    torch.testing.assert_close(found, expected)


@pytest.mark.slow
def test_the_headline_holds_every_snr(tmp_path):
    benchmark = LinkLevelBenchmark(**(SMALL | {"methods": ["ar + tuned", "{model} + wmmse"]}))
    benchmark.run(tmp_path)
    text = Results.load(tmp_path / "results.json").headline
    for snr in ("0 dB", "20 dB"):
        assert f"{snr} " in text
    assert text.count("against") == 3 and text.count("no verdict") == 2  # two drops allow none


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"link": {"users": 3}}, "a positive multiple of link.users"),
        ({"sizes": {"num_links": 12}}, "sizes.num_links is 12, but must be a positive multiple of sizes.links_per"),
        ({"sizes": {"num_choose": 0}}, "sizes.num_choose is 0, but must be a positive multiple"),
        ({"sizes": {"num_chose": 8}}, "sizes: LinkSizes has no argument 'num_chose'; did you mean 'num_choose'"),
        ({"cells": {"speeds_kmh": 30}}, "cells: speeds_kmh is 30, but must be a list of numbers"),
        ({"cells": {"scenarios": ["uma_nlos", "umi_nlos"]}}, "takes one scenario"),
        ({"bar": "ar + rzf"}, "not among the methods"),
        ({"link": {"mcs": []}}, "link.mcs must not be empty"),
        ({"methods": ["perfect + dpc", "ar + tuned"]}, "cannot be sent"),
    ],
)
def test_bad_recipes(change, message):
    with pytest.raises(RecipeError, match=message):
        LinkLevelBenchmark(**(SMALL | change))


def test_a_table_entry_that_does_not_exist():
    with pytest.raises(ValueError, match="tables are 1, 2, 3"):
        LinkLevelBenchmark(**(SMALL | {"link": {"mcs": [99]}}))
