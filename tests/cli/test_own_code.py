"""An exception in code of the user's own: one line that names file, line and function."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import yaml

CODE = """\
import torch
import airlam

class Good:
    name = "good"
    def predict(self, h_past, num_future, *, port_shape=None, context=None):
        return h_past[..., -1:, :, :, :]

class NeedsMore(Good):
    def __init__(self):
        self.table = [1, 2] + None

class Refuses(Good):
    def __init__(self):
        self.order = self.checked(-1)
    @staticmethod
    def checked(order):
        raise ValueError("order is -1")

class Adds(Good):
    def predict(self, h_past, num_future, *, port_shape=None, context=None):
        return h_past + "1"

class Shapes(Good):
    def predict(self, h_past, num_future, *, port_shape=None, context=None):
        return torch.zeros(2, 3) @ h_past.real[0, 0, 0]

class Beams:
    name = "beams"
    def precode(self, h, power, no, *, error_covariance=None):
        return airlam.load_precoder("rzf").precode(h, power, "loud")

class Silent:
    def run(self, out):
        out.mkdir(parents=True, exist_ok=True)

class Mine:
    def __init__(self, method: str = "", precoder: str = ""):
        self.method, self.precoder = method, precoder
    def run(self, out):
        h = torch.ones(2, 8, 3, 1, 4, dtype=torch.complex64)
        if self.method:
            return airlam.load_predictor(self.method).predict(h, 1)
        return airlam.load_precoder(self.precoder).precode(h[0, 0], 1.0, 0.1)
"""


@pytest.fixture
def folder(airlam, tmp_path):
    (tmp_path / "own_of_cli.py").write_text(CODE)
    yield tmp_path
    sys.modules.pop("own_of_cli", None)


def line_of(text: str) -> int:
    return CODE.splitlines().index(text) + 1


@pytest.mark.parametrize(
    ("init_args", "text", "line", "function"),
    [
        (
            {"method": "NeedsMore"},
            "predictor: NeedsMore cannot be made",
            "self.table = [1, 2] + None",
            "__init__",
        ),
        ({"method": "Refuses"}, "ValueError: order is -1", 'raise ValueError("order is -1")', "checked"),
        ({"method": "Adds"}, "TypeError: ", 'return h_past + "1"', "predict"),
        ({"method": "Shapes"}, "RuntimeError: ", "return torch.zeros(2, 3) @ h_past.real[0, 0, 0]", "predict"),
        ({"precoder": "Beams"}, "", 'return airlam.load_precoder("rzf").precode(h, power, "loud")', "precode"),
    ],
)
def test_the_line_names_the_place(airlam, folder, init_args, text, line, function):
    ((role, name),) = init_args.items()
    recipe = {"class_path": "own_of_cli.Mine", "init_args": {role: f"own_of_cli.{name}"}}
    (folder / "mine.yaml").write_text(yaml.safe_dump(recipe))
    result = airlam("evaluate", "--config", "mine.yaml", "--out", "out")
    shown = result.err.strip().splitlines()[-1]
    assert result.code == (1 if text.startswith("RuntimeError") else 2), result
    assert shown.startswith(f"airlam evaluate: {text}"), shown
    place = f"(own_of_cli.py, line {line_of(' ' * 8 + line)}, in {name}.{function}; "
    assert shown.endswith(f"{place}AIRLAM_DEBUG=1 shows the whole traceback)"), shown


def test_a_mistake_in_a_recipe_names_no_place(refuses, folder):
    recipe = {"class_path": "own_of_cli.Mine", "init_args": {"methods": "own_of_cli.Good"}}
    (folder / "mine.yaml").write_text(yaml.safe_dump(recipe))
    assert "AIRLAM_DEBUG" not in refuses("evaluate", "--config", Path("mine.yaml"), "--out", "out")


def test_a_benchmark_without_a_report_is_refused(refuses, folder):
    (folder / "mine.yaml").write_text("class_path: own_of_cli.Silent\n")
    line = refuses("evaluate", "--config", "mine.yaml", "--out", "out")
    assert "mine.yaml: run of own_of_cli.Silent returned NoneType, but must return the path of its report" in line
