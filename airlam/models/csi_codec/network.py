"""The network of contexts while it is trained: real weights, rounded for the code."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.numpy import load_file, save_file
from torch import Tensor, nn

from airlam.io import replacing
from airlam.models.csi_codec.contexts import FEATURES, SIZES
from airlam.models.csi_codec.sizes import INPUT, SizeModel

FILE = "sizes.safetensors"
WIDTH = 48
EMPTY = 2.0  # bits by which an untrained network holds a size for rarer than the next smaller one


class SizeNetwork(nn.Module):
    """Logits in bits of every size of a coefficient, from the whole numbers of
    :meth:`~airlam.models.csi_codec.contexts.Places.features`.

    A new one has the same frequencies everywhere, falling with the size.

    Example:
        >>> network = SizeNetwork()
        >>> network(torch.zeros(3, FEATURES)).shape
        torch.Size([3, 16])
    """

    def __init__(self, width: int = WIDTH):
        super().__init__()
        layers = [nn.Linear(FEATURES, width), nn.Linear(width, width), nn.Linear(width, SIZES)]
        self.layers = nn.ModuleList(layers)
        nn.init.zeros_(layers[-1].weight)
        with torch.no_grad():
            layers[-1].bias.copy_(-EMPTY * torch.arange(SIZES))

    def forward(self, features: Tensor) -> Tensor:
        x = features / INPUT
        for layer in self.layers[:-1]:
            x = layer(x).relu()
        return self.layers[-1](x)

    def rounded(self) -> SizeModel:
        """The whole numbers that the code uses."""
        weights, biases = [], []
        for layer in self.layers:
            assert isinstance(layer, nn.Linear)  # for the type checker
            weights.append(layer.weight.detach().cpu().numpy().T)
            biases.append(layer.bias.detach().cpu().numpy())
        return SizeModel.from_real(weights, biases)

    def save(self, folder: str | Path) -> Path:
        """Write the rounded weights to ``folder/sizes.safetensors``; :class:`~airlam.models.csi_codec.ContextCodec`
        reads them as ``weights``."""
        path = Path(folder) / FILE
        with replacing(path) as temporary:
            save_file(_tensors(self.rounded()), temporary)
        return path


def _tensors(model: SizeModel) -> dict[str, NDArray]:
    parts = {"weight": model.weights, "bias": model.biases}
    # whole numbers below 2^53: exact in double precision
    return {f"{name}{k}": np.ascontiguousarray(x, np.float64) for name, xs in parts.items() for k, x in enumerate(xs)}


def read_sizes(path: str | Path) -> SizeModel:
    """The rounded weights of a file that :meth:`SizeNetwork.save` wrote.

    Raises:
        ValueError: a file of another kind, or weights that are no whole numbers.
    """
    held = {name: value.astype(np.float64) for name, value in load_file(path).items()}
    layers = range(len(held) // 2)
    wanted = {f"{name}{k}" for k in layers for name in ("weight", "bias")}
    if not held or set(held) != wanted or held["weight0"].shape[0] != FEATURES:
        raise ValueError(f"{path} holds no contexts of reports; airlam fit with tasks/csi_compression/ makes some")
    if any(not np.array_equal(value, np.round(value)) for value in held.values()):
        raise ValueError(f"{path} holds weights that are no whole numbers; two machines may read a report differently")
    return SizeModel(tuple(held[f"weight{k}"] for k in layers), tuple(held[f"bias{k}"] for k in layers))
