"""The backbone in two places: its first layers with the embedding and the head on a device, the rest on a server.

A device computes ``x = front(model, features, n)``; the server ``hidden = back(model, x, n)``; the device reads the
prediction from ``hidden`` (``tokens.hidden``). Composed, that is the model itself.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from torch import Tensor

from airlam.models.layers import enter, layers_of, leave, run


def num_layers(model: Any) -> int:
    """Layers of the backbone that a split can lie between; 0 where it can only lie around the whole backbone."""
    encoder: Any = getattr(model.backbone, "encoder", None)
    return len(encoder.layer) if hasattr(encoder, "layer") and hasattr(model.backbone, "LayerNorm") else 0


def check_split(model: Any, layers: int) -> None:
    """Raises ValueError where ``layers`` is no split of this model."""
    if getattr(model, "context", None) is not None:
        raise ValueError("a model with tokens of other sensors cannot be split yet; use one without config.context")
    if model.config.loops > 1:
        raise ValueError("a model that loops its layers cannot be split; use one with loops: 1")
    if not 0 <= layers <= num_layers(model):
        raise ValueError(
            f"split_layers is {layers}, but must lie between 0 and {num_layers(model)}, the layers of this backbone "
            "(a pre-norm encoder; others can only be split around the whole backbone: 0)"
        )


def front(model: Any, features: Tensor, layers: int) -> Tensor:
    """The device's first part: the embedding and ``layers`` layers; ``[link, token, width]``."""
    embedded = model.embedding(features).to(model.backbone.dtype)
    if layers == 0:
        return embedded
    return run(model.backbone, enter(model.backbone, embedded), layers_of(model.backbone)[:layers])


def back(model: Any, x: Tensor, layers: int) -> Tensor:
    """The server's part: from :func:`front`'s output to the backbone's, in single precision."""
    if layers == 0:
        return model.backbone(inputs_embeds=x).last_hidden_state.float()
    rest = run(model.backbone, x, layers_of(model.backbone)[layers:])
    return leave(model.backbone, rest).float()


def on_device(name: str, layers: int) -> bool:
    """Whether a parameter or layer of this name lies on the device.

    Example:
        >>> [on_device(name, 1) for name in ("head", "backbone.encoder.layer.0.output.dense", "backbone.LayerNorm")]
        [True, True, False]
    """
    parts = name.split(".")
    if "backbone" not in parts:
        return True
    rest = parts[parts.index("backbone") + 1 :]
    if layers and rest[0] == "embeddings":
        return True
    return rest[:2] == ["encoder", "layer"] and int(rest[2]) < layers


def device_parts(names: Iterable[str], layers: int) -> list[str]:
    """Those of ``names`` that lie on the device."""
    return [name for name in names if on_device(name, layers)]
