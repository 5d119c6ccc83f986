"""What a computation costs: operations counted by torch, and the memory that training needs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

OPTIMISER_COPIES = 2  # AdamW keeps two moments of every trainable weight


def count_flops(work: Callable[[], Any]) -> int:
    """Floating-point operations of the matrix products in ``work()``, forward and backward, counted by torch.

    Attention is computed by its plain form meanwhile: the fused one of CPUs is not counted.

    Example:
        >>> import torch
        >>> count_flops(lambda: torch.ones(4, 8) @ torch.ones(8, 16)) == 2 * 4 * 8 * 16
        True
    """
    with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH):
        work()
    return int(counter.get_total_flops())


def training_bytes(model: nn.Module, activation_bytes: float) -> float:
    """Memory of training in single precision: weights, gradients and moments of what is trained, activations.

    Args:
        activation_bytes: kept for the backward pass, see :func:`count_activations`.
    """
    weights = sum(p.numel() * p.element_size() for p in model.parameters())
    trained = sum(p.numel() * p.element_size() for p in model.parameters() if p.requires_grad)
    return weights + trained * (1 + OPTIMISER_COPIES) + activation_bytes


def count_activations(work: Callable[[], Any]) -> int:
    """Bytes of the tensors that ``work()`` keeps for its backward pass, each storage once.

    Example:
        >>> import torch
        >>> x = torch.ones(1000, requires_grad=True)
        >>> count_activations(lambda: x.exp())
        4000
    """
    import torch

    seen: dict[int, int] = {}

    def keep(x: torch.Tensor) -> torch.Tensor:
        storage = x.untyped_storage()
        seen[storage.data_ptr()] = storage.nbytes()
        return x

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda x: x):
        held = work()  # alive until counted, so that no storage's address is used twice
    del held
    return sum(seen.values())
