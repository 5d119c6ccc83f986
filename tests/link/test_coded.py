"""The coded link: rates of the specification, thresholds of its code, what a precoder changes."""

from __future__ import annotations

import math

import pytest
import torch

from airlam.baselines import rzf
from airlam.link import CodedLink


def alone(slots: int, tones: int) -> tuple[torch.Tensor, torch.Tensor]:
    """One user, one antenna, a channel of one."""
    one = torch.ones(slots, tones, 1, 1, dtype=torch.complex64)
    return one, one


@pytest.mark.parametrize(("mcs", "table", "order", "rate"), [(10, 1, 4, 340), (27, 1, 6, 910), (27, 2, 8, 948)])
def test_rates_are_the_specifications(mcs, table, order, rate):
    """TS 38.214 tables 5.1.3.1-1 and -2: modulation order and rate x 1024."""
    link = CodedLink(mcs, mcs_table=table, num_subcarriers=24)
    assert (link.bits_per_symbol, link.rate) == (order, pytest.approx(rate / 1024))
    assert link.efficiency == pytest.approx(order * rate / 1024, rel=2e-3)  # whole bits


def test_the_code_works_above_capacity_and_not_below():
    """At 16-QAM of rate 0.33 (1.33 bit) an AWGN channel needs 1.8 dB by Shannon, this short code about 2 dB more."""
    link, generator = CodedLink(10, num_subcarriers=24), torch.Generator().manual_seed(0)
    h, w = alone(200, 24)
    shannon = 10 * math.log10(2**link.efficiency - 1)
    lost = [
        float(link.block_errors(h, w, 10 ** (-(shannon + above) / 10), generator=generator).float().mean())
        for above in (-1.0, 3.5)
    ]
    assert lost[0] > 0.95 and lost[1] < 0.05


def test_interference_counts_and_a_precoder_removes_it():
    generator = torch.Generator().manual_seed(1)
    h = torch.randn(40, 24, 4, 8, dtype=torch.complex64, generator=generator)
    link = CodedLink(15, num_subcarriers=24)
    matched = h.mH / torch.linalg.vector_norm(h.mH, dim=-2, keepdim=True) / 2
    lost = [
        float(link.block_errors(h, w, 0.01, generator=generator).float().mean()) for w in (matched, rzf(h, 1.0, 0.01))
    ]
    assert lost[0] > 0.9 and lost[1] < 0.05


def test_the_same_seed_sends_the_same_and_a_dead_beam_loses_everything():
    link, (h, w) = CodedLink(10, num_subcarriers=24), alone(30, 24)
    one, other = (link.block_errors(h, w, 0.5, generator=torch.Generator().manual_seed(2)) for _ in range(2))
    assert torch.equal(one, other)
    assert bool(link.block_errors(h, 0 * w, 0.01).all())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"mcs": 28, "mcs_table": 2}, "tables are 1, 2, 3"),
        ({"mcs": -1}, "indices 0 to 28"),
        ({"num_subcarriers": 1, "num_symbols": 1}, "one code block takes"),
        ({"num_symbols": 0}, "must be at least 1"),
    ],
)
def test_bad_links(change, message):
    with pytest.raises(ValueError, match=message):
        CodedLink(**({"mcs": 10} | change))


def test_shapes_that_do_not_fit():
    h, w = alone(2, 24)
    with pytest.raises(ValueError, match="with 12 subcarriers"):
        CodedLink(10, num_subcarriers=12).block_errors(h, w, 0.1)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"h": torch.ones(2, 24, 1, 1)}, TypeError, "h must be a complex"),
        ({"w": torch.full((2, 24, 1, 1), torch.nan, dtype=torch.complex64)}, ValueError, "w contains NaN"),
        ({"no": 0.0}, ValueError, "no must be positive"),
        ({"no": float("nan")}, ValueError, "no must be positive"),
        ({"w": torch.ones(2, 24, 1, 2, dtype=torch.complex64)}, ValueError, r"and w .2, 24, 1, 2. \[slot"),
    ],
)
def test_what_cannot_be_sent(change, error, message):
    h, w = alone(2, 24)
    with pytest.raises(error, match=message):
        CodedLink(10, num_subcarriers=24).block_errors(**({"h": h, "w": w, "no": 0.1} | change))
