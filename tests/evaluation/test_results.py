"""The tidy table: what goes in comes out, intervals are those of closed forms, comparisons are paired or refused."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from airlam.errors import StoreError
from airlam.evaluation.results import (
    CellRecord,
    Series,
    db_of_mean,
    interval,
    mean_of_cells,
    mean_of_db,
    summarise,
    tidy,
)
from airlam.metrics import bootstrap_interval, paired_interval

CELL = {"group": "cell", "data": "uma_nlos", "speed_kmh": 30.0, "csi_snr_db": 20.0}


def record(values: dict[str, list[float]], drop: list[int], **cell) -> CellRecord:
    made = CellRecord(CELL | cell, drop)
    made.series = [Series(method, "nmse", "1", tuple(v)) for method, v in values.items()]
    return made


def test_a_record_comes_back_from_its_file(tmp_path):
    made = record({"ar": [0.1, 0.2], "hold": [0.3, 0.4]}, [0, 1])
    made.group_drop = {2: [0]}
    made.series += [
        Series("ar", "sum_se", "bit/s/Hz", (5.0,), "group", 2, at=20.0),
        Series("ar", "user_rate", "bit/s/Hz", (2.0, 3.0), "user", 2),
        Series("ar", "latency_p50", "s", (1e-3,), "cell"),
    ]
    made.methods = {"ar": {"settings": {"order": 12}, "parameters": [0, 0]}}
    again = CellRecord.load(made.save(tmp_path / "cell.jsonl"))
    assert again == made
    table = tidy([again])
    assert len(table) == 2 + 2 + 1 + 2 + 1
    assert table[table["metric"] == "user_rate"]["drop"].tolist() == [0, 0]
    assert table[table["metric"] == "sum_se"]["at"].tolist() == [20.0]


@pytest.mark.parametrize("text", ["", "{}", '{"schema": "airlam-cell/1"}', "[1]", '{"schema": "airlam-cell/2"}', "x"])
def test_a_file_that_is_no_record_is_named(tmp_path, text):
    path = tmp_path / "cell.jsonl"
    path.write_text(text)
    with pytest.raises(StoreError, match="cell.jsonl"):
        CellRecord.load(path)


def test_values_that_mean_nothing_are_refused():
    with pytest.raises(ValueError, match="NaN or infinity"):
        Series("ar", "nmse", "1", (0.1, math.nan))
    with pytest.raises(ValueError, match="no values"):
        Series("ar", "nmse", "1", ())
    with pytest.raises(ValueError, match="one value for each"):
        tidy([record({"ar": [0.1, 0.2]}, [0])])


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
    assert row["estimate"] == 1.5 and math.isnan(row["low"]) and math.isnan(row["high"])


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


@pytest.mark.parametrize("seed", range(6))
def test_intervals_agree_with_those_of_the_metrics(seed):
    rng = np.random.default_rng(seed)
    a, b, drop = rng.exponential(size=36), rng.exponential(size=36), np.repeat(range(12), 3)
    table = tidy([record({"a": a.tolist(), "b": b.tolist()}, drop.tolist())])
    row = summarise(table[table["method"] == "a"], ["method"]).iloc[0]
    known = bootstrap_interval(torch.tensor(a), groups=torch.tensor(drop))
    width = known.high - known.low
    assert row["estimate"] == pytest.approx(known.estimate)
    # 10 % of the width: both ends are quantiles of 2000 resamples from different random numbers
    assert abs(row["low"] - known.low) <= 0.1 * width and abs(row["high"] - known.high) <= 0.1 * width
    known = paired_interval(torch.tensor(a), torch.tensor(b), torch.tensor(drop), scale="db")
    row = summarise(table, ["method"], db_of_mean, against="b").iloc[0]
    assert row["estimate"] == pytest.approx(known.estimate)


def test_every_cell_resamples_its_own_drops():
    """Of two cells with independent drops the variance of the mean is a quarter of the sum of theirs."""
    rng = np.random.default_rng(3)
    cells = [(rng.normal(size=(300, 1)), np.ones(300)) for _ in range(2)]
    _, low, high = interval(cells, mean_of_cells)
    expected = 2 * 1.964 * math.sqrt(sum(c[0].var(ddof=1) / 300 for c in cells)) / 2
    assert high - low == pytest.approx(expected, rel=0.05)  # as above
