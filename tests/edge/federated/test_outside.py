"""An aggregation scheme and a server strategy from outside the package, found by name, entry point and class path."""

from __future__ import annotations

import sys

import numpy as np
import pytest
from flwr.serverapp import strategy as flower

from airlam.edge.federated import run_rounds
from airlam.edge.federated.adapters import layers, stacked
from airlam.edge.federated.aggregation import SCHEMES, STRATEGIES, Scheme, ServerStrategy
from airlam.edge.federated.aggregation.svd import refactorise
from airlam.errors import RecipeError
from airlam.recipes.registry import Registry

OUTSIDE = '''
import numpy as np
from airlam.edge.federated.aggregation import Scheme, ServerStrategy

class Half(Scheme):
    """The average of B halved: devices move the model more slowly."""
    name = "half"
    averages_products = True
    def combine(self, updates, weights, before, rank):
        found = super().combine(updates, weights, before, rank)
        return {k: (0.5 * v).astype(np.float32) if k.startswith("B/") else v for k, v in found.items()}

class Timid(ServerStrategy):
    """FedAvg that promises nothing with fewer than three updates."""
    name = "timid"
    plain_mean = True
    arguments_known = {"least": (1, 10, True)}
    def weakness(self, count):
        return None if count >= self.arguments.get("least", 3) else "timid"
    def make(self):
        return type(self)({}, 1).flower(min_train_nodes=1, min_evaluate_nodes=1, min_available_nodes=1)
'''
ENTRY_POINTS = """[airlam.aggregation_schemes]
half = outside_fed:Half
[airlam.server_strategies]
timid = outside_fed:Timid
"""


@pytest.fixture
def outside(tmp_path, monkeypatch):
    """A package that is installed beside airlam, with its entry points."""
    about = tmp_path / "outside_fed-1.0.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: outside-fed\nVersion: 1.0\n")
    (about / "entry_points.txt").write_text(ENTRY_POINTS)
    (tmp_path / "outside_fed.py").write_text(OUTSIDE)
    monkeypatch.syspath_prepend(tmp_path)
    yield
    sys.modules.pop("outside_fed", None)


@pytest.mark.parametrize("names", [("half", "timid"), ("outside_fed.Half", "outside_fed.Timid")], ids=["name", "path"])
def test_a_scheme_and_a_strategy_of_another_package_run(outside, federation, names):
    scheme, strategy = names
    f = federation(rounds=1, aggregation=scheme, strategy=strategy, strategy_args={"least": 4})
    mine = run_rounds(f)
    plain = run_rounds(federation(rounds=1, aggregation="naive"))
    for name, value in plain.arrays.items():
        factor = 0.5 if name.startswith("B/") else 1.0
        assert np.allclose(mine.arrays[name], factor * value, atol=1e-7)  # single precision
    assert mine.rounds[1].notes == ["timid"]
    assert type(f).from_json(f.to_json()).scheme.name == "half"  # as another process would find it


def test_a_registered_scheme_is_the_packages_own_equal(federation):
    """One class and one line: SVD written anew gives the same bits as the package's."""

    class Again(Scheme):
        name = "svd-again"
        averages_products = True

        def combine(self, updates, weights, before, rank):
            made = {}
            for layer in layers(updates[0]):
                b, a = refactorise(*stacked(updates, weights, layer), rank)
                made |= {f"A/{layer}": a.astype(np.float32), f"B/{layer}": b.astype(np.float32)}
            return made

    SCHEMES.register(Again)
    try:
        mine, packaged = (run_rounds(federation(rounds=1, aggregation=name)) for name in ("svd-again", "svd"))
        assert all(np.array_equal(mine.arrays[name], packaged.arrays[name]) for name in packaged.arrays)
        assert "svd-again" in SCHEMES.names()
    finally:
        SCHEMES._classes.pop("svd-again")


def test_names_that_cannot_be_used_are_told(federation, outside):
    class Taken(Scheme):
        name = "svd"

    with pytest.raises(ValueError, match="'svd' of .*Taken is empty or taken"):
        SCHEMES.register(Taken)
    with pytest.raises(TypeError, match="must be a subclass of ServerStrategy"):
        STRATEGIES.register(flower.FedAvg)
    for name, words in (
        ("haalf", "did you mean 'half'"),
        ("outside_fed.Timid", "no subclass of Scheme"),
        ("outside_fed.Nothing", "no class 'outside_fed.Nothing'"),
        (7, "aggregation is 7"),
    ):
        with pytest.raises(RecipeError, match=words):
            federation(aggregation=name)
    assert isinstance(SCHEMES, Registry) and issubclass(STRATEGIES.find("timid"), ServerStrategy)
