"""The benchmark end to end on a tiny set-up: cells, resume, report; and the errors of who mistypes."""

import json
import shutil
from dataclasses import replace

import pytest
import torch
import yaml

import airlam.evaluation
from airlam.errors import RecipeError
from airlam.evaluation.benchmarks.channel_prediction import benchmark as channel_prediction
from airlam.evaluation.benchmarks.channel_prediction.benchmark import ChannelPredictionBenchmark
from airlam.evaluation.engine.contenders import check_methods
from airlam.evaluation.engine.fingerprint import fingerprint
from airlam.evaluation.rows import Results
from airlam.evaluation.runner import load_runner
from airlam.recipes import find_recipe

SMALL = {  # 8 ports x 12 subcarriers, drops of 4 users
    "cells": {
        "scenarios": ["uma_nlos"],
        "speeds_kmh": [3, 30],
        "channel_overrides": {
            "num_subcarriers": 12,
            "bs_panel": {"rows": 2, "columns": 2, "polarisation": "dual", "pattern": "omni"},
        },
    },
    "sizes": {"num_links": 8, "num_tune": 4, "side_links": 4, "links_per_drop": 4},
    "rates": {"users": [2, 4], "tone_step": 6},
    "sweep": {"csi_snr_db": [10, 20]},
    "age": {"speed_kmh": 30},
    "periods": {"periods_ms": [0.5, 1.0], "speed_kmh": 3},
    "methods": ["hold", "ar", "{model}", "{model}:no-correction", "genie_per_bin", "genie_lmmse", "perfect"],
    "impairments": {"kinds": {"none": {}, "missing slots": {"missing": 0.2}}},
    "held_out": {
        "channels": {"28 GHz": {"channel": "umi_nlos", "carrier_frequency": 28e9, "slot_duration": 0.125e-3}},
        "speeds_kmh": [3],
        "num_links": 4,
    },
    "odd": {
        "cells": {
            "one antenna": {"channel": "tdl_a", "speed_kmh": 30, "bs_panel": {"rows": 1, "columns": 1}, "history": 4},
            "wrong ports": {"channel": "uma_nlos", "speed_kmh": 3, "array_errors": {"phase_std": 0.2}},
            "3 bits": {"channel": "uma_nlos", "speed_kmh": 3, "impairment": {"bits": 3}},
        },
        "num_links": 4,
    },
}


def made(model="airlam-tiny", **changes):
    """The small benchmark with some arguments changed, as from a recipe."""
    return load_runner("airlam.evaluation.ChannelPredictionBenchmark", SMALL | {"model": model}, changes)


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """A tiny network with random weights, on disk."""
    from airlam.models import AirlamConfig, AirlamModel, save_checkpoint
    from airlam.models.config import DEFAULT_BACKBONE

    torch.manual_seed(0)
    backbone = DEFAULT_BACKBONE | {"hidden_size": 16, "num_hidden_layers": 1, "intermediate_size": 32}
    config = AirlamConfig(backbone=backbone, num_tokens=16)
    return str(save_checkpoint(AirlamModel(config), tmp_path_factory.mktemp("models") / "pygmy"))


@pytest.fixture(scope="module")
def finished(model, tmp_path_factory):
    """A finished benchmark and its folder."""
    out = tmp_path_factory.mktemp("benchmark")
    path = out / "benchmark.yaml"
    path.write_text(
        yaml.safe_dump(
            {"class_path": "airlam.evaluation.ChannelPredictionBenchmark", "init_args": SMALL | {"model": model}},
            sort_keys=False,
        )
    )
    return airlam.evaluation.run(path, out)


@pytest.mark.slow
def test_end_to_end(finished):
    results = Results.load(finished.parent / "results.json")
    means = {row.method: row for row in results.select(group="mean")}
    assert set(means) == {
        "hold",
        "ar",
        "pygmy",
        "pygmy:no-correction",
        "genie_per_bin",
        "genie_lmmse",
        "perfect",
    }
    for method, row in means.items():
        assert row.data_hash and row.seeds and row.num_links == 16 and row.num_drops == 4
        assert row.figures["sum_se_k2"].interval is not None
        if method != "perfect":
            assert row.figures["nmse_linear_db"].number < 5
    # the limit is below everyone, and nobody beats perfect CSI
    nmse = {method: row.figures["nmse_cells_db"].number for method, row in means.items() if method != "perfect"}
    assert min(nmse, key=nmse.get) == "genie_lmmse"
    sums = {method: row.figures["sum_se_k4"].number for method, row in means.items()}
    assert max(sums, key=sums.get) == "perfect"
    assert means["pygmy"].figures["latency_p50_ms"].number > 0 and means["pygmy"].figures["flops"].number > 0
    assert means["pygmy"].parameters_total > 0 == means["ar"].parameters_total
    assert "latency_p50_ms" not in means["genie_lmmse"].figures
    assert "start_gain_linear_db" in means["pygmy"].figures


