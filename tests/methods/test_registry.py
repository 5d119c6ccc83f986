"""The registry of methods: shipped, installed and own ones, found without importing their classes."""

from __future__ import annotations

import inspect
import os
import subprocess
import sys

import pytest

from airlam.errors import RecipeError
from airlam.evaluation.report.style import is_learned, look
from airlam.loading import load_precoder, load_predictor
from airlam.methods import KINDS, ROLES, Method, find, get, grid_of, known, names, register

BUILT = [method for method in known() if method.factory]


@pytest.mark.parametrize("method", BUILT, ids=lambda method: f"{method.role}-{method.name}")
def test_a_factory_takes_its_options_and_grid(method):
    factory = method.load()
    parameters = inspect.signature(getattr(factory, "fit", factory)).parameters
    assert set(method.options) | set(method.grid) <= set(parameters)
    assert all(len(values) > 1 for values in method.grid.values())


@pytest.mark.parametrize("method", known(), ids=lambda method: f"{method.role}-{method.name}")
def test_every_shipped_method_has_a_look(method):
    assert method.role in ROLES and method.kind in KINDS and method.label
    assert look(method.name).label


def test_names_build_what_they_say():
    for name in names("predictor", built=True):
        assert load_predictor(name).name in (name, "wiener")  # two spectra of one filter
    for name in names("precoder", "classical", built=True):
        assert load_precoder(name).name == name


def test_vector_prony_is_classical():
    assert not is_learned("vector-prony") and not is_learned("jakes-wiener") and is_learned("gru")
    assert look("vector-prony").label == "vector Prony (tuned)"


def test_the_grid_of_a_class():
    from airlam.baselines import ARPredictor

    assert grid_of(ARPredictor) == find("ar", "predictor").grid
    own = type("Own", (), {"tuning_grid": {"order": (1, 2)}})
    assert grid_of(own) == {"order": (1, 2)} and grid_of(type("Bare", (), {})) is None


def test_one_name_one_method():
    with pytest.raises(ValueError, match="there is a predictor 'ar' already"):
        register(Method("ar", factory="mine:AR"))
    register(Method("test-one-name", factory="mine:A"))
    with pytest.raises(ValueError, match="registered already"):
        register(Method("test-one-name", factory="mine:B"))
    assert register(Method("test-one-name", factory="mine:B"), replace=True).factory == "mine:B"


@pytest.mark.parametrize(
    ("change", "message"),
    [({"role": "oracle"}, "role of method"), ({"kind": "neural"}, "kind of method"), ({"name": "a + b"}, "without")],
)
def test_a_wrong_declaration_is_refused(change, message):
    with pytest.raises(ValueError, match=message):
        Method(**{"name": "x", **change})


def run(code: str, path) -> subprocess.CompletedProcess:
    environment = {key: value for key, value in os.environ.items() if not key.startswith("PYTHON")}
    environment["PYTHONPATH"] = str(path)
    return subprocess.run([sys.executable, "-c", code], cwd=path, env=environment, capture_output=True, text=True)


def test_listing_imports_no_torch(tmp_path):
    done = run("import sys; from airlam.methods import known; known(); print('torch' in sys.modules)", tmp_path)
    assert done.stdout.strip() == "False", done.stderr


def test_an_installed_package_adds_methods(tmp_path):
    """Its entry point is read; a broken one of another package is left out with one line."""
    (tmp_path / "their_package.py").write_text(
        "from airlam.methods import Method\n"
        "METHODS = [Method('theirs', factory='their_package:Theirs', label='theirs (tuned)', grid={'a': (1, 2)})]\n"
        "class Theirs:\n    name = 'theirs'\n    def __init__(self, a=1):\n        self.a = a\n"
        "    def predict(self, h_past, num_future, *, port_shape=None, context=None):\n        return h_past\n"
    )
    for name, value in (("theirs", "their_package:METHODS"), ("broken", "no_such_package:METHODS")):
        info = tmp_path / f"{name}-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
        (info / "entry_points.txt").write_text(f"[airlam.methods]\n{name} = {value}\n")
    done = run(
        "import airlam\n"
        "from airlam.evaluation.report.style import look\n"
        "from airlam.evaluation.engine.contenders import check_methods\n"
        "print(airlam.load_predictor('theirs', a=2).a, look('theirs').label, check_methods(['theirs', 'ar'], []))",
        tmp_path,
    )
    assert done.stdout.strip() == "2 theirs (tuned) ['theirs', 'ar']", done.stderr
    assert "entry point 'broken' of airlam.methods" in done.stderr


def test_a_method_that_must_exist_is_found_or_named():
    assert get("ar", "predictor") is find("ar", "predictor")
    with pytest.raises(RecipeError, match="'arr' is no predictor; known are .*hold"):
        get("arr", "predictor")
