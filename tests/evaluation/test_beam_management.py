"""The benchmark of beam management: what it counts, what it refuses."""

from __future__ import annotations

import pytest
import torch

from airlam.errors import RecipeError
from airlam.evaluation import BeamManagementBenchmark, Results
from airlam.evaluation.benchmarks.beam_management.cell import plan
from airlam.evaluation.benchmarks.beam_management.figures import beam_accuracy, beam_se_ratio
from airlam.evaluation.benchmarks.beam_management.judging import (
    BEST,
    HIT,
    RATE,
    TOP,
    judge,
    mean_gain,
    mean_value,
    strongest,
)
from airlam.evaluation.benchmarks.beam_management.training import Training
from airlam.evaluation.report.style import look
from airlam.evaluation.results import CellRecord, Series
from airlam.methods import find, names
from airlam.models import AirlamBeams, AirlamBeamsConfig, save_checkpoint

SMALL = dict(
    cells={
        "scenarios": ["umi_tracks_28ghz"],
        "speeds_kmh": [60.0],
        "channel_overrides": {
            "num_subcarriers": 4,
            "bs_panel": {"rows": 2, "columns": 8, "polarisation": "single", "pattern": "38.901"},
        },
    },
    sizes={
        "beams_per_sweep": 4,
        "history": 4,
        "horizon": 2,
        "num_links": 64,
        "num_tune": 64,
        "links_per_drop": 4,
        "side_links": 32,
    },
    sweep={
        "beams": [16],
        "csi_snr_db": [20.0],
        "periods_ms": [80.0],
        "arrays": {"4 x 2": {"bs_panel": {"rows": 2, "columns": 4, "polarisation": "single", "pattern": "38.901"}}},
    },
)


@pytest.fixture
def model(tmp_path, tiny_backbone):
    made = AirlamBeams(AirlamBeamsConfig(tiny_backbone, history=4, horizon=2))
    return str(save_checkpoint(made, tmp_path / "beams"))


@pytest.mark.slow
def test_a_full_sweep_is_best_and_rates_follow_measurements(tmp_path, model):
    benchmark = BeamManagementBenchmark(model=model, controls={"beams:random-start": model}, **SMALL)
    path = benchmark.run(tmp_path / "out")
    results = Results.load(tmp_path / "out" / "results.json")
    main = {row.method: row for row in results.select(group="cell")}
    assert {*names("beam-tracker", "classical"), "beams:start", "beams", "sweep"} < set(main)
    for name, row in main.items():
        figures = row.figures
        assert 0 <= figures["top1"].value <= figures["top3"].value <= figures["top5"].value <= 1, name
        assert figures["se_ratio_top1"].value <= 1 + 1e-9
        assert main["sweep"].figures["se_ratio_top1"].value > figures["se_ratio_top1"].value or name == "sweep"
        assert row.settings["measurements_saved_top3"] == (0 if name == "sweep" else 1 - 7 / 16)
    # untrained networks are their start
    assert main["beams"].figures["top1"].value == main["beams:start"].figures["top1"].value
    snr = {(r.method, r.csi_snr_db): r.figures["top1"].value for r in results.select(group="snr")}
    assert snr["sweep", 20.0] > snr["sweep", 0.0]
    assert {row.settings["codebook"] for row in results.select(group="array")} == {8}
    # the bar, and the classical method in the headline, are the strongest
    top1 = {name: main[name].figures["top1"].number for name in names("beam-tracker", "classical")}
    assert results.extras["bar"] == max(top1, key=top1.get)
    assert f"against {100 * max(top1.values()):.1f} %" in results.headline
    # one gain has one interval: headline, mean column and the table of gains print the same
    bar = look(results.extras["bar"]).label
    gains = next(t for t in results.extras["tables"] if t["title"].startswith("Gains of beams"))
    interval = next(line for line in gains["lines"] if line[0] == bar)[1]
    mean = next(line for line in results.extras["tables"][0]["lines"] if line[0] == "beams")[1]
    assert mean.endswith(f"({interval})")
    assert interval.replace(", ", ", 95 % interval ") in results.headline
    assert "64 tracks from 16 drops" in gains["text"]
    page = path.read_text()
    assert "Top-1 accuracy" in page and "full sweep" in page
    for draw in (beam_accuracy, beam_se_ratio):
        assert len(draw(results).figure.axes) == 3
    before = (tmp_path / "out" / "results.json").read_text()
    again = BeamManagementBenchmark(model=model, controls={"beams:random-start": model}, **SMALL)
    again.run(tmp_path / "out")  # nothing runs anew
    assert Results.load(tmp_path / "out" / "results.json").rows == Results.load(_written(tmp_path, before)).rows


def _written(folder, text):
    path = folder / "before.json"
    path.write_text(text)
    return path


