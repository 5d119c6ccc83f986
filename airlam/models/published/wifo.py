"""WiFo as published: a masked autoencoder over CSI patches, and channel prediction with its weights."""

from __future__ import annotations

import re
from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from airlam.csi import PortShape, normalise
from airlam.errors import CheckpointError
from airlam.interfaces import any_scale, check_prediction_request
from airlam.models.published.weights import fill, read_state_dict

PATCH = 4  # slots, subcarriers and antennas of a patch
HEADS = 8
# Width -> sines and cosines of slot, subcarrier and antenna. The sizes Tiny, Little, Small, Base, Large.
SPLITS = {64: (22, 22, 20), 128: (42, 42, 44), 256: (86, 86, 84), 512: (170, 170, 172), 768: (256, 256, 256)}
MAX_BLOCKS = 64
# Learned positions, which the published weights hold and ``SinCos_3D``, the published setting, does not use.
UNUSED = (
    "pos_embed_spatial",
    "pos_embed_temporal",
    "pos_embed_fre",
    "pos_embed_antenna",
    "decoder_pos_embed_fre",
    "decoder_pos_embed_antenna",
    "decoder_pos_embed_spatial",
    "decoder_pos_embed_temporal",
)


class Attention(nn.Module):
    """Self-attention with a layer each for queries, keys and values."""

    def __init__(self, width: int):
        super().__init__()
        self.q, self.k, self.v, self.proj = (nn.Linear(width, width) for _ in range(4))

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = (layer(x).unflatten(-1, (HEADS, -1)).transpose(1, 2) for layer in (self.q, self.k, self.v))
        return self.proj(nn.functional.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))


