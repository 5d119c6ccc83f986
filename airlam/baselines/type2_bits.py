"""Enhanced Type II reports as bits: the fields of TS 38.212 clause 6.3.2.1.2 and TS 38.214 clause 5.2.2.2.5, in order.

Choices of beams and delays are numbered in the combinatorial number system; the standard numbers them in another order,
with the same number of bits.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from torch import Tensor

from airlam.baselines.type2 import EnhancedType2, Type2Report


def to_bits(codebook: EnhancedType2, report: Type2Report, link: int) -> str:
    """One link's report as a text of ``0`` and ``1``, part 1's number first.

    Example:
        >>> v = torch.nn.functional.normalize(torch.randn(1, 12, 32, 1, dtype=torch.complex64), dim=-2)
        >>> codebook = EnhancedType2(1, (2, 4, 4), 12)
        >>> report = codebook.report(v)
        >>> bits = to_bits(codebook, report, 0)
        >>> torch.equal(from_bits(codebook, bits).phase, report.phase)
        True
    """
    return "".join(format(value, f"0{bits}b") if bits else "" for _, value, bits in _fields(codebook, report, link))


def _fields(codebook: EnhancedType2, report: Type2Report, link: int) -> Iterator[tuple[str, int, int]]:
    one = Type2Report(*(part[link] for part in report))
    layers = range(codebook.layers)
    kept = one.kept.flatten(1).sum(-1).tolist()
    bits = codebook.field_bits(kept)
    each = {name: number // codebook.layers for name, number in bits.items()}
    yield "count", sum(kept) - 1, bits["count"]
    yield "i1,1", int(one.group), bits["i1,1"]
    yield "i1,2", _rank(one.beams.tolist()), bits["i1,2"]
    for layer in layers:
        yield "i1,6", _rank([n - 1 for n in one.delays[layer, 1:].tolist()]), each["i1,6"]
    for layer in layers:
        for value in one.kept[layer].mT.flatten().tolist():  # delay by delay
            yield "i1,7", int(value), 1
    for layer in layers:
        first = one.kept[layer, :, 0].tolist()
        place = int(one.strongest[layer])
        yield "i1,8", (sum(first[: place + 1]) - 1) if codebook.layers == 1 else place, each["i1,8"]
    for layer in layers:
        yield "i2,3", int(one.reference[layer]), 4
    for name, values, width in (("i2,4", one.amplitude, 3), ("i2,5", one.phase, 4)):
        for layer in layers:
            others = _others(one.kept[layer], int(one.strongest[layer]))
            for value in values[layer].mT[others].tolist():
                yield name, value, width


def from_bits(codebook: EnhancedType2, bits: str) -> Type2Report:
    """The report of one link, from :func:`to_bits`.

    Raises:
        ValueError: other characters, too few or too many bits, or values that no report has. A flipped bit that gives
            another report is not noticed: that is the task of the channel code.
    """
    reader = _Reader(bits)
    layers, beams, delays = codebook.layers, codebook.num_beams, codebook.num_delays
    ports = codebook.columns * codebook.rows
    most = codebook.field_bits([codebook.most_kept] * layers)
    total = reader.take(most["count"]) + 1
    group = reader.take(most["i1,1"])
    chosen = _unrank(reader.take(most["i1,2"]), ports, beams)
    width = most["i1,6"] // layers
    taps = [
        [0, *(n + 1 for n in _unrank(reader.take(width), codebook.subbands - 1, delays - 1))] for _ in range(layers)
    ]
    kept = torch.tensor([[reader.take(1) for _ in range(2 * beams * delays)] for _ in range(layers)], dtype=torch.bool)
    kept = kept.unflatten(1, (delays, 2 * beams)).mT
    counts = kept.flatten(1).sum(-1).tolist()
    if sum(counts) != total or not all(1 <= n <= codebook.most_kept for n in counts):
        raise ValueError(f"the bitmap keeps {counts} coefficients, part 1 says {total}; the report is damaged")
    strongest = []
    for layer in range(layers):
        code = reader.take(codebook.field_bits(counts)["i1,8"] // layers)
        places = kept[layer, :, 0].nonzero().flatten().tolist() if layers == 1 else list(range(2 * beams))
        if code >= len(places) or not kept[layer, places[code], 0]:
            raise ValueError(f"the strongest coefficient is number {code}, which is not kept; the report is damaged")
        strongest.append(places[code])
    reference = [reader.take(4) for _ in range(layers)]
    if min(reference) == 0:
        raise ValueError("a reference amplitude is 0, which is reserved; the report is damaged")
    amplitude, phase = (torch.zeros(layers, delays, 2 * beams, dtype=torch.long) for _ in range(2))
    for layer in range(layers):
        amplitude[layer, 0, strongest[layer]] = 7
    for values, width in ((amplitude, 3), (phase, 4)):
        for layer in range(layers):
            others = _others(kept[layer], strongest[layer])
            values[layer][others] = torch.tensor(
                [reader.take(width) for _ in range(int(others.sum()))], dtype=torch.long
            )
    reader.end()
    parts = (torch.tensor(group), torch.tensor(chosen), torch.tensor(taps), torch.tensor(strongest))
    parts += (torch.tensor(reference), kept, amplitude.mT.contiguous(), phase.mT.contiguous())
    return Type2Report(*(part.unsqueeze(0) for part in parts))


class _Reader:
    def __init__(self, bits: str):
        if not isinstance(bits, str) or set(bits) - {"0", "1"}:
            raise ValueError("a report is a text of 0 and 1")
        self.bits, self.at = bits, 0

    def take(self, count: int) -> int:
        part = self.bits[self.at : self.at + count]
        if len(part) < count:
            raise ValueError(f"the report ends after {len(self.bits)} bits; it is truncated")
        self.at += count
        return int(part, 2) if count else 0

    def end(self) -> None:
        if self.at != len(self.bits):
            raise ValueError(f"the report has {len(self.bits)} bits, but should have {self.at}")


def _others(kept: Tensor, strongest: int) -> Tensor:
    """Kept coefficients but the strongest, ``bool [delay, beam]``."""
    others = kept.mT.clone()
    others[0, strongest] = False
    return others


def _rank(chosen: list[int]) -> int:
    """Number of an ascending choice in the combinatorial number system."""
    return sum(math.comb(value, place + 1) for place, value in enumerate(chosen))


def _unrank(number: int, values: int, count: int) -> list[int]:
    """The ascending choice of ``count`` of ``values`` with a number.

    Raises:
        ValueError: there are fewer choices.
    """
    if number >= math.comb(values, count):
        raise ValueError(f"choice {number} of {count} of {values} does not exist; the report is damaged")
    out = []
    for place in range(count, 0, -1):
        value = place - 1
        while math.comb(value + 1, place) <= number:
            value += 1
        out.append(value)
        number -= math.comb(value, place)
    return out[::-1]