def test_judging_by_hand():
    future = torch.tensor([[[1.0, 3.0, 7.0, 0.0]]])
    scores = torch.tensor([[[9.0, 8.0, 7.0, 0.0]]])
    again = torch.tensor([[[5.0, 9.0, 8.0, 0.0]]])  # the new measurement errs: beam 1 for beam 2
    found = judge(scores, future, again)
    assert found["hit_top1"].tolist() == [[0]] and found["hit_top3"].tolist() == [[1]]
    assert found["rate_top1"].tolist() == [[1.0]] and found["rate_top3"].tolist() == [[2.0]]  # log2(1 + 1), log2(1 + 3)


def _record(hits, best, drop):
    """A cell's record in which every rate is the hit times the best rate."""
    record, axis = CellRecord({}, {"link": drop}), [float(step) for step in range(len(best[0]))]
    record.add(Series(BEST, RATE, "bit/s/Hz", best, axis=axis))
    for name, values in hits.items():
        hit = torch.tensor(values, dtype=torch.float64)
        for what, found in ((HIT, hit), (RATE, hit * torch.tensor(best))):
            record.add(*(Series(name, f"{what}_top{k}", "1", found, axis=axis) for k in TOP))
    return record


def test_means_and_gains_over_cells_by_hand():
    records = [
        _record({"a": [[1.0], [0.0]], "b": [[1.0], [1.0]], "c": [[0.0], [0.0]]}, [[1.0], [3.0]], [0, 1]),
        _record({"a": [[1.0], [1.0]], "b": [[0.0], [1.0]], "c": [[1.0], [0.0]]}, [[2.0], [2.0]], [0, 1]),
    ]
    assert mean_value(records, "top1", "a").number == pytest.approx((1 / 2 + 1) / 2)
    assert mean_value(records, "se_ratio_top1", "a").number == pytest.approx((1 / 4 + 1) / 2)
    assert mean_gain(records, "se_ratio_top3", "a", "b").number == pytest.approx((-3 / 4 + 1 / 2) / 2)
    assert strongest(records, "se_ratio_top1", ["c", "a", "b"]) == "b" and strongest(records, "top1", ["c", "a"]) == "a"
    assert strongest(records, "top1", ["a", "b"]) == "a"  # equal: the first


def test_a_ridge_is_chosen_on_drops_that_were_not_fitted():
    """What fits the fitted tracks best is not what serves the drops held out."""
    g = torch.Generator().manual_seed(1)
    power, future = torch.rand(160, 4, 8, generator=g) + 0.1, torch.rand(160, 1, 8, generator=g) + 0.1
    future += 0.1 * power[:, -1:]
    measured = torch.ones(4, 8, dtype=torch.bool)
    training = Training(measured, power, future, torch.arange(160) // 4)
    for name in ("trained-linear", "softmax"):
        kind, ridges = find(name, "beam-tracker").load(), find(name, "beam-tracker").grid["ridge"]
        lost, own = [], []
        for ridge in ridges:
            made = kind.fit(power[:120], measured, future[:120], ridge)  # a quarter of the drops is held out
            lost.append(training.lost(made, slice(120, None)))
            own.append(training.lost(made, slice(120)))
        made, settings = training.fit(name)
        assert settings["ridge"] == ridges[lost.index(min(lost))] != ridges[own.index(min(own))], name
        torch.testing.assert_close(made.weight, kind.fit(power, measured, future, settings["ridge"]).weight)
        assert made.num_weights == 33 * 8


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"methods": ["last"]}, "no method 'last'"),
        ({"bar": "sweep", "methods": ["last-best"]}, "not among the methods"),
        ({"methods": ["{model}", "sweep"]}, "no classical method is run"),
        ({"sizes": {"num_links": 10}}, "multiple of sizes.links_per_drop"),
        ({"cells": {"scenarios": []}}, "must not be empty"),
        ({"sizes": {"horizon": 0}}, "horizon is 0"),
        ({"cells": {"csi_snr_db": float("nan")}}, "finite"),
        ({"sweep": {"beams": [16.5]}}, "beams is .16.5., but must be a list of whole numbers"),
        ({"sweep": {"beam": [16]}}, "sweep: BeamSweep has no argument 'beam'; did you mean 'beams'"),
    ],
)
def test_bad_recipes(change, message):
    with pytest.raises(RecipeError, match=message):
        BeamManagementBenchmark(**(SMALL | change))


def test_a_horizon_that_nobody_was_trained_for(tmp_path, model):
    with pytest.raises(RecipeError, match="horizon is 3, but beams was trained for at most 2"):
        BeamManagementBenchmark(model=model, **(SMALL | {"sizes": SMALL["sizes"] | {"horizon": 3}})).run(
            tmp_path / "out"
        )


def test_cells_that_make_no_sense():
    with pytest.raises(RecipeError, match="codebook of 16 beams"):
        plan(BeamManagementBenchmark(**(SMALL | {"sizes": {"beams_per_sweep": 17}})))
    with pytest.raises(RecipeError, match="no tracks"):
        plan(BeamManagementBenchmark(**(SMALL | {"cells": {"scenarios": ["umi_nlos"]}})))
