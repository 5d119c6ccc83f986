"""Checks of what a method returned, so that a mistake in it becomes an error with its name and never a figure."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from airlam.errors import RecipeError

POWER_TOLERANCE = 1e-3  # relative; single precision leaves 1e-6


def check_prediction(name: str, predicted: Any, h_past: Tensor, num_future: int) -> Tensor:
    """``predicted`` if it is finite CSI of ``num_future`` slots for ``h_past [link, slot, ...]``.

    Raises:
        RecipeError: it is not; the message names the method.
    """
    wanted = (len(h_past), num_future, *h_past.shape[2:])
    if not isinstance(predicted, Tensor) or not predicted.is_complex() or tuple(predicted.shape) != wanted:
        found = (
            f"{predicted.dtype} {tuple(predicted.shape)}" if isinstance(predicted, Tensor) else type(predicted).__name__
        )
        raise RecipeError(f"{name} predicted {found}, but must return a complex tensor of shape {wanted}")
    if not bool(torch.isfinite(torch.view_as_real(predicted.resolve_conj())).all()):
        raise RecipeError(f"{name} predicted NaN or infinity from finite CSI")
    return predicted


def check_beams(precoder: Any, w: Any, power: float) -> Tensor:
    """``w [..., tx_ant, user]`` if it is finite and keeps the power.

    Raises:
        RecipeError: it does not; the message names the precoder.
    """
    name = getattr(precoder, "name", type(precoder).__name__)
    if not isinstance(w, Tensor) or not w.is_complex():
        found = str(w.dtype) if isinstance(w, Tensor) else type(w).__name__
        raise RecipeError(f"{name} returned {found}, but must return a complex tensor [..., tx_ant, user]")
    used = torch.linalg.vector_norm(w, dim=(-2, -1)).square().max() if w.numel() else torch.zeros(())
    if not bool(torch.isfinite(used)):
        raise RecipeError(f"{name} returned NaN or infinity from finite CSI")
    if float(used) > power * (1 + POWER_TOLERANCE):
        raise RecipeError(f"{name} uses a power of {float(used):.4g}, but at most {power:g} is allowed")
    return w
