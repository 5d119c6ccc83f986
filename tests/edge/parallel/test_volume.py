"""Closed forms of what each mode hands to its collectives."""

from __future__ import annotations

import pytest

from airlam.edge.parallel.cost_model.volume import (
    data_volume,
    looped_volume,
    pipeline_volume,
    sequence_volume,
    sharded_volume,
    tensor_volume,
    wire_bytes,
)


def test_by_hand():
    n, t, w, d, layers, p = 8, 80, 128, 128, 4, 900_000
    assert data_volume(parameters=p, ranks=2) == {"all_reduce": 4 * p, "control": 16}
    assert sequence_volume(links=n, tokens=[57, 23], key_width=d, layers=layers, parameters=p) == {
        "all_gather": layers * 2 * n * 57 * d * 4,
        "all_reduce": layers * 2 * n * t * d * 4 + n * 4 + 4 * p,
        "control": 16,
    }
    one = n * t * w * 4
    assert tensor_volume(links=n, tokens=t, width=w, layers=layers, ranks=2) == {
        "all_reduce": 4 * layers * one,
        "control": 16,
    }
    assert looped_volume(links=n, tokens=t, width=w, loops=3, ranks=2) == {
        "reduce": 13 * one,
        "broadcast": 13 * one,
        "control": 16,
    }
    sent = [pipeline_volume(links=n, tokens=t, width=w, stage=s, stages=4)["send"] for s in range(4)]
    assert sum(sent) == 3 * 2 * one


def test_one_rank_sends_nothing():
    assert not data_volume(parameters=10, ranks=1)
    assert not sharded_volume(groups=[[(4, 4)]], ranks=1)
    assert not sequence_volume(links=1, tokens=[4], key_width=2, layers=1, parameters=10)
    assert not tensor_volume(links=1, tokens=4, width=2, layers=1, ranks=1)
    assert not looped_volume(links=1, tokens=4, width=2, loops=2, ranks=1)
    assert not pipeline_volume(links=1, tokens=4, width=2, stage=0, stages=1)


def test_equal_token_shares_gather_least():
    def gathered(tokens):
        return sequence_volume(links=1, tokens=tokens, key_width=2, layers=1, parameters=1)["all_gather"]

    assert gathered([40, 40]) < gathered([50, 30]) == gathered([30, 50])


def test_sharded_parts_are_padded_to_whole_rows():
    even = sharded_volume(groups=[[(8, 4)]], ranks=4, kept_groups=0)
    assert even["all_gather"] == 2 * 2 * 4 * 4 and even["reduce_scatter"] == 8 * 4 * 4
    assert sharded_volume(groups=[[(9, 4)]], ranks=4, kept_groups=0)["reduce_scatter"] == 12 * 4 * 4


def test_on_the_wire_a_ring_sends_less_than_a_star():
    for ranks in (2, 3, 8):
        ring, server = (wire_bytes(kind, 1000.0, ranks) for kind in ("all_reduce", "broadcast"))
        assert ring == pytest.approx(2 * server / ranks)
    with pytest.raises(ValueError, match="no collective"):
        wire_bytes("gather_all", 1.0, 2)
