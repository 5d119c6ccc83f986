"""Normalised mean squared error, one definition with its reduction named."""

from __future__ import annotations

import torch
from torch import Tensor

from airlam.csi import resolve_inputs

CSI_AXES = (-4, -3, -2, -1)
STEP_AXES = (-3, -2, -1)


@resolve_inputs
def nmse(h_hat: Tensor, h: Tensor, *, reduction: str = "per_sample", per_step: bool = False) -> Tensor:
    r"""Normalised mean squared error between estimated and true CSI, linear.

    ``"per_sample"`` is :math:`\frac1N\sum_i \|\hat h_i - h_i\|^2 / \|h_i\|^2`, every link weighted alike;
    ``"pooled"`` is :math:`\sum_i\|\hat h_i - h_i\|^2 / \sum_i\|h_i\|^2`, strong links dominate; ``"none"`` keeps the
    ratio of each link. Decibels are taken *after* averaging (:func:`to_db`).

    Args:
        h_hat: estimate ``complex [..., slot, subcarrier, rx_ant, tx_ant]``.
        h: truth, same shape.
        reduction: ``"per_sample"``, ``"pooled"`` or ``"none"``.
        per_step: keep the slot axis: one value per horizon step, each normalised by that step's own energy.

    Returns:
        float64: a scalar; ``[slot]`` with ``per_step``; ``[...]`` or ``[..., slot]`` with ``"none"``.

    Raises:
        ValueError: shapes differ, a link's truth is zero (its ratio does not exist), or an unknown reduction.

    Example:
        >>> h = torch.ones(3, 4, 48, 1, 8, dtype=torch.complex64)
        >>> round(float(nmse(1.1 * h, h)), 4)
        0.01
    """
    if h_hat.shape != h.shape:
        raise ValueError(f"h_hat {tuple(h_hat.shape)} and h {tuple(h.shape)} must have one shape")
    if h.dim() < 4:
        raise ValueError(f"CSI is [..., slot, subcarrier, rx_ant, tx_ant], got {h.dim()} axes {tuple(h.shape)}")
    if reduction not in ("per_sample", "pooled", "none"):
        raise ValueError(f"reduction must be 'per_sample', 'pooled' or 'none', got {reduction!r}")
    axes = STEP_AXES if per_step else CSI_AXES
    error = energy(h_hat - h, axes)
    truth = energy(h, axes)
    if reduction == "pooled":
        lead = tuple(range(error.dim() - int(per_step)))
        error, truth = error.sum(lead), truth.sum(lead)
    if bool((truth == 0).any()):
        raise ValueError("the true CSI of some link is zero everywhere: its NMSE does not exist; leave that link out")
    ratio = error / truth
    if reduction == "per_sample":
        ratio = ratio.mean(tuple(range(ratio.dim() - int(per_step)))) if ratio.dim() > int(per_step) else ratio
    return ratio


@resolve_inputs
def energy(h: Tensor, axes: tuple[int, ...]) -> Tensor:
    """Sum of ``|h|^2`` over ``axes``, accumulated in float64."""
    return torch.view_as_real(h).double().square().sum(-1).sum(axes)


def to_db(value: Tensor | float) -> Tensor:
    """``10 log10`` of a linear power ratio; 0 becomes ``-inf``.

    Example:
        >>> float(to_db(0.01))
        -20.0
    """
    return 10 * torch.log10(torch.as_tensor(value, dtype=torch.float64))