class FeedForward(nn.Module):
    """Two layers with GELU between them."""

    def __init__(self, width: int):
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(width, 2 * width), nn.Linear(2 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(nn.functional.gelu(self.fc1(x)))


class Block(nn.Module):
    """A transformer block with norms before its two parts."""

    def __init__(self, width: int):
        super().__init__()
        self.norm1, self.attn = nn.LayerNorm(width, eps=1e-6), Attention(width)
        self.norm2, self.mlp = nn.LayerNorm(width, eps=1e-6), FeedForward(width)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attn(self.norm1(x))
        return x + self.mlp(self.norm2(x))


class WiFo(nn.Module):
    """The network of Liu, Gao, Liu, Cheng, Yang, "WiFo: Wireless Foundation Model for Channel Prediction", Sci. China
    Inf. Sci. 68, 162302, 2025, with the names of its state dict.

    Read from the public inference code (``model.py``, ``Embed.py``) with its published setting: patches of 4 slots x 4
    subcarriers x 4 antennas, sinusoidal positions of three axes, 8 heads, feed-forward of twice the width. Only
    prediction over time is here: all patches of the future are masked.

    Args:
        width: 64, 128, 256, 512 or 768.
        num_layers: blocks of the encoder. num_decoder_layers: of the decoder.

    Raises:
        ValueError: another width, whose split of positions was never published.

    Example:
        >>> csi = torch.randn(2, 8, 8, 4, dtype=torch.complex64)      # link, slot, subcarrier, antenna
        >>> WiFo(64, 1, 1)(csi, 8).shape
        torch.Size([2, 8, 8, 4])
    """

    def __init__(self, width: int = 64, num_layers: int = 6, num_decoder_layers: int = 4):
        super().__init__()
        if width not in SPLITS:
            raise ValueError(f"width is {width}, but WiFo has {', '.join(map(str, SPLITS))}")
        self.width = width
        convolution = nn.Conv3d(2, width, PATCH, stride=PATCH)
        self.Embedding = nn.Sequential(OrderedDict(value_embedding=nn.Sequential(OrderedDict(tokenConv=convolution))))
        self.blocks = nn.ModuleList(Block(width) for _ in range(num_layers))
        self.norm = nn.LayerNorm(width, eps=1e-6)
        self.decoder_embed = nn.Linear(width, width)
        self.mask_token = nn.Parameter(torch.zeros(1, 1, width))
        self.decoder_blocks = nn.ModuleList(Block(width) for _ in range(num_decoder_layers))
        self.decoder_norm = nn.LayerNorm(width, eps=1e-6)
        self.decoder_pred = nn.Linear(width, 2 * PATCH**3)

    def forward(self, h: Tensor, num_future: int) -> Tensor:
        """The slots after ``h``.

        Args:
            h: ``complex64 [link, slot, subcarrier, antenna]``; all but the first a multiple of 4.
            num_future: slots, a multiple of 4.

        Returns:
            ``complex64 [link, num_future, subcarrier, antenna]``.
        """
        parts = torch.view_as_real(h).movedim(-1, 1)  # link, real and imaginary, slot, subcarrier, antenna
        tokens = self.Embedding(parts).flatten(2).transpose(1, 2)
        slots, tones, antennas = h.shape[1] // PATCH, h.shape[2] // PATCH, h.shape[3] // PATCH
        ahead = num_future // PATCH
        places = self.positions(slots + ahead, tones, antennas).to(h.device)
        x, seen = tokens + places[: tokens.shape[1]], tokens.shape[1]
        for block in self.blocks:
            x = block(x)
        x = self.decoder_embed(self.norm(x))
        x = torch.cat([x, self.mask_token.expand(len(x), ahead * tones * antennas, -1)], 1) + places
        for block in self.decoder_blocks:
            x = block(x)
        out = self.decoder_pred(self.decoder_norm(x)[:, seen:])
        # The target of its training is a patch as [slot, subcarrier, antenna, real and imaginary].
        out = out.unflatten(-1, (PATCH, PATCH, PATCH, 2)).unflatten(1, (ahead, tones, antennas))
        out = torch.view_as_complex(out.float().contiguous())
        return out.permute(0, 1, 4, 2, 5, 3, 6).flatten(5, 6).flatten(3, 4).flatten(1, 2)

    def positions(self, slots: int, tones: int, antennas: int) -> Tensor:
        """Sines and cosines of each patch ``[patch, width]``, slots slowest."""
        grid = torch.cartesian_prod(*(torch.arange(n, dtype=torch.float64) for n in (slots, tones, antennas)))
        parts = []
        for place, size in zip(grid.reshape(-1, 3).T, SPLITS[self.width], strict=True):
            angle = place[:, None] / 1e4 ** (torch.arange(size // 2, dtype=torch.float64) / (size / 2))
            parts += [angle.sin(), angle.cos()]
        return torch.cat(parts, 1).float()


def load_wifo(path: str | Path) -> WiFo:
    """WiFo with the weights of a state dict, whose sizes say which WiFo it is.

    Args:
        path: ``wifo_base.pkl``, ... of https://huggingface.co/liuboxun/WiFo, or the same tensors as safetensors.

    Raises:
        CheckpointError: no such file, a pickled module, or another layout: key, expected and found shape in one line.

    Example:
        >>> load_wifo("wifo_base.pkl").width                                    # doctest: +SKIP
        512
    """
    state = read_state_dict(path)
    token = state.get("mask_token")
    if token is None or token.dim() != 3 or token.shape[-1] not in SPLITS:
        found = "is missing" if token is None else f"has {list(token.shape)}"
        sizes = ", ".join(map(str, SPLITS))
        raise CheckpointError(
            f"{path} is not of the layout WiFo: mask_token must have the shape [1, 1, width], width one of {sizes}, "
            f"but it {found}"
        )
    network = WiFo(token.shape[-1], _count(state, "blocks", path), _count(state, "decoder_blocks", path))
    fill(network, state, path, UNUSED)
    return network.eval()


def _count(state: Mapping[str, Tensor], name: str, path: str | Path) -> int:
    found = {int(match[1]) for key in state if (match := re.match(rf"{name}\.(\d{{1,4}})\.", key))}
    if len(found) > MAX_BLOCKS:
        raise CheckpointError(f"{path} has {len(found)} {name}, but WiFo has at most {MAX_BLOCKS}")
    return len(found)


class WiFoPredictor:
    """Channel prediction with published WiFo weights, as a row of any benchmark.

    Every receive antenna is a link of its own, scaled to unit power. WiFo's data sets were standardised as a whole,
    their noise taken over a batch, and no file says in which order antennas stand: here they keep airlam's order. A
    history is cut to its last multiple of 4 slots, one of fewer begins with copies of its first; more slots than asked
    for are predicted where 4 does not divide ``num_future``. As published it is bound to no phase: a history turned by
    a common phase gives another prediction.

    Args:
        weights: file of the state dict (:func:`load_wifo`).
        name: of the row in tables.
        chunk: links per forward pass, bounds the memory.

    Raises:
        CheckpointError: see :func:`load_wifo`.

    Example:
        >>> WiFoPredictor("wifo_base.pkl").predict(h_past, 8)                   # doctest: +SKIP
    """

    name = "wifo-published"
    label = "WiFo, published weights"
    kind = "learned"

    def __init__(self, weights: str, name: str | None = None, *, chunk: int = 32):
        self.model, self.name, self.chunk = load_wifo(weights), name or type(self).name, chunk

    @any_scale
    def predict(
        self, h_past: Tensor, num_future: int, *, port_shape: PortShape | None = None, context: dict | None = None
    ) -> Tensor:
        """See :meth:`airlam.interfaces.Predictor.predict`. Computes in single precision.

        Raises:
            ValueError: subcarriers or ports that 4 does not divide.
        """
        check_prediction_request(h_past, num_future, port_shape)
        slots, tones, receive, ports = h_past.shape[-4:]
        if tones % PATCH or ports % PATCH:
            raise ValueError(
                f"WiFo has patches of {PATCH} subcarriers x {PATCH} ports, which do not divide {tones} x {ports}"
            )
        h = h_past.to(torch.complex64)
        if slots < PATCH:
            h = torch.cat([h[..., :1, :, :, :]] * (PATCH - slots) + [h], -4)
        h = h[..., -(max(slots, PATCH) // PATCH * PATCH) :, :, :, :]
        h = h.reshape(-1, *h.shape[-4:])
        links = h.movedim(-2, 1).flatten(0, 1)[..., None, :]  # link and rx, slot, subcarrier, 1, port
        unit, scale = normalise(links)
        whole = -(-num_future // PATCH) * PATCH
        with torch.inference_mode():
            parts = [self.model(part[..., 0, :], whole) for part in unit.split(self.chunk)]
        out = torch.cat(parts)[:, :num_future, :, None] * scale * (unit.abs().amax((1, 2, 3, 4), keepdim=True) > 0)
        out = out[..., 0, :].unflatten(0, (len(h), receive)).movedim(1, -2)
        return out.reshape(*h_past.shape[:-4], num_future, tones, receive, ports).to(h_past.dtype)
