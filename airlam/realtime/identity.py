"""What an engine is, as text: a state belongs to one method, its weights and its sizes."""

from __future__ import annotations

import hashlib
from typing import Any

import torch
from torch import nn

from airlam import __version__


def identity_of(method: Any, sizes: tuple[Any, ...]) -> str:
    """Name of the method's class, airlam's version, and a hash of the method's settings and weights and of ``sizes``.

    Example:
        >>> from airlam.baselines.paths import PathPredictor
        >>> identity_of(PathPredictor(), (16, 4)) == identity_of(PathPredictor(), (16, 8))
        False
    """
    digest = hashlib.sha256(repr(sizes).encode())
    for name, value in sorted(vars(method).items()):
        digest.update(name.encode())
        if isinstance(value, nn.Module):
            for key, weight in sorted(value.state_dict().items()):
                digest.update(key.encode())
                digest.update(weight.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
            digest.update(repr(getattr(value, "config", "")).encode())
        else:
            digest.update(repr(value).encode())
    return f"{type(method).__name__} {__version__} {digest.hexdigest()[:16]}"
