"""The enhanced Type II codebook of 5G NR, 3GPP TS 38.214 clause 5.2.2.2.5 (Release 16): precoders as few weighted
beams and delays."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from airlam.csi import PortShape, dft_line, resolve_inputs
from airlam.metrics.sgcs import sgcs

OVERSAMPLING = 4  # O1, and O2 of panels with several rows
LARGEST_N3 = 19  # subbands; above it the standard codes delays within a window, which is not built here
PHASES, AMPLITUDES, REFERENCES = 16, 8, 16


@dataclass(frozen=True)
class Combination:
    """A row of Table 5.2.2.2.5-1 for one and two layers: ``beams`` L, ``delays`` p as a share of the subbands, ``kept``
    beta, the share of coefficients that are reported."""

    beams: int
    delays: float
    kept: float


# paramCombination-r16 -> L, p for one or two layers, beta
COMBINATIONS = {
    1: Combination(2, 1 / 4, 1 / 4),
    2: Combination(2, 1 / 4, 1 / 2),
    3: Combination(4, 1 / 4, 1 / 4),
    4: Combination(4, 1 / 4, 1 / 2),
    5: Combination(4, 1 / 4, 3 / 4),
    6: Combination(4, 1 / 2, 1 / 2),
    7: Combination(6, 1 / 4, 1 / 2),
    8: Combination(6, 1 / 4, 3 / 4),
}


class Type2Report(NamedTuple):
    """What a report says, as whole numbers; nothing else reaches the base station.

    Attributes:
        group: ``[link]``, of the orthogonal beams: ``q1 O2 + q2``.
        beams: ``[link, L]``, ascending: ``column rows + row`` in the group.
        delays: ``[link, layer, M]``, ascending, the first is 0.
        strongest: ``[link, layer]``: beam, counted over both polarisations, of the strongest coefficient, delay 0.
        reference: ``[link, layer]``, 1 to 15: amplitude of the other polarisation, ``2^((k - 15) / 4)``.
        kept: ``bool [link, layer, 2 L, M]``: which coefficients are reported.
        amplitude: the same shape, 0 to 7: ``2^((k - 7) / 2)`` relative to its polarisation's.
        phase: the same shape, 0 to 15: of 16.
    """

    group: Tensor
    beams: Tensor
    delays: Tensor
    strongest: Tensor
    reference: Tensor
    kept: Tensor
    amplitude: Tensor
    phase: Tensor


class EnhancedType2:
    """Enhanced Type II reports of one or two layers.

    The standard says what a report means, not how a user finds it. Here the beams of a group are those with the most
    power, and the ``candidates`` best groups are tried to the end; delays and coefficients are the strongest; phases of
    the subbands, which do not count, are turned ``rounds`` times to what the report can say, from three starts. The
    best report stays. Against one group, start and round this gains 0.02 to 0.05 in SGCS (UMa and UMi, no line of
    sight).

    Args:
        combination: 1 to 8, the standard's paramCombination-r16.
        port_shape: (2, columns, rows). Combinations 3 to 8 need more than four ports, 7 and 8 at least 32.
        subbands: of a report (N3), at most 19.
        layers: 1 or 2.
        candidates: groups of beams that are tried. rounds: of turning phases.

    Raises:
        ValueError: what the standard does not allow, or is not built here.

    Example:
        >>> codebook = EnhancedType2(6, (2, 4, 4), 12)
        >>> v = torch.nn.functional.normalize(torch.randn(3, 12, 32, 1, dtype=torch.complex64), dim=-2)
        >>> codebook.vectors(codebook.report(v)).shape
        torch.Size([3, 12, 32, 1])
        >>> codebook.most_kept, codebook.num_delays
        (24, 6)
    """

    def __init__(
        self,
        combination: int,
        port_shape: PortShape,
        subbands: int,
        layers: int = 1,
        *,
        candidates: int = 4,
        rounds: int = 16,
    ):
        if combination not in COMBINATIONS:
            raise ValueError(f"combination is {combination!r}, but must be one of {', '.join(map(str, COMBINATIONS))}")
        if len(port_shape) != 3 or port_shape[0] != 2 or min(port_shape) < 1 or math.prod(port_shape) < 4:
            raise ValueError(f"port_shape is {port_shape}, but must be two polarisations of a panel, 4 ports or more")
        self.columns, self.rows = port_shape[1:]
        ports = math.prod(port_shape)
        if (combination >= 3 and ports == 4) or (combination >= 7 and ports < 32):
            raise ValueError(
                f"combination {combination} is not allowed with {ports} ports: 3 to 8 need more than 4, 7 and 8 32"
            )
        for name, value, most in (("subbands", subbands, LARGEST_N3), ("layers", layers, 2)):
            if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= most:
                raise ValueError(f"{name} is {value!r}, but must be a whole number from 1 to {most}")
        for name, value in (("candidates", candidates), ("rounds", rounds)):
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise ValueError(f"{name} is {value!r}, but must be a whole number of at least 1")
        of = COMBINATIONS[combination]
        self.combination, self.port_shape, self.subbands, self.layers = combination, port_shape, subbands, layers
        self.num_beams, self.num_delays = of.beams, math.ceil(of.delays * subbands)
        self.most_kept = math.ceil(of.kept * 2 * of.beams * self.num_delays)  # of a layer (K0); of two together 2 K0
        self.candidates, self.rounds = candidates, rounds
        self.groups = orthogonal_groups(self.columns, self.rows)  # [group, port, beam]

    # -- the user --------------------------------------------------------------------------------------------------

    @resolve_inputs
    def report(self, v: Tensor) -> Type2Report:
        """Find a report.

        Args:
            v: wanted precoders ``complex [link, subband, tx_ant, layer]``. Length and phase of a vector do not count;
                phases that few delays describe (:func:`airlam.csi.subband_eigenvectors`) are a good start.

        Raises:
            ValueError: another shape, or NaN.
        """
        _check(v, (self.subbands, math.prod(self.port_shape), self.layers))
        v = v / torch.linalg.vector_norm(v, dim=-2, keepdim=True).clamp_min(torch.finfo(v.real.dtype).tiny)
        folded = v.permute(0, 3, 2, 1).unflatten(2, (2, -1))  # [link, layer, polarisation, port, subband]
        groups = self.groups.to(v)
        through = groups.mH[:, None, None, None] @ folded  # [group, link, layer, polarisation, beam, subband]
        power = through.abs().square().sum((2, 3, 5))  # [group, link, beam]
        best, index = power.topk(self.num_beams, -1)
        order = best.sum(-1).argsort(0, descending=True)[: self.candidates]  # [candidate, link]
        best = None
        for group in order:
            beams = index[group, torch.arange(len(v))].sort(-1).values  # [link, L]
            trial = self._report_in(folded, groups, group, beams)
            best = _better(best, (trial, sgcs(self.vectors(trial).to(v), v).mean((1, 2))))
        assert best is not None
        return best[0]

    def _report_in(self, folded: Tensor, groups: Tensor, group: Tensor, beams: Tensor) -> Type2Report:
        """The report with these beams, of the rounds that one whose vectors fit best."""
        basis = groups[group].gather(2, beams[:, None].expand(-1, groups.shape[1], -1))  # [link, port, L]
        given = (basis.mH[:, None, None] @ folded).flatten(2, 3)  # [link, layer, 2 L, subband]
        best = None
        for x in (given, _smooth(given), _by_strongest(given)):
            for _ in range(self.rounds):
                report = Type2Report(group, beams, *self._quantised(torch.fft.fft(x, norm="forward")))
                back = self._coefficients(report).to(x)
                match = (back.conj() * x).sum(2, keepdim=True)  # [link, layer, 1, subband]
                power = back.abs().square().sum(2, keepdim=True).clamp_min(torch.finfo(x.real.dtype).tiny)
                best = _better(best, (report, (match.abs().square() / power).mean((1, 2, 3))))
                x = x * torch.polar(torch.ones_like(match.real), -match.angle())
        assert best is not None
        return best[0]

    def _quantised(self, c: Tensor) -> tuple[Tensor, ...]:
        """Coefficients ``[link, layer, 2 L, delay]`` -> the last six fields of a report."""
        size = c.abs()
        delays = size.square().sum(2).topk(self.num_delays, -1).indices  # [link, layer, M]
        inside = size.gather(3, delays.unsqueeze(2).expand(*size.shape[:3], -1))
        place = inside.flatten(2).argmax(-1)
        strongest = place // self.num_delays
        first = delays.gather(-1, (place % self.num_delays).unsqueeze(-1))
        delays = ((delays - first) % self.subbands).sort(-1).values  # a common delay turns phases of subbands only
        c = c.gather(3, ((delays + first) % self.subbands).unsqueeze(2).expand(*c.shape[:3], -1))
        peak = c[..., 0].gather(-1, strongest.unsqueeze(-1))  # [link, layer, 1]
        c = c / torch.where(peak.abs() > 0, peak, torch.ones_like(peak)).unsqueeze(-1)
        size = c.abs()
        half = torch.arange(2 * self.num_beams, device=c.device) // self.num_beams  # polarisation of each beam
        own = (half == (strongest // self.num_beams).unsqueeze(-1)).unsqueeze(-1)  # [link, layer, 2 L, 1]
        weaker = torch.where(own, torch.zeros_like(size), size).amax((-2, -1)).clamp_min(1e-30)
        reference = (15 + 4 * weaker.log2()).round().clamp(1, 15).long()
        scale = torch.where(own, torch.ones_like(size), 2 ** ((reference[..., None, None] - 15) / 4))
        steps = (7 + 2 * (size / scale).clamp_min(1e-30).log2()).round()
        order = torch.where(steps >= 0, size, torch.zeros_like(size)).flatten(2)
        kept = torch.zeros_like(order, dtype=torch.bool).scatter(-1, order.topk(self.most_kept, -1).indices, True)
        kept = (kept & (order > 0)).unflatten(2, size.shape[2:])
        kept[..., 0].scatter_(-1, strongest.unsqueeze(-1), True)
        amplitude = torch.where(kept, steps.clamp(0, AMPLITUDES - 1), torch.zeros_like(steps)).long()
        phase = (c.angle() * (PHASES / (2 * math.pi))).round().long() % PHASES
        return delays, strongest, reference, kept, amplitude, torch.where(kept, phase, torch.zeros_like(phase))

    # -- the base station ------------------------------------------------------------------------------------------

    def vectors(self, report: Type2Report) -> Tensor:
        """The precoders of a report, ``complex64 [link, subband, tx_ant, layer]`` of unit norm."""
        basis = self.groups.to(report.group.device)[report.group]
        basis = basis.gather(2, report.beams[:, None].expand(-1, basis.shape[1], -1))
        x = self._coefficients(report).unflatten(2, (2, -1))  # [link, layer, polarisation, L, subband]
        w = (basis[:, None, None] @ x).flatten(2, 3).permute(0, 3, 2, 1)
        return w / torch.linalg.vector_norm(w, dim=-2, keepdim=True).clamp_min(1e-30)

    # -- bits ------------------------------------------------------------------------------------------------------

    def field_bits(self, kept: Sequence[int]) -> dict[str, int]:
        """Bits of each field of a report, as TS 38.212 clause 6.3.2.1.2 and TS 38.214 clause 5.2.2.2.5 count them.

        Counted are the precoder's fields and the number of coefficients that part 1 tells (without it part 2 has no
        length); rank and quality are not, as in studies that compare payloads.

        Args:
            kept: coefficients that are reported, of each layer.

        Returns:
            By the standard's names; ``count`` is the number of coefficients in part 1.

        Example:
            >>> EnhancedType2(1, (2, 4, 4), 12).field_bits([3])
            {'count': 2, 'i1,1': 4, 'i1,2': 7, 'i1,6': 6, 'i1,7': 12, 'i1,8': 2, 'i2,3': 4, 'i2,4': 6, 'i2,5': 8}
        """
        if len(kept) != self.layers or not all(1 <= n <= self.most_kept for n in kept):
            raise ValueError(f"kept is {kept}, but must be {self.layers} numbers from 1 to {self.most_kept}")
        axes = [n for n in (self.columns, self.rows) if n > 1]
        beams, delays, layers = self.num_beams, self.num_delays, self.layers
        return {
            "count": _bits(self.most_kept * layers),
            "i1,1": _bits(OVERSAMPLING ** len(axes)),
            "i1,2": _bits(math.comb(self.columns * self.rows, beams)),
            "i1,6": layers * _bits(math.comb(self.subbands - 1, delays - 1)),
            "i1,7": layers * 2 * beams * delays,
            "i1,8": _bits(kept[0]) if layers == 1 else layers * _bits(2 * beams),
            "i2,3": layers * 4,
            "i2,4": 3 * (sum(kept) - layers),
            "i2,5": 4 * (sum(kept) - layers),
        }

    @property
    def bits(self) -> int:
        """Of the longest report."""
        return sum(self.field_bits([self.most_kept] * self.layers).values())

    def payload(self, report: Type2Report) -> Tensor:
        """Bits of each link's report, ``int [link]``."""
        kept, index = torch.unique(report.kept.flatten(2).sum(-1), dim=0, return_inverse=True)
        return torch.tensor([sum(self.field_bits(row).values()) for row in kept.tolist()])[index]

    # -- steps -----------------------------------------------------------------------------------------------------

    def _coefficients(self, report: Type2Report) -> Tensor:
        """Of each beam and subband, ``complex64 [link, layer, 2 L, subband]``."""
        half = torch.arange(2 * self.num_beams, device=report.group.device) // self.num_beams
        own = half == (report.strongest // self.num_beams).unsqueeze(-1)
        scale = torch.where(own, 1.0, 2 ** ((report.reference.unsqueeze(-1) - 15) / 4)).unsqueeze(-1)
        size = torch.where(report.kept, scale * 2 ** ((report.amplitude - 7) / 2), 0.0)
        c = torch.polar(size, report.phase * (2 * math.pi / PHASES))  # [link, layer, 2 L, M]
        subband = torch.arange(self.subbands, device=c.device)
        turn = report.delays.unsqueeze(-1) * subband * (2 * math.pi / self.subbands)  # [link, layer, M, subband]
        return c @ torch.polar(torch.ones_like(turn), turn)


def _check(v: Tensor, sizes: tuple[int, int, int]) -> None:
    """Raises ValueError unless ``v`` is finite, complex, and ``[link, subband, tx_ant, layer]`` of these sizes."""
    if not isinstance(v, Tensor) or not v.is_complex() or v.dim() != 4 or tuple(v.shape[1:]) != sizes:
        said = f"{v.dtype} {tuple(v.shape)}" if isinstance(v, Tensor) else type(v).__name__
        raise ValueError(f"v is {said}, but must be complex [link, subband, tx_ant, layer] = [link, {sizes}]")
    if not bool(torch.isfinite(torch.view_as_real(v)).all()):
        raise ValueError("v contains NaN or infinity; leave those links out")


def _bits(values: int) -> int:
    """Bits that tell one of so many values."""
    return (values - 1).bit_length()


def _better(best: tuple[Type2Report, Tensor] | None, trial: tuple[Type2Report, Tensor]) -> tuple[Type2Report, Tensor]:
    """Of each link the report with the higher score, and the score ``[link]``."""
    if best is None:
        return trial
    higher = trial[1] > best[1]
    chosen = (torch.where(higher.view(-1, *[1] * (a.dim() - 1)), b, a) for a, b in zip(best[0], trial[0], strict=True))
    return Type2Report(*chosen), torch.maximum(best[1], trial[1])


def orthogonal_groups(columns: int, rows: int) -> Tensor:
    """Orthonormal beams of each oversampled group, ``complex64 [group, port, beam]``: port and beam are ``column rows +
    row``, the group is ``q1 O2 + q2``."""

    def line(ports: int) -> Tensor:
        factor = OVERSAMPLING if ports > 1 else 1
        return dft_line(ports, ports * factor).unflatten(1, (ports, factor)).permute(2, 0, 1) / math.sqrt(ports)

    return torch.stack([torch.kron(a, b) for a in line(columns) for b in line(rows)])


def _by_strongest(x: Tensor) -> Tensor:
    """Vectors ``[link, layer, beam, subband]``, turned so that their strongest beam has no phase."""
    place = x.abs().square().sum(-1, keepdim=True).argmax(2, keepdim=True)  # [link, layer, 1, 1]
    turn = -x.gather(2, place.expand(-1, -1, -1, x.shape[-1])).angle()
    return x * torch.polar(torch.ones_like(turn), turn)


def _smooth(x: Tensor) -> Tensor:
    """Vectors ``[link, layer, beam, subband]``, each turned to have no phase against the one before, so that few delays
    describe them."""
    step = (x[..., 1:].conj() * x[..., :-1]).sum(2, keepdim=True).angle().cumsum(-1)
    turn = torch.cat([torch.zeros_like(step[..., :1]), step], -1)
    return x * torch.polar(torch.ones_like(turn), turn)