@pytest.mark.slow
def test_every_table_is_there(finished):
    results = Results.load(finished.parent / "results.json")
    groups = {row.group for row in results.rows}
    assert groups == {"mean", "cell", "age", "csi_period", "held_out", "impairments", "odd", "path_loss"}
    tuned = results.select(group="cell", method="ar")
    assert all({"order", "ridge", "num_bins", "shrinkage"} <= row.settings.keys() for row in tuned)
    age = results.select(group="age", method="ar")[0]
    curve = age.figures["latency_charged_sum_se"]
    assert curve.kind == "modelled" and curve.axis[0] == 0 and curve.axis[-1] == 10
    assert curve.value[0] > curve.value[-1]  # older is worse
    period = results.select(group="csi_period", method="ar")[0]
    gross, net = period.figures["sum_se_k2"], period.figures["net_sum_se_k2"]
    assert (gross.kind, net.kind) == ("measured", "modelled")
    # one of 14 symbols of a 0.5 ms slot
    assert [n / g for n, g in zip(net.value, gross.value, strict=True)] == pytest.approx([13 / 14, 27 / 28])
    unseen = results.select(group="held_out", method="pygmy")
    assert [row.settings["held_out"] for row in unseen] == ["28 GHz"] and "gain_cells_db" in unseen[0].figures
    odd = {row.settings["odd"]: row for row in results.select(group="odd", method="ar")}
    assert set(odd) == {"one antenna", "wrong ports", "3 bits"} and odd["one antenna"].history == 4
    html = finished.read_text()
    assert "Other inputs and broken assumptions" in html
    assert "Never seen in pretraining" in html
    assert "With true path loss" in html and "http://" not in html and "https://" not in html


@pytest.mark.slow
def test_finished_cells_are_not_run_again(finished, model, tmp_path, monkeypatch):
    out = tmp_path / "copy"
    shutil.copytree(finished.parent, out)
    lost = next((out / "cells").glob("csi_period_*_1ms_*"))
    lost.unlink()
    half = next((out / "cells").glob("impairments_*none*"))
    half.write_text('{"cell": ')  # as if the disk had filled up
    measured = []
    original = channel_prediction.measure_cell
    monkeypatch.setattr(
        channel_prediction, "measure_cell", lambda cell, *rest: measured.append(cell) or original(cell, *rest)
    )
    made(model).run(out)
    assert sorted(cell.group for cell in measured) == ["csi_period", "impairments"]
    assert lost.exists()
    before, after = (Results.load(folder / "results.json") for folder in (finished.parent, out))
    for old, new in zip(before.rows, after.rows, strict=True):
        for name, figure in old.figures.items():
            if "latency" not in name:  # time is not repeatable; everything else is, bit for bit
                assert new.figures[name] == figure, (old.method, name)


@pytest.mark.slow
def test_a_further_method_costs_its_own_rows_alone(finished, model, tmp_path, monkeypatch):
    out = tmp_path / "copy"
    shutil.copytree(finished.parent, out)
    measured = []
    original = channel_prediction.measure_cell
    monkeypatch.setattr(
        channel_prediction, "measure_cell", lambda cell, *rest: measured.append(cell) or original(cell, *rest)
    )
    methods = [*SMALL["methods"][:1], "mean", *SMALL["methods"][1:]]
    made(model, methods=methods).run(out)
    assert measured
    # latencies are taken side by side: a timed cell is measured as a whole
    assert all(cell.methods == ("mean",) for cell in measured if not cell.timed)
    assert all("ar" in cell.methods for cell in measured if cell.timed)
    before, after = (Results.load(folder / "results.json") for folder in (finished.parent, out))
    own = [row for row in after.rows if row.method != "mean"]
    assert [row.method for row in own] == [row.method for row in before.rows]
    for old, new in zip(before.rows, own, strict=True):
        for name, figure in old.figures.items():
            if "latency" not in name:
                assert new.figures[name] == figure, (old.method, name)
    # another tuning grid, another method
    from airlam.methods import get

    changed = replace(get("mean", "predictor"), tune_links=2)
    assert fingerprint(changed) != fingerprint(get("mean", "predictor"))


@pytest.mark.slow
def test_interrupted_it_goes_on_where_it_stopped(model, tmp_path, monkeypatch):
    original, count = channel_prediction.measure_cell, []

    def interrupted(cell, *rest):
        if len(count) == 1:
            raise KeyboardInterrupt
        count.append(cell)
        return original(cell, *rest)

    benchmark = made(
        model,
        methods=["hold", "{model}", "perfect"],
        bar="hold",
        age={"speed_kmh": None},
        periods={"periods_ms": []},
        impairments={"kinds": {}},
        sweep={"csi_snr_db": []},
        held_out={"channels": {}},
        odd={"cells": {}},
    )
    monkeypatch.setattr(channel_prediction, "measure_cell", interrupted)
    with pytest.raises(KeyboardInterrupt):
        benchmark.run(tmp_path)
    assert len(list((tmp_path / "cells").iterdir())) == 1
    monkeypatch.setattr(channel_prediction, "measure_cell", original)
    assert benchmark.run(tmp_path).is_file()
    assert len(list((tmp_path / "cells").iterdir())) == 2


