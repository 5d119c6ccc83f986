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
from airlam.evaluation.benchmarks.realtime.chain_tables import EACH, ONE, Cost
from airlam.evaluation.benchmarks.realtime.chain_tables import charged as chain_charged
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


def timing(chain: str, users: int, **milliseconds: float) -> CellRecord:
    made = CellRecord({"group": "chain timing"}, {})
    for part, value in milliseconds.items():
        label = f"{chain}|{users}|{part}"
        made.add(cell_figure(label, "p50_ms", value, "ms"), cell_figure(label, "p99_ms", 2 * value, "ms"))
    return made


def test_a_chain_is_charged_with_all_its_users():
    # taking three slots, then four users' pushes and 0.2 ms of precoding
    cost = Cost.of(timing("x + rzf", 4, whole=2.1, take=0.1, beams=0.2), "x + rzf", 4, 4)
    assert cost.latency(ONE) == pytest.approx(1.8) and cost.latency(EACH) == pytest.approx(0.4 + 0.2)
    # five slots last 2.5 ms: four that are taken, and the whole
    assert cost.period(ONE, 4, 0.5) == 5 and cost.period(EACH, 4, 0.5) == 4
    assert Cost.of(timing("x + rzf", 4, whole=2.1), "perfect + rzf", 4, 4) is None
    steps = torch.arange(40, 0, -1).double()[None]
    assert chain_charged(steps, cost, ONE, 4, 0.5e-3).tolist() == [37 - 2]  # slots 4 to 8
    assert chain_charged(steps, cost, EACH, 4, 0.5e-3).tolist() == [39 - 1.5]  # slots 2 to 5
    assert chain_charged(steps, None, ONE, 4, 0.5e-3).tolist() == [40 - 1.5]
    late = Cost.of(timing("x + rzf", 4, whole=40, take=0.1, beams=0.2), "x + rzf", 4, 4)
    assert chain_charged(steps, late, ONE, 4, 0.5e-3) is None
    busy = Cost.of(timing("x + rzf", 4, whole=4, take=0.6, beams=0.2), "x + rzf", 4, 4)
    assert busy.period(ONE, 4, 0.5) is None and chain_charged(steps, busy, ONE, 4, 0.5e-3) is None


def test_chains_on_small_channels(tmp_path):
    names = ["ar-reference + rzf", "ar + rzf", "eigen-ar + robust rzf", "eigen-ar + robust wmmse"]
    names += ["eigen-ar + airlam-precoder", "perfect + rzf"]
    made = benchmark(
        model="airlam-tiny",
        full=[],
        streaming={"names": ["ar", "eigen-ar"], "options": {"eigen-ar": {"basis_every": 1}}},
        chains={"users": [2, 4], "names": names},
    )
    made.run(tmp_path)
    results = json.loads((tmp_path / "results.json").read_text())
    rows = {(row["method"], row["label"]): row["figures"] for row in results["rows"] if row["group"] == "chain"}
    assert set(rows) == {(name, f"{users} users") for name in names for users in (2, 4)}
    for users in ("2 users", "4 users"):
        found = {name: rows[name, users]["first_slots"]["value"] for name in names}
        assert max(found, key=found.get) == "perfect + rzf"
        ours = rows["eigen-ar + robust rzf", users]
        assert {"latency_one_core_ms", "latency_core_each_ms", "beams_ms", "period_one_core"} <= set(ours)
        assert ours["latency_core_each_ms"]["value"] < ours["latency_one_core_ms"]["value"]
        assert "over_bar_core_each" in ours
    text = (tmp_path / "leaderboard.md").read_text()
    assert "## Chains, UMa NLOS, 30 km/h, 4 users" in text and "the streams' own past errors" in text


@pytest.mark.parametrize(
    "chains, words",
    [
        ({"users": [16]}, "chains.users is .16., but a drop has 8 links"),
        ({"users": [4], "names": ["ar"]}, "chains.names holds 'ar'"),
        ({"users": [4], "names": ["kalman + rzf"]}, "chains.names holds 'kalman . rzf', but must hold"),
        ({"users": [4], "names": []}, "chains.names must not be empty"),
        ({"users": [0]}, "chains.users is 0"),
        ({"horizon": 0}, "chains.horizon is 0"),
        ({"trust": -1.0}, "chains.trust is -1"),
    ],
)
def test_bad_chains(chains, words):
    with pytest.raises(RecipeError, match=words):
        RealtimeBenchmark(chains=chains)
