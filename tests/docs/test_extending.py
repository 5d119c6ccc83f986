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
PANEL = {"rows": 1, "columns": 2, "polarisation": "dual", "pattern": "38.901"}
SMALL = {  # sections that both benchmarks have: one small cell
    "cells": {
        "scenarios": ["umi_nlos"],
        "speeds_kmh": [30.0],
        "channel_overrides": {"num_subcarriers": 12, "bs_panel": PANEL},
    },
    "sizes": {"num_links": 4, "num_tune": 4, "side_links": 4, "links_per_drop": 2},
    "rates": {"users": [2], "transmit_snr_db": [20.0]},
}
PREDICTION = SMALL | {
    "sweep": {"csi_snr_db": []},
    "periods": {"periods_ms": []},
    "age": {"speed_kmh": None},
    "impairments": {"kinds": {}},
}
BEAMFORMING = SMALL | {
    "sizes": SMALL["sizes"] | {"num_tune": 8},
    "sweep": {"csi_snr_db": [], "speeds_kmh": [60.0], "users": [], "csi_periods_ms": [], "age_speed_kmh": None},
    "static": {"csi_snr_db": []},
}


@pytest.fixture
def folder(tmp_path):
    """The Python files of the page, each under the name that its section gives."""
    for name, code in re.findall(r"`(my_\w+\.py)`:.*?```python\n(.*?)^```", PAGE, flags=re.M | re.S):
        (tmp_path / name).write_text(code, encoding="utf-8")
    assert {path.name for path in tmp_path.iterdir()} == {
        "my_benchmark.py",
        "my_channel.py",
        "my_importer.py",
        "my_network.py",
        "my_precoder.py",
        "my_predictor.py",
        "my_task.py",
    }
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


def python(folder: Path, code: str, path: Path | None = None) -> str:
    """What ``code`` prints in a process of its own, started in the folder."""
    environment = {key: value for key, value in os.environ.items() if not key.startswith("PYTHON")}
    environment |= {"PYTHONPATH": str(path)} if path else {}
    command = [sys.executable, "-P", "-c", code]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


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
    recipe = next(r for r in recipes() if r.get("class_path", "").endswith("ChannelPredictionBenchmark"))
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
    recipe = next(r for r in recipes() if r.get("class_path", "").endswith("BeamformingBenchmark"))
    write_recipe(folder, recipe, **BEAMFORMING, precoder="my_precoder.Matched")
    airlam(folder, "evaluate", "--config", "benchmark.yaml", "--out", "out")
    assert set(rows_of(folder)) == {
        "ar + tuned",
        "ar + matched",
        "damped + matched",
        "perfect + matched",
        "airlam-tiny + matched",
    }


@pytest.mark.slow
def test_a_channel_model_is_a_scenario(folder):
    """Its recipe in ``channels/``, a data set of it made by worker processes, and a store of other code refused."""
    recipe = next(r for r in recipes() if "scenario" in r)
    (folder / "channels").mkdir()
    (folder / "channels" / "mine.yaml").write_text(yaml.safe_dump(recipe), encoding="utf-8")
    data = {"channel": "mine", "num_train": 8, "num_val": 4, "num_test": 4, "block_size": 4}
    (folder / "data.yaml").write_text(yaml.safe_dump(data), encoding="utf-8")
    airlam(folder, "generate", "--config", "data.yaml", "--out", "mine.h5", "--workers", "2")
    code = (
        "from airlam.data import CSIStore; from airlam.channels import load_channel; import pickle\n"
        "channel = load_channel('mine')\n"
        "store = CSIStore('mine.h5')\n"
        "again = pickle.loads(pickle.dumps(channel))\n"
        "print(tuple(store.h.shape), store.recipe['channel'] == channel.recipe, again.recipe['delay'])"
    )
    assert python(folder, code).strip() == "(16, 20, 24, 1, 32) True 3e-07"
    file = folder / "my_channel.py"
    file.write_text(file.read_text().replace("0.5 * leaving", "0.4 * leaving"))
    code = f"from airlam.data import CSIDataModule; CSIDataModule(**{data!r}, store='mine.h5').setup()"
    with pytest.raises(AssertionError, match="was made from another recipe: its channel.source"):
        python(folder, code)


