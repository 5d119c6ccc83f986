"""Finished cells belong to one state of a method: whatever can change its figures changes its fingerprint."""

from __future__ import annotations

import importlib
import sys
import threading
from functools import partial

import numpy as np
import pytest
import torch

from airlam.evaluation.engine.fingerprint import UNCACHED, combined, fingerprint, outside
from airlam.evaluation.engine.measure import finished, run_cells
from airlam.evaluation.results import CellRecord
from airlam.loading import load_predictor
from airlam.methods import Method, register, registry
from airlam.recipes import is_installed_file

PLAIN = {
    "number": (1, 2),
    "text": ("a", "b"),
    "list": ([1, {"a": 2}], [1, {"a": 3}]),
    "tensor": (torch.zeros(3), torch.ones(3)),
    "scalar tensor": (torch.tensor(0), torch.tensor(1)),
    "dtype": (torch.zeros(2), torch.zeros(2, dtype=torch.float64)),
    "complex view": (torch.ones(2, dtype=torch.complex64).conj(), 2 * torch.ones(2, dtype=torch.complex64).conj()),
    "array": (np.zeros(3), np.ones(3)),
    "set": ({1, 2}, {1, 3}),
    "function": (torch.relu, torch.sigmoid),
    "partial": (partial(torch.add, alpha=1), partial(torch.add, alpha=2)),
    "generator": (torch.Generator().manual_seed(0), torch.Generator().manual_seed(1)),
    "network": (torch.nn.Linear(2, 2), torch.nn.Linear(2, 2)),
    "nested network": ({"deep": [torch.nn.Linear(2, 2)]}, {"deep": [torch.nn.Linear(2, 2)]}),
    "batch norm": (torch.nn.BatchNorm1d(2), torch.nn.BatchNorm1d(2, momentum=0.3)),
}


class Holder:
    name = "holder"

    def __init__(self, value):
        self.anything = value


@pytest.mark.parametrize("kind", PLAIN)
def test_every_attribute_counts(kind):
    one, other = PLAIN[kind]
    assert fingerprint(Holder(one)) == fingerprint(Holder(one))
    assert fingerprint(Holder(one)) != fingerprint(Holder(other))


def test_a_buffer_and_a_plain_setting_inside_a_network_count():
    network = torch.nn.Sequential(torch.nn.Dropout(0.1), torch.nn.Linear(2, 2))
    before = fingerprint(Holder(network))
    network[0].p = 0.2
    middle = fingerprint(Holder(network))
    network.register_buffer("scale", torch.ones(1), persistent=False)
    assert len({before, middle, fingerprint(Holder(network))}) == 3


