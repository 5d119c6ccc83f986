"""The suites of airlam.testing on airlam's own methods, as an outside package would run them on its own."""

from __future__ import annotations

import sys

import pytest

import airlam
from airlam.channels import load_channel
from airlam.methods import find, names
from airlam.models import AirlamEstimator, load_checkpoint
from airlam.recipes import find_checkpoint
from airlam.testing import BenchmarkContract, ChannelContract, EstimatorContract, PrecoderContract, PredictorContract


class TestAirlamEstimator(EstimatorContract):
    axes = ("slot", "subcarrier")

    def make(self):
        return AirlamEstimator(load_checkpoint(find_checkpoint("airlam-tiny")))


OF_A_COVARIANCE = ("lmmse", "eigen-lmmse")  # of a training set; tests/baselines has them
EXTRAPOLATORS = ("hold", "ar", "eigen-ar", "pad")  # predictors along the axis


class TestRegisteredInterpolators(EstimatorContract):
    axes = ("subcarrier",)

    @pytest.fixture(params=sorted({*names("estimator", built=True)} - {*OF_A_COVARIANCE, *EXTRAPOLATORS}))
    def estimator(self, request):
        return find(request.param, "estimator").build()


class TestRegisteredPrecoders(PrecoderContract):
    @pytest.fixture(params=names("precoder", "classical", built=True))
    def precoder(self, request):
        return airlam.load_precoder(request.param)


class TestLearnedPrecoders(PrecoderContract):
    @pytest.fixture(params=["airlam-precoder", "airlam-precoder-shared"])
    def precoder(self, request):
        return airlam.load_precoder(request.param)


PANEL = {"rows": 1, "columns": 2, "polarisation": "dual", "pattern": "38.901"}
SMALL = {"num_subcarriers": 6, "bs_panel": PANEL}


class TestSystemLevel(ChannelContract):
    def make(self):
        return load_channel({"scenario": "umi", "state": "nlos", "links_per_drop": 2, **SMALL})


class TestClustered(ChannelContract):
    def make(self):
        return load_channel({"scenario": "cdl_c", **SMALL})


class TestTapped(ChannelContract):
    def make(self):
        return load_channel({"scenario": "tdl_a", "num_subcarriers": 6, "bs_panel": {**PANEL, "pattern": "omni"}})


@pytest.mark.slow
class TestProbes(BenchmarkContract):
    class_path = "airlam.evaluation.ProbeBenchmark"
    init_args = {"quick": True}
    cells = False


@pytest.mark.slow
class TestLinkLevel(BenchmarkContract):
    class_path = "airlam.evaluation.LinkLevelBenchmark"
    init_args = {"quick": True}
    changed = {"link.transmit_snr_db": [25.0]}


def test_a_suite_without_a_method_says_what_to_do():
    with pytest.raises(NotImplementedError, match="override make"):
        PredictorContract().make()


MINI = '''
from dataclasses import asdict
from pathlib import Path

import torch

from airlam.channels import load_channel
from airlam.evaluation import Results, publish
from airlam.evaluation.engine.cell import Cell
from airlam.evaluation.engine.fingerprint import combined
from airlam.evaluation.engine.measure import run_cells
from airlam.evaluation.engine.summarise import cell_rows
from airlam.evaluation.results import CellRecord, MethodFacts, Series


class Mini:
    """Its figures depend on ``scale``; whether its cells know that, is ``aware``."""

    def __init__(self, scale: float = 1.0, aware: bool = True):
        self.scale, self.aware = scale, aware

    def run(self, out):
        def measured(cell):
            record = CellRecord(asdict(cell), {"link": [0, 1]})
            record.add(Series("hold", "nmse", "1", self.scale * torch.tensor([0.1, 0.2])))
            record.methods["hold"] = MethodFacts()
            return record

        cell = Cell("cell", "umi_nlos", load_channel("umi_nlos").recipe, 30.0, 20.0, 2, num_future=1, horizon=1)
        depends = combined([self] if self.aware else [])
        records = run_cells([cell], measured, lambda _: depends, Path(out), lambda _: 1)
        results = Results("Mini", "mini")
        results.rows = [row for record in records for row in cell_rows(record, bar="hold")]
        results.headline = "It ran."
        return publish(results, out, threads=1)
'''


@pytest.mark.parametrize("aware", [True, False])
def test_a_benchmark_whose_cells_do_not_know_an_argument_fails_its_contract(aware, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mini_of_contract.py").write_text(MINI)

    class Suite(BenchmarkContract):
        class_path, init_args = "mini_of_contract.Mini", {"aware": aware}

    suite, done = Suite(), tmp_path / "done"
    suite.make().run(done)
    suite.test_a_finished_run_computes_nothing_again(done)
    with pytest.raises(pytest.skip.Exception, match="set changed = "):
        suite.test_a_changed_argument_computes_its_cells_again(done, tmp_path)
    suite.changed = {"scale": 2.0}
    if aware:
        suite.test_a_changed_argument_computes_its_cells_again(done, tmp_path)
    else:
        with pytest.raises(AssertionError, match=r"scale: 2.0 gives the same rows as before: .* what combined\(\["):
            suite.test_a_changed_argument_computes_its_cells_again(done, tmp_path)
    sys.modules.pop("mini_of_contract")
