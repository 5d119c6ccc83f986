"""The unitary transform between antennas and subcarriers on one side, beams and delays on the other."""

from __future__ import annotations

import torch
from torch import Tensor

from airlam.csi.axes import SUBCARRIER, TX_ANT, PortShape, check_port_shape
from airlam.csi.lazy import resolve_inputs


@resolve_inputs
def to_beam_delay(h: Tensor, port_shape: PortShape | None = None) -> Tensor:
    """Unitary transform of CSI to the beam-delay domain.

    An inverse DFT over subcarriers gives delay; a DFT over columns and rows of the panel gives beams. Polarisations
    and receive antennas stay as they are. Energy is kept (Parseval).

    Args:
        h: ``complex [..., slot, subcarrier, rx_ant, tx_ant]``.
        port_shape: how ``tx_ant`` folds; see :mod:`airlam.csi.axes`.

    Returns:
        ``complex [..., slot, delay, rx_ant, beam]`` of the same shape, beams in the ports' order.

    Example:
        >>> h = torch.randn(2, 16, 48, 1, 32, dtype=torch.complex64)
        >>> torch.allclose(from_beam_delay(to_beam_delay(h, (2, 4, 4)), (2, 4, 4)), h, atol=1e-5)
        True
    """
    shape = check_port_shape(h.shape[TX_ANT], port_shape)
    x = torch.fft.ifft(h, dim=SUBCARRIER, norm="ortho").unflatten(-1, shape)
    return torch.fft.fft2(x, dim=(-2, -1), norm="ortho").flatten(-3)


@resolve_inputs
def from_beam_delay(x: Tensor, port_shape: PortShape | None = None) -> Tensor:
    """Inverse of :func:`to_beam_delay`."""
    shape = check_port_shape(x.shape[TX_ANT], port_shape)
    h = torch.fft.ifft2(x.unflatten(-1, shape), dim=(-2, -1), norm="ortho").flatten(-3)
    return torch.fft.fft(h, dim=SUBCARRIER, norm="ortho")
