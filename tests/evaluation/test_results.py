"""The tidy table: what goes in comes out, intervals are those of closed forms, comparisons are paired or refused."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from airlam.errors import StoreError
from airlam.evaluation import LinkLevelBenchmark, Results, measurements
from airlam.evaluation.results import (
    CELL,
    CellRecord,
    MethodFacts,
    Series,
    db_of_mean,
    group_of,
    mean_of_cells,
    mean_of_db,
    summarise,
    tidy,
)
from airlam.io import read_json, write_json
from airlam.metrics import bootstrap_interval, paired_interval

FACTS = {"group": "cell", "data": "uma_nlos", "speed_kmh": 30.0, "csi_snr_db": 20.0}


def record(values: dict[str, list[float]], drop: list[int], **facts) -> CellRecord:
    made = CellRecord(FACTS | facts, {"link": drop})
    made.add(*(Series(method, "nmse", "1", v) for method, v in values.items()))
    return made


def test_a_record_comes_back_from_its_file(tmp_path):
    made, pair = record({"ar": [0.1, 0.2], "hold": [0.3, 0.4]}, [5, 6]), group_of(2)
    made.drops[pair] = [7]
    made.add(
        Series("ar", "sum_se_vs_snr", "bit/s/Hz", [[5.0, 6.0, 7.0]], pair, [0.0, 10.0, 20.0], "transmit SNR [dB]"),
        Series("ar", "latency_p50_ms", "ms", [1.5], CELL),
    )
    made.methods["ar"] = MethodFacts({"order": 12}, 10, 3, 0.5)
    made.extras["seconds"] = 1.5
    again = CellRecord.from_plain(read_json(write_json(tmp_path / "cell.json", made.plain())))
    assert again.plain() == made.plain() and again.methods == made.methods
    assert torch.equal(again.values("ar", "sum_se_vs_snr", pair), made.values("ar", "sum_se_vs_snr", pair))
    assert again.number("ar", "latency_p50_ms") == 1.5 and again.number("hold", "latency_p50_ms") is None
    table = tidy([again])
    assert len(table) == 2 + 2 + 3 + 1
    curve = table[table["metric"] == "sum_se_vs_snr"]
    assert curve["drop"].tolist() == [7, 7, 7] and curve["at"].tolist() == [0.0, 10.0, 20.0]
    assert table[table["per"] == "cell"]["drop"].tolist() == [-1]


@pytest.mark.parametrize(
    "data",
    [
        {},
        {"schema": "airlam-cell/2"},
        {"schema": "airlam-cell/3"},
        {"schema": "airlam-cell/3", "cell": {}, "drops": {}, "methods": [], "series": [], "extras": {}},
        {"schema": "airlam-cell/3", "cell": {}, "drops": {}, "methods": {}, "series": [{"metric": "x"}], "extras": {}},
    ],
)
def test_data_that_are_no_record_are_refused(data):
    with pytest.raises(StoreError, match="record"):
        CellRecord.from_plain(data)


@pytest.mark.parametrize(
    "values, extra, message",
    [
        ([0.1, math.nan], {}, "NaN or infinity"),
        ([], {}, "no values"),
        ([0.1, 0.2], {"axis": [1.0, 2.0]}, "an axis of 2 points"),
        ([[0.1, 0.2]], {}, "no axis"),
    ],
)
def test_values_that_mean_nothing_are_refused(values, extra, message):
    with pytest.raises(ValueError, match=message):
        Series("ar", "nmse", "1", values, **extra)


def test_a_series_has_one_value_for_each_item_once():
    made = record({"ar": [0.1, 0.2]}, [0, 1])
    with pytest.raises(ValueError, match="3 values for 2 of 'link'"):
        made.add(Series("hold", "nmse", "1", [0.1, 0.2, 0.3]))
    with pytest.raises(ValueError, match="1 values for 0 of 'group of 4'"):
        made.add(Series("ar", "sum_se", "bit/s/Hz", [1.0], group_of(4)))
    with pytest.raises(ValueError, match="measured twice"):
        made.add(Series("ar", "nmse", "1", [0.1, 0.2]))
    with pytest.raises(KeyError, match="latency_p50_ms of ar was not measured for each cell"):
        made.values("ar", "latency_p50_ms", CELL)


def test_the_table_of_a_run_gives_the_figures_of_its_report(tmp_path):
    LinkLevelBenchmark(
        precoder="rzf",
        methods=["hold + rzf", "perfect + rzf"],
        bar="hold + rzf",
        cells={"scenarios": ["uma_nlos"], "speeds_kmh": [30.0], "channel_overrides": {"num_subcarriers": 12}},
        sizes={"num_links": 16, "num_choose": 8, "num_tune": 16},
        link={"users": 4, "transmit_snr_db": [10.0, 20.0], "mcs": [5], "tone_step": 1},
    ).run(tmp_path)
    table = measurements(tmp_path)
    found = summarise(table[table["metric"] == "throughput"], ["method", "at"])
    gains = summarise(table[table["metric"] == "throughput"], ["method", "at"], against="hold + rzf")
    for row in Results.load(tmp_path / "results.json").select(group="link"):
        mine, figure = found[found["method"] == row.method], row.figures["throughput"]
        assert mine["estimate"].tolist() == pytest.approx(figure.value) and mine["at"].tolist() == figure.axis
        assert mine["low"].tolist() == pytest.approx([low for low, _ in figure.interval])
        if gain := row.figures.get("throughput_gain"):
            assert gains["estimate"].tolist() == pytest.approx(gain.value)


def test_a_folder_without_finished_cells_is_named(tmp_path):
    with pytest.raises(StoreError, match="results.json"):
        measurements(tmp_path)
    Results("title", "probes").save(tmp_path / "results.json")
    with pytest.raises(StoreError, match="names no finished cells"):
        measurements(tmp_path)


def test_means_and_decibels_of_two_cells_by_hand():
    table = tidy([record({"ar": [0.1, 0.3]}, [0, 1]), record({"ar": [0.02, 0.02]}, [0, 1])])
    found = {s: summarise(table, ["method"], s)["estimate"].item() for s in (mean_of_cells, db_of_mean, mean_of_db)}
    assert found[mean_of_cells] == pytest.approx(0.11)
    assert found[db_of_mean] == pytest.approx(10 * math.log10(0.11))
    assert found[mean_of_db] == pytest.approx(5 * (math.log10(0.2) + math.log10(0.02)))
    each = summarise(table, ["method", "cell"])
    assert each["estimate"].tolist() == pytest.approx([0.2, 0.02])
    assert each["num_drops"].tolist() == [2, 2]


def test_the_interval_is_students_for_means_of_many_drops():
    values = np.random.default_rng(0).normal(size=400)
    table = tidy([record({"ar": values.tolist()}, list(range(400)))])
    row = summarise(table, ["method"]).iloc[0]
    half = 1.966 * values.std(ddof=1) / 20
    # 5 %: 2000 resamples leave 3 % on the ends of an interval
    assert row["high"] - row["estimate"] == pytest.approx(half, rel=0.05)
    assert row["estimate"] - row["low"] == pytest.approx(half, rel=0.05)


def test_links_of_one_drop_count_once():
    """The same value four times in each drop: the interval is that of the drops."""
    values = np.random.default_rng(1).normal(size=30)
    once = summarise(tidy([record({"ar": values.tolist()}, list(range(30)))]), ["method"]).iloc[0]
    often = summarise(
        tidy([record({"ar": np.repeat(values, 4).tolist()}, np.repeat(range(30), 4).tolist())]), ["method"]
    ).iloc[0]
    assert often["low"] == pytest.approx(once["low"]) and often["high"] == pytest.approx(once["high"])
    assert (once["num_drops"], often["num_drops"], often["num_values"]) == (30, 30, 120)


def test_a_single_drop_allows_no_interval():
    row = summarise(tidy([record({"ar": [1.0, 2.0]}, [0, 0])]), ["method"]).iloc[0]
    assert row["estimate"] == 1.5 and row["low"] == -math.inf and row["high"] == math.inf


def test_comparisons_are_paired():
    values = np.random.default_rng(2).exponential(size=60)
    drop = np.repeat(range(20), 3).tolist()
    table = tidy([record({"ar": values.tolist(), "half": (values / 2).tolist()}, drop)])
    row = summarise(table, ["method"], db_of_mean, against="ar").iloc[0]
    assert row["method"] == "half"
    assert [row["estimate"], row["low"], row["high"]] == pytest.approx([-10 * math.log10(2)] * 3)


def test_a_comparison_without_partner_is_refused():
    first, second = record({"ar": [0.1, 0.2], "x": [0.1, 0.2]}, [0, 1]), record({"x": [0.3, 0.4]}, [0, 1])
    with pytest.raises(ValueError, match="not paired"):
        summarise(tidy([first, second]), ["method"], against="ar")


def test_intervals_are_those_of_the_metrics():
    rng = np.random.default_rng(0)
    a, b, drop = rng.exponential(size=36), rng.exponential(size=36), np.repeat(range(12), 3)
    table = tidy([record({"a": a.tolist(), "b": b.tolist()}, drop.tolist())])
    ends = ["estimate", "low", "high"]
    known = bootstrap_interval(torch.tensor(a), groups=torch.tensor(drop))
    row = summarise(table[table["method"] == "a"], ["method"]).iloc[0]
    assert row[ends].tolist() == pytest.approx(list(known))
    known = paired_interval(torch.tensor(a), torch.tensor(b), torch.tensor(drop), scale="db")
    row = summarise(table, ["method"], db_of_mean, against="b").iloc[0]
    assert row[ends].tolist() == pytest.approx(list(known))


def test_one_metric_at_a_time():
    made = record({"ar": [0.1, 0.2]}, [0, 1])
    made.add(Series("ar", "se_single", "bit/s/Hz", [1.0, 2.0]))
    with pytest.raises(ValueError, match="several metrics"):
        summarise(tidy([made]), ["method"])