def test_the_file_of_the_class_and_those_it_imports_count(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    file, helper = tmp_path / "fp_method.py", tmp_path / "fp_helper.py"

    def state(code: str, other: str) -> str:
        file.write_text(f"import fp_helper\nclass Mine:\n    name = 'mine'\n    def predict(self):\n        {code}\n")
        helper.write_text(other)
        for name in ("fp_method", "fp_helper"):
            sys.modules.pop(name, None)
        importlib.invalidate_caches()
        return fingerprint(importlib.import_module("fp_method").Mine())

    first = state("return 1", "A = 1\n")
    assert first == state("return 1", "A = 1\n")
    assert len({first, state("return 22", "A = 1\n"), state("return 1", "A = 222\n")}) == 3
    weights = tmp_path / "weights.bin"
    weights.write_bytes(b"1")
    before = fingerprint(Holder(str(weights)))
    weights.write_bytes(b"2")
    assert fingerprint(Holder(str(weights))) != before


def test_the_file_of_the_benchmark_that_asks_counts(tmp_path, monkeypatch, capsys):
    monkeypatch.syspath_prepend(tmp_path)
    file, helper = tmp_path / "fp_benchmark.py", tmp_path / "fp_figures.py"

    def state(code: str, other: str) -> str:
        file.write_text(
            "import fp_figures\nfrom airlam.evaluation.engine.fingerprint import combined\n"
            f"class Mine:\n    def run(self, methods):\n        {code}\n        return combined(methods)\n"
        )
        helper.write_text(other)
        for name in ("fp_benchmark", "fp_figures"):
            sys.modules.pop(name, None)
        importlib.invalidate_caches()
        return importlib.import_module("fp_benchmark").Mine().run([Holder(1)])

    first = state("figure = 1", "A = 1\n")
    assert first == state("figure = 1", "A = 1\n") and UNCACHED not in first
    assert len({first, state("figure = 22", "A = 1\n"), state("figure = 1", "A = 222\n")}) == 3
    space = {"combined": combined, "Holder": Holder}
    exec("found = combined([Holder(1)])", space)  # as in a notebook
    assert space["found"] == UNCACHED
    assert "finished cells are not kept, since the benchmark is not defined in a file" in capsys.readouterr().err


def test_the_benchmarks_of_airlam_ask_for_no_file():
    """Else every edit of airlam would make all finished cells run again."""
    import airlam.evaluation.engine.fingerprint as module

    exec("found = combined([1])", vars(module))  # called from a file of airlam
    assert vars(module).pop("found") == fingerprint(1)


def test_what_cannot_be_hashed_is_not_cached_and_says_so(capsys):
    method = Holder([threading.Lock()])
    one, other = fingerprint(method), fingerprint(method)
    assert UNCACHED in one and one != other and combined([method, Holder(1)]) == UNCACHED
    lines = capsys.readouterr().err.strip().splitlines()
    assert lines[0] == "holder: finished cells are not kept, since Holder.anything[0] is a _thread.lock"
    method.fingerprint = lambda: "state 1"
    assert UNCACHED not in fingerprint(method)


def test_a_run_of_cells_keeps_only_what_it_may(tmp_path):
    class Cell:
        name, progress = "cell", "cell uma 3 km/h"

    runs: list[int] = []

    def run(cell):
        runs.append(1)
        record = CellRecord({"group": "cell"}, {"link": [0]})
        record.extras["run"] = len(runs)
        return record

    found = []
    for weights in ("abc", "abc", UNCACHED, f"x-{UNCACHED}-1"):
        found += run_cells([Cell()], run, lambda cell, weights=weights: weights, tmp_path, lambda cell: 1.0)
    assert [record.extras["run"] for record in found] == [1, 1, 2, 3]
    assert [record.file for record in found] == ["cell_abc.json", "cell_abc.json", "", ""]
    assert [path.name for path in (tmp_path / "cells").iterdir()] == ["cell_abc.json"]


def test_a_cell_of_another_version_is_computed_again(tmp_path):
    path = tmp_path / "cell.json"
    for text in ('{"schema": "airlam-cell/1", "cell": {}}', "{", "[]"):
        path.write_text(text)
        assert finished(path, CellRecord) is None


@pytest.mark.parametrize("name", ["ar", "hold", "airlam-tiny"])
def test_shipped_methods_have_one_before_and_after_use(name):
    one, other = load_predictor(name), load_predictor(name)
    before = fingerprint(one)
    one.predict(torch.randn(2, 16, 12, 1, 4, dtype=torch.complex64), 2)
    assert UNCACHED not in before and before == fingerprint(other)
    assert fingerprint(one) == before


def test_settings_of_shipped_methods_count():
    from airlam.baselines import ARPredictor

    assert fingerprint(ARPredictor(order=4)) != fingerprint(ARPredictor(order=6))
    off = load_predictor("airlam-tiny", correction=False)
    assert fingerprint(off) != fingerprint(load_predictor("airlam-tiny"))


def test_methods_of_other_packages_are_part_of_a_cell(monkeypatch):
    monkeypatch.setattr(registry, "_OWN", {})
    register(Method("fp-theirs", factory=lambda: Holder(1)), replace=True)
    assert [method.name for method in outside(["ar", "fp-theirs", "perfect", "fp-theirs"])] == ["fp-theirs"]


@pytest.mark.parametrize("where", ["airlam", "airlam.models.airlam_model", "airlam.baselines.ar", "torch.nn"])
def test_the_source_of_airlam_itself_is_not_part_of_a_fingerprint(where):
    """Else every edit of airlam, also of a docstring, would make all finished cells run again."""
    assert is_installed_file(importlib.import_module(where).__file__)
