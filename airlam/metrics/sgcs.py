"""Squared generalised cosine similarity: how well reported precoding vectors match the wanted ones."""

from __future__ import annotations

import torch
from torch import Tensor

from airlam.csi import resolve_inputs


@resolve_inputs
def sgcs(v_hat: Tensor, v: Tensor) -> Tensor:
    r"""Squared generalised cosine similarity of vectors, :math:`|v^H \hat v|^2 / (\|v\|^2 \|\hat v\|^2)`.

    The figure of merit of 3GPP's study of CSI compression (TR 38.843): of every subband and layer by itself, so that
    lengths and phases of vectors do not count. Averaging over subbands and links is the caller's.

    Args:
        v_hat: reported vectors ``complex [..., tx_ant, layer]``.
        v: wanted vectors, of the same shape.

    Returns:
        real ``[..., layer]``, 0 to 1; 0 where a vector is zero.

    Raises:
        ValueError: shapes that differ. TypeError: real vectors.

    Example:
        >>> v = torch.eye(4, dtype=torch.complex64)[:, :2]
        >>> sgcs(2j * v, v), sgcs(v.roll(1, 0), v)
        (tensor([1., 1.]), tensor([0., 0.]))
    """
    if not v.is_complex() or not v_hat.is_complex():
        raise TypeError(f"vectors must be complex, got {v_hat.dtype} and {v.dtype}")
    if v.dim() < 2 or v.shape != v_hat.shape:
        raise ValueError(
            f"v_hat {tuple(v_hat.shape)} and v {tuple(v.shape)} must both be [..., tx_ant, layer] of the same shape"
        )
    product = (v.conj() * v_hat).sum(-2).abs().square()
    power = v.abs().square().sum(-2) * v_hat.abs().square().sum(-2)
    return (product / power.clamp_min(torch.finfo(power.dtype).tiny)).clamp(max=1.0)
