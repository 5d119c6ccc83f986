"""Bootstrap intervals: coverage by simulation, resampling by group, repeatability."""

from __future__ import annotations

import math

import pytest
import torch

from airlam.metrics import bootstrap_interval, paired_interval
from airlam.metrics.intervals import t_quantile


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


def test_t_quantiles_from_the_table():
    # Student's t, 97.5 %, from printed tables, which round to the third decimal
    for freedom, value in ((1, 12.706), (2, 4.303), (4, 2.776), (9, 2.262), (29, 2.045)):
        assert t_quantile(0.975, freedom) == pytest.approx(value, abs=5e-4)


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
