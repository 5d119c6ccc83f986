"""Whole numbers by weight."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airlam.edge.parallel.shares import check_shares, equal_shares, parts_of, share_out
from airlam.errors import RecipeError


@given(
    st.lists(st.floats(0.01, 100), min_size=1, max_size=12),
    st.integers(0, 200),
    st.integers(1, 3),
)
def test_shares_sum_to_the_total_and_stay_near_the_proportion(weights, extra, least):
    total = least * len(weights) + extra
    shares = share_out(total, weights, least=least)
    assert sum(shares) == total and min(shares) >= least
    exact = [total * w / sum(weights) for w in weights]
    if min(exact) >= least:  # nobody had to be lifted: Hamilton's method stays within one of the proportion
        assert all(abs(s - e) < 1 + 1e-9 for s, e in zip(shares, exact, strict=True))


def test_a_larger_weight_never_gets_less():
    shares = share_out(37, [5.0, 4.0, 1.0, 0.1])
    assert shares == sorted(shares, reverse=True)


def test_equal_shares_and_where_they_lie():
    assert equal_shares(10, 4) == [3, 3, 2, 2]
    assert [list(range(10))[part] for part in parts_of([3, 1, 6])] == [[0, 1, 2], [3], [4, 5, 6, 7, 8, 9]]


@pytest.mark.parametrize(
    ("shares", "total", "parts", "words"),
    [
        ([4, 4], 9, 2, "sums to 8, but there are 9"),
        ([4, 5], 9, 3, "each of 3 ranks"),
        ([9, 0], 9, 2, "at least 1"),
        ([4.5, 4.5], 9, 2, "whole number"),
    ],
)
def test_wrong_shares_are_refused(shares, total, parts, words):
    with pytest.raises(RecipeError, match=words):
        check_shares("shares.data", shares, total, parts)


def test_too_many_ranks_are_refused():
    with pytest.raises(RecipeError, match="4 heads cannot be shared out over 5 ranks"):
        share_out(4, [1.0] * 5, what="heads")
    with pytest.raises(RecipeError, match="not all zero"):
        share_out(4, [0.0, 0.0])
