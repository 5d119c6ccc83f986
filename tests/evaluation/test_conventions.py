"""``convention``: the same predictions under a published convention, beside figures that do not change."""

import pytest

from airlam.errors import RecipeError
from airlam.evaluation import ChannelPredictionBenchmark, Results
from airlam.metrics import CONVENTIONS

SMALL = {  # 8 ports x 6 subcarriers, classics without a grid: seconds
    "cells": {
        "scenarios": ["uma_nlos"],
        "speeds_kmh": [3, 60],
        "channel_overrides": {
            "num_subcarriers": 6,
            "bs_panel": {"rows": 2, "columns": 2, "polarisation": "dual", "pattern": "omni"},
        },
    },
    "sizes": {"num_links": 16, "num_tune": 4, "side_links": 4, "links_per_drop": 4},
    "rates": {"users": [], "tone_step": 6},
    "age": {"speed_kmh": None},
    "periods": {"periods_ms": []},
    "impairments": {"kinds": {}},
    "sweep": {"csi_snr_db": []},
    "model": "mean",
    "bar": "hold",
    "methods": ["hold", "{model}", "perfect"],
}


def run(out, **changes):
    ChannelPredictionBenchmark(**SMALL, **changes).run(out)
    return Results.load(out / "results.json")


def figures(results):
    """Every figure that no clock made, by group, speed, method and name."""
    return {
        (row.group, row.speed_kmh, row.method, name): figure.value
        for row in results.rows
        for name, figure in row.figures.items()
        if not name.startswith(("latency", "flops"))
    }


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("conventions")


@pytest.fixture(scope="module")
def usual(folder):
    return figures(run(folder))


@pytest.mark.parametrize("name", ["llm4cp", pytest.param("wifo", marks=pytest.mark.slow)])
def test_published_scores_stand_beside_figures_that_stay(folder, usual, name):
    results = run(folder, convention=name)
    found = figures(results)
    own = {key: value for key, value in found.items() if not key[3].endswith(name)}
    assert own == usual
    for speed in (3.0, 60.0):
        scores = {method: found["cell", speed, method, f"nmse_{name}"] for method in ("hold", "mean", "perfect")}
        # Even perfect prediction scores the target's noise. 16 links x 4 slots x 6 tones x 8 ports = 3,072 draws:
        # four deviations are 4 / sqrt(3072) = 7 %. A mean of ratios lies above it where links fade by different
        # amounts in their last slots: the mean of 1 / power is above 1 / (mean of power).
        floor = CONVENTIONS[name].floor
        assert 0.93 * floor < scores["perfect"] < (1.07 if name == "llm4cp" else 1.5) * floor
        assert scores["perfect"] < scores["hold"]
    means = [found["cell", speed, "hold", f"nmse_{name}"] for speed in (3.0, 60.0)]
    assert found["mean", None, "hold", f"nmse_{name}"] == pytest.approx(sum(means) / 2)
    (table,) = results.extras["tables"]
    assert CONVENTIONS[name].title in table["title"] and len(table["lines"]) == 9
    for file in ("leaderboard.md", "report.html"):
        assert table["title"] in (folder / file).read_text()


def test_without_a_convention_nothing_is_added(usual):
    assert not [key for key in usual if key[3].endswith(tuple(CONVENTIONS))]


def test_an_unknown_convention_is_refused():
    with pytest.raises(RecipeError, match="convention is 'theirs', but must be airlam, llm4cp or wifo"):
        ChannelPredictionBenchmark(convention="theirs")
