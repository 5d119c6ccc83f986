"""The benchmark of beam management: what it counts, what it refuses."""

from __future__ import annotations

import pytest
import torch

from airlam.evaluation import BeamManagementBenchmark, Results
from airlam.evaluation.beam_management import judge
from airlam.evaluation.plots import PLOTS
from airlam.interfaces import RecipeError
from airlam.models import AirlamBeams, AirlamBeamsConfig, save_checkpoint

BACKBONE = {
    "model_type": "roberta-prelayernorm", "hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2,
    "intermediate_size": 64, "vocab_size": 2, "eos_token_id": 1,
}  # fmt: skip
SMALL = dict(
    scenarios=["umi_tracks_28ghz"], speeds_kmh=[60.0], beams_per_sweep=4, history=4, horizon=2, num_links=64,
    num_tune=64, links_per_drop=4, side_links=32, sweep_beams=[16], sweep_snr_db=[20.0], sweep_periods_ms=[80.0],
    channel_overrides={"num_subcarriers": 4, "bs_panel": {"rows": 2, "columns": 8, "polarisation": "single",
                                                          "pattern": "38.901"}},
    arrays={"4 x 2": {"bs_panel": {"rows": 2, "columns": 4, "polarisation": "single", "pattern": "38.901"}}},
)  # fmt: skip


@pytest.fixture
def model(tmp_path):
    made = AirlamBeams(AirlamBeamsConfig(BACKBONE, history=4, horizon=2))
    return str(save_checkpoint(made, tmp_path / "beams"))


def test_a_full_sweep_is_best_and_rates_follow_measurements(tmp_path, model):
    benchmark = BeamManagementBenchmark(model=model, controls={"beams:random-start": model}, **SMALL)
    path = benchmark.run(tmp_path / "out")
    results = Results.load(tmp_path / "out" / "results.json")
    main = {row.method: row for row in results.select(group="cell")}
    assert {"last-best", "extrapolation", "trained-linear", "beams:start", "beams", "sweep"} < set(main)
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
    page = path.read_text()
    assert "Top-1 accuracy" in page and "full sweep" in page
    for name in ("beam_accuracy", "beam_se_ratio"):
        assert len(PLOTS[name](results).figure.axes) == 3
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
    assert found["hit_top1"] == [[0]] and found["hit_top3"] == [[1]]
    assert found["rate_top1"] == [[1.0]] and found["rate_top3"] == [[2.0]]  # log2(1 + 1), log2(1 + 3)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"methods": ["last"]}, "no method 'last'"),
        ({"bar": "sweep", "methods": ["last-best"]}, "not among the methods"),
        ({"num_links": 10}, "multiple of links_per_drop"),
        ({"scenarios": []}, "must not be empty"),
        ({"horizon": 0}, "horizon is 0"),
        ({"snr_db": float("nan")}, "finite"),
        ({"sweep_beams": [16.5]}, "whole number"),
    ],
)
def test_bad_recipes(change, message):
    with pytest.raises(RecipeError, match=message):
        BeamManagementBenchmark(**(SMALL | change))


def test_a_horizon_that_nobody_was_trained_for(tmp_path, model):
    with pytest.raises(RecipeError, match="horizon is 3, but beams was trained for at most 2"):
        BeamManagementBenchmark(model=model, **(SMALL | {"horizon": 3})).run(tmp_path / "out")


def test_cells_that_make_no_sense():
    with pytest.raises(RecipeError, match="codebook of 16 beams"):
        BeamManagementBenchmark(**(SMALL | {"beams_per_sweep": 17})).cells()
    with pytest.raises(RecipeError, match="no tracks"):
        BeamManagementBenchmark(**(SMALL | {"scenarios": ["umi_nlos"]})).cells()
