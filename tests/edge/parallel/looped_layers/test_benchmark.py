"""The benchmark of looped layers end to end, and what it refuses."""

from __future__ import annotations

import pytest

from airlam.edge.parallel.looped_layers.benchmark import LoopedLayersBenchmark
from airlam.edge.parallel.looped_layers.training import task_arguments
from airlam.errors import RecipeError
from airlam.evaluation import Results
from airlam.io import read_json
from airlam.models import AirlamConfig, AirlamModel
from airlam.testing import BenchmarkContract

CLASS_PATH = "airlam.edge.parallel.looped_layers.benchmark.LoopedLayersBenchmark"


def test_parameters_are_constant_in_loops():
    bench = LoopedLayersBenchmark()
    sizes = {}
    for variant in bench.kinds.values():
        config = AirlamConfig(**task_arguments(bench.recipe, variant, bench.training)["model"])
        sizes.setdefault(variant.layers, set()).add(sum(p.numel() for p in AirlamModel(config).parameters()))
    assert {layers: len(found) for layers, found in sizes.items()} == {4: 1, 8: 1, 1: 1}


def test_a_run_depends_on_its_own_variant_and_seed():
    bench, other = LoopedLayersBenchmark(), LoopedLayersBenchmark(seeds=[5], variants={"4 layers": {"layers": 4}})
    kinds = list(bench.kinds.values())
    assert len({bench.hash_of(variant, seed) for variant in kinds for seed in (1, 2)}) == 2 * len(kinds)
    assert bench.hash_of(kinds[0], 1) == other.hash_of(kinds[0], 1)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"variants": {"a": {"loops": 2}}}, "must hold layers"),
        ({"variants": {"a": {"layers": 1, "loops": 65}}}, "at most 64"),
        ({"reference": "12 layers"}, "the variants are"),
        ({"training": {"minutes": 0}}, "training.minutes is 0"),
        ({"sizes": {"num_links": 7}}, "multiple of sizes.links_per_draw"),
        ({"seeds": []}, "must not be empty"),
    ],
)
def test_wrong_arguments_are_named(given, message):
    with pytest.raises(RecipeError, match=message):
        LoopedLayersBenchmark(**given)


def test_a_report_of_nothing_is_refused(tmp_path):
    with pytest.raises(RecipeError, match="no finished run"):
        LoopedLayersBenchmark(report_only=True).run(tmp_path)


@pytest.mark.slow
class TestContract(BenchmarkContract):
    class_path = CLASS_PATH
    init_args = {
        "quick": True,
        "variants": {"1": {"layers": 1}, "1 x 2": {"layers": 1, "loops": 2}},
        "reference": "1",
    }
    cells = False

    def test_seeds_share_links_and_nothing_runs_twice(self, done):
        runs = {path: path.stat().st_mtime_ns for path in (done / "runs").glob("*.json")}
        records = [read_json(path) for path in runs]
        assert len(records) == 2
        assert records[0]["start"] == records[1]["start"] and records[0]["nmse"] != records[1]["nmse"]
        assert records[0]["parameters"] == records[1]["parameters"]
        self.make().run(done)
        assert runs == {path: path.stat().st_mtime_ns for path in runs}
        assert Results.load(done / "results.json").select(group="comparison")
