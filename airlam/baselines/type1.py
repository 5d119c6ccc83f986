"""Beams of a standard codebook: Type I single panel, 3GPP TS 38.214."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from airlam.baselines.precoding_steps import equal_powers, prepared
from airlam.csi import PortShape, check_port_shape, dft_line


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
