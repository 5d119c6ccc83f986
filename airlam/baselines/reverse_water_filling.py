"""What compression of CSI can reach: reverse water-filling."""

from __future__ import annotations

import torch
from torch import Tensor

STEPS = 200  # of the bisection, in the logarithm of the level: far below single precision


def reverse_water_filling(variances: Tensor, bits: float | Tensor) -> Tensor:
    r"""Errors with which independent complex Gaussian variables can be told at best with so many bits.

    Reverse water-filling (Cover and Thomas, Elements of Information Theory, clause 10.3.3): the error of a variable is
    :math:`\min(D, \lambda_i)`, with the level :math:`D` for which :math:`\sum_i \log_2(\lambda_i / \min(D, \lambda_i))`
    equals ``bits``. With the eigenvalues of a covariance it is the bound for CSI of that covariance; where channels are
    not Gaussian, or the covariance is of a whole cell, a codec that knows more can be better.

    Args:
        variances: ``real [..., variable]``, not negative.
        bits: at least 0, one for all or ``[...]``.

    Returns:
        ``real [..., variable]``: the mean square error of each; their sum is the least there is.

    Raises:
        ValueError: negative bits or variances, or NaN.

    Example:
        >>> reverse_water_filling(torch.tensor([1.0, 1.0, 0.1]), 4)  # two bits each for the first two: a quarter
        tensor([0.2500, 0.2500, 0.1000])
    """
    bits = torch.as_tensor(bits, dtype=torch.float64)
    if not bool((variances >= 0).all()) or not bool((bits >= 0).all()):
        raise ValueError("variances and bits must be numbers of at least 0; NaN is none")
    given = variances.double()
    shape = torch.broadcast_shapes(given.shape[:-1], bits.shape)
    given, bits = given.expand(*shape, -1), bits.expand(shape).to(given.device)
    top = given.amax(-1).clamp_min(1e-300)
    # with one variable alone the level is top 2^-bits; more variables only raise it
    low, high = top.log2() - bits - 1, top.log2()
    logs = given.clamp_min(1e-300).log2()
    for _ in range(STEPS):
        middle = (low + high) / 2
        rate = (logs - middle.unsqueeze(-1)).clamp_min(0).sum(-1)
        low, high = torch.where(rate > bits, middle, low), torch.where(rate > bits, high, middle)
    return torch.minimum(given, (2**high).unsqueeze(-1)).to(variances.dtype)
