"""The Type I single-panel codebook, 3GPP TS 38.214 clause 5.2.2.2.1: one beam for the band."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from airlam.baselines.precoding_steps import equal_powers, prepared
from airlam.csi import PortShape, check_port_shape, dft_line, resolve_inputs


def type1_codebook(port_shape: PortShape, *, oversampling: int = 4, device: torch.device | str | None = None) -> Tensor:
    r"""Rank-1 codewords of the Type I single-panel codebook, ``complex64 [tx_ant, codeword]`` of unit norm.

    3GPP TS 38.214, clause 5.2.2.2.1: :math:`\frac{1}{\sqrt{P}}[v_{l,m};\ \varphi_n v_{l,m}]` with DFT beams over
    columns and rows, oversampled, and the co-phasing :math:`\varphi_n = e^{j\pi n/2}` of two polarisations.

    Args:
        port_shape: (polarisations, columns, rows), the order of ``tx_ant``.
        oversampling: of axes with more than one port (the standard's O1, O2).
        device: of the codewords; None: torch's default device.

    Example:
        >>> type1_codebook((2, 4, 1)).shape              # 16 beams, 4 co-phasings
        torch.Size([8, 64])
    """
    polarisations, columns, rows = port_shape

    def line(ports: int) -> Tensor:
        return dft_line(ports, ports * (oversampling if ports > 1 else 1), device)

    beams = torch.kron(line(columns), line(rows))
    if polarisations == 2:
        phase = torch.tensor([1, 1j, -1, -1j], dtype=beams.dtype, device=device)
        beams = torch.cat([torch.kron(beams, torch.ones_like(phase)), torch.kron(beams, phase)])
    return beams / math.sqrt(beams.shape[0])


class Type1Precoder:
    """Each user's best codeword of :func:`type1_codebook`, equal powers: what a base station knows from a rank-1 PMI.

    A user whose channel is zero gets no beam, as from every precoder here; its share of the power stays unused.

    Args:
        port_shape: (polarisations, columns, rows) of ``tx_ant``; None: one line of ports.
    """

    name = "type1"

    def __init__(self, *, port_shape: PortShape | None = None, rx_axis: bool = False):
        self.port_shape, self.rx_axis = port_shape, rx_axis

    def precode(self, h, power, no, *, error_covariance=None) -> Tensor:
        """See :class:`airlam.interfaces.Precoder`."""
        h, power, _ = prepared(h, power, no, self.rx_axis)
        shape = check_port_shape(h.shape[-1], self.port_shape)
        codebook = type1_codebook(shape, device=h.device).to(h.dtype)
        gain, best = (h @ codebook).abs().max(-1)  # [..., user]
        return equal_powers(codebook.mT[best].mT * (gain > 0).unsqueeze(-2), power)


class Type1Report(NamedTuple):
    """What a rank-1 report says, mode 1: ``beam [link]`` for the band, ``phase [link, subband]`` between polarisations,
    0 to 3 (0 where there is one)."""

    beam: Tensor
    phase: Tensor


class Type1Subbands:
    """Rank-1 Type I reports for a band of several subbands (codebookMode 1): one beam, a co-phasing a subband.

    The user tries every beam, and reports the one with the highest mean SGCS.

    Args:
        port_shape: (polarisations, columns, rows). subbands: of a report. layers: 1.

    Attributes:
        bits: of a report: the beam along columns (i1,1) and rows (i1,2), two bits of phase a subband (i2).

    Example:
        >>> codebook = Type1Subbands((2, 4, 4), 12)
        >>> v = torch.randn(3, 12, 32, 1, dtype=torch.complex64)
        >>> codebook.vectors(codebook.report(v)).shape, codebook.bits
        (torch.Size([3, 12, 32, 1]), 32)
    """

    def __init__(self, port_shape: PortShape, subbands: int, layers: int = 1):
        if layers != 1:
            raise ValueError(f"layers is {layers!r}, but only reports of one layer are built here")
        ports = math.prod(port_shape)
        if len(port_shape) != 3 or port_shape[0] not in (1, 2) or min(port_shape) < 1:
            raise ValueError(f"port_shape is {port_shape}, but must be 1 or 2 polarisations, columns, rows")
        if isinstance(subbands, bool) or not isinstance(subbands, int) or subbands < 1:
            raise ValueError(f"subbands is {subbands!r}, but must be a whole number of at least 1")
        self.port_shape, self.subbands = port_shape, subbands
        phases = 4 if port_shape[0] == 2 else 1
        self.codebook = type1_codebook(port_shape).unflatten(1, (-1, phases)) if ports > 1 else torch.ones(1, 1, phases)
        self.bits = (self.codebook.shape[1] - 1).bit_length() + subbands * (phases - 1).bit_length()

    @resolve_inputs
    def report(self, v: Tensor) -> Type1Report:
        """Find a report for wanted precoders ``complex [link, subband, tx_ant, 1]``.

        Raises:
            ValueError: another shape.
        """
        wanted = (self.subbands, math.prod(self.port_shape), 1)
        if not v.is_complex() or v.dim() != 4 or tuple(v.shape[1:]) != wanted:
            raise ValueError(f"v is {v.dtype} {tuple(v.shape)}, but must be complex [link, {wanted}]")
        norm = torch.linalg.vector_norm(v, dim=-2, keepdim=True).clamp_min(torch.finfo(v.real.dtype).tiny)
        seen = torch.einsum("lsa,abp->lsbp", (v / norm).squeeze(-1), self.codebook.to(v).conj()).abs().square()
        best, phase = seen.max(-1)  # [link, subband, beam]
        beam = best.mean(1).argmax(-1)
        return Type1Report(beam, phase.gather(2, beam.view(-1, 1, 1).expand(-1, self.subbands, 1)).squeeze(2))

    def payload(self, report: Type1Report) -> Tensor:
        """Bits of each link's report, ``int [link]``."""
        return torch.full((len(report.beam),), self.bits)

    def vectors(self, report: Type1Report) -> Tensor:
        """The precoders of a report, ``complex64 [link, subband, tx_ant, 1]`` of unit norm."""
        codebook = self.codebook.to(report.beam.device)
        return codebook[:, report.beam.unsqueeze(-1), report.phase].permute(1, 2, 0).unsqueeze(-1)
