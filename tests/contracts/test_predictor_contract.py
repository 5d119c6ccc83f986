"""The contract of predictors, on every registered one, on further settings, and on the learned ones."""

from __future__ import annotations

import subprocess
import sys
from functools import cache
from typing import Any

import pytest
import torch

import airlam
from airlam.baselines import HoldPredictor, StackPredictor, WienerPredictor
from airlam.interfaces import Predictor
from airlam.methods import find, names
from airlam.models import AirlamPaths, AirlamPathsPredictor, load_checkpoint
from airlam.models.comparators import KINDS, ComparatorPredictor, build_comparator
from airlam.recipes import find_checkpoint
from airlam.testing import PredictorContract

# Every registered predictor at its defaults, or with the settings that are named here, and in further settings.
SETTINGS = {"ar": {"num_bins": 64}}
VARIANTS = {
    "mean-forgetting": ("mean", {"forgetting": 0.8}),
    "ar-all-bins": ("ar", {"num_bins": None}),
    "ar-pooled": ("ar", {"num_bins": 64, "shrinkage": float("inf"), "tail": "pooled"}),
    "ar-alone": ("ar", {"num_bins": 64, "shrinkage": 0.0, "tail": "hold"}),
    "ar-mean": ("ar", {"num_bins": 64, "mean_share": 1.0}),
    "eigen-ar-mean": ("eigen-ar", {"mean_share": 0.5}),
    "pad-95": ("pad", {"energy": 0.95}),
}
REGISTERED = names("predictor", built=True)
LOOSE = ("kalman", "jakes-wiener")  # their stated variance is judged otherwise, below
# Learned comparators with small random weights everywhere.
ANY_BAND: dict[str, dict[str, Any]] = {
    "cnn": {"width": 8, "num_blocks": 1},
    "refined": {"network": "cnn", "width": 8, "num_blocks": 1},
}
ONE_BAND: dict[str, dict[str, Any]] = {
    "rnn": {"num_subcarriers": 12, "width": 16},
    "gru": {"num_subcarriers": 12, "width": 16},
    "lstm": {"num_subcarriers": 12, "width": 16},
    "transformer": {"num_subcarriers": 12, "width": 16, "num_layers": 1, "num_heads": 2},
    "wifo": {"patch": [4, 4, 4], "width": 24, "num_layers": 1, "num_decoder_layers": 1, "num_heads": 2},
    "llm4cp": {"num_subcarriers": 12, "width": 32, "num_layers": 1, "num_heads": 2},
    "minilm": {"num_subcarriers": 12, "pretrained": None, "width": 32, "num_layers": 1, "num_heads": 2},
}


@cache
def registered(name: str) -> Predictor:
    method, options = VARIANTS.get(name, (name, SETTINGS.get(name, {})))
    return find(method, "predictor").build(**options)


@cache
def comparator(kind: str) -> Predictor:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = build_comparator(kind, **(ANY_BAND | ONE_BAND)[kind])
        for value in model.parameters():
            if not value.any():  # the output layer starts at zero
                torch.nn.init.normal_(value, std=1e-3)
    return ComparatorPredictor(model)


@cache
def paths_network() -> Predictor:
    """On airlam-tiny, with a random head: what it says must not matter to the contract."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = AirlamPaths.around(load_checkpoint(find_checkpoint("airlam-tiny")), num_paths=24)
        torch.nn.init.normal_(model.head.weight, std=0.02)
    return AirlamPathsPredictor(model)


class TestRegistered(PredictorContract):
    @pytest.fixture(params=[name for name in (*REGISTERED, *VARIANTS) if name not in LOOSE])
    def predictor(self, request):
        return registered(request.param)


class TestKalman(PredictorContract):
    variance_factor = 6.0  # its process noise is inflated on purpose, see its docstring

    def make(self):
        return registered("kalman")


class TestJakesWiener(PredictorContract):
    variance_factor = None  # its Doppler spectrum is not that of this suite's rays

    def make(self):
        return registered("jakes-wiener")


class TestStack(PredictorContract):
    def make(self):
        weights = torch.tensor([[0.25 + 0.1j, 0.75 - 0.1j]])
        return StackPredictor([HoldPredictor(), WienerPredictor()], weights)


class TestAirlamTiny(PredictorContract):
    # Calibrated on 3GPP links, and these undamped rays are easier; its test in tests/models judges it on 3GPP links.
    variance_factor = 6.0

    def make(self):
        return airlam.load_predictor("airlam-tiny")


class TestAirlamPaths(PredictorContract):
    variance_factor = 6.0  # as airlam-tiny, which is inside

    def make(self):
        return paths_network()


class TestComparators(PredictorContract):
    @pytest.fixture(params=ANY_BAND)
    def predictor(self, request):
        return comparator(request.param)


class TestComparatorsOfOneBand(PredictorContract):
    one_band = True

    @pytest.fixture(params=ONE_BAND)
    def predictor(self, request):
        return comparator(request.param)


def test_nothing_is_left_out():
    assert {*ANY_BAND, *ONE_BAND} == set(KINDS)
    assert set(LOOSE) <= set(REGISTERED) and {method for method, _ in VARIANTS.values()} <= set(REGISTERED)


def test_the_contract_silences_torchs_warning_on_complex32(tmp_path):
    """Only that one: a warning of the method itself is still shown."""
    (tmp_path / "test_mine.py").write_text(
        "import warnings\n"
        "from airlam.baselines import HoldPredictor\n"
        "from airlam.testing import PredictorContract\n"
        "class Warns(HoldPredictor):\n"
        "    def predict(self, *arguments, **options):\n"
        "        warnings.warn('mine', stacklevel=1)\n"
        "        return super().predict(*arguments, **options)\n"
        "class TestMine(PredictorContract):\n"
        "    def make(self):\n        return Warns()\n"
    )
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-k", "complex32", "test_mine.py"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "UserWarning: mine" in done.stdout and "ComplexHalf" not in done.stdout
