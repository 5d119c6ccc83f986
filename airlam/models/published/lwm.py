"""LWM 1.0 and 1.1 as published: encoders of one channel matrix, for representations."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn

from airlam.errors import CheckpointError
from airlam.models.published.weights import fill, read_state_dict

LAYERS, CLS, UNITS = 12, 0.2, 1e6  # CLS: every value of the first token; UNITS: channels are multiplied by it


class Norm(nn.Module):
    """Layer norm with the unbiased standard deviation, and ``eps`` added to it."""

    def __init__(self, width: int):
        super().__init__()
        self.alpha, self.bias = nn.Parameter(torch.ones(width)), nn.Parameter(torch.zeros(width))

    def forward(self, x: Tensor) -> Tensor:
        return self.alpha * (x - x.mean(-1, keepdim=True)) / (x.std(-1, keepdim=True) + 1e-6) + self.bias


class Embedding(nn.Module):
    """Patch, place, norm."""

    def __init__(self, patch: int, width: int, places: int):
        super().__init__()
        self.proj, self.pos_embed, self.norm = nn.Linear(patch, width), nn.Embedding(places, width), Norm(width)

    def forward(self, tokens: Tensor) -> Tensor:
        return self.norm(self.proj(tokens) + self.pos_embed.weight[: tokens.shape[1]])


class Attention(nn.Module):
    """Self-attention with the residual inside; LWM 1.0 has a norm here that it never calls."""

    def __init__(self, width: int, heads: int, idle_norm: bool):
        super().__init__()
        inner = width // heads * heads
        self.heads = heads
        self.W_Q, self.W_K, self.W_V = (nn.Linear(width, inner) for _ in range(3))
        self.linear = nn.Linear(inner, width)
        if idle_norm:
            self.norm = Norm(width)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = (layer(x).unflatten(-1, (self.heads, -1)).transpose(1, 2) for layer in (self.W_Q, self.W_K, self.W_V))
        mixed = nn.functional.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)
        return x + self.linear(mixed)


class FeedForward(nn.Module):
    """Two layers with ReLU between them."""

    def __init__(self, width: int, idle_norm: bool):
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)
        if idle_norm:
            self.norm = Norm(width)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(torch.relu(self.fc1(x)))


class Layer(nn.Module):
    """An encoder layer. 1.0: one norm after attention. 1.1: a norm after each part, and the input added once more."""

    def __init__(self, width: int, heads: int, first_version: bool):
        super().__init__()
        self.enc_self_attn = Attention(width, heads, first_version)
        self.pos_ffn = FeedForward(width, first_version)
        self.first_version = first_version
        if first_version:
            self.norm = Norm(width)
        else:
            self.norm1, self.norm2 = Norm(width), Norm(width)

    def forward(self, x: Tensor) -> Tensor:
        mixed = self.enc_self_attn(x)
        if self.first_version:
            mixed = self.norm(mixed)
            return mixed + self.pos_ffn(mixed)
        mixed = self.norm1(x + mixed)
        return self.norm2(mixed + self.pos_ffn(mixed))


class LWM(nn.Module):
    """The Large Wireless Model of Alikhani, Charan, Alkhateeb (arXiv 2411.08872), with the names of its state dict.

    Read from ``lwm_model.py`` and ``input_preprocess.py`` of the two versions. 1.0: width 64, 12 heads, patches of 16
    numbers, at most 128 of them: a channel matrix of 32 antennas x 32 subcarriers. 1.1: width 128, 8 heads, patches of
    4 antennas x 4 subcarriers, at most 512. Both have 12 layers and a first token of 0.2. Dropout, which only training
    has, is left out.

    Neither has a time axis, and its head reconstructs masked patches of the same channel: LWM encodes channels and
    predicts none.

    Args:
        version: ``"1.0"`` or ``"1.1"``.

    Raises:
        ValueError: another version.

    Example:
        >>> h = 1e-6 * torch.randn(2, 32, 32, dtype=torch.complex64)             # link, antenna, subcarrier
        >>> LWM("1.1")(h).shape
        torch.Size([2, 65, 128])
    """

    def __init__(self, version: str = "1.1"):
        super().__init__()
        if version not in ("1.0", "1.1"):
            raise ValueError(f"version is {version!r}, but must be '1.0' or '1.1'")
        self.version, first = version, version == "1.0"
        width, heads, patch, places = (64, 12, 16, 129) if first else (128, 8, 32, 513)
        self.places = places
        self.embedding = Embedding(patch, width, places)
        self.layers = nn.ModuleList(Layer(width, heads, first) for _ in range(LAYERS))
        self.linear, self.norm = nn.Linear(width, width), Norm(width)  # of the head, with the next two
        self.decoder = nn.Linear(width, patch, bias=False)
        self.decoder_bias = nn.Parameter(torch.zeros(patch))

    def tokens(self, h: Tensor) -> Tensor:
        """The tokens of channels, the first one the constant: ``[link, token, patch]``.

        Args:
            h: channels with their path loss ``complex [link, antenna, subcarrier]``; multiplied by 1e6 here.

        Raises:
            ValueError: a channel matrix that makes no whole patches (1.0) or too many.
        """
        if h.dim() != 3 or not h.is_complex():
            raise ValueError(f"h must be complex [link, antenna, subcarrier], got {h.dtype} {tuple(h.shape)}")
        h = UNITS * h.resolve_conj().to(torch.complex64)
        if self.version == "1.0":
            flat = torch.cat([h.real.flatten(1), h.imag.flatten(1)], 1)
            if flat.shape[1] % 16:
                raise ValueError(f"{h.shape[1]} x {h.shape[2]} values make no whole patches of 16 numbers; cut h")
            patches = flat.unflatten(1, (-1, 16))
        else:
            rows, columns = -(-h.shape[1] // 4), -(-h.shape[2] // 4)
            h = nn.functional.pad(h, (0, 4 * columns - h.shape[2], 0, 4 * rows - h.shape[1]))
            blocks = torch.view_as_real(h).unflatten(2, (columns, 4)).unflatten(1, (rows, 4))
            patches = blocks.transpose(2, 3).flatten(3).flatten(1, 2)
        if patches.shape[1] >= self.places:
            most = self.places - 1
            raise ValueError(f"{patches.shape[1]} patches, but LWM {self.version} takes at most {most}; cut h")
        return torch.cat([torch.full_like(patches[:, :1], CLS), patches], 1)

    def forward(self, h: Tensor) -> Tensor:
        """Hidden states ``[link, token, width]`` of channels; the first token's is the embedding of the whole channel.

        Args:
            h: see :meth:`tokens`.
        """
        x = self.embedding(self.tokens(h))
        for layer in self.layers:
            x = layer(x)
        return x


def load_lwm(path: str | Path) -> LWM:
    """LWM with the weights of a state dict, whose sizes say which version it is.

    Args:
        path: ``model_weights.pth`` of https://huggingface.co/wi-lab/lwm or lwm-v1.1, or the same as safetensors.

    Raises:
        CheckpointError: no such file, a pickled module, or another layout: key, expected and found shape in one line.

    Example:
        >>> load_lwm("model_weights.pth").version                               # doctest: +SKIP
        '1.0'
    """
    state = read_state_dict(path)
    first = state.get("embedding.proj.weight")
    if first is None:
        raise CheckpointError(f"{path} is not of the layout LWM: embedding.proj.weight is missing")
    network = LWM("1.0" if first.shape[:1] == (64,) else "1.1")
    fill(network, state, path)
    return network.eval()
