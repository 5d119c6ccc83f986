"""Reads state dicts of foreign projects: tensors by name, never code."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from airlam.errors import CheckpointError
from airlam.models.checkpoint import check_finite, reason_of
from airlam.models.fields import shown

PREFIXES = ("module.", "model.")  # of DataParallel, of a LightningModule


def read_state_dict(path: str | Path) -> dict[str, Tensor]:
    """The tensors of a file by name: of ``torch.save(model.state_dict(), path)``, of a Lightning checkpoint, or
    safetensors.

    Prefixes ``module.`` and ``model.`` that all names share are left out. Pickles are read with ``weights_only``: a
    file that needs code is refused.

    Args:
        path: the file.

    Raises:
        CheckpointError: no such file, damaged, a pickled module, or not a mapping of names to tensors.

    Example:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp()) / "net.pth"
        >>> torch.save({"module.weight": torch.ones(2, 3)}, path)
        >>> {name: tuple(value.shape) for name, value in read_state_dict(path).items()}
        {'weight': (2, 3)}
    """
    path = Path(path).expanduser()
    if not path.is_file():
        raise CheckpointError(f"no file {path}; name the file of the published weights")
    found: Any = None
    if path.suffix == ".safetensors":
        try:
            found = load_file(path)
        except Exception as error:  # safetensors reports damage with several types
            raise CheckpointError(f"{path} is no whole safetensors file ({reason_of(error)}); copy it again") from error
    else:
        try:
            found = torch.load(path, map_location="cpu", weights_only=True)
        except Exception as error:  # torch reports foreign pickles and cut files with several types
            raise CheckpointError(
                f"{path} is damaged, or a pickled module, which runs code when it is read (weights_only refuses it); "
                "where you trust it, write its tensors with the code it came from: "
                "torch.save(module.state_dict(), 'weights.pth')"
            ) from error
    if isinstance(found, Mapping) and isinstance(found.get("state_dict"), Mapping):
        found = found["state_dict"]
    if not isinstance(found, Mapping) or not found or not all(isinstance(v, Tensor) for v in found.values()):
        raise CheckpointError(
            f"{path} holds {shown(type(found).__name__)}, but must hold tensors by name: a state dict"
        )
    state = {str(name): value for name, value in found.items()}
    for prefix in PREFIXES:
        if all(name.startswith(prefix) for name in state):
            state = {name.removeprefix(prefix): value for name, value in state.items()}
    check_finite(path, state)
    return state


def fill(network: nn.Module, state: Mapping[str, Tensor], path: str | Path, unused: Collection[str] = ()) -> None:
    """Loads tensors into a network of the same names and shapes.

    Args:
        network: its parameters are replaced.
        state: tensors by name.
        path: of their file, for errors.
        unused: names that a file may hold and the network does not need.

    Raises:
        CheckpointError: in one line the first tensor that is missing, of another shape, or unknown.
    """
    expected = network.state_dict()
    what = f"{path} is not of the layout {type(network).__name__}"
    for name, value in expected.items():
        if name not in state:
            raise CheckpointError(f"{what}: {name} of the shape {list(value.shape)} is missing")
        if state[name].shape != value.shape:
            raise CheckpointError(
                f"{what}: {name} must have the shape {list(value.shape)}, but has {list(state[name].shape)}"
            )
    for name in state:
        if name not in expected and name not in unused:
            raise CheckpointError(f"{what}: it has no {name}, which is there with the shape {list(state[name].shape)}")
    network.load_state_dict({name: state[name].to(value.dtype) for name, value in expected.items()})
