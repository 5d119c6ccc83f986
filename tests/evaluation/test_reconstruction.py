"""The benchmarks of reconstruction and of probes: tiny runs, recipes that make no sense, probes in closed form."""

import pytest
import torch

from airlam.errors import RecipeError
from airlam.evaluation import ProbeBenchmark, ReconstructionBenchmark, Results
from airlam.evaluation.benchmarks.probes.heads import fit_probe
from airlam.evaluation.engine.contenders import trainable

TINY = {
    "cells": {"scenarios": ["uma_nlos"]},
    "sizes": {"links_per_drop": 2},
    "few_shot": {"lora_rank": None},
    "quick": True,
}
SMALL = {"num_subcarriers": 16, "bs_panel": {"rows": 1, "columns": 4, "polarisation": "dual", "pattern": "38.901"}}


@pytest.mark.slow
def test_a_tiny_reconstruction_benchmark(tmp_path):
    benchmark = ReconstructionBenchmark(
        tasks={
            "combs": {
                "axis": "subcarrier",
                "patterns": ["comb:4"],
                "methods": ["linear", "lmmse", "eigen-lmmse-sample", "{model}", "lmmse-genie"],
                "channel": SMALL,
            },
            "band": {
                "axis": "subcarrier",
                "patterns": ["first:0.5"],
                "methods": ["hold", "lmmse", "{model}"],
                "channel": SMALL,
            },
        },
        **TINY,
    )
    report = benchmark.run(tmp_path)
    assert "airlam-tiny" in report.read_text() and "After few-shot" in (tmp_path / "leaderboard.md").read_text()
    results = Results.load(tmp_path / "results.json")
    cells = {(row.settings["task"], row.method): row for row in results.select(group="estimate")}
    assert {"airlam-tiny:adapted", "airlam-tiny:random-start", "lmmse-genie"} <= {m for _, m in cells}
    assert "gain_db" in cells["combs", "airlam-tiny"].figures and "gain_db" not in cells["combs", "lmmse"].figures
    mean = {row.method for row in results.select(group="mean")}
    assert "airlam-tiny" in mean and "hold" not in mean  # only what every cell has
    assert cells["combs", "airlam-tiny:adapted"].parameters_trainable > 0
    # the covariance of the link itself beats straight lines
    genie, linear = (cells["combs", m].figures["nmse"].number for m in ("lmmse-genie", "linear"))
    assert genie < linear


@pytest.mark.slow
def test_a_tiny_probe_benchmark(tmp_path):
    benchmark = ProbeBenchmark(
        sizes={"num_train": 32, "num_val": 16, "num_test": 16, "links_per_drop": 2},
        cells={"csi_snr_db": [20.0], "slots": 8},
        shots=[0.5, 1.0],
    )
    benchmark.run(tmp_path)
    rows = Results.load(tmp_path / "results.json").select(group="probe")
    assert len(rows) == 2 * 2 * 3
    scores = [row.figures["score"].number for row in rows if row.settings["target"] == "line of sight"]
    assert all(0 <= score <= 1 for score in scores)


def test_probes_find_what_is_linear():
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(400, 5, generator=generator)
    y = 3 * x[:, 1] - x[:, 4] + 0.5
    weights, constant = fit_probe(x, y, 1e-9, classify=False)
    assert torch.allclose(weights, torch.tensor([0, 3, 0, 0, -1]).double(), atol=1e-5)
    assert float(constant) == pytest.approx(0.5, abs=1e-5)
    weights, constant = fit_probe(x, (y > 0).double(), 1e-3, classify=True)
    assert float(((x.double() @ weights + constant > 0) == (y > 0)).double().mean()) > 0.97
    one_class, _ = fit_probe(x, torch.ones(400), 1e-3, classify=True)  # nothing to separate: finite all the same
    assert one_class.isfinite().all()


TASK = {"axis": "subcarrier", "patterns": ["comb:4"]}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"tasks": {"x": {**TASK, "methods": ["lmse", "lmmse", "{model}"]}}}, "did you mean 'lmmse'"),
        ({"tasks": {"x": {**TASK, "patterns": ["combs"]}}}, "no pattern 'combs'"),
        ({"tasks": {"x": {**TASK, "axis": "tone"}}}, "needs an axis"),
        ({"tasks": {"x": {**TASK, "chanel": {}}}}, "no key 'chanel'; did you mean 'channel'"),
        ({"tasks": {"x": {**TASK, "methods": ["linear", "{model}"]}}}, "must hold the baseline (bar) 'lmmse'"),
        ({"sizes": {"num_links": 7}}, "sizes.num_links is 7"),
        ({"few_shot": {"shots": [1.5]}}, "few_shot.shots are shares"),
        ({"cells": {"csi_snr_db": [0.0]}}, "few_shot.csi_snr_db 20 is not among"),
        ({"cells": {"scenarios": []}}, "must not be empty"),
        ({"few_shot": {"shot": [0.1]}}, "did you mean 'shots'"),
    ],
)
def test_bad_recipes_are_refused_in_one_line(change, message):
    with pytest.raises(RecipeError) as error:
        ReconstructionBenchmark(**change)
    assert message in str(error.value) and "\n" not in str(error.value)


def test_bad_probes_are_refused():
    for change, message in (({"sizes": {"num_train": 30}}, "num_train is 30"), ({"shots": []}, "must not be empty")):
        with pytest.raises(RecipeError, match=message):
            ProbeBenchmark(**change)


@pytest.mark.parametrize("name", ["ar", "hold"])
def test_a_classic_is_no_model_for_benchmarks_that_train(name):
    with pytest.raises(RecipeError, match="checkpoint of airlam's own"):
        trainable(name)
