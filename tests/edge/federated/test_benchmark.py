"""The federated benchmark, small: rows, tables, plots, shared runs, and what is refused."""

from __future__ import annotations

import json

import pytest
import yaml

from airlam.edge.federated import FederatedBenchmark
from airlam.errors import RecipeError
from airlam.evaluation.rows import Results
from airlam.recipes import argument_defaults

STUDIES = {
    "methods": {
        "zero-shot": {"kind": "zero-shot"},
        "AR (tuned)": {"kind": "classic", "predictor": "ar"},
        "federated": {},
        "centralised": {"kind": "central"},
        "alone": {"kind": "alone"},
    },
    "clients": {"1 client": {"clients": 1, "links": 4}, "4 clients": {"clients": 4, "links": 4}},
    "robustness": {"nobody lost": {}, "30 % lost": {"dropout": 0.3}},
    "ranks": {"svd": {"ranks": [1, 2]}},
    "privacy": {"noise 1": {"privacy": {"clip": 0.5, "noise_multiplier": 1.0, "noise_seed": 1}, "aggregation": "ffa"}},
    "distillation": {"distilled": {"kind": "distilled", "teacher": "federated", "steps": 2}},
}


@pytest.fixture(scope="module")
def run_yaml(tmp_path_factory):
    sites = {
        "street": {"channel": "umi_nlos", "speed_kmh": [3, 60]},
        "hall": {"channel": "inf_nlos", "speed_kmh": [3, 30], "device": "gateway", "distance_m": 60},
    }
    panel = {"rows": 1, "columns": 4, "polarisation": "single", "pattern": "omni"}
    small = {"num_subcarriers": 12, "bs_panel": panel}
    arguments = {
        "sites": sites,
        "rounds": 2,
        "local_steps": 2,
        "batch_size": 4,
        "num_train": 8,
        "num_val": 4,
        "num_test": 6,
        "channel_overrides": small,
        "feedback": {"coefficients": 16, "phase_bits": 3},
        "learning_rate": 3e-3,
    }
    path = tmp_path_factory.mktemp("run") / "run.yaml"
    recipe = {"class_path": "airlam.edge.federated.Federation", "init_args": arguments}
    path.write_text(yaml.safe_dump(recipe, sort_keys=False))
    return path


def test_the_configuration_is_what_was_given(run_yaml):
    """It stands in the results: every argument but ``only``."""
    benchmark = FederatedBenchmark(str(run_yaml), STUDIES, seeds=(2,), only=["methods"])
    given = {"run": str(run_yaml), "studies": STUDIES, "seeds": (2,)}
    expected = argument_defaults(FederatedBenchmark) | given
    del expected["only"]
    assert benchmark.config == expected and list(benchmark.config) == list(expected)


@pytest.mark.slow
def test_rows_tables_and_plots(run_yaml, tmp_path):
    benchmark = FederatedBenchmark(str(run_yaml), STUDIES)
    report = benchmark.run(tmp_path)
    results = Results.load(tmp_path / "results.json")
    rows = {(row.group, row.method): row.figures for row in results.rows}
    assert len(rows) == sum(map(len, STUDIES.values()))
    assert rows["methods", "zero-shot"]["gain_db"].number == 0.0
    assert rows["methods", "centralised"]["recovered"].number == pytest.approx(1.0)
    federated = rows["methods", "federated"]
    assert federated["megabytes"].kind == "measured" and federated["seconds"].kind == "modelled"
    assert federated["curve_megabytes"].axis[-1] == pytest.approx(federated["megabytes"].number)
    assert rows["privacy", "noise 1"]["epsilon"].number > 0
    # variants that are the same run share it
    assert rows["robustness", "nobody lost"]["nmse_cells_db"] == federated["nmse_cells_db"]
    assert len(list((tmp_path / "runs").glob("*.json"))) == len(rows) - 1
    assert {path.name for path in (tmp_path / "plots").glob("*.png")} >= {"nmse_vs_rounds.png", "nmse_vs_clients.png"}
    text = (tmp_path / "leaderboard.md").read_text()
    assert "Share of the centralised gain" in text and "alone" in text and report.read_text().count("<table") >= 6
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "runs").glob("*.json")}
    FederatedBenchmark(str(run_yaml), STUDIES).run(tmp_path)
    assert before == {path: path.stat().st_mtime_ns for path in (tmp_path / "runs").glob("*.json")}
    assert json.loads((tmp_path / "results.json").read_text())["headline"].startswith("Federated adapters gain")


@pytest.mark.parametrize(
    ("studies", "words"),
    [
        ({"a": {"b": {"kind": "magic"}}}, "studies.a.b.kind is 'magic'"),
        ({"a": {"b": {"rounds": 0}}}, "studies.a.b: rounds is 0"),
        ({"a": {"b": {"round": 3}}}, "studies.a.b"),
        ({"a": {"b": {"kind": "distilled", "teacher": "nobody"}}}, "must be a variant of the study methods"),
    ],
)
def test_bad_studies_are_named(run_yaml, studies, words):
    with pytest.raises(RecipeError, match=words):
        FederatedBenchmark(str(run_yaml), studies)
