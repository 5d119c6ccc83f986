"""Methods of one's own: class paths, mappings, classes, objects; and what is wrong with them in one line."""

from __future__ import annotations

import importlib.util
import sys

import pytest
import torch

from airlam.channels import load_channel
from airlam.errors import CheckpointError, RecipeError
from airlam.evaluation import BeamformingBenchmark, BeamManagementBenchmark
from airlam.evaluation.benchmarks.beamforming.chains import chain_text, parse_chain
from airlam.evaluation.benchmarks.channel_prediction.benchmark import ChannelPredictionBenchmark
from airlam.evaluation.engine.contenders import Entries, tuned
from airlam.evaluation.report.style import is_learned, look
from airlam.loading import load_precoder, load_predictor
from airlam.methods import Method, find, own_method, register
from airlam.models.comparators import build_comparator

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

class EmptyName(NoName):
    name = ""

class Typo(Own):
    name, tuning_grid = "typo-{tag}", {{"facto": (0.5, 1.0)}}

class OneValue(Own):
    name, tuning_grid = "one-{tag}", {{"factor": 0.5}}

class NoMapping(Own):
    name, tuning_grid = "list-{tag}", ["factor"]

class Hidden(Own):
    name = "hidden-{tag}"

    def __init__(self, factor: float = 0.25):
        self._kept = self.factor_of = factor

    def predict(self, h_past, num_future, *, port_shape=None, context=None):
        return self._kept * h_past[..., -1:, :, :, :].expand(*h_past.shape[:-4], num_future, *h_past.shape[-3:])

class NetWithGrid(Own):
    name = "net-grid-{tag}"

    def __init__(self, factor: float = 1.0):
        super().__init__(factor)
        self.encoder = torch.nn.Linear(1, 1)

class TunedBeams:
    name, tuning_grid = "tuned-beams-{tag}", {{"load": (0.1, 1.0), "step": (1, 2)}}

    def __init__(self, load: float = 1.0, step: int = 1):
        self.load = load

    def precode(self, h, power, no, *, error_covariance=None):
        return h.mH

class ARTwin(Own):
    name = "ar"

class NoSignature(Own):
    def predict(self, h_past, num_future):
        return h_past

class NoCovariance(Beams):
    def precode(self, h, power, no):
        return h.mH

class AnyKeywords:
    name = "any"

    def predict(self, h_past, num_future, **kwargs):
        return h_past

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


def test_a_method_without_a_name_is_refused_wherever_it_is_loaded(own):
    message = "NoName has no attribute name, but must have a text there; add a line like name = 'mine' to its class"
    made = type(load_predictor(f"{own}:Own")).__module__
    for value in (f"{own}:NoName", {"class_path": f"{own}.NoName"}, vars(sys.modules[made])["NoName"]()):
        with pytest.raises(RecipeError, match=message):
            load_predictor(value)
        for name in ("", "mine"):
            with pytest.raises(RecipeError, match=message):
                own_method(value, "predictor", "others.mine", name)
    with pytest.raises(RecipeError, match="has the attribute name '', but must have a text"):
        load_predictor(f"{own}:EmptyName")
    register(Method("nameless", factory=f"{own}:NoName"), replace=True)
    with pytest.raises(RecipeError, match=f"predictor 'nameless': {own}.{message}"):
        load_predictor("nameless")
    with pytest.raises(RecipeError, match=f"predictor 'nameless': {own}.{message}"):
        Entries("nameless", (), ["{model}"]).built()


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        (
            "Typo",
            "tuning_grid of Typo has 'facto', which is not its argument; did you mean 'factor'",
        ),
        ("OneValue", "tuning_grid of OneValue has 0.5 for factor, but must have a list of values to try"),
        ("NoMapping", r"tuning_grid of NoMapping is \['factor'\], but must map arguments to lists of values"),
        ("NetWithGrid", "has a tuning_grid for factor, but benchmarks do not tune a learned predictor"),
    ],
)
def test_a_tuning_grid_that_cannot_be_used_is_refused(own, kind, message):
    with pytest.raises(RecipeError, match=f"others.mine: .*{message}"):
        own_method(f"{own}:{kind}", "predictor", "others.mine", "mine")


def test_a_grid_of_a_registered_method_is_checked_when_it_is_tuned(own):
    load_predictor(f"{own}:Own")
    h = torch.randn(4, 10, 3, 1, 2, dtype=torch.complex64)
    method = Method("typo-registered", factory=f"{own}:Own", grid={"facto": (0.5, 1.0)})
    with pytest.raises(RecipeError, match="predictor 'typo-registered': .*did you mean 'factor'"):
        tuned(method, h[:, :8], h[:, 8:], port_shape=(1, 2, 1), context={})


def test_a_grid_needs_no_attributes_of_its_names(own):
    h = torch.randn(4, 1, 3, 1, 2, dtype=torch.complex64).expand(-1, 10, -1, -1, -1)
    method = own_method(f"{own}:Hidden", "predictor", "methods")
    assert tuned(method, h[:, :8], h[:, 8:], port_shape=(1, 2, 1), context={})[1] == {"factor": 1.0}


def test_a_precoder_with_a_grid_is_refused_until_its_arguments_are_given(own):
    def chain(**init_args):
        return {"csi": "ar", "precoder": {"class_path": f"{own}.TunedBeams", "init_args": init_args}}

    for value, keys in ((f"ar + {own}:TunedBeams", "load, step"), (chain(load=0.5), "step")):
        with pytest.raises(RecipeError, match=f"has a tuning_grid for {keys}, but benchmarks do not tune a precoder"):
            chain_text(value)
    assert chain_text(chain(load=0.5, step=2)).startswith("ar + tuned-beams-")
    with pytest.raises(ValueError, match="method 'theirs' has a grid for load, but benchmarks do not tune a precoder"):
        Method("theirs", "precoder", factory="theirs:Beams", grid={"load": (0.1, 1.0)})
    with pytest.raises(RecipeError, match="benchmarks do not tune a precoder"):
        BeamformingBenchmark(precoder=f"{own}:TunedBeams")


