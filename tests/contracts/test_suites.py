"""The suites of airlam.testing on airlam's own methods, as an outside package would run them on its own."""

from __future__ import annotations

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


class TestLearnedPrecoder(PrecoderContract):
    def make(self):
        return airlam.load_precoder("airlam-precoder")


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


def test_a_suite_without_a_method_says_what_to_do():
    with pytest.raises(NotImplementedError, match="override make"):
        PredictorContract().make()
