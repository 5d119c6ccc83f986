"""Phases and gains that a receiver adds to every packet: removed from a history without a look at the future."""

from __future__ import annotations

import torch
from torch import Tensor

from airlam.csi.axes import RX_ANT, SUBCARRIER, TX_ANT
from airlam.csi.lazy import resolve_inputs


@resolve_inputs
def turn_to_last(h_past: Tensor) -> Tensor:
    r"""Every slot turned in phase to the last one, and given its power.

    Slot ``t`` becomes ``g_t h_t exp(-j arg <h_last, h_t>)``, with the inner product over tones and antennas, and
    ``g_t = |h_last| / |h_t|``. What is common to all coefficients of a slot goes, whether it came from the receiver or
    from the channel: a shift that all rays share, and fading that all coefficients share. So it is for receivers with
    a random phase or an automatic gain in every packet, and not for others. A prediction then has phase and gain of
    the last packet; those of the next one nobody can know. Timing offsets stay
    (:func:`airlam.data.importers.align` removes them).

    Args:
        h_past: complex ``[..., slot, subcarrier, rx_ant, tx_ant]``; slots of zeros stay zero.

    Raises:
        TypeError: ``h_past`` is not complex. ValueError: it has fewer than four axes, or an empty one.

    Example:
        >>> h = torch.randn(1, 8, 1, 2, dtype=torch.complex64)
        >>> factor = torch.polar(torch.tensor([1.0, 3.0, 2.0]), torch.tensor([0.3, -2.0, 1.0]))
        >>> packets = h * factor[:, None, None, None]
        >>> torch.allclose(turn_to_last(packets), packets[-1:].expand(3, -1, -1, -1), atol=1e-5)
        True
    """
    if not h_past.is_complex():
        raise TypeError(f"h_past must be complex, got {h_past.dtype}; torch.complex(real, imag) joins two real tensors")
    if h_past.dim() < 4 or 0 in h_past.shape[-4:]:
        raise ValueError(f"h_past must be [..., slot, subcarrier, rx_ant, tx_ant], got {list(h_past.shape)}")
    axes = (SUBCARRIER, RX_ANT, TX_ANT)
    last = h_past[..., -1:, :, :, :]
    turn = torch.sgn((last * h_past.conj()).sum(axes, keepdim=True))
    own, wanted = (x.abs().square().sum(axes, keepdim=True).sqrt() for x in (h_past, last))
    gain = torch.where(own > 0, wanted / own.clamp_min(torch.finfo(own.dtype).tiny), torch.zeros_like(own))
    return h_past * turn * gain
