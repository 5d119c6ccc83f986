"""Linear heads on fixed features."""

from __future__ import annotations

import torch
from torch import Tensor


def fit_probe(x: Tensor, y: Tensor, penalty: float, *, classify: bool) -> tuple[Tensor, Tensor]:
    """Linear head on features of zero mean and unit variance: ridge regression, or logistic regression.

    Args:
        x: ``[link, feature]``. y: ``[link]``, real, or 0 and 1.
        penalty: on the squared weights, per link.

    Returns:
        weights ``float64 [feature]`` and the constant.

    Example:
        >>> x = torch.randn(50, 3, generator=torch.Generator().manual_seed(0))
        >>> weights, constant = fit_probe(x, 2 * x[:, 0] + 1, 1e-9, classify=False)
        >>> round(float(weights[0]), 3), round(float(constant), 3)
        (2.0, 1.0)
    """
    x, y = x.double(), y.double()
    if not classify:
        centre, middle = x.mean(0), y.mean()
        z = x - centre
        gram = z.mT @ z / len(x) + penalty * torch.eye(x.shape[1], dtype=x.dtype)
        weights = torch.linalg.solve(gram, z.mT @ (y - middle) / len(x))
        return weights, middle - centre @ weights
    share = y.mean().clamp(0.5 / len(y), 1 - 0.5 / len(y))
    parameters = torch.zeros(x.shape[1] + 1, dtype=x.dtype)
    parameters[-1] = torch.logit(share)
    parameters.requires_grad_()
    optimizer = torch.optim.LBFGS([parameters], max_iter=100, line_search_fn="strong_wolfe")

    def loss() -> Tensor:
        optimizer.zero_grad()
        logits = x @ parameters[:-1] + parameters[-1]
        value = torch.nn.functional.binary_cross_entropy_with_logits(logits, y)
        value = value + penalty * parameters[:-1].square().sum()
        value.backward()
        return value

    optimizer.step(loss)  # type: ignore[arg-type]
    return parameters[:-1].detach(), parameters[-1].detach()
