"""The benchmark of mechanisms end to end, small, and what it refuses."""

from __future__ import annotations

import pytest

from airlam.edge.parallel.benchmark.benchmark import ParallelBenchmark
from airlam.edge.parallel.benchmark.sentences import GROUP, front
from airlam.edge.parallel.benchmark.study import Study
from airlam.edge.parallel.benchmark.training import Job, one_process
from airlam.edge.parallel.engine.training import Training
from airlam.errors import RecipeError
from airlam.evaluation.rows import Figure, Results, Row
from airlam.recipes import find_recipe, read_yaml

RECIPE = "tasks/pretraining/parallel_benchmark.yaml"
MECHANISMS = ("cloud", "one device, own data", "federated", "split, adapters", "data", "tensor")


def arguments(**changes):
    """Of the shipped recipe's quick form."""
    return {**read_yaml(find_recipe(RECIPE))["init_args"], "quick": True, **changes}


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    return Study(ParallelBenchmark(**arguments()), tmp_path_factory.mktemp("study"))


def test_the_shipped_recipe_is_whole():
    given = read_yaml(find_recipe(RECIPE))
    assert given["class_path"] == "airlam.edge.parallel.benchmark.benchmark.ParallelBenchmark"
    bench = ParallelBenchmark(**given["init_args"])
    kinds = {one.kind for one in bench.kinds.values()}
    assert kinds == {"cloud", "one device", "federated", "split", "collaborative", "planned"}
    modes = {one.mode for one in bench.kinds.values() if one.kind == "collaborative"}
    assert modes == {"data", "sequence", "tensor", "pipeline", "looped", "hybrid"}


def test_every_owner_brings_as_many_links_and_all_of_them_are_seen(study):
    """Batches are a function of step and seed; an epoch is a permutation of an owner's users."""
    batch, again = study.workload.batch(3, seed=1), study.workload.batch(3, seed=1)
    assert len(batch["h_past"]) == study.benchmark.federation.batch_size
    assert batch["h_past"].equal(again["h_past"])
    assert not batch["h_past"].equal(study.workload.batch(3, seed=2)["h_past"])
    assert len(study.workload.batch(0, 1, owners=[1])["h_past"]) == len(batch["h_past"])


def test_mechanisms_that_train_the_same_model_share_a_training(study):
    jobs = study.jobs
    assert jobs["cloud"] == jobs["tensor"] == jobs["data"] == jobs["one device, all data"]
    assert jobs["one device, own data"] != jobs["cloud"] != jobs["federated"]
    assert jobs["looped, 1 layer x 4"] == Job("together", layers=1, loops=4)


def test_all_that_trains_gets_a_gradient(study):
    """Sums of gradients over ranks wait for each of them."""
    with one_process():
        training = Training(study.trainer.alone(Job("together"), 1))
        training._update = lambda norm: None  # keeps the gradients
        training.train_step(study.workload.batch(0, 1))
    trained = {name: p for name, p in training.part.model.named_parameters() if p.requires_grad}
    assert [name for name, p in trained.items() if p.grad is None] == []
    assert sum(p.numel() for p in trained.values()) == study.profile.parameters


def test_no_other_beats_the_front():
    def row(name, seconds, joules):
        return Row(
            name, "x", figures={"seconds": Figure(seconds, "s", "modelled"), "joules": Figure(joules, "J", "modelled")}
        )

    rows = [row("a", 1.0, 9.0), row("b", 2.0, 3.0), row("c", 3.0, 4.0), row("d", 4.0, 2.0)]
    assert [one.method for one in front(rows)] == ["a", "b", "d"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"mechanisms": {"x": {"kind": "fog"}}}, "mechanisms.x.kind is 'fog'"),
        ({"mechanisms": {"x": {"mode": "tensr"}}}, "mechanisms.x.mode is 'tensr'"),
        ({"mechanisms": {"x": {"knid": "cloud"}}}, "knid"),
        ({"mechanisms": {"x": {"kind": "split"}}}, "no lora_rank"),
        ({"mechanisms": {"x": {"mode": "tensor", "shares": "owners"}}}, "only mode data"),
        ({"only": ["moon"]}, "only names 'moon'"),
        ({"owners": {}}, "owners must not be empty"),
        ({"workload": {"batch_size": 7}}, "multiple of the 4 owners"),
        ({"workload": {"local_stesp": 7}}, "workload and owners"),
        ({"server": {"device": "moon"}}, "no device 'moon'"),
    ],
)
def test_what_does_not_exist_is_named(changes, message):
    with pytest.raises(RecipeError, match=message):
        ParallelBenchmark(**arguments(**changes))


@pytest.mark.slow
def test_quick_form_from_trainings_to_report(tmp_path):
    """Rows, equality of real processes, bytes to the byte, plots; a second call runs nothing again."""
    report = ParallelBenchmark(**arguments(only=MECHANISMS)).run(tmp_path)
    results = Results.load(tmp_path / "results.json")
    rows = {row.method: row for row in results.select(group=GROUP)}
    assert set(MECHANISMS) <= set(rows)
    assert rows["cloud"].figures["raw_mb"].number > 0
    for name in ("one device, own data", "federated", "split, adapters", "data"):
        assert rows[name].figures["raw_mb"].number == 0
    for name in ("data", "tensor"):
        row = rows[name]
        assert row.settings["equal"] and row.settings["processes"] == 2
        assert row.figures["bytes_off"].number == 0
        assert row.figures["nmse_cells_db"] == rows["cloud"].figures["nmse_cells_db"]
    for row in rows.values():
        if "joules" in row.figures:
            phases = sum(row.figures[f"joules_{phase}"].number for phase in ("compute", "send", "wait"))
            assert phases == pytest.approx(row.figures["joules"].number)
            assert row.figures["joules"].kind == row.figures["seconds"].kind == "modelled"
    plots = {path.name for path in (tmp_path / "plots").glob("*.png")}
    assert plots == {"energy_vs_time.png", "timeline.png", "bytes_bars.png", "nmse_vs_time.png"}
    assert report.is_file() and results.headline.startswith("Fastest: ")

    before = {path: path.stat().st_mtime_ns for path in tmp_path.glob("*/*.json")}
    ParallelBenchmark(**arguments(only=MECHANISMS)).run(tmp_path)
    assert {path: path.stat().st_mtime_ns for path in tmp_path.glob("*/*.json")} == before
