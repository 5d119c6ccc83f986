"""The benchmark of CSI compression: what it counts, what it refuses."""

from __future__ import annotations

import pytest
import torch

from airlam.errors import RecipeError
from airlam.evaluation import CompressionBenchmark, Results
from airlam.evaluation.benchmarks.csi_compression.cell import Scene, gaussian_code, plan
from airlam.evaluation.benchmarks.csi_compression.config import PERFECT, UNQUANTISED
from airlam.evaluation.benchmarks.csi_compression.figures import sgcs_over_bits, sum_se_over_bits
from airlam.metrics import sgcs

PANEL = {"rows": 2, "columns": 4, "polarisation": "dual", "pattern": "38.901"}
SMALL = dict(
    methods=["type1-report", "type2-1", "type2-4", "type2-7"],
    gaussian_bits=[64],
    cells={
        "scenarios": ["umi_nlos"],
        "speeds_kmh": [60.0],
        "channel_overrides": {"num_subcarriers": 24, "bs_panel": PANEL},
    },
    sizes={"num_links": 16, "num_tune": 32, "links_per_drop": 8, "users": 4, "age_slots": 8, "horizon": 8},
    csi_snr_db=[0.0],
)


class Copy:
    """A codec of one's own: everything is told, and counted as nothing."""

    name, label = "copy", "a copy"

    def for_array(self, port_shape, subbands, layers):
        return self

    def report(self, v):
        return v

    def vectors(self, report):
        return report

    def payload(self, report):
        return torch.zeros(len(report))


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    out = tmp_path_factory.mktemp("compression")
    CompressionBenchmark(**{**SMALL, "methods": [*SMALL["methods"], Copy]}).run(out)
    return Results.load(out / "results.json")


def test_rows(results):
    rows = {row.method: row for row in results.select(group="cell")}
    # combination 7 is for 32 ports and more
    assert set(rows) == {"type1-report", "type2-1", "type2-4", "gaussian-64", "copy", UNQUANTISED, PERFECT}
    bits = {name: rows[name].figures["bits"].number for name in ("type1-report", "type2-1", "type2-4")}
    assert bits["type1-report"] == 4 + 3 + 2 * 6 and bits["type1-report"] < bits["type2-1"] < bits["type2-4"]
    score = {name: row.figures["sgcs"].number for name, row in rows.items() if "sgcs" in row.figures}
    assert score["type1-report"] < score["type2-1"] < score["type2-4"] < score[UNQUANTISED]
    assert score["copy"] == score[UNQUANTISED]
    rate = {name: row.figures["sum_se"].number for name, row in rows.items()}
    assert rate["type1-report"] < rate["type2-4"] < rate[UNQUANTISED] < rate[PERFECT]
    assert {"latency_p50_ms"} <= set(rows["type2-4"].figures)


def test_noise_and_age_cost_something(results):
    def score(group: str) -> float:
        return next(row for row in results.select(group=group) if row.method == UNQUANTISED).figures["sgcs"].number

    assert score("snr") < score("cell") and score("age") < score("cell")
    assert {row.settings["age_ms"] for row in results.select(group="age")} == {4.0}


def test_plots_and_words(results):
    assert sgcs_over_bits(results) is not None and sum_se_over_bits(results) is not None
    assert "bits" in results.headline and any(
        "Gaussian code, 64 bits" in str(t["lines"]) for t in results.extras["tables"]
    )


def test_the_gaussian_code_tells_everything_with_many_bits_and_nothing_with_none():
    config = CompressionBenchmark(**SMALL)
    cell = plan(config)[0]
    test, tune = Scene(cell, "test", 16), Scene(cell, "tune", 512)
    much, _ = gaussian_code(test, tune, 3000.0, 0)
    little, _ = gaussian_code(test, tune, 0.01, 0)
    assert sgcs(much, test.wanted).mean() > 0.9 and sgcs(little, test.wanted).mean() < 0.3


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"methods": ["type3"]}, "no codec 'type3'"),
        ({"sizes": {**SMALL["sizes"], "users": 3}}, "must divide"),
        ({"sizes": {**SMALL["sizes"], "age_slots": 20}}, "age_slots is 20"),
        ({"gaussian_bits": [0]}, "gaussian_bits is 0"),
        ({"csi_snr_db": [float("nan")]}, "csi_snr_db"),
    ],
)
def test_bad_arguments(changes, words):
    with pytest.raises(RecipeError, match=words):
        CompressionBenchmark(**{**SMALL, **changes})


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        ({"bs_panel": {**PANEL, "polarisation": "single"}}, "one polarisation"),
        ({"ut_panel": {"rows": 1, "columns": 2, "polarisation": "single", "pattern": "omni"}}, "several antennas"),
    ],
)
def test_channels_that_the_codebooks_are_not_for(overrides, words):
    cells = {**SMALL["cells"], "channel_overrides": overrides}
    with pytest.raises(RecipeError, match=words):
        plan(CompressionBenchmark(**{**SMALL, "cells": cells}))