def test_the_name_of_a_cell_holds_all_that_its_figures_depend_on(model):
    names = [cell.name for cell in made(model).all_cells()]
    assert len(set(names)) == len(names)
    for change in ({"seed": 8}, {"sizes.history": 12}, {"sizes.num_links": 12}, {"rates.tone_step": 3}):
        other = made(model, **change).all_cells()
        assert not set(names) & {cell.name for cell in other if cell.headline}


def test_tuning_never_sees_a_test_link(model):
    for cell in made(model).all_cells():
        assert cell.stream("tune") != cell.stream("test")


def test_other_weights_are_other_results():
    from airlam.loading import load_predictor

    class Network:
        def __init__(self, seed):
            torch.manual_seed(seed)
            self.model = torch.nn.Linear(3, 3)

    assert fingerprint(Network(0)) == fingerprint(Network(0)) != fingerprint(Network(1))
    assert fingerprint(load_predictor("ar")) != fingerprint(load_predictor("hold"))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"methods": ["hold", "airlam-tini"]}, "'airlam-tini'; did you mean 'airlam-tiny'"),
        ({"methods": []}, "empty"),
        ({"methods": ["hold", "{model}"]}, "bar is 'ar'"),
        ({"methods": ["hold", "ar"]}, "airlam-tiny"),
        ({"rates": {"users": [3]}}, "groups of 3 users do not fit drops of 8 links"),
        ({"sizes": {"num_links": 100}}, "sizes.num_links is 100"),
        ({"sizes": {"history": 1}}, "sizes.history is 1"),
        ({"cells": {"speeds_kmh": []}}, "must not be empty"),
        ({"age": {"horizon": 2}}, "age.horizon is 2"),
        ({"sizes": {"links_per_drop": 0}}, "links_per_drop is 0"),
        ({"held_out": {"num_links": 12}}, "held_out.num_links is 12"),
        ({"bar": "perfect"}, "must be a classical method"),
        ({"impairments": {"kinds": {"a": {"phase": 1.0}}}}, "impairments.kinds.a has no key 'phase'"),
        ({"others": {"ar": "airlam-tiny"}}, "another row's name"),
        ({"others": {"airlam-tiny": "elsewhere"}}, "another row's name"),
    ],
)
def test_bad_recipes_are_refused_in_one_line(change, message):
    with pytest.raises(RecipeError) as error:
        ChannelPredictionBenchmark(**change)
    assert message in str(error.value) and "\n" not in str(error.value)


def test_unknown_scenario_names_the_nearest():
    with pytest.raises(RecipeError, match="uma_nlos"):
        ChannelPredictionBenchmark(cells={"scenarios": ["uma_nols"]}).all_cells()


def test_a_model_that_others_name_too_has_one_row():
    methods = ["ar", "airlam-tiny", "{model}"]
    benchmark = ChannelPredictionBenchmark(model="airlam-tiny", others=["airlam-tiny"], methods=methods)
    assert benchmark.methods == ["ar", "airlam-tiny"]


def test_methods_keep_their_order_and_count_once():
    assert check_methods(["ar", "hold", "ar", "m:no-correction"], ["m"]) == ["ar", "hold", "m:no-correction"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "class_path: airlam.evaluation.ChannelPredictionBenchmark\ninit_arg: {}",
            "'init_arg'; did you mean 'init_args'",
        ),
        (
            "class_path: airlam.evaluation.ChannelPredictionBenchmark\ninit_args: {num_link: 8}",
            "did you mean 'sizes.num_links'",
        ),
        ("class_path: airlam.evaluation.Benchmark", "no class"),
        ("class_path: airlam.evaluation.Row", "no benchmark"),
        ("init_args: {}", "class_path"),
        ("- a\n- b", "a list"),
        ("a: [", "not valid YAML"),
    ],
)
def test_bad_benchmark_files_are_refused_in_one_line(text, message, tmp_path):
    path = tmp_path / "benchmark.yaml"
    path.write_text(text)
    with pytest.raises(RecipeError) as error:
        airlam.evaluation.run(path, tmp_path)
    assert message in str(error.value) and "\n" not in str(error.value)


def test_a_missing_file_is_named():
    with pytest.raises(RecipeError, match="benchmark"):
        airlam.evaluation.run("tasks/channel_prediction/benchmrk.yaml")


def test_the_shipped_benchmark_is_made_from_its_yaml():
    data = yaml.safe_load(find_recipe("tasks/channel_prediction/benchmark.yaml").read_text())
    benchmark = load_runner(data["class_path"], data["init_args"])
    cells = benchmark.all_cells()
    headline = [cell for cell in cells if cell.headline]
    assert len(headline) == len(benchmark.cells.scenarios) * len(benchmark.cells.speeds_kmh)
    assert sum(cell.timed for cell in headline) == 1
    assert {"ar", "genie_lmmse", "perfect"} <= set(headline[0].methods)
    assert json.dumps(benchmark.config)  # plain data: it stands in results.json
