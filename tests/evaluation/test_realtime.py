"""The benchmark of predictions that arrive in time: what is charged, how old filters are, the whole on small ones."""

from __future__ import annotations

import json

import pytest
import torch

from airlam import load_predictor
from airlam.channels import load_channel
from airlam.csi import measure
from airlam.errors import RecipeError
from airlam.evaluation import RealtimeBenchmark
from airlam.evaluation.benchmarks.realtime.streams import Judged
from airlam.evaluation.benchmarks.realtime.tables import best_classic, charged
from airlam.evaluation.engine.timing import cell_figure
from airlam.evaluation.results import CellRecord, MethodFacts, Series, group_of
from airlam.realtime import engine_for

SMALL = {
    "num_subcarriers": 8,
    "bs_panel": {"rows": 1, "columns": 2, "polarisation": "dual", "pattern": "38.901"},
}


def benchmark(**arguments) -> RealtimeBenchmark:
    usual = {
        "full": ["ar"],
        "streaming": {"names": ["ar", "eigen-ar", "paths"], "options": {"eigen-ar": {"basis_every": 1}}},
        "cells": {"scenarios": ["uma_nlos"], "speeds_kmh": [30], "channel_overrides": SMALL},
        "rates": {"users": [2], "transmit_snr_db": [20]},
        "quick": True,
    }
    return RealtimeBenchmark(**(usual | arguments))


def record(steps: list[float], **latency_ms: float) -> CellRecord:
    """Two groups of every method of ``latency_ms``; the second has twice the sum-SE."""
    recipe = {"slot_duration": 0.5e-3}
    made = CellRecord(
        {"group": "age", "data": "x", "speed_kmh": 3.0, "users": [2], "recipe": recipe}, {group_of(2): [0, 1]}
    )
    values = torch.tensor([steps, [2 * x for x in steps]])
    for name, milliseconds in latency_ms.items():
        axis = [float(i) for i in range(len(steps))]
        made.methods[name] = MethodFacts({}, 0, 0, 0.0)
        made.add(Series(name, "sum_se_steps", "bit/s/Hz", values, group_of(2), axis, "slot"))
        made.add(cell_figure(name, "latency_p50_ms", milliseconds, "ms"))
    return made


def test_a_latency_is_charged_by_the_slots_it_misses():
    steps = [float(30 - i) for i in range(24)]
    found = record(steps, quick=0.3, slow=0.7, late=11.0)
    config = benchmark()
    # slots 1 to 4 after the newest measured one, and one slot later
    assert charged(found, "quick", config).tolist() == [28.5, 57.0]
    assert charged(found, "slow", config).tolist() == [27.5, 55.0]
    assert charged(found, "late", config) is None
    worth = {"ar": torch.ones(2), "paths:stream": 2 * torch.ones(2), "x": 3 * torch.ones(2)}
    assert best_classic(worth) == "paths:stream"
    assert best_classic({"x": torch.ones(2)}) is None


def test_filters_are_judged_when_they_are_oldest():
    class Seen:
        history, num_future, shape = 4, 2, (1, 1, 1)

        def __init__(self) -> None:
            self.windows: list[list[int]] = []

        def refresh(self, window, memory=None):
            self.windows.append(window.real.flatten().astype(int).tolist())
            return {}

        def advance(self, memory, window, new, out):
            self.windows.append(window.real.flatten().astype(int).tolist())
            out[:] = 0

    engine = Seen()
    slots = torch.arange(40).to(torch.complex64).reshape(1, 40, 1, 1, 1)
    assert Judged.slots(4, 10) == 34
    found = Judged(engine, 10).predict(slots, 5, torch.zeros(1))
    assert found.shape == (1, 5, 1, 1, 1)
    assert engine.windows == [[6, 7, 8, 9], [16, 17, 18, 19], [36, 37, 38, 39]]


def test_a_fresh_stream_is_the_predictor():
    batch = load_channel({**load_channel("uma_nlos").recipe, **SMALL, "speed_kmh": 30.0}).sample(2, 40, seed=1)
    h = measure(batch.h, 20.0, torch.Generator().manual_seed(1))
    predictor = load_predictor("ar")
    shape = tuple(h.shape[2:])
    judged = Judged(engine_for(predictor, shape, 4, port_shape=batch.port_shape), 1)
    expected = predictor.predict(h[:, -16:], 4, port_shape=batch.port_shape)
    assert torch.allclose(judged.predict(h, 4, torch.arange(2)), expected, atol=1e-3)  # AR taps are fitted anew


def test_the_whole_on_small_channels(tmp_path):
    report = benchmark(model="airlam-tiny").run(tmp_path)
    results = json.loads((tmp_path / "results.json").read_text())
    rows = {row["method"]: row["figures"] for row in results["rows"]}
    assert {"ar-reference", "ar", "ar:stream", "eigen-ar:stream", "paths:stream", "perfect"} == set(rows)
    for name, figures in rows.items():
        if name != "perfect":
            assert {"latency_p50_ms", "ratio", "charged", "nmse_db"} <= set(figures), name
    # the full one may set a share of the mean aside, which the stream has none of
    assert rows["ar"]["nmse_db"]["value"] == pytest.approx(rows["ar:stream"]["nmse_db"]["value"], abs=2)
    assert rows["perfect"]["charged"]["value"] > rows["ar:stream"]["charged"]["value"]
    assert "refresh_ms" in rows["paths:stream"]
    text = (tmp_path / "leaderboard.md").read_text()
    assert "AR with shrinkage (tuned), stream" in text and "ar-reference" in text
    assert report.is_file() and (tmp_path / "plots" / "charged_by_latency.png").is_file()


@pytest.mark.parametrize(
    "arguments, words",
    [
        ({"streaming": {"names": []}}, "streaming.names must not be empty"),
        ({"streaming": {"refresh_slots": {"paths": 0}}}, "refresh_slots.paths is 0"),
        ({"timed": {"rounds": 0}}, "timed.rounds is 0"),
        ({"timed": {"seconds": -1}}, "timed.seconds is -1"),
        ({"csi_period": 0}, "csi_period is 0"),
        ({"horizon": 2}, "horizon is 2"),
        ({"rates": {"users": []}}, "rates.users is empty"),
        ({"rates": {"users": [3]}}, "do not fit drops"),
    ],
)
def test_bad_arguments(arguments, words):
    with pytest.raises(RecipeError, match=words):
        RealtimeBenchmark(**arguments)
