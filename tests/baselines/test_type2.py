"""Enhanced Type II and Type I reports against the standard's counts, hand-made vectors, and each other."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from airlam.baselines.type1 import Type1Subbands, type1_codebook
from airlam.baselines.type2 import COMBINATIONS, EnhancedType2, Type2Report
from airlam.baselines.type2_bits import from_bits, to_bits
from airlam.csi import subband_eigenvectors
from airlam.metrics import sgcs

PORTS, SUBBANDS = (2, 4, 4), 12


def vectors(links: int, layers: int = 1, seed: int = 0) -> Tensor:
    """Precoders of channels of four plane waves."""
    random = torch.Generator().manual_seed(seed)

    def waves(places: int) -> Tensor:
        turn = 2 * math.pi * torch.rand(links, 4, 1, generator=random) * torch.arange(places)
        return torch.polar(torch.ones_like(turn), turn)

    gains = torch.randn(links, 2, 4, 2, dtype=torch.complex64, generator=random)  # link, rx_ant, wave, polarisation
    h = torch.einsum("lws,lwc,lwv,lrwp->lsrpcv", waves(SUBBANDS), waves(4), waves(4), gains)
    return subband_eigenvectors(h.flatten(3), 1, layers)


# Counted by hand from the tables of TS 38.212 clause 6.3.2.1.2 and TS 38.214 clause 5.2.2.2.5: 32 ports (4, 4), 12
# subbands, all K0 coefficients: count + beams + L of 16 + M - 1 of 11 + 2 L M + strongest + 4 + 7 (K0 - 1)
RANK_1 = {
    1: 2 + 4 + 7 + 6 + 12 + 2 + 4 + 7 * 2,
    2: 3 + 4 + 7 + 6 + 12 + 3 + 4 + 7 * 5,
    3: 3 + 4 + 11 + 6 + 24 + 3 + 4 + 7 * 5,
    4: 4 + 4 + 11 + 6 + 24 + 4 + 4 + 7 * 11,
    5: 5 + 4 + 11 + 6 + 24 + 5 + 4 + 7 * 17,
    6: 5 + 4 + 11 + 9 + 48 + 5 + 4 + 7 * 23,
    7: 5 + 4 + 13 + 6 + 36 + 5 + 4 + 7 * 17,
    8: 5 + 4 + 13 + 6 + 36 + 5 + 4 + 7 * 26,
}
# two layers: the number of both in part 1, beams once, the rest twice; the strongest is one of 2 L
RANK_2 = {
    1: 3 + 4 + 7 + 2 * (6 + 12 + 2 + 4 + 7 * 2),
    4: 5 + 4 + 11 + 2 * (6 + 24 + 3 + 4 + 7 * 11),
    6: 6 + 4 + 11 + 2 * (9 + 48 + 3 + 4 + 7 * 23),
    8: 6 + 4 + 13 + 2 * (6 + 36 + 4 + 4 + 7 * 26),
}


@pytest.mark.parametrize("combination", COMBINATIONS)
def test_bits_are_those_counted_by_hand(combination):
    assert EnhancedType2(combination, PORTS, SUBBANDS).bits == RANK_1[combination]
    if combination in RANK_2:
        assert EnhancedType2(combination, PORTS, SUBBANDS, 2).bits == RANK_2[combination]


def test_one_row_has_one_oversampled_axis_and_thirteen_subbands_one_more_delay():
    bits = EnhancedType2(4, (2, 8, 1), 13).field_bits([8])
    # M = ceil(13 / 4) = 4, K0 = ceil(8 x 4 / 2) = 16, L = 4 of 8: 70 choices, 3 of 12 delays: 220
    assert bits == {
        "count": 4,
        "i1,1": 2,
        "i1,2": 7,
        "i1,6": 8,
        "i1,7": 32,
        "i1,8": 3,
        "i2,3": 4,
        "i2,4": 21,
        "i2,5": 28,
    }


@pytest.mark.parametrize("layers", [1, 2])
@pytest.mark.parametrize("combination", [1, 4, 6, 8])
def test_bits_hold_the_whole_report(combination, layers):
    codebook = EnhancedType2(combination, PORTS, SUBBANDS, layers, candidates=1, rounds=2)
    report = codebook.report(vectors(6, layers))
    sizes = codebook.payload(report)
    for link in range(6):
        bits = to_bits(codebook, report, link)
        assert len(bits) == sizes[link] <= codebook.bits
        for name, back, sent in zip(Type2Report._fields, from_bits(codebook, bits), report, strict=True):
            assert torch.equal(back[0], sent[link]), name


def test_a_precoder_of_the_codebook_comes_back():
    """Three beams with two delays, amplitudes and phases of the tables, built from the standard's equation."""
    codebook = EnhancedType2(4, PORTS, SUBBANDS)
    q1, q2 = 1, 3

    def beam(column: int, row: int) -> Tensor:
        m1, m2 = 4 * column + q1, 4 * row + q2
        u1 = torch.exp(2j * math.pi * m1 * torch.arange(4) / 16)
        u2 = torch.exp(2j * math.pi * m2 * torch.arange(4) / 16)
        return torch.kron(u1, u2)

    delay = torch.exp(2j * math.pi * torch.arange(SUBBANDS) * 2 / SUBBANDS)[:, None]
    first = beam(1, 2) + 2**-0.5 * 1j * delay * beam(2, 1)
    second = 2 ** (-3 / 4) * torch.exp(torch.tensor(2j * math.pi * 5 / 16)) * beam(3, 0).expand(SUBBANDS, -1)
    v = torch.cat([first, second], 1)[None, :, :, None].to(torch.complex64)
    report = codebook.report(v)
    assert sgcs(codebook.vectors(report), v).min() > 1 - 1e-5
    assert int(report.group) == 4 * q1 + q2 and {4 * 1 + 2, 4 * 2 + 1, 4 * 3 + 0} <= set(report.beams[0].tolist())
    assert int(report.kept.sum()) == 3 and int(report.reference) == 12  # 2^(-3/4)


