"""Reports with learned contexts: exact bits, exact reading, what is refused."""

from __future__ import annotations

import math
import random

import numpy as np
import pytest
import torch
from torch import Tensor

from airlam.baselines import EnhancedType2
from airlam.methods import get
from airlam.metrics import sgcs
from airlam.models.csi_codec import ContextCodec, LastReport
from airlam.models.csi_codec.arithmetic import ArithmeticReader, ArithmeticWriter
from airlam.models.csi_codec.codec import _checksum
from airlam.models.csi_codec.contexts import places
from airlam.models.csi_codec.search import Effort, search

PORTS, SUBBANDS = (2, 4, 4), 12


def vectors(links: int, ports: tuple[int, int, int] = PORTS, subbands: int = SUBBANDS) -> Tensor:
    """Precoders of channels of four plane waves."""
    generator = torch.Generator().manual_seed(0)

    def waves(places: int) -> Tensor:
        turn = 2 * math.pi * torch.rand(links, 4, 1, generator=generator) * torch.arange(places)
        return torch.polar(torch.ones_like(turn), turn)

    gains = torch.randn(links, 4, ports[0], dtype=torch.complex64, generator=generator)
    h = torch.einsum("lws,lwc,lwr,lwp->lspcr", waves(subbands), waves(ports[1]), waves(ports[2]), gains)
    return torch.nn.functional.normalize(h.flatten(2), dim=-1).unsqueeze(-1)


def test_arithmetic_code_is_exact_and_costs_what_frequencies_say():
    draw = random.Random(0)
    written = ideal = 0.0
    for _ in range(200):
        writer, told = ArithmeticWriter(), []
        for _ in range(draw.randint(0, 60)):
            frequencies = [draw.choice([1, 3, 50, 65536]) for _ in range(draw.randint(1, 16))]
            symbol = draw.choices(range(len(frequencies)), frequencies)[0]
            writer.write(frequencies, symbol)
            told.append((frequencies, symbol))
            ideal -= math.log2(frequencies[symbol] / sum(frequencies))
        bits = writer.finish()
        written += len(bits)
        reader = ArithmeticReader(bits)
        assert [reader.read(frequencies) for frequencies, _ in told] == [symbol for _, symbol in told]
    assert ideal - 200 < written < ideal + 2 * 200  # the end of a code may save a bit of zeros, and costs at most two


def test_one_place_has_the_features_of_all_places():
    place = places((2, 2, 3), 5)
    sizes = np.random.default_rng(0).integers(0, 4, (60, 3))
    step = np.array([0, 7, 31])
    whole = place.features(sizes, step)
    for k in range(60):
        known = np.where(np.arange(60)[:, None] < k, sizes, 0)  # later sizes are not known to the reader
        assert np.array_equal(place.features(known, step, k)[0], whole[k])


@pytest.mark.parametrize(("ports", "subbands"), [(PORTS, 12), ((1, 3, 2), 5), ((2, 8, 1), 13), ((2, 1, 1), 1)])
@pytest.mark.parametrize("payload", [40, 200])
def test_a_report_is_its_payload_and_says_what_was_found(ports, subbands, payload):
    codec = ContextCodec(payload).for_array(ports, subbands)
    v = vectors(2, ports, subbands)
    report = codec.report(v)
    assert report.shape == (2, payload) and report.dtype == torch.uint8
    assert codec.payload(report).tolist() == [payload] * 2
    told = codec.vectors(report)
    # what the user found, without bits between
    budget = codec._room - math.log2(len(codec.groups) * codec.beams) - 1
    found = search(v[..., 0].numpy(), budget, codec.model, codec.place, codec.groups, Effort())
    if (found.score >= 0).all():
        assert sgcs(told, v).mean((1, 2)).numpy() == pytest.approx(found.score, abs=1e-5)  # single precision
    assert told.abs().square().sum(2).allclose(torch.ones(2, subbands, 1))
    assert torch.equal(codec.vectors(report[1:2]), told[1:2])


