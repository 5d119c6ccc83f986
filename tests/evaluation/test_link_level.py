"""The benchmark of coded links: what it counts, what it refuses."""

from __future__ import annotations

import pytest
import torch

from airlam.evaluation import LinkLevelBenchmark, Results
from airlam.evaluation.plots import PLOTS
from airlam.interfaces import RecipeError

SMALL = dict(
    precoder="wmmse", methods=["hold + rzf", "ar + tuned", "{model} + robust rzf", "perfect + rzf"], bar="ar + tuned",
    speeds_kmh=[100.0],
    num_links=16, num_tune=16, users=4, transmit_snr_db=[0.0, 20.0], mcs=[5, 20], tone_step=1,
    channel_overrides={"num_subcarriers": 12, "bs_panel": {"rows": 1, "columns": 8, "polarisation": "dual",
                                                           "pattern": "38.901"}},
)  # fmt: skip


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
    for name in ("throughput_vs_snr", "bler_vs_snr"):
        assert all("[dB]" in axes.get_xlabel() for axes in PLOTS[name](results).figure.axes)


def test_the_best_entry_of_the_table_counts():
    benchmark = LinkLevelBenchmark(**SMALL)
    errors = [[[0.0, 0.0], [0.9, 1.0]], [[0.0, 0.0], [0.1, 0.3]]]  # [snr, mcs, group]
    found, chosen = benchmark._throughput(errors, torch.tensor([1.0, 4.0]))
    assert chosen == [0, 1]
    torch.testing.assert_close(found, torch.tensor([[4.0, 4 * 4 * 0.9], [4.0, 4 * 4 * 0.7]]))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"users": 3}, "a multiple of users"),
        ({"num_links": 12}, "multiples of it"),
        ({"bar": "ar + rzf"}, "not among the methods"),
        ({"mcs": []}, "must not be empty"),
        ({"methods": ["perfect + dpc", "ar + tuned"]}, "cannot be sent"),
    ],
)
def test_bad_recipes(change, message):
    with pytest.raises(RecipeError, match=message):
        LinkLevelBenchmark(**(SMALL | change))


def test_a_table_entry_that_does_not_exist():
    with pytest.raises(ValueError, match="tables are 1, 2, 3"):
        LinkLevelBenchmark(**(SMALL | {"mcs": [99]}))
