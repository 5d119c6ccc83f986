"""The row schema: what a figure must carry, the way to disk and back, hashes."""

import json
import math

import pytest

from airlam.errors import StoreError
from airlam.evaluation.rows import Figure, Results, Row, environment, group_sizes
from airlam.io import recipe_hash, write_json, write_text


def test_results_come_back_from_disk_unchanged(results, tmp_path):
    path = results.save(tmp_path / "deep" / "results.json")
    assert Results.load(path) == results
    assert [p.name for p in path.parent.iterdir()] == ["results.json"]  # no temporary file left


def test_every_figure_is_tagged_and_has_a_unit(results, tmp_path):
    data = json.loads(results.save(tmp_path / "results.json").read_text())
    figures = [figure for row in data["rows"] for figure in row["figures"].values()]
    assert figures and all(figure["kind"] in ("measured", "modelled") and figure["unit"] for figure in figures)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"kind": "guessed"}, "measured"),
        ({"value": math.nan}, "finite"),
        ({"value": [1.0, 2.0]}, "axis"),
        ({"value": [1.0, 2.0], "axis": [1.0]}, "axis of 1 points"),
        ({"value": 1.0, "axis": [1.0]}, "axis"),
        ({"value": 1.0, "interval": (2.0, 1.0)}, "low <= high"),
        ({"value": [1.0, 2.0], "axis": [1.0, 2.0], "interval": [(0.0, 1.0)]}, "2 values have 1 intervals"),
    ],
)
def test_a_figure_that_says_too_little_is_refused(fields, message):
    with pytest.raises(ValueError, match=message):
        Figure(**({"value": 1.0, "unit": "dB", "kind": "measured"} | fields))


def test_a_curve_is_no_number():
    curve = Figure([1.0, 2.0], "dB", "measured", None, [0.5, 1.0], "horizon [ms]")
    with pytest.raises(TypeError, match="horizon"):
        _ = curve.number


def test_foreign_files_are_named(tmp_path):
    for text in ("{not json", "[1, 2]", '{"schema": "other/3"}'):
        path = write_text(tmp_path / "results.json", text)
        with pytest.raises(StoreError, match=r"results\.json"):
            Results.load(path)


def test_a_failed_write_leaves_the_old_file(tmp_path):
    path = write_json(tmp_path / "a.json", {"old": 1})
    with pytest.raises(ValueError):
        write_json(path, {"new": math.inf})  # infinity is not JSON
    assert json.loads(path.read_text()) == {"old": 1}
    assert len(list(tmp_path.iterdir())) == 1


def test_hash_sees_values_and_not_their_order():
    assert recipe_hash({"a": 1, "b": (1, 2)}) == recipe_hash({"b": [1, 2], "a": 1})
    assert recipe_hash({"a": 1}) != recipe_hash({"a": 2})


def test_rows_are_selected_by_their_attributes(results):
    rows = results.select(group="cell", method="ar", speed_kmh=30.0)
    assert {row.csi_snr_db for row in rows} == {0.0, 10.0, 20.0, 30.0}
    assert all(isinstance(row, Row) for row in rows)


def test_environment_says_versions_processor_threads_command():
    found = environment(threads=1, command="airlam evaluate")
    assert {"python", "torch"} <= found["versions"].keys()
    assert found["processor"] and found["threads"] == 1 and found["command"] == "airlam evaluate"


def test_figures_of_groups_are_found_by_their_size(results):
    row = results.select(group="cell", method="ar")[0]
    assert row.group_sizes == [4, 8]  # gains and curves are no group sizes
    assert row.sum_se(4) is row.figures["sum_se_k4"] and row.sum_se(2) is None
    assert row.sum_se_over_snr(4) is row.figures["sum_se_k4_vs_snr"]
    assert results.select(group="mean", method="ar")[0].sum_se_gain(4) is not None
    assert results.select(group="csi_period", method="ar")[0].net_sum_se(4).kind == "modelled"
    assert group_sizes(results.select(group="mean")) == [4] and group_sizes([]) == []
    link = Row("ar", "umi", figures={"bler_mcs20": Figure([0.1], "1", "measured", axis=[0.0])})
    assert link.mcs_entries == [20] and link.bler(20).axis == [0.0] and link.bler(3) is None
