"""The command that ``airlam fit`` prints last is run as it stands, for code of the user's own too."""

from __future__ import annotations

import json
import shlex
import sys

import pytest

from airlam.models.comparators import registry

CODE = """\
import lightning as L
import torch
from airlam.models.comparators import Comparator

class Bare(L.LightningModule):
    def __init__(self, memory: int = 4):
        super().__init__()
        self.memory = memory
        self.weight = torch.nn.Parameter(torch.zeros(memory))

    def error(self, batch):
        seen = batch["h_past"][:, -self.memory :]
        h_hat = torch.einsum("s,bsfra->bfra", self.weight.to(seen.dtype), seen)[:, None]
        return (h_hat - batch["h_future"]).abs().square().mean()

    def training_step(self, batch, index):
        return self.error(batch)

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), lr=1e-2)

class Validated(Bare):
    def validation_step(self, batch, index):
        self.log("val/error", self.error(batch))

class Saved(Validated):
    def __init__(self, memory: int = 4):
        super().__init__(memory)
        self.save_hyperparameters()

class Tested(Bare):
    def test_step(self, batch, index):
        self.log("test/error", self.error(batch))

class Slope(Comparator):
    kind = "slope-of-cli"

    def __init__(self, *, history: int = 16, horizon: int = 4):
        super().__init__(history=history, horizon=horizon)
        self.weight = torch.nn.Parameter(torch.zeros(horizon))

    def correct(self, x, port_shape):
        return self.weight[:, None, None] * (x[:, -1:] - x[:, -2:-1])

class Other(Slope):
    kind = "other-of-cli"
"""
SHORT = ("--trainer.accelerator", "cpu", "--trainer.max_epochs", 1, "--trainer.limit_train_batches", 2)
PANEL = {"rows": 1, "columns": 2, "polarisation": "dual", "pattern": "38.901"}
SMALL = {
    "cells.scenarios": ["umi_nlos"],
    "cells.speeds_kmh": [30.0],
    "cells.channel_overrides": {"num_subcarriers": 12, "bs_panel": PANEL},
    "sizes": {"num_links": 4, "num_tune": 4, "side_links": 4, "links_per_drop": 2},
    "rates": {"users": [2], "transmit_snr_db": [20.0]},
    "sweep.csi_snr_db": [],
    "periods.periods_ms": [],
    "age.speed_kmh": None,
    "impairments.kinds": {},
    "held_out.channels": {},
    "methods": ["hold", "{model}"],
    "bar": "hold",
}


@pytest.fixture
def folder(airlam, tmp_path, monkeypatch):
    """The current folder with a file of the user's own; what it registers is forgotten after the test."""
    (tmp_path / "own_of_fit.py").write_text(CODE)
    monkeypatch.setattr(registry.OUTSIDE, "_classes", {})
    yield tmp_path
    sys.modules.pop("own_of_fit", None)


def last_line(airlam, *arguments) -> str:
    result = airlam("fit", *arguments, *SHORT, "--data", "tiny", "--trainer.limit_val_batches", 1, "--out", "there")
    assert result.code == 0, result.err
    return result.out.strip().splitlines()[-1]


def words_of(line: str) -> list[str]:
    assert line.startswith("try next: airlam "), line
    return shlex.split(line.removeprefix("try next: airlam "))


@pytest.mark.parametrize(("task", "command"), [("Validated", "validate"), ("Saved", "validate"), ("Tested", "test")])
def test_the_line_after_a_task_of_ones_own_works(airlam, folder, task, command):
    words = words_of(last_line(airlam, "--model", f"own_of_fit.{task}", "--model.memory", 6))
    assert words[0] == command and "--model.memory" in words
    result = airlam(*words)
    assert result.code == 0 and "/error" in result.out, result


def test_a_task_that_cannot_be_validated_is_said_to_be_so(airlam, folder):
    line = last_line(airlam, "--model=own_of_fit.Bare")
    assert "Bare has no validation_step" in line and "weights_only=True)['state_dict'], see docs/extending.md" in line
    load = line[line.index("torch.load(") : line.index("['state_dict']")]
    import torch

    assert "weight" in eval(load, {"torch": torch})["state_dict"]


@pytest.mark.slow
@pytest.mark.parametrize("refined", [False, True])
def test_the_line_after_a_comparator_of_ones_own_works(airlam, refuses, folder, monkeypatch, refined):
    model = ("--model.kind", "own_of_fit.Slope", "--model.model", "null")
    if refined:
        model = ("--model.kind", "refined", "--model.model", '{"network": "own_of_fit.Slope"}')
    words = words_of(last_line(airlam, "--config", "tasks/comparators/cnn.yaml", *model))
    monkeypatch.setattr(registry.OUTSIDE, "_classes", {})  # as in a process of its own
    small = [word for key, value in SMALL.items() for word in (f"--{key}", json.dumps(value))]
    result = airlam(*words, *small, "--out", "report")
    assert result.code == 0, result.err
    rows = json.loads((folder / "report" / "results.json").read_text())["rows"]
    assert {row["method"] for row in rows} == {"hold", "refined" if refined else "slope-of-cli"}

    # A checkpoint alone never names code; the message holds the way that works.
    monkeypatch.setattr(registry.OUTSIDE, "_classes", {})
    line = refuses("evaluate", *words[1:3], "--model", "there/checkpoint", *small)
    way = line[line.index("{class_path") : line.index("; or register")]
    assert "no comparator 'slope-of-cli'" in line and "TrainedComparator" in way
    wrong = way.replace("my_file.MyClass", "own_of_fit.Other")
    assert "is of the kind 'other-of-cli'; name the class that was trained" in refuses(
        "evaluate", *words[1:3], "--model", wrong, *small
    )
    right = way.replace("my_file.MyClass", "own_of_fit.Slope")
    assert airlam("evaluate", *words[1:3], "--model", right, *small, "--out", "again").code == 0
    missing = way.replace("my_file", "own_of_fiit")
    assert "no module 'own_of_fiit' is installed or in the current" in refuses(
        "evaluate", *words[1:3], "--model", missing, *small
    )


def test_a_task_whose_file_is_not_there_is_named(refuses, folder):
    line = refuses("fit", "--model", "own_of_fiit.Bare", "--data", "tiny")
    assert (
        f"no class 'own_of_fiit.Bare': no module 'own_of_fiit' is installed or in the current folder {folder}" in line
    )
