"""Reports of CSI of any number of bits: beams and delays, quantised by their price, coded with learned contexts."""

from __future__ import annotations

import math
from functools import cache
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from airlam.baselines.type2 import orthogonal_groups
from airlam.csi import PortShape, resolve_inputs
from airlam.io import file_hash
from airlam.models.csi_codec.arithmetic import ArithmeticReader, ArithmeticWriter
from airlam.models.csi_codec.contexts import SIZES, STEPS, places
from airlam.models.csi_codec.grid import ESCAPE_BITS, LARGEST, PHASES, points, step_size
from airlam.models.csi_codec.network import read_sizes
from airlam.models.csi_codec.search import Effort, Found, beams_of, search
from airlam.models.csi_codec.sizes import SizeModel

VERSION = 1
VERSION_BITS, CHECK_BITS, STEP_BITS = 2, 4, (STEPS - 1).bit_length()
LEAST, MOST = 24, 4096  # bits of a report
AT_ONCE = 8  # links that are searched together: more do not stay in a cache
WEIGHTS = Path(__file__).with_name("sizes.safetensors")


@cache
def size_model(path: Path, digest: str) -> SizeModel:
    """Contexts of a file of this content, read once."""
    return read_sizes(path)


class ContextCodec:
    """Reports of a fixed number of bits for any array and band, without a network at the base station.

    Vectors are told as beams and delays. The user chooses an oversampled group of orthogonal beams, turns the phases of
    subbands, which do not count, and quantises at the price that each coefficient has in bits. An arithmetic code
    writes sizes with frequencies that a small integer network finds from the sizes written before.

    Args:
        payload: bits of a report, 24 to 4096, all counted: version (2), checksum (4), step (5), beams, coefficients.
        candidates: groups of beams that are tried to the end.
        weights: a file of contexts that ``airlam fit`` wrote, for user and base station alike; None: the shipped ones.
            They are part of the checksum: reports with other contexts are refused as damaged ones are.

    Example:
        >>> codec = ContextCodec(64).for_array((2, 4, 4), 12)
        >>> v = torch.randn(3, 12, 32, 1, dtype=torch.complex64)
        >>> report = codec.report(v)
        >>> report.shape, codec.vectors(report).shape
        (torch.Size([3, 64]), torch.Size([3, 12, 32, 1]))
    """

    def __init__(self, payload: int, candidates: int = 4, weights: str | Path | None = None):
        if isinstance(payload, bool) or not isinstance(payload, int) or not LEAST <= payload <= MOST:
            raise ValueError(f"payload is {payload!r}, but must be a whole number of bits from {LEAST} to {MOST}")
        if isinstance(candidates, bool) or not isinstance(candidates, int) or candidates < 1:
            raise ValueError(f"candidates is {candidates!r}, but must be a whole number of at least 1")
        self.name = f"context-codec-{payload}"
        self.bits, self.effort, self.weights = payload, Effort(candidates), Path(weights or WEIGHTS)

    def for_array(self, port_shape: PortShape, subbands: int, layers: int = 1) -> ContextReports:
        """See :class:`airlam.interfaces.Codec`."""
        return ContextReports(self.bits, port_shape, subbands, layers, self.effort, self.weights)


