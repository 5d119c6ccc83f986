"""Optimisers and the learning rate of a run; also one optimiser step on arrays, for state that lies in messages."""

from __future__ import annotations

import math

import numpy as np
import torch

from airlam.edge.federated.adapters import Arrays
from airlam.edge.federated.recipe.federation import Federation

BETAS, EPS = (0.9, 0.98), 1e-8


def optimiser(federation: Federation, parameters: list[torch.nn.Parameter], rate: float) -> torch.optim.Optimizer:
    """The run's optimiser, new."""
    if federation.optimizer == "sgd":
        return torch.optim.SGD(parameters, lr=rate)
    return torch.optim.AdamW(parameters, lr=rate, betas=BETAS, weight_decay=0.0)


def learning_rate(federation: Federation, number: int) -> float:
    """The rate of round ``number`` (from 1): a cosine from the run's rate down to a tenth of it."""
    done = (number - 1) / max(1, federation.rounds - 1)
    return federation.learning_rate * (0.1 + 0.9 * 0.5 * (1 + math.cos(math.pi * done)))


def step_arrays(weights: Arrays, grads: Arrays, state: Arrays, rate: float, optimizer: str) -> None:
    """One step of torch's AdamW (or SGD) on arrays, in place; gradients are clipped to norm 1 together.

    Args:
        weights, grads: arrays by name. state: the moments and the count, so that they can lie in a message or on disk.
        optimizer: ``adamw`` or ``sgd``.
    """
    if optimizer == "sgd":
        for name, grad in grads.items():
            weights[name] = weights[name] - rate * grad
        return
    parameters = [torch.nn.Parameter(torch.from_numpy(weights[name].copy())) for name in grads]
    for p, name in zip(parameters, grads, strict=True):
        p.grad = torch.from_numpy(grads[name].copy())
    torch.nn.utils.clip_grad_norm_(parameters, 1.0)
    adamw = torch.optim.AdamW(parameters, lr=rate, betas=BETAS, eps=EPS, weight_decay=0.0)
    if state:
        for p, name in zip(parameters, grads, strict=True):
            adamw.state[p] = {
                "step": torch.tensor(float(state["count"][0])),
                "exp_avg": torch.from_numpy(state[f"m:{name}"]),
                "exp_avg_sq": torch.from_numpy(state[f"v:{name}"]),
            }
    adamw.step()
    for p, name in zip(parameters, grads, strict=True):
        weights[name] = p.detach().numpy()
        state[f"m:{name}"] = adamw.state[p]["exp_avg"].numpy()
        state[f"v:{name}"] = adamw.state[p]["exp_avg_sq"].numpy()
    state["count"] = np.array([float(adamw.state[parameters[0]]["step"])], np.float32)
