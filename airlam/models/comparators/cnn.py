"""Convolutions over delay and beams, with the slots as channels."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from airlam.csi import PortShape
from airlam.models.comparators.comparator import Comparator, silent, turn_to_last, unit_power


class CNNComparator(Comparator):
    """A residual 3-D convolutional network over (delay, column beam, row beam).

    As published (baseline of LLM4CP): ten convolutions over the image slot x subcarrier of one antenna. Ours: slots are
    channels, so that every layer sees the whole history, and the image is delay x beams, circular as the DFT makes it,
    where the leakage of one ray lies side by side. Each coefficient's series is turned to the phase of its last slot
    and scaled to unit power; the log of that scale is a channel of its own. Serves any band and array.

    Args:
        width: channels. num_blocks: residual blocks of two 3 x 3 x 3 convolutions.

    Example:
        >>> h = torch.randn(2, 16, 48, 1, 32, dtype=torch.complex64)
        >>> CNNComparator(width=8, num_blocks=1)(h, 4, port_shape=(2, 4, 4)).shape
        torch.Size([2, 4, 48, 1, 32])
    """

    kind = "cnn"

    def __init__(self, *, history: int = 16, horizon: int = 4, width: int = 48, num_blocks: int = 3):
        super().__init__(history=history, horizon=horizon, width=width, num_blocks=num_blocks)
        self.enter = nn.Conv3d(2 * history + 1, width, 1)
        self.blocks = nn.ModuleList(ResidualBlock(width) for _ in range(num_blocks))
        self.head = silent(nn.Conv3d(width, 2 * horizon, 1))

    def correct(self, x: Tensor, port_shape: PortShape) -> Tensor:
        """See :class:`Comparator`. Polarisations pass as links of their own."""
        image = x.unflatten(-1, port_shape).movedim(3, 1).flatten(0, 1)  # link and polarisation, slot, delay, col, row
        image, scale = unit_power(image, (1,))
        turned, phase = turn_to_last(image)
        y = self.enter(torch.cat([turned.real, turned.imag, torch.log(scale)], 1))
        for block in self.blocks:
            y = block(y)
        real, imag = self.head(nn.functional.gelu(y)).float().chunk(2, 1)
        out = torch.complex(real, imag) * phase * scale
        return out.unflatten(0, (len(x), -1)).movedim(1, 3).flatten(3)


class ResidualBlock(nn.Module):
    """``x + conv(gelu(conv(gelu(x))))``, circular in all three axes."""

    def __init__(self, width: int):
        super().__init__()
        self.first, self.second = (nn.Conv3d(width, width, 3) for _ in range(2))

    def forward(self, x: Tensor) -> Tensor:
        """``[image, channel, delay, column, row]``, shape kept."""
        y = self.first(_wrap(nn.functional.gelu(x)))
        return x + self.second(_wrap(nn.functional.gelu(y)))


def _wrap(x: Tensor) -> Tensor:
    return nn.functional.pad(x, (1, 1, 1, 1, 1, 1), mode="circular")
