"""docs/extending.md as written: its files in a folder outside the package, called by the ``airlam`` script."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "extending.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```", PAGE, flags=re.M | re.S)
SMALL = {
    "num_links": 4,
    "num_tune": 4,
    "side_links": 4,
    "links_per_drop": 2,
    "users": [2],
    "transmit_snr_db": [20.0],
    "scenarios": ["umi_nlos"],
    "speeds_kmh": [30.0],
    "sweep_csi_snr_db": [],
    "csi_periods_ms": [],
    "age_speed_kmh": None,
    "channel_overrides": {
        "num_subcarriers": 12,
        "bs_panel": {"rows": 1, "columns": 2, "polarisation": "dual", "pattern": "38.901"},
    },
}

PREDICTION = {  # arguments of ChannelPredictionBenchmark: one small cell
    "cells": {"scenarios": ["umi_nlos"], "speeds_kmh": [30.0], "channel_overrides": SMALL["channel_overrides"]},
    "sizes": {"num_links": 4, "num_tune": 4, "side_links": 4, "links_per_drop": 2},
    "rates": {"users": [2], "transmit_snr_db": [20.0]},
    "sweep": {"csi_snr_db": []},
    "periods": {"periods_ms": []},
    "age": {"speed_kmh": None},
    "impairments": {"kinds": {}},
}


@pytest.fixture
def folder(tmp_path):
    """The Python files of the page, each under the name that its section gives."""
    for name, code in re.findall(r"`(my_\w+\.py)`:.*?```python\n(.*?)^```", PAGE, flags=re.M | re.S):
        (tmp_path / name).write_text(code, encoding="utf-8")
    assert {path.name for path in tmp_path.iterdir()} == {"my_predictor.py", "my_precoder.py", "my_task.py"}
    (tmp_path / "datasets").mkdir()  # must not become importable
    return tmp_path


def airlam(folder: Path, *arguments: str) -> str:
    """The ``airlam`` script in a process of its own, without the folder on PYTHONPATH."""
    environment = {key: value for key, value in os.environ.items() if not key.startswith("PYTHON")}
    environment |= {"AIRLAM_CACHE": str(folder / "cache"), "CUDA_VISIBLE_DEVICES": ""}
    script = Path(sys.executable).with_name("airlam")
    done = subprocess.run([script, *arguments], cwd=folder, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def write_recipe(folder: Path, recipe: dict, **changes) -> None:
    recipe["init_args"] |= changes
    (folder / "benchmark.yaml").write_text(yaml.safe_dump(recipe, sort_keys=False), encoding="utf-8")


def rows_of(folder: Path) -> dict[str, dict]:
    rows = json.loads((folder / "out" / "results.json").read_text())["rows"]
    return {row["method"]: row for row in rows if row["group"] == "mean"}


def recipes() -> list[dict]:
    return [yaml.safe_load(text) for kind, text in BLOCKS if kind == "yaml"]


@pytest.mark.slow
def test_a_predictor_enters_the_benchmark_and_its_cells_follow_its_code(folder):
    changes = {"methods": ["hold", "{model}", "my_predictor:Damped"], "bar": "hold"}
    recipe = next(r for r in recipes() if r["class_path"].endswith("ChannelPredictionBenchmark"))
    write_recipe(folder, recipe, **PREDICTION, **changes)
    out = airlam(folder, "evaluate", "--config", "benchmark.yaml", "--out", "out")
    assert "report:" in out
    rows = rows_of(folder)
    assert set(rows) == {"hold", "airlam-tiny", "damped", "mine", "mine-0.9"}
    report = (folder / "out" / "report.html").read_text()
    assert "damped hold (tuned)" in report
    (before,) = (folder / "out" / "cells").iterdir()
    airlam(folder, "evaluate", "--config", "benchmark.yaml", "--out", "out")
    assert list((folder / "out" / "cells").iterdir()) == [before]  # nothing changed: the cell is reused
    file = folder / "my_predictor.py"
    file.write_text(file.read_text().replace("h_past[..., -1:, :, :, :] *", "0 * h_past[..., -1:, :, :, :] *"))
    airlam(folder, "evaluate", "--config", "benchmark.yaml", "--out", "out")
    before, after = (found["mine"]["figures"]["nmse_linear_db"]["value"] for found in (rows, rows_of(folder)))
    assert after > before
    assert len(list((folder / "out" / "cells").iterdir())) == 2


@pytest.mark.slow
def test_a_precoder_enters_the_chains(folder):
    recipe = next(r for r in recipes() if r["class_path"].endswith("BeamformingBenchmark"))
    small = {key: value for key, value in SMALL.items() if key != "impairments"}
    changes = {"sweep_users": [], "static_csi_snr_db": [], "num_tune": 8, "precoder": "my_precoder.Matched"}
    write_recipe(folder, recipe, **small | changes)
    airlam(folder, "evaluate", "--config", "benchmark.yaml", "--out", "out")
    assert set(rows_of(folder)) == {"ar + tuned", "ar + matched", "damped + matched", "airlam-tiny + matched"}


@pytest.mark.slow
def test_both_pass_the_contracts(folder):
    """The page's test file, in a pytest of its own in that folder."""
    code = next(text for kind, text in BLOCKS if kind == "python" and "PredictorContract" in text)
    (folder / "test_mine.py").write_text(code, encoding="utf-8")
    environment = {key: value for key, value in os.environ.items() if not key.startswith("PYTEST")}
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "test_mine.py"]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    assert done.returncode == 0 and "passed" in done.stdout, done.stdout


@pytest.mark.slow
def test_a_lightning_module_is_trained(folder):
    command = next(line.strip() for line in PAGE.splitlines() if line.startswith("    airlam fit"))
    (folder / "datasets").rmdir()  # the shipped data set
    out = airlam(folder, *command.split()[1:], "--trainer.accelerator", "cpu", "--trainer.limit_train_batches", "2")
    assert "LastSlots" in out or list(folder.rglob("*.ckpt"))


def test_the_package_example_is_a_declaration():
    from airlam.methods import Method

    code = next(text for kind, text in BLOCKS if kind == "python" and "METHODS" in text)
    space: dict = {}
    exec(compile(code, "extending.md", "exec"), space)
    (method,) = space["METHODS"]
    assert isinstance(method, Method) and method.factory == "my_package.predictors:Damped"
