"""Methods of one's own: class paths, mappings, classes, objects; and what is wrong with them in one line."""

from __future__ import annotations

import importlib.util
import sys

import pytest

from airlam.evaluation.benchmarks.beamforming.chains import chain_text
from airlam.evaluation.benchmarks.channel_prediction.benchmark import ChannelPredictionBenchmark
from airlam.evaluation.engine.contenders import Entries
from airlam.evaluation.report.style import is_learned, look
from airlam.interfaces import RecipeError
from airlam.loading import load_precoder, load_predictor
from airlam.methods import find, own_method

CODE = """
import torch
from {helper} import FACTOR

class Own:
    name = "own-{tag}"
    tuning_grid = {{"factor": (0.5, 1.0)}}

    def __init__(self, factor: float = FACTOR):
        self.factor = factor

    def predict(self, h_past, num_future, *, port_shape=None, context=None):
        from {helper} import FACTOR  # once more, long after the import of this file
        return self.factor * h_past[..., -1:, :, :, :].expand(*h_past.shape[:-4], num_future, *h_past.shape[-3:])

class Net(Own):
    name, tuning_grid = "net-{tag}", None

    def __init__(self, width: int = 3):
        super().__init__()
        self.encoder = torch.nn.Linear(width, width)

class Beams:
    name = "beams-{tag}"

    def precode(self, h, power, no, *, error_covariance=None):
        return h.mH

class Nothing:
    pass

class NoName:
    def predict(self, *args, **kwargs):
        pass

class ARTwin(Own):
    name = "ar"

def broken():
    raise RuntimeError("inside")
"""


@pytest.fixture
def own(tmp_path, monkeypatch, request):
    """The name of a module in the current folder; it is forgotten afterwards."""
    tag = f"t{abs(hash(request.node.name)) % 10**8}"
    module, helper = f"own_{tag}", f"helper_{tag}"
    (tmp_path / f"{module}.py").write_text(CODE.format(tag=tag, helper=helper))
    (tmp_path / f"{helper}.py").write_text("FACTOR = 0.5\n")
    (tmp_path / "datasets").mkdir()
    (tmp_path / "datasets" / "__init__.py").write_text("")
    monkeypatch.chdir(tmp_path)
    before = list(sys.path)
    yield module
    assert sys.path == before and importlib.util.find_spec("datasets") is None
    sys.modules.pop(module, None)
    sys.modules.pop(helper, None)


def test_every_spelling_builds_the_same(own, tmp_path):
    for value in (
        f"{own}:Own",
        f"{own}.Own",
        f"{own}.py:Own",
        f"{tmp_path}/{own}.py:Own",
        {"class_path": f"{own}.Own"},
        {"class_path": f"{own}:Own", "init_args": {"factor": 0.5}},
    ):
        assert load_predictor(value).factor == 0.5, value
    assert load_predictor(f"{own}:Own", factor=2.0).factor == 2.0
    made = load_predictor(f"{own}:Own")
    assert load_predictor(made) is made and load_predictor(type(made)).factor == 0.5
    assert load_precoder(f"{own}:Beams").name.startswith("beams-")


def test_what_is_wrong_is_said_in_one_line(own):
    for value, message in (
        ("no_such_module:Own", "no module 'no_such_module' is installed or in the current folder"),
        (f"{own}:Owm", "did you mean 'Own'"),
        (f"{own}.py:Owm", "did you mean 'Own'"),
        ("missing.py:Own", "there is no file"),
        ({"class_path": f"{own}.Own", "init_args": {"facto": 1}}, "did you mean 'factor'"),
        ({"class_path": f"{own}.Own", "init_args": {"factor": "much"}}, "factor is 'much', but must be a number"),
        ({"class_path": f"{own}.Own", "args": {}}, "no key 'args'"),
        ({"init_args": {}}, "must be a mapping with class_path"),
        (f"{own}:Nothing", "a predictor is an object with the function predict()"),
        (f"{own}:Beams", "a predictor is an object with the function predict()"),
        (3, "a predictor is an object with the function predict()"),
    ):
        with pytest.raises(RecipeError) as error:
            load_predictor(value)
        assert message in str(error.value) and "\n" not in str(error.value), value
    with pytest.raises(RecipeError, match="has no attribute name"):
        own_method(f"{own}:NoName", "predictor", "methods")
    with pytest.raises(RecipeError, match="is called 'ar', which is another method's name"):
        own_method(f"{own}:ARTwin", "predictor", "methods")


def test_a_file_that_fails_says_why(own, tmp_path):
    (tmp_path / f"bad_{own}.py").write_text("import nothing_of_this_name\n")
    (tmp_path / f"worse_{own}.py").write_text("1 / 0\n")
    with pytest.raises(RecipeError, match="needs 'nothing_of_this_name', which is not installed"):
        load_predictor(f"bad_{own}:X")
    with pytest.raises(RecipeError, match="cannot be imported .ZeroDivisionError"):
        load_predictor(f"worse_{own}:X")


def test_kind_label_and_grid(own):
    classical, learned = own_method(f"{own}:Own", "predictor", "x"), own_method(f"{own}:Net", "predictor", "x")
    assert (classical.kind, learned.kind) == ("classical", "learned") and classical.grid and not learned.grid
    assert not is_learned(classical.name) and is_learned(learned.name)
    assert look(classical.name).color != look(learned.name).color
    named = own_method({"class_path": f"{own}.Own", "name": "renamed", "init_args": {"factor": 0.25}}, "predictor", "x")
    assert named.name == "renamed" and named.build().factor == 0.25 and find("renamed") == named


def test_a_benchmark_takes_them_wherever_a_name_stands(own):
    net = load_predictor(f"{own}:Net")
    benchmark = ChannelPredictionBenchmark(
        model=net,
        others={"mine": f"{own}.Own", "plain-ar": "ar"},
        methods=["hold", "ar", "{model}", "{model}:no-correction", {"class_path": f"{own}:Own"}, "perfect"],
    )
    other = load_predictor(f"{own}:Own").name
    assert benchmark.methods == ["hold", "ar", net.name, "mine", "plain-ar", other, "perfect"]
    built = benchmark.entries.built()
    assert built[net.name] is net and built["mine"].grid and built["plain-ar"].grid
    assert benchmark.config["model"].endswith(".Net") and benchmark.config["others"]["mine"] == f"{own}.Own"
    with pytest.raises(RecipeError, match="another method's name"):
        Entries("airlam-tiny", {"ar": f"{own}.Own"}, ["{model}"])
    with pytest.raises(RecipeError, match="two rows called"):
        Entries("airlam-tiny", (), [f"{own}:Own", {"class_path": f"{own}:Own", "init_args": {"factor": 1.0}}])


def test_chains_take_them_on_both_sides(own):
    csi, beams = load_predictor(f"{own}:Own").name, load_precoder(f"{own}:Beams").name
    assert chain_text(f"{own}:Own + {own}:Beams") == f"{csi} + {beams}"
    assert chain_text({"csi": {"class_path": f"{own}.Own"}, "precoder": "rzf"}) == f"{csi} + rzf"
    assert chain_text("{model} + robust rzf") == "{model} + robust rzf"
    with pytest.raises(RecipeError, match="a precoder is an object with the function precode"):
        chain_text(f"ar + {own}:Own")
    with pytest.raises(RecipeError, match="keys csi and precoder"):
        chain_text({"csi": "ar"})