def test_lengths_and_phases_of_vectors_do_not_count():
    v, codebook = vectors(8), EnhancedType2(4, PORTS, SUBBANDS)
    random = torch.Generator().manual_seed(1)
    factor = torch.randn(8, SUBBANDS, 1, 1, dtype=torch.complex64, generator=random)
    found, turned = (sgcs(codebook.vectors(codebook.report(x)), v).mean() for x in (v, factor * v))
    assert abs(found - turned) < 0.01  # one of the three starts of the search is lost
    scaled = codebook.report(2.0 * v)
    assert torch.equal(scaled.phase, codebook.report(v).phase)


def test_more_bits_tell_more():
    v = vectors(32)
    score = {
        k: float(sgcs(c.vectors(c.report(v)), v).mean()) for k in (1, 2, 4, 5) if (c := EnhancedType2(k, PORTS, 12))
    }
    assert score[1] < score[2] < score[4] < score[5]
    type1 = Type1Subbands(PORTS, SUBBANDS)
    assert float(sgcs(type1.vectors(type1.report(v)), v).mean()) < score[1]


def test_the_search_pays_off():
    v = vectors(32)
    v = v * torch.polar(torch.ones(SUBBANDS, 1, 1), torch.randn(SUBBANDS, 1, 1))  # phases as eigenvectors have them
    quick, long = EnhancedType2(4, PORTS, 12, candidates=1, rounds=1), EnhancedType2(4, PORTS, 12)
    assert sgcs(long.vectors(long.report(v)), v).mean() > sgcs(quick.vectors(quick.report(v)), v).mean() + 0.01


def test_a_report_does_not_depend_on_other_links():
    v, codebook = vectors(5), EnhancedType2(2, PORTS, SUBBANDS)
    alone, together = codebook.report(v[3:4]), codebook.report(v)
    for one, all_ in zip(alone, together, strict=True):
        assert torch.equal(one[0], all_[3])


def test_odd_vectors_give_whole_reports():
    codebook = EnhancedType2(6, PORTS, SUBBANDS)
    v = torch.zeros(3, SUBBANDS, 32, 1, dtype=torch.complex64)
    v[1, :, 0] = 1  # one antenna
    v[2, 0] = 1  # one subband
    report = codebook.report(v)
    assert torch.isfinite(torch.view_as_real(codebook.vectors(report))).all()
    for link in range(3):
        assert torch.equal(from_bits(codebook, to_bits(codebook, report, link)).kept[0], report.kept[link])


def test_two_layers_are_both_told():
    v, codebook = vectors(16, 2), EnhancedType2(6, PORTS, SUBBANDS, 2)
    score = sgcs(codebook.vectors(codebook.report(v)), v).mean((0, 1))
    assert score.shape == (2,) and score.min() > 0.7 and score[0] > score[1]


def test_type1_finds_its_own_codeword():
    codebook = type1_codebook(PORTS)
    v = torch.stack([codebook[:, 4 * 77 + phase % 4] for phase in range(SUBBANDS)])[None, :, :, None]
    found = Type1Subbands(PORTS, SUBBANDS)
    report = found.report(v)
    assert int(report.beam) == 77 and report.phase[0].tolist() == [k % 4 for k in range(SUBBANDS)]
    assert sgcs(found.vectors(report), v).min() > 1 - 1e-5
    assert found.bits == 4 + 4 + 2 * SUBBANDS and Type1Subbands((1, 8, 1), 12).bits == 5


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((9, PORTS, 12), "combination is 9"),
        ((1, (1, 4, 4), 12), "two polarisations"),
        ((3, (2, 2, 1), 12), "not allowed with 4 ports"),
        ((7, (2, 4, 2), 12), "7 and 8 32"),
        ((1, PORTS, 20), "subbands is 20"),
        ((1, PORTS, 12, 3), "layers is 3"),
    ],
)
def test_what_the_standard_does_not_have(arguments, words):
    with pytest.raises(ValueError, match=words):
        EnhancedType2(*arguments)


def test_bad_vectors_and_damaged_reports():
    codebook = EnhancedType2(4, PORTS, SUBBANDS)
    v = vectors(1)
    with pytest.raises(ValueError, match=r"must be complex \[link, subband"):
        codebook.report(v[:, :5])
    with pytest.raises(ValueError, match="NaN"):
        codebook.report(v * math.nan)
    bits = to_bits(codebook, codebook.report(v), 0)
    for bad, words in (
        (bits[:-1], "truncated"),
        (bits + "0", "should have"),
        (bits[:50] + "x", "0 and 1"),
        (f"{(int(bits[:4], 2) + 1) % 16:04b}" + bits[4:], "damaged"),  # another number of coefficients in part 1
    ):
        with pytest.raises(ValueError, match=words):
            from_bits(codebook, bad)