class ContextReports:
    """A :class:`ContextCodec` for one array and band; a report is its bits, ``uint8 [link, payload]``."""

    def __init__(self, payload: int, port_shape: PortShape, subbands: int, layers: int, effort: Effort, weights: Path):
        if layers != 1:
            raise ValueError(f"layers is {layers!r}, but only reports of one layer are built here")
        if len(port_shape) != 3 or port_shape[0] not in (1, 2) or min(port_shape) < 1:
            raise ValueError(f"port_shape is {port_shape}, but must be 1 or 2 polarisations, columns, rows")
        if isinstance(subbands, bool) or not isinstance(subbands, int) or subbands < 1:
            raise ValueError(f"subbands is {subbands!r}, but must be a whole number of at least 1")
        if math.prod(port_shape) * subbands > 4096:
            raise ValueError(f"{port_shape} ports and {subbands} subbands have more than 4096 coefficients")
        self.bits, self.port_shape, self.subbands, self.effort = payload, tuple(port_shape), subbands, effort
        self.groups = orthogonal_groups(*port_shape[1:]).numpy()
        digest = file_hash(weights)
        self.place, self.model = places(self.port_shape, subbands), size_model(weights, digest)
        # where the checksum starts: 0 for the shipped contexts, one of 15 other values for others
        self.start = 0 if digest == file_hash(WEIGHTS) else 1 + int(digest[:8], 16) % 15
        self.beams = math.prod(port_shape)

    # -- the user --------------------------------------------------------------------------------------------------

    @resolve_inputs
    def report(self, v: Tensor) -> Tensor:
        """Find reports of wanted precoders ``complex [link, subband, tx_ant, 1]``; their phases do not count.

        Raises:
            ValueError: another shape, or NaN.
        """
        if not v.is_complex() or v.dim() != 4 or tuple(v.shape[1:]) != (self.subbands, self.beams, 1):
            wanted = f"[link, {self.subbands}, {self.beams}, 1]"
            raise ValueError(f"v is {v.dtype} {tuple(v.shape)}, but must be complex {wanted}")
        if not bool(torch.isfinite(torch.view_as_real(v)).all()):
            raise ValueError("v contains NaN or infinity; leave those links out")
        if not len(v):
            return torch.zeros(0, self.bits, dtype=torch.uint8)
        # a step, a group and a main beam are told first; an arithmetic code ends up to two bits late
        budget = self._room - math.log2(len(self.groups) * self.beams) - 1
        written = []
        for part in v[..., 0].cpu().split(AT_ONCE):
            found = search(part.numpy(), budget, self.model, self.place, self.groups, self.effort)
            written += [self._written(found, link) for link in range(len(part))]
        return torch.from_numpy(np.stack(written))

    @property
    def _room(self) -> int:
        return self.bits - VERSION_BITS - CHECK_BITS - STEP_BITS

    def _written(self, found: Found, link: int) -> NDArray:
        sizes, phases = found.sizes[:, link].copy(), found.phases[:, link]
        if found.score[link] < 0:
            sizes[1:], sizes[0] = 0, min(int(sizes[0]), 1)
        while True:
            code = self._coded(int(found.group[link]), int(found.main[link]), int(found.step[link]), sizes, phases)
            if len(code) <= self._room:
                break
            told = np.flatnonzero(sizes)
            if not len(told):
                raise ValueError(f"{self.bits} bits are too few for {self.beams} ports and {self.subbands} subbands")
            sizes[told[-1]] = 0
        bits = [*_digits(VERSION, VERSION_BITS), *_digits(int(found.step[link]), STEP_BITS), *code]
        bits += [0] * (self.bits - CHECK_BITS - len(bits))
        return np.array([*bits, *_digits(_checksum(bits, self.start), CHECK_BITS)], dtype=np.uint8)

    def _coded(self, group: int, main: int, step: int, sizes: NDArray, phases: NDArray) -> list[int]:
        f = self.model.frequencies(self.place.features(sizes[:, None], np.array([step])))[:, 0].tolist()
        writer = ArithmeticWriter()
        writer.write_range(group, group + 1, len(self.groups))
        writer.write_range(main, main + 1, self.beams)
        for k, (size, phase) in enumerate(zip(sizes.tolist(), phases.tolist(), strict=True)):
            writer.write(f[k], min(size, SIZES - 1))
            if size >= SIZES - 1:
                for bit in _digits(size - SIZES + 2, int(ESCAPE_BITS[size])):  # as many zeros before as bits behind
                    writer.write_range(bit, bit + 1, 2)
            if k and size:
                writer.write_range(phase, phase + 1, int(PHASES[size]))
        return writer.finish()

    # -- the base station ------------------------------------------------------------------------------------------

    def vectors(self, report: Tensor) -> Tensor:
        """The precoders of reports, ``complex64 [link, subband, tx_ant, 1]`` of unit norm.

        Raises:
            ValueError: reports of another length or version, or damaged ones: a checksum of four bits finds every
                single flipped bit, and 15 of 16 others.
        """
        bits = self._checked(report)
        if not len(bits):
            return torch.zeros(0, self.subbands, self.beams, 1, dtype=torch.complex64)
        start = VERSION_BITS + STEP_BITS
        step = np.array([_number(row[VERSION_BITS:start]) for row in bits])
        readers = [ArithmeticReader(row[start:-CHECK_BITS]) for row in bits]
        group = np.array([reader.read_uniform(len(self.groups)) for reader in readers])
        main = np.array([reader.read_uniform(self.beams) for reader in readers])
        sizes, phases = (np.zeros((len(self.place.order), len(bits)), dtype=np.int64) for _ in range(2))
        for k in range(len(sizes)):
            f = self.model.frequencies(self.place.features(sizes, step, k))[0].tolist()
            for link, reader in enumerate(readers):
                if size := _size(reader, f[link]):
                    sizes[k, link] = size
                    phases[k, link] = reader.read_uniform(int(PHASES[size])) if k else 0
        return self._vectors(Found(group, main, step, sizes, phases, np.zeros(len(bits))))

    def _checked(self, report: Tensor) -> list[list[int]]:
        if report.dim() != 2 or report.shape[1] != self.bits:
            what = f"the report is {tuple(report.shape)}, but must be [link, {self.bits}] bits"
            raise ValueError(f"{what}; it is truncated or of another rate")
        if not bool(((report == 0) | (report == 1)).all()):
            raise ValueError("a report is made of zeros and ones")
        bits = report.tolist()
        for row in bits:
            if (version := _number(row[:VERSION_BITS])) != VERSION:
                raise ValueError(f"the report is of version {version}, but this codec reads version {VERSION}")
            if _checksum(row[:-CHECK_BITS], self.start) != _number(row[-CHECK_BITS:]):
                raise ValueError("the checksum of the report is wrong; it is damaged")
        return bits

    def _vectors(self, found: Found) -> Tensor:
        told = points(found.sizes, found.phases) * step_size(found.step)
        x = beams_of(told, self.place)  # [link, polarisation, column, row, subband]
        main = np.unravel_index(found.main, self.port_shape)
        x = np.stack([np.roll(one, at, (0, 1, 2)) for one, at in zip(x, zip(*main, strict=True), strict=True)])
        x = x.reshape(len(x), self.port_shape[0], -1, self.subbands)
        w = (self.groups[found.group][:, None] @ x).reshape(len(x), -1, self.subbands).swapaxes(1, 2)
        w = w / np.maximum(np.linalg.norm(w, axis=-1, keepdims=True), 1e-30)
        return torch.from_numpy(w.astype(np.complex64)).unsqueeze(-1)

    def payload(self, report: Tensor) -> Tensor:
        """Bits of each link's report, ``int [link]``: all the same."""
        return torch.full((len(report),), self.bits)