def test_a_mistake_in_the_recipe_of_an_outside_channel_is_one_line(folder):
    cases = (
        ({"scenario": "my_channel.TwoRays", "delays": 1e-7}, "no key 'delays'; did you mean 'delay'"),
        ({"scenario": "my_channel.TwoRays", "delay": 1.0}, "delay is 1, but must be between 0 and 1e-05 s"),
        ({"scenario": "my_channel.ThreeRays"}, "has no 'ThreeRays'; did you mean 'TwoRays'"),
        ({"scenario": "my_predictor.Damped"}, "no subclass of airlam.channels.ChannelModel"),
    )
    code = (
        "from airlam.channels import load_channel; from airlam.errors import RecipeError\n"
        f"for recipe in {[recipe for recipe, _ in cases]!r}:\n"
        "    try: load_channel(recipe)\n"
        "    except RecipeError as error: print(error)"
    )
    lines = python(folder, code).splitlines()
    assert len(lines) == len(cases)
    for line, (_, words) in zip(lines, cases, strict=True):
        assert words in line


def test_a_channel_model_of_the_package_is_its_class_and_one_line(folder):
    """The page's class as one of the package: with a line in ``MODELS`` it is a scenario like the shipped ones."""
    code = (
        "from airlam.channels import load_channel; from airlam.channels.recipe import MODELS\n"
        "from airlam.errors import RecipeError; from airlam.recipes import allow_imports_from\n"
        "allow_imports_from(); MODELS['two_rays'] = 'my_channel.TwoRays'\n"
        "one = load_channel({'scenario': 'two_rays', 'delay': 3e-7, 'num_subcarriers': 6})\n"
        "print(tuple(one.sample(2, 3, seed=1).h.shape), one.recipe['delay'], 'source' in one.recipe)\n"
        "mixed = load_channel({'scenario': 'mixture', 'delay': 1e-7, 'components': [{'scenario': 'two_rays'}]})\n"
        "print(mixed.draw(0).recipe['delay'])\n"
        "for recipe in ({'scenario': 'two_rayz'}, {'scenario': 'two_rays', 'delay': 1.0}):\n"
        "    try: load_channel(recipe)\n"
        "    except RecipeError as error: print(error)"
    )
    sampled, mixed, unknown, bound = python(folder, code).splitlines()
    assert (sampled, mixed) == ("(2, 3, 6, 1, 32) 3e-07 False", "1e-07")
    assert "unknown scenario 'two_rayz'; did you mean 'two_rays'" in unknown
    assert "delay is 1, but must be between 0 and 1e-05 s" in bound


def test_an_importer_reads_by_class_path_by_name_and_by_suffix(folder):
    """The page's importer and the lines that use it; then the same class registered, and as an entry point."""
    numpy = "import numpy as np; rng = np.random.default_rng(0)\n"
    numpy += "np.save('walk.npy', (rng.normal(size=(40, 6)) + 1j * rng.normal(size=(40, 6))))\n"
    lines = next(text for kind, text in BLOCKS if kind == "python" and "read_recording(" in text)
    code = f"{numpy}{lines}print(tuple(past.shape), tuple(future.shape), recording.receiver)"
    assert python(folder, code).strip() == "(6, 16, 6, 1, 1) (6, 4, 6, 1, 1) my receiver"
    read = "from airlam.data.importers import IMPORTERS, read_recording\n"
    show = "print(tuple(read_recording('walk.npy').csi.shape), 'matrices' in IMPORTERS.names())"
    with pytest.raises(AssertionError, match="a suffix that no importer takes; name one of wifi-arrays"):
        python(folder, read + show)
    register = "from airlam.recipes import allow_imports_from; allow_imports_from()\nfrom my_importer import Matrices\n"
    register += "IMPORTERS.register(Matrices)\n"
    assert python(folder, read + register + show).strip() == "(40, 6, 1, 1) True"
    about = folder / "matrices-1.0.dist-info"  # as an installed package leaves it
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: matrices\nVersion: 1.0\n")
    (about / "entry_points.txt").write_text("[airlam.importers]\nmatrices = my_importer:Matrices\n")
    assert python(folder, read + show, path=folder).strip() == "(40, 6, 1, 1) True"


