"""What a user reports for precoding: the strongest eigenvectors of its channel in each subband."""

from __future__ import annotations

import torch
from torch import Tensor

from airlam.csi.lazy import resolve_inputs


@resolve_inputs
def subband_eigenvectors(h: Tensor, subband: int, layers: int = 1) -> Tensor:
    """Strongest eigenvectors of the transmit covariance of each subband, the precoders of a user alone.

    Args:
        h: ``complex [..., subcarrier, rx_ant, tx_ant]``, rows not conjugated (``y = h w x``).
        subband: subcarriers that share a vector; the last subband may have fewer.
        layers: vectors, at most as many as there are transmit antennas.

    Returns:
        ``complex [..., subband, tx_ant, layer]`` of unit norm, the strongest first. Their phases mean nothing for
        precoding; they are those of the channel at the middle of a subband, and so follow the delays of its paths.

    Raises:
        ValueError: a subband below 1, or more layers than antennas.

    Example:
        >>> h = torch.randn(48, 2, 8, dtype=torch.complex64)
        >>> subband_eigenvectors(h, 4).shape
        torch.Size([12, 8, 1])
    """
    if h.dim() < 3 or not h.is_complex():
        raise ValueError(f"h is {h.dtype} {tuple(h.shape)}, but must be complex [..., subcarrier, rx_ant, tx_ant]")
    if isinstance(subband, bool) or not isinstance(subband, int) or subband < 1:
        raise ValueError(f"subband is {subband!r}, but must be a whole number of subcarriers, 1 or more")
    if isinstance(layers, bool) or not isinstance(layers, int) or not 1 <= layers <= h.shape[-1]:
        raise ValueError(f"layers is {layers!r}, but must be a whole number from 1 to {h.shape[-1]}, the antennas")
    rows = h.flatten(-3, -2)  # [..., subcarrier rx_ant, tx_ant]
    per = subband * h.shape[-2]
    missing = -rows.shape[-2] % per
    rows = torch.cat([rows, rows.new_zeros(*rows.shape[:-2], missing, rows.shape[-1])], -2)
    rows = rows.unflatten(-2, (-1, per))  # [..., subband, row, tx_ant]
    v = torch.linalg.eigh(rows.mH @ rows).eigenvectors[..., -layers:].flip(-1)
    # the channel from one subcarrier of each subband, received with the layers' combiners of the whole band
    starts = torch.arange(rows.shape[-3], device=h.device) * subband
    middle = h[..., ((starts + (starts + subband).clamp(max=h.shape[-3])) // 2), :, :]  # [..., subband, rx_ant, tx_ant]
    receive = torch.linalg.eigh((h @ h.mH).sum(-3)).eigenvectors.flip(-1)  # [..., rx_ant, rx_ant]
    receive = receive[..., torch.arange(layers, device=h.device).clamp(max=h.shape[-2] - 1)]
    wanted = middle.mH @ receive.unsqueeze(-3)  # [..., subband, tx_ant, layer]
    turn = (v.conj() * wanted).sum(-2, keepdim=True).angle()
    return v * torch.polar(torch.ones_like(turn), turn)
