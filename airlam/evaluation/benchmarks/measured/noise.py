"""How noisy measured CSI is, from the recording itself: the truth is not known.

The difference of two neighbouring packets holds what is new in both: receiver noise, and what the channel and the
receiver's offsets changed. Two estimates of the noise power come from it. Packets have mean power 1, so both are the
NMSE that this noise costs any prediction:

- *across tones*: channels are smooth over tones and noise is not, so a divided difference of the order ``ORDER`` over
  neighbouring tones leaves noise alone. It misses noise that is smooth over tones too, so it is a low estimate.
- *across packets*: half the power of the difference. It holds all that is new from packet to packet, motion included.
  A prediction goes below it only where changes go on from packet to packet, so that they can be predicted.
"""

from __future__ import annotations

import torch
from torch import Tensor

ORDER = 4  # of the difference over tones: with 312.5 kHz and 0.2 us of delay it leaves 1e-5 of the channel's power


def packet_noise(csi: Tensor) -> Tensor:
    """Half the power of the difference of neighbouring packets.

    Args:
        csi: aligned packets ``[packet, tone, rx_ant, tx_ant]`` of mean power 1.

    Returns:
        ``[packet - 1]``, linear.

    Example:
        >>> packet_noise(torch.ones(3, 8, 1, 1, dtype=torch.complex64)).tolist()
        [0.0, 0.0]
    """
    return csi.diff(dim=0).abs().square().mean((1, 2, 3)) / 2


def tone_noise(csi: Tensor, tones: Tensor) -> Tensor:
    """Noise power that is white over tones, from the difference of neighbouring packets.

    Args:
        csi: aligned packets ``[packet, tone, rx_ant, tx_ant]`` of mean power 1.
        tones: numbers of the tones ``[tone]``, rising; more than ``ORDER``.

    Returns:
        ``[packet - 1]``, linear.

    Raises:
        ValueError: too few tones.

    Example:
        >>> g = torch.Generator().manual_seed(0)
        >>> noise = torch.randn(200, 52, 1, 1, dtype=torch.complex64, generator=g)
        >>> round(float(tone_noise(1 + 0.1 * noise, torch.arange(52)).mean()), 3)
        0.01
    """
    stencils = divided_differences(tones)  # [stencil, tone]
    rest = torch.einsum("sf,pfrt->psrt", stencils.to(csi.dtype), csi.diff(dim=0))
    return rest.abs().square().mean((1, 2, 3)) / 2


def divided_differences(tones: Tensor) -> Tensor:
    """Unit vectors ``[stencil, tone]`` that are orthogonal to all polynomials of a degree below ``ORDER``, each over
    ``ORDER + 1`` neighbouring tones; stencils across a gap in the numbers are left out where there are others."""
    if len(tones) <= ORDER:
        raise ValueError(f"{len(tones)} tones are too few to tell noise from the channel; give more than {ORDER}")
    place = tones.double()
    rows = []
    for start in range(len(tones) - ORDER):
        near = place[start : start + ORDER + 1]
        apart = near[:, None] - near + torch.eye(ORDER + 1, dtype=near.dtype)
        weights = 1 / apart.prod(1)
        row = torch.zeros(len(tones), dtype=near.dtype)
        row[start : start + ORDER + 1] = weights / weights.norm()
        rows.append(row)
    span = place[ORDER:] - place[:-ORDER]
    return torch.stack(rows)[span <= 1.5 * span.median()]