def test_a_model_with_a_grid_is_tuned_in_every_benchmark(own):
    benchmark = BeamformingBenchmark(model=f"{own}:Own", precoder="wmmse", static={"csi_snr_db": []})
    assert benchmark._load().model.grid == {"factor": (0.5, 1.0)}
    entries = Entries(f"{own}:Own", (), ["{model}"])
    assert entries.built()[entries.label].grid == {"factor": (0.5, 1.0)}


def test_a_class_whose_file_is_not_there_is_named_with_its_place(own, tmp_path):
    """Wherever a method is named, as for a benchmark's own class_path."""
    reason = f"no class 'linn.Damped': no module 'linn' is installed or in the current folder {tmp_path}"
    for source, make in (
        ("others.x", lambda value: Entries("airlam-tiny", {"x": value}, ["{model}"])),
        ("others", lambda value: Entries("airlam-tiny", [value], ["{model}"])),
        ("model", lambda value: Entries(value, (), ["{model}"])),
        ("methods", lambda value: Entries("airlam-tiny", (), ["{model}", value])),
        ("methods", lambda value: BeamManagementBenchmark(methods=[value])),
        ("precoder", lambda value: BeamformingBenchmark(precoder=value)),
        ("controls.x", lambda value: BeamformingBenchmark(controls={"x": value})),
        ("'linn.Damped + rzf'", lambda value: parse_chain(f"{value} + rzf", ["ar"], [])),
        ("'ar + linn.Damped'", lambda value: parse_chain(f"ar + {value}", ["ar"], [])),
        ("predictor", load_predictor),
        ("precoder", load_precoder),
        ("scenario", lambda value: load_channel({"scenario": value})),
        ("comparator", build_comparator),
    ):
        with pytest.raises(RecipeError) as error:
            make("linn.Damped")
        assert str(error.value) == f"{source}: {reason}", source
    for name in ("last.ckpt", "airlam-tinny", "weights.pt"):
        with pytest.raises(CheckpointError, match="no checkpoint file|no predictor or checkpoint"):
            load_predictor(name)


def test_a_row_is_called_after_its_key(own):
    twin, mine = f"{own}.ARTwin", {"class_path": f"{own}.Own", "name": "y"}
    with pytest.raises(RecipeError, match="others.ar: .* 'ar', which is another method's name; rename the key 'ar'"):
        Entries("airlam-tiny", {"ar": f"{own}.Own"}, ["{model}"])
    with pytest.raises(RecipeError, match="change its attribute name, or write another name: beside class_path"):
        Entries("airlam-tiny", [twin], ["{model}"])
    assert "free" in Entries("airlam-tiny", {"free": twin}, ["{model}"]).names
    with pytest.raises(RecipeError, match="others.x: name is 'y', but the row is called after its key 'x'; rename"):
        Entries("airlam-tiny", {"x": mine}, ["{model}"])
    assert "y" in Entries("airlam-tiny", {"y": mine}, ["{model}"]).names  # they say the same
    assert "y" in Entries("airlam-tiny", [mine], ["{model}"]).names
    with pytest.raises(RecipeError, match=r"others.a\+b: the name of a method is 'a\+b', .* rename the key 'a\+b'"):
        Entries("airlam-tiny", {"a+b": f"{own}.Own"}, ["{model}"])


def test_a_function_that_cannot_be_called_is_refused_when_it_is_loaded(own, tmp_path):
    message = (
        rf"others.x: {own}.NoSignature.predict\(h_past, num_future\) in {tmp_path}/{own}.py cannot be called as "
        r"predict\(h_past, num_future, port_shape=None, context=None\): .*'port_shape'; give it these arguments, or "
    )
    with pytest.raises(RecipeError, match=message):
        Entries("airlam-tiny", {"x": f"{own}.NoSignature"}, ["{model}"])
    with pytest.raises(RecipeError, match=r"cannot be called as precode\(h, power, no, error_covariance=None\)"):
        load_precoder(f"{own}.NoCovariance")
    assert load_predictor(f"{own}.AnyKeywords").name == "any"


def test_the_wrong_half_of_a_chain_is_named(own):
    value = f"{own}.Own + {own}.Own"
    with pytest.raises(RecipeError) as error:
        chain_text(value)
    assert str(error.value).startswith(f"methods: the right half of {value!r} is '{own}.Own', but a precoder is an")
    with pytest.raises(RecipeError, match=f"methods: the left half of '{own}.Beams [+] .*but a predictor is"):
        chain_text(f"{own}.Beams + rzf")
    with pytest.raises(RecipeError, match=f"methods.precoder is '{own}.Own', but a precoder is"):
        chain_text({"csi": "ar", "precoder": f"{own}.Own"})


def test_a_second_benchmark_of_one_process_may_have_the_same_rows(own):
    for _ in range(2):
        entries = Entries("airlam-tiny", {"mine": f"{own}.Own", "plain-ar": "ar"}, ["{model}"])
        assert entries.names == ["airlam-tiny", "mine", "plain-ar"]
    with pytest.raises(RecipeError, match="another row's name"):
        Entries("airlam-tiny", ["ar"], ["ar", "{model}"])