class LastReport:
    """What a base station knows of one user: the last report that was not damaged.

    Example:
        >>> codec = ContextCodec(64).for_array((2, 4, 4), 12)
        >>> held = LastReport(codec)
        >>> good = codec.report(torch.randn(1, 12, 32, 1, dtype=torch.complex64))
        >>> held.receive(good), held.receive(1 - good)
        ('', 'held: the report is of version 2, but this codec reads version 1')
    """

    def __init__(self, codec: ContextReports):
        self.codec = codec
        self.vectors: Tensor | None = None

    def receive(self, report: Tensor) -> str:
        """Take a report ``[1, payload]``; if it cannot be read, keep the last one and say why."""
        try:
            self.vectors = self.codec.vectors(report)
        except ValueError as error:
            return f"held: {error}"
        return ""


def _size(reader: ArithmeticReader, frequencies: list[int]) -> int:
    size = reader.read(frequencies)
    if size < SIZES - 1:
        return size
    zeros = 0
    while not reader.read_uniform(2):
        zeros += 1
        if zeros > LARGEST.bit_length():
            raise ValueError("a coefficient is larger than any report has; the report is damaged")
    beyond = 1
    for _ in range(zeros):
        beyond = 2 * beyond + reader.read_uniform(2)
    if (size := SIZES - 2 + beyond) > LARGEST:
        raise ValueError("a coefficient is larger than any report has; the report is damaged")
    return size


def _digits(value: int, bits: int) -> list[int]:
    return [value >> k & 1 for k in reversed(range(bits))]


def _number(bits: list[int]) -> int:
    return int("".join(map(str, bits)), 2)


def _checksum(bits: list[int], start: int = 0) -> int:
    """CRC of four bits, x^4 + x + 1 (ITU-T G.704); messages of one length and different starts never agree."""
    state = start
    for bit in [*bits, 0, 0, 0, 0]:
        state = state << 1 | bit
        if state & 16:
            state ^= 0b10011
    return state
