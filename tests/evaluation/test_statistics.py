"""Glue around the bootstrap: dB, pairing, means over cells."""

import math

import torch

from airlam.evaluation.engine import statistics
from airlam.evaluation.results import CellRecord, Series
from airlam.metrics import bootstrap_interval


def draws(*shape, seed=0):
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) + 0.5


def test_db_figure_is_the_interval_of_the_linear_mean_in_db():
    values, drop = draws(40), torch.arange(40) // 4
    figure, linear = statistics.db_figure(values, drop), bootstrap_interval(values, groups=drop)
    assert math.isclose(figure.number, 10 * math.log10(linear.estimate), rel_tol=1e-12)
    # a quantile lies between two resamples: dB of the point between is not the point between their dB
    assert math.isclose(figure.ends[0], 10 * math.log10(linear.low), rel_tol=1e-5)


def test_one_drop_has_no_interval():
    assert statistics.db_figure(draws(8), torch.zeros(8, dtype=torch.int64)).interval is None
    found = statistics.over_cells(statistics.mean_of_cells, [[draws(8)]], [torch.zeros(8, dtype=torch.int64)], "1")
    assert found.interval is None


def test_gain_is_positive_where_the_error_is_smaller_and_pairing_removes_what_links_share():
    bar, drop = draws(60) ** 4, torch.arange(60) // 2
    figure = statistics.gain_db(bar / 2, bar, drop)
    assert math.isclose(figure.number, 10 * math.log10(2), rel_tol=1e-9)
    # the same factor on every link: the difference does not vary, however much the links do
    assert math.isclose(*figure.ends, rel_tol=1e-9)


def test_curve_has_one_interval_a_point():
    record = CellRecord({}, {"link": list(range(30))})
    record.add(Series("ar", "nmse_steps", "1", draws(30, 4), axis=[0.5, 1.0, 1.5, 2.0], axis_name="horizon [ms]"))
    figure = statistics.figure_of(record, record.series[0])
    assert figure.axis == [0.5, 1.0, 1.5, 2.0] and figure.axis_name == "horizon [ms]"
    assert len(figure.value) == len(figure.interval) == 4
    assert all(low < value < high for value, (low, high) in zip(figure.value, figure.interval, strict=True))


def test_the_two_means_of_nmse():
    cells = [[torch.full((10,), 0.1)], [torch.full((10,), 0.001)]]
    drops = [torch.arange(10)] * 2
    linear = statistics.over_cells(statistics.db_of_linear_mean, cells, drops, "dB")
    mean_db = statistics.over_cells(statistics.mean_of_cells_db, cells, drops, "dB")
    assert math.isclose(linear.number, 10 * math.log10(0.0505), rel_tol=1e-6)  # float32 input
    assert math.isclose(mean_db.number, -20.0, rel_tol=1e-6)
    assert math.isclose(*linear.ends, rel_tol=1e-9)  # constant values: no spread


def test_one_cell_has_the_interval_of_that_cell():
    values, drop = draws(48), torch.arange(48) // 4
    over = statistics.over_cells(statistics.mean_of_cells, [[values]], [drop], "1")
    alone = bootstrap_interval(values, groups=drop)
    assert over.ends == (alone.low, alone.high)


def test_interval_covers_about_as_often_as_it_says():
    generator = torch.Generator().manual_seed(1)
    hits = 0
    for _ in range(200):
        cells = [[torch.randn(24, generator=generator).repeat_interleave(2) + 1] for _ in range(2)]
        drops = [torch.arange(48) // 2] * 2
        low, high = statistics.over_cells(statistics.mean_of_cells, cells, drops, "1").ends
        hits += low <= 1 <= high
    # binomial with p = 0.95 and n = 200 has standard deviation 0.015; the bootstrap itself adds a percent or two
    assert 0.90 <= hits / 200 <= 0.99


def test_difference_of_paired_columns():
    a, drop = draws(20), torch.arange(20)
    found = statistics.over_cells(statistics.difference(statistics.mean_of_cells), [[a + 1, a]], [drop], "1")
    assert math.isclose(found.number, 1.0, rel_tol=1e-9)
    assert math.isclose(*found.ends, rel_tol=1e-9)
