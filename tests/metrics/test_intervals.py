"""Bootstrap intervals: coverage by simulation, resampling by group, repeatability."""

from __future__ import annotations

import math

import pytest
import torch

from airlam.metrics import bootstrap_interval, paired_interval
from airlam.metrics.intervals import bootstrap, group_sums


def test_coverage_of_independent_values():
    g = torch.Generator().manual_seed(0)
    hits = 0
    for trial in range(300):
        values = torch.randn(25, generator=g)
        interval = bootstrap_interval(values, num_resamples=500, seed=trial)
        hits += interval.low <= 0.0 <= interval.high
    # binomial(300, 0.95): standard deviation 1.3 %; four of them
    assert 0.90 <= hits / 300 <= 1.0


def test_coverage_needs_groups_when_links_of_a_drop_are_alike():
    g = torch.Generator().manual_seed(1)
    hits = {"drops": 0, "links": 0}
    groups = torch.arange(20).repeat_interleave(10)
    for trial in range(200):
        values = torch.randn(20, generator=g).repeat_interleave(10) + 0.3 * torch.randn(200, generator=g)
        for name, by in (("drops", groups), ("links", None)):
            interval = bootstrap_interval(values, groups=by, num_resamples=400, seed=trial)
            hits[name] += interval.low <= 0.0 <= interval.high
    assert hits["drops"] / 200 >= 0.89  # 0.95 less four standard deviations of binomial(200, 0.95)
    assert hits["links"] / 200 <= 0.7  # ten times too many values: the interval is a third as wide as it must be


def test_same_seed_same_interval():
    values = torch.rand(30, generator=torch.Generator().manual_seed(2))
    assert bootstrap_interval(values, seed=3) == bootstrap_interval(values, seed=3)
    assert bootstrap_interval(values, seed=3) != bootstrap_interval(values, seed=4)


def test_paired_is_narrower_than_unpaired():
    g = torch.Generator().manual_seed(3)
    common = torch.randn(100, generator=g)
    a, b = common + 0.01 * torch.randn(100, generator=g), common + 0.1
    paired = paired_interval(a, b)
    assert paired.excludes(0.0) and paired.high < 0
    assert paired.high - paired.low < 0.1 * (bootstrap_interval(a).high - bootstrap_interval(a).low)


def test_db_scale_is_the_ratio_of_means():
    a = torch.tensor([0.1, 0.2, 0.3])
    found = paired_interval(a / 10, a, scale="db")
    assert found.estimate == pytest.approx(-10.0) and found.low == pytest.approx(-10.0)


def test_one_group_says_nothing():
    interval = bootstrap_interval(torch.rand(5), groups=torch.zeros(5, dtype=torch.long))
    assert interval.low == -math.inf and interval.high == math.inf


def test_few_drops_widen_the_interval_as_students_t_says():
    """Half the width over the standard error is close to Student's quantile, from printed tables."""
    g = torch.Generator().manual_seed(4)
    for num, quantile in ((10, 2.262), (30, 2.045)):
        ratios = []
        for trial in range(40):
            values = torch.randn(num, generator=g, dtype=torch.float64)
            found = bootstrap_interval(values, seed=trial)
            ratios.append((found.high - found.low) / 2 / float(values.std() / num**0.5))
        # 5 %: the scatter of 40 means, and the tails of few values, which percentiles do not reach
        assert sum(ratios) / 40 == pytest.approx(quantile, rel=0.05)


def test_the_points_of_a_curve_are_resampled_together_each_as_if_alone():
    values, drop = torch.rand(40, 3, generator=torch.Generator().manual_seed(5)), torch.arange(40) // 4
    curve = bootstrap([group_sums([values], drop)], lambda means: means[0][0])
    for point in range(3):
        alone = bootstrap_interval(values[:, point], groups=drop)
        assert [float(end[point]) for end in curve] == pytest.approx(list(alone), rel=1e-12)


def test_every_cell_resamples_its_own_drops():
    """Of two cells with independent drops the variance of the mean is a quarter of the sum of theirs."""
    g = torch.Generator().manual_seed(6)
    cells = [group_sums([torch.randn(300, generator=g)], None) for _ in range(2)]
    _, low, high = bootstrap(cells, lambda means: (means[0][0] + means[1][0]) / 2)
    expected = 2 * 1.964 * math.sqrt(sum(float(sums.var()) / 300 for sums, _ in cells)) / 2
    assert float(high - low) == pytest.approx(expected, rel=0.05)  # 2000 resamples leave 3 %


@pytest.mark.parametrize(
    "values, kwargs, message",
    [
        (torch.tensor([]), {}, "non-empty"),
        (torch.tensor([1.0, float("nan")]), {}, "NaN"),
        (torch.ones(3), {"groups": torch.zeros(2)}, "group of each"),
        (torch.ones(3), {"level": 95}, "level"),
    ],
)
def test_bad_input(values, kwargs, message):
    with pytest.raises(ValueError, match=message):
        bootstrap_interval(values, **kwargs)
