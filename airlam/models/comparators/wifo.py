"""WiFo-style: a masked autoencoder over patches of time, delay and beams."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from airlam.csi import PortShape
from airlam.models.comparators.comparator import Comparator, complex_features, real_features, turn_to_last, unit_power


class WiFoComparator(Comparator):
    """Future slots as masked patches of a 3-D autoencoder.

    As published (Liu, Gao, Liu, Cheng, Yang, "WiFo: Wireless Foundation Model for Channel Prediction", 2024): CSI
    as a volume of time x frequency x antennas, cut into patches that become tokens; a transformer encoder over the
    visible tokens, a lighter decoder over these and one mask token per hidden patch; sinusoidal positions in three
    axes; prediction over time is reconstruction of masked future patches. Ours: delay and beams instead of frequency
    and antennas, the decoder's output is a correction of the held last slot, the values of one patch column (all slots)
    have unit power with its log as a feature, each coefficient is turned to the phase of its last slot, and the future
    is the only mask, because that is the task. Any band and array that the patches divide.

    Args:
        patch: slots, delays and beams of a patch. ``patch[0]`` divides ``history`` and ``horizon``.
        width: of encoder and decoder. num_layers, num_decoder_layers, num_heads: of the two.

    Example:
        >>> h = torch.randn(2, 16, 48, 1, 32, dtype=torch.complex64)
        >>> WiFoComparator(width=24, num_layers=1, num_decoder_layers=1, num_heads=2)(h, 4, port_shape=(2, 4, 4)).shape
        torch.Size([2, 4, 48, 1, 32])
    """

    kind = "wifo"

    def __init__(
        self,
        *,
        history: int = 16,
        horizon: int = 4,
        patch: tuple[int, int, int] | list[int] = (4, 4, 4),
        width: int = 96,
        num_layers: int = 4,
        num_decoder_layers: int = 2,
        num_heads: int = 4,
    ):
        super().__init__(
            history=history,
            horizon=horizon,
            patch=list(patch) if isinstance(patch, tuple) else patch,
            width=width,
            num_layers=num_layers,
            num_decoder_layers=num_decoder_layers,
            num_heads=num_heads,
        )
        patch = (patch[0], patch[1], patch[2])
        if history % patch[0] or horizon % patch[0]:
            raise ValueError(f"patches of {patch[0]} slots do not divide history {history} and horizon {horizon}")
        if width % 6:
            raise ValueError(f"width must be a multiple of 6 (sine and cosine of three axes), got {width}")
        self.patch, self.width = patch, width
        size = 2 * math.prod(patch)
        self.embedding = nn.Linear(size + 1, width)
        self.mask = nn.Parameter(0.02 * torch.randn(width))
        self.encoder = _transformer(width, num_layers, num_heads)
        self.bridge = nn.Linear(width, width)
        self.decoder = _transformer(width, num_decoder_layers, num_heads)
        self.head = nn.Linear(width, size)
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)

    def check_shape(self, num_subcarriers: int, port_shape: PortShape) -> None:
        """See :class:`Comparator`."""
        ports = math.prod(port_shape)
        if num_subcarriers % self.patch[1] or ports % self.patch[2]:
            raise ValueError(
                f"this wifo has patches of {self.patch[1]} subcarriers x {self.patch[2]} ports, which do not divide "
                f"{num_subcarriers} x {ports}"
            )

    def correct(self, x: Tensor, port_shape: PortShape) -> Tensor:
        """See :class:`Comparator`."""
        slots, delays, beams = self.patch
        num_delay, num_beam = x.shape[2] // delays, x.shape[3] // beams
        blocks = x.unflatten(3, (num_beam, beams)).unflatten(2, (num_delay, delays)).transpose(3, 4)
        blocks, scale = unit_power(blocks, (1, 4, 5))  # link, slot, num_delay, num_beam, delays, beams
        turned, phase = turn_to_last(blocks)
        past = self.history // slots
        patches = turned.unflatten(1, (past, slots)).permute(0, 1, 3, 4, 2, 5, 6)
        features = real_features(patches.flatten(4))
        level = torch.log(scale).flatten(3).expand(-1, past, -1, -1)[..., None]
        tokens = self.embedding(torch.cat([features, level], -1))
        place = self.positions(past + self.horizon // slots, num_delay, num_beam, x.device)
        visible = self.encoder((tokens + place[:past]).flatten(1, 3))
        hidden = (self.mask + place[past:]).flatten(0, 2).expand(len(x), -1, -1)
        visible = self.bridge(visible) + place[:past].flatten(0, 2)
        decoded = self.decoder(torch.cat([visible, hidden.to(visible.dtype)], 1))[:, visible.shape[1] :]
        out = complex_features(self.head(decoded)).unflatten(-1, (slots, delays, beams))
        out = out.unflatten(1, (-1, num_delay, num_beam)).permute(0, 1, 4, 2, 3, 5, 6).flatten(1, 2) * phase * scale
        return out.transpose(3, 4).flatten(4, 5).flatten(2, 3)

    def positions(self, times: int, delays: int, beams: int, device: torch.device) -> Tensor:
        """Sines and cosines ``[time, delay, beam, width]``, a third of the width for each axis."""
        third = self.width // 3
        rate = torch.exp(-math.log(1e4) * torch.arange(third // 2, device=device) / (third // 2))
        parts = []
        for axis, length in enumerate((times, delays, beams)):
            angle = torch.arange(length, device=device)[:, None] * rate
            code = torch.cat([angle.sin(), angle.cos()], -1)
            view = [1, 1, 1, third]
            view[axis] = length
            parts.append(code.view(view).expand(times, delays, beams, third))
        return torch.cat(parts, -1)


def _transformer(width: int, num_layers: int, num_heads: int) -> nn.TransformerEncoder:
    layer = nn.TransformerEncoderLayer(
        width, num_heads, 4 * width, dropout=0.0, activation="gelu", batch_first=True, norm_first=True
    )
    return nn.TransformerEncoder(layer, num_layers, nn.LayerNorm(width), enable_nested_tensor=False)