@pytest.mark.slow
def test_a_benchmark_runs_and_reuses_its_cells(folder):
    recipe = next(r for r in recipes() if r.get("class_path", "").endswith("NextSlot"))
    write_recipe(folder, recipe, num_links=4, speeds_kmh=[30.0])
    out = airlam(folder, "evaluate", "--config", "benchmark.yaml", "--out", "out")
    assert "report:" in out
    results = json.loads((folder / "out" / "results.json").read_text())
    assert [row["method"] for row in results["rows"]] == ["hold", "mean", "my_predictor.Damped"]
    assert "Lowest error" in (folder / "out" / "report.html").read_text()
    assert "| hold | 30 |" in (folder / "out" / "leaderboard.md").read_text()
    (cell,) = (folder / "out" / "cells").iterdir()
    before = cell.stat().st_mtime_ns
    airlam(folder, "evaluate", "--config", "benchmark.yaml", "--out", "out")
    assert [file.stat().st_mtime_ns for file in (folder / "out" / "cells").iterdir()] == [before]
    file = folder / "my_benchmark.py"
    code, judged = file.read_text(), "links.h[:, cell.history :], reduction"
    assert judged in code
    file.write_text(code.replace(judged, f"2 * {judged}"))
    airlam(folder, "evaluate", "--config", "benchmark.yaml", "--out", "out")
    assert len(list((folder / "out" / "cells").iterdir())) == 2  # other code, another cell


@pytest.mark.slow
def test_a_comparator_is_trained_and_loaded_where_its_kind_is_known(folder):
    command = next(line.strip() for line in PAGE.splitlines() if "my_network.Trend" in line and "airlam fit" in line)
    (folder / "datasets").rmdir()  # the shipped data set
    small = ["--trainer.limit_train_batches", "2", "--trainer.limit_val_batches", "1"]
    airlam(folder, *command.split()[1:], *small, "--trainer.accelerator", "cpu")
    (config,) = folder.rglob("checkpoint/config.json")
    load = f"import airlam; print(airlam.load_predictor({str(config.parent)!r}).model.kind)"
    with pytest.raises(AssertionError, match="no comparator 'trend'.*register_comparator"):
        python(folder, load)
    known = "from airlam.recipes import allow_imports_from; allow_imports_from(); from my_network import Trend\n"
    known += "from airlam.models.comparators import register_comparator; register_comparator(Trend)\n"
    assert python(folder, known + load).strip() == "trend"
    about = folder / "trend-1.0.dist-info"  # as an installed package leaves it
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: trend\nVersion: 1.0\n")
    (about / "entry_points.txt").write_text("[airlam.comparators]\ntrend = my_network:Trend\n")
    assert python(folder, load, path=folder).strip() == "trend"


@pytest.mark.slow
def test_all_pass_the_contracts(folder):
    """The page's test file, in a pytest of its own in that folder."""
    code = next(text for kind, text in BLOCKS if kind == "python" and "PredictorContract" in text)
    (folder / "test_mine.py").write_text(code, encoding="utf-8")
    environment = {key: value for key, value in os.environ.items() if not key.startswith("PYTEST")}
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "test_mine.py"]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    assert done.returncode == 0 and "passed" in done.stdout, done.stdout


@pytest.mark.slow
def test_a_lightning_module_is_trained(folder):
    command = next(line.strip() for line in PAGE.splitlines() if "airlam fit --model my_task" in line)
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
