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
    if predicted.dtype != h_past.dtype:
        raise RecipeError(
            f"{name} predicted {predicted.dtype} from {h_past.dtype} CSI, but must return the dtype of its input; end "
            "predict with .to(h_past.dtype)"
        )
    finite = torch.isfinite(torch.view_as_real(predicted.resolve_conj())).flatten(1).all(1)
    if not bool(finite.all()):
        raise RecipeError(
            f"{name} predicted NaN or infinity from finite CSI, for {int((~finite).sum())} of {len(finite)} links; "
            "guard its divisions and roots, for example with clamp_min"
        )
    return predicted


def check_beams(precoder: Any, w: Any, h: Tensor, power: float, chain: str = "") -> Tensor:
    """``w`` if these are finite beams ``[..., tx_ant, user]`` for ``h [..., user, tx_ant]`` that keep the power.

    Args:
        chain: in which the precoder stands, for the error.

    Raises:
        RecipeError: they are not; the message names the chain and the precoder.
    """
    name = (f"{chain!r}: " if chain else "") + str(getattr(precoder, "name", type(precoder).__name__))
    if not isinstance(w, Tensor) or not w.is_complex():
        found = str(w.dtype) if isinstance(w, Tensor) else type(w).__name__
        raise RecipeError(f"{name} returned {found}, but must return a complex tensor [..., tx_ant, user]")
    wanted = tuple(h.mT.shape)
    if tuple(w.shape) != wanted:
        raise RecipeError(
            f"{name} returned beams of shape {tuple(w.shape)}, but must return {wanted}, [..., tx_ant, user], for h "
            f"{tuple(h.shape)}" + ("; transpose them with .mT" if w.shape == h.shape else "")
        )
    if w.dtype != h.dtype:
        raise RecipeError(
            f"{name} returned {w.dtype} for {h.dtype} CSI, but must return the dtype of its input; end precode with "
            ".to(h.dtype)"
        )
    used = torch.linalg.vector_norm(w, dim=(-2, -1)).square().max() if w.numel() else torch.zeros(())
    if not bool(torch.isfinite(used)):
        raise RecipeError(
            f"{name} returned NaN or infinity from finite CSI; guard its divisions, for example with clamp_min"
        )
    if float(used) > power * (1 + POWER_TOLERANCE):
        raise RecipeError(
            f"{name} uses a power of {float(used):.4g}, but at most {power:g} is allowed; scale the beams so that "
            "w.abs().square().sum((-2, -1)) is power"
        )
    return w
