"""``airlam parallel``: a launched run with a toy worker, going on, and what is refused."""

from __future__ import annotations

import json
import socket
import sys
from pathlib import Path

import pytest

from airlam.edge.parallel import command
from airlam.edge.parallel.launching.launch import Outcome

CONFIG = "tasks/pretraining/parallel.yaml"
TOY = Path(__file__).parents[1] / "edge" / "parallel" / "toy_worker.py"


@pytest.fixture
def launched(monkeypatch):
    """What would have been launched."""
    found = []
    monkeypatch.setattr(command, "launch", lambda what: found.append(what) or Outcome(0))
    return found


def test_the_recipe_is_resolved_into_the_run_folder(airlam, launched, tmp_path):
    options = ["--mode", "pipeline", "--nproc", 3, "--timeout", 9, "--shares.pipeline", "[1, 2, 3]"]
    assert airlam("parallel", "--config", CONFIG, "--out", tmp_path / "run", *options).code == 0
    run = json.loads((tmp_path / "run" / "parallel.json").read_text())
    assert (run["mode"], run["nproc"], run["shares"]["pipeline"]) == ("pipeline", 3, [1, 2, 3])
    (what,) = launched
    assert what.devices == ("device-0", "device-1", "device-2") and what.timeout == 9
    assert what.resume.startswith(f"airlam parallel --config {CONFIG} --out") and what.resume.endswith(" --resume")


def test_a_run_is_neither_mixed_with_another_nor_lost(airlam, refuses, launched, tmp_path):
    start = ("parallel", "--config", CONFIG, "--out", tmp_path / "run")
    assert airlam(*start).code == 0
    (tmp_path / "run" / "states").mkdir()
    assert "holds a run; --resume goes on with it, --overwrite forgets it" in refuses(*start)
    assert "precision is not that of the run" in refuses(*start, "--resume", "--precision", "64-true")
    assert "give one of them" in refuses(*start, "--resume", "--overwrite")
    assert airlam(*start, "--resume", "--nproc", 3, "--mode", "sequence").code == 0  # states load in any mode
    assert (tmp_path / "run" / "states").exists()
    (tmp_path / "run" / "states" / "step_00000030").mkdir()
    (tmp_path / "run" / "states" / "step_00000030" / "state.json").write_text("{}")
    assert "has 30 steps behind it, but steps is 20" in refuses(*start, "--resume", "--steps", 20)
    assert airlam(*start, "--overwrite", "--precision", "64-true").code == 0
    assert not (tmp_path / "run" / "states").exists()


def test_what_is_refused(airlam, refuses, tmp_path):
    start = ("parallel", "--config", CONFIG, "--out", tmp_path / "run")
    assert "mode" in refuses(*start, "--mode", "pipes") and not (tmp_path / "run" / "parallel.json").exists()
    assert "stepz" in refuses(*start, "--stepz", 3)
    assert "nproc" in refuses(*start, "--nproc", 0)
    assert "cannot share out 128 tokens" in refuses(*start, "--mode", "sequence", "--nproc", 200)
    assert "needs mesh" in refuses(*start, "--mode", "hybrid", "--nproc", 4)
    assert "mode data does not share out layers" in refuses(*start, "--shares.pipeline", "[1, 1]")
    assert "names must differ" in refuses(*start, "--devices", "[a, a]")
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        assert f"port {port} is in use" in refuses(*start, "--master-port", port)
    assert not (tmp_path / "run" / "parallel.json").exists()  # what is refused leaves no run behind


def test_prepare_only_writes_the_folder(airlam, tmp_path):
    result = airlam("parallel", "--config", CONFIG, "--out", tmp_path / "run", "--prepare")
    assert result.code == 0 and "-m airlam.edge.parallel.worker" in result.err
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["parallel.json"]


@pytest.mark.slow
def test_a_run_with_real_processes(airlam, tmp_path, monkeypatch):
    monkeypatch.setattr(command, "WORKER", (sys.executable, str(TOY)))
    result = airlam("parallel", "--config", CONFIG, "--out", tmp_path / "run", "--devices", "[left, right]")
    assert result.code == 0
    assert json.loads((tmp_path / "run" / "steps" / "000040.json").read_text())["step"] == 40
    assert sorted(path.name for path in (tmp_path / "run" / "workers").iterdir()) == ["left", "right"]