def test_more_bits_tell_more_and_beat_enhanced_type_2():
    v = vectors(8)
    scores = []
    for payload in (32, 128, 512):
        codec = ContextCodec(payload).for_array(PORTS, SUBBANDS)
        scores.append(float(sgcs(codec.vectors(codec.report(v)), v).mean()))
    assert scores == sorted(scores) and scores[-1] > 0.95
    standard = EnhancedType2(4, PORTS, SUBBANDS, candidates=2, rounds=8)
    assert standard.bits > 128
    assert scores[1] > float(sgcs(standard.vectors(standard.report(v)), v).mean())


def test_phases_lengths_and_other_links_do_not_count():
    v = vectors(5)
    codec = ContextCodec(96, candidates=1).for_array(PORTS, SUBBANDS)
    report = codec.report(v)
    told = sgcs(codec.vectors(report), v).mean((1, 2))
    assert torch.equal(codec.report(3 * v[4:5]), report[4:5])
    turn = torch.polar(torch.ones(1, SUBBANDS, 1, 1), torch.full((1, SUBBANDS, 1, 1), 2.0))
    assert sgcs(codec.vectors(codec.report(v * turn)), v).mean((1, 2)) == pytest.approx(told, abs=1e-3)


def test_damage_is_seen_and_the_last_report_held():
    codec = ContextCodec(64).for_array(PORTS, SUBBANDS)
    report = codec.report(vectors(2))
    held = LastReport(codec)
    assert held.receive(report[:1]) == ""
    before = held.vectors
    for at in range(64):  # every flipped bit
        flipped = report[1:].clone()
        flipped[0, at] ^= 1
        said = held.receive(flipped)
        assert said.startswith("held: ") and "\n" not in said and held.vectors is before
    assert "truncated or of another rate" in held.receive(report[1:, :63])
    other = report[1:].clone()
    other[0, :2] = torch.tensor([1, 0])
    assert "version 2, but this codec reads version 1" in held.receive(other)
    assert held.receive(report[1:]) == "" and not torch.equal(held.vectors, before)


def test_checksum_is_that_of_g704():
    # divided by hand: x^4 (message 1) / (x^4 + x + 1) leaves x + 1; message 1101 leaves 0100
    assert _checksum([1]) == 0b0011 and _checksum([1, 1, 0, 1]) == 0b0100


def test_golden_report_is_read_as_ever():
    """Other frequencies would read other sizes: the shipped weights are part of version 1."""
    codec = ContextCodec(48).for_array((2, 2, 2), 4)
    golden = torch.tensor([list(map(int, "010011011001110110001010100100101110100000000110"))])
    # what was reached when it was written; another reading would be far off
    assert float(sgcs(codec.vectors(golden), vectors(1, (2, 2, 2), 4)).mean()) == pytest.approx(0.6020, abs=1e-3)


def test_refusals():
    for payload in (23, 64.0, True, 5000):
        with pytest.raises(ValueError, match="payload is"):
            ContextCodec(payload)
    with pytest.raises(ValueError, match="only reports of one layer"):
        ContextCodec(64).for_array(PORTS, SUBBANDS, 2)
    codec = ContextCodec(64).for_array(PORTS, SUBBANDS)
    with pytest.raises(ValueError, match="must be complex"):
        codec.report(torch.zeros(1, 12, 31, 1, dtype=torch.complex64))
    with pytest.raises(ValueError, match="NaN"):
        codec.report(torch.full((1, 12, 32, 1), torch.nan, dtype=torch.complex64))
    with pytest.raises(ValueError, match="zeros and ones"):
        codec.vectors(torch.full((1, 64), 2))
    assert codec.vectors(codec.report(torch.zeros(0, 12, 32, 1, dtype=torch.complex64))).shape == (0, 12, 32, 1)
    assert bool(torch.isfinite(torch.view_as_real(codec.vectors(codec.report(torch.zeros_like(vectors(1)))))).all())


def test_registered():
    assert get("context-codec-64", "codec").build().for_array(PORTS, SUBBANDS).bits == 64
