"""What travels: adapters (or all weights) as named arrays, and how those of several devices become one.

A layer of weights ``W0 [out, in]`` is adapted by ``SCALE * B @ A``, ``A [rank, in]``, ``B [out, rank]``; some
aggregations add an exact dense part ``SCALE * W``. Arrays are named ``A/layer``, ``B/layer``, ``W/layer``; where all
weights travel, by the parameters' own names. A device of a smaller rank takes the first rows of A and columns of B.

Aggregations of adapters of different ranks (weights ``w_k`` sum to one):

- ``naive``: A and B are padded with zeros and averaged, each by itself; the product of the averages is not the average
  of the products (:func:`product_error` says by how much).
- ``ffa``: A is frozen (FFA-LoRA, arXiv 2403.12313), so the average of B is that of the products.
- ``svd``: the average of the products, re-factorised to the largest rank (FlexLoRA, arXiv 2402.11505).
- ``stacking``: the average of the products goes into W, adapters start anew (FLoRA, arXiv 2409.05976).
- ``residual``: A and B are averaged, and what that misses goes into W (FedEx-LoRA, arXiv 2410.09432).
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
import torch

SCALE = 2.0  # airlam.models.add_lora's alpha / rank, for every rank
Arrays = dict[str, np.ndarray]


def layers(arrays: Arrays) -> list[str]:
    """The adapted layers, in order."""
    return [name[2:] for name in arrays if name.startswith("B/")]


def fresh_a(layer_shapes: dict[str, tuple[int, int]], rank: int, *key: int) -> Arrays:
    """``A/layer [rank, in]`` from a seed, the same everywhere, in peft's distribution; rows do not depend on the rank.

    Args:
        layer_shapes: layer -> (out, in).
    """
    made = {}
    for number, (name, (_, fan_in)) in enumerate(layer_shapes.items()):
        rng = np.random.default_rng([*key, number])
        bound = math.sqrt(1 / fan_in)  # kaiming_uniform_ with a = sqrt(5)
        made[f"A/{name}"] = rng.uniform(-bound, bound, (rank, fan_in)).astype(np.float32)
    return made


def fitted(arrays: Arrays, rank: int) -> Arrays:
    """Adapters cut or padded with zeros to ``rank``; everything else as it is."""
    made = {}
    for name, value in arrays.items():
        axis = {"A/": 0, "B/": 1}.get(name[:2])
        if axis is not None:
            value = value[:rank] if axis == 0 else value[:, :rank]
            missing = rank - value.shape[axis]
            value = np.pad(value, [(0, missing if n == axis else 0) for n in range(2)])
        made[name] = value
    return made


def shares(weights: list[float]) -> np.ndarray:
    """Weights over their sum.

    Raises:
        ValueError: the sum is not a positive, finite number, so that the shares would be 0 or not numbers.
    """
    total = sum(weights)
    if not 0 < total < math.inf:
        raise ValueError(f"the weights of {len(weights)} updates sum to {total}, not to a positive, finite number")
    return np.array(weights) / total


def average(updates: list[Arrays], weights: list[float]) -> Arrays:
    """Weighted mean, array by array."""
    parts = shares(weights)
    return {
        name: np.tensordot(parts, np.stack([update[name] for update in updates]), 1).astype(np.float32)
        for name in updates[0]
    }


def stacked(updates: list[Arrays], weights: list[float], layer: str) -> tuple[np.ndarray, np.ndarray]:
    """``(B, A)`` whose product is the average of the products of a layer, ranks one behind the other; double."""
    parts = shares(weights).tolist()
    wide = [part * update[f"B/{layer}"].astype(np.float64) for part, update in zip(parts, updates, strict=True)]
    tall = [update[f"A/{layer}"].astype(np.float64) for update in updates]
    return np.concatenate(wide, 1), np.concatenate(tall, 0)


def refactorise(b: np.ndarray, a: np.ndarray, rank: int) -> tuple[np.ndarray, np.ndarray]:
    """The best ``(B, A)`` of ``rank`` for ``b @ a``, by an SVD of the small core; both factors of equal norm."""
    q_b, r_b = np.linalg.qr(b)
    q_a, r_a = np.linalg.qr(a.T)
    u, s, vh = np.linalg.svd(r_b @ r_a.T)
    count = min(rank, len(s))
    root = np.sqrt(s[:count])
    best_b, best_a = (q_b @ u[:, :count]) * root, root[:, None] * (vh[:count] @ q_a.T)
    missing = rank - count
    return np.pad(best_b, [(0, 0), (0, missing)]), np.pad(best_a, [(0, missing), (0, 0)])


def product_error(updates: list[Arrays], weights: list[float], result: Arrays, before: Arrays | None = None) -> float:
    """How far a result is from the average of the products, over how far that average is from where the round began:
    the share of the round's change that aggregation misses (Frobenius norms over all layers).

    Args:
        before: what the devices started from; its ``W/layer``, if there are, are in the result's as well.
    """
    wrong = right = 0.0
    before = before or {}
    for layer in layers(updates[0]):
        b, a = stacked(updates, weights, layer)
        target, got, start = b @ a, np.zeros(()), np.zeros(())
        if f"A/{layer}" in before:
            start = before[f"B/{layer}"].astype(np.float64) @ before[f"A/{layer}"].astype(np.float64)
        if f"B/{layer}" in result:
            got = got + result[f"B/{layer}"].astype(np.float64) @ result[f"A/{layer}"].astype(np.float64)
        if f"W/{layer}" in result:
            got = got + result[f"W/{layer}"] - before.get(f"W/{layer}", 0.0)
        wrong += float(np.square(got - target).sum())
        right += float(np.square(target - start).sum())
    return math.sqrt(wrong / right) if right > 0 else 0.0


def combine(aggregation: str, updates: list[Arrays], weights: list[float], before: Arrays, rank: int) -> Arrays:
    """``naive``, ``svd``, ``stacking`` or ``residual``; see the module's docstring.

    Args:
        updates: ``A/layer`` and ``B/layer`` of each device, of its own rank.
        before: what the devices started from; its ``W/layer`` are carried on.
        rank: of the result.
    """
    if aggregation == "naive":
        return average([fitted(update, rank) for update in updates], weights)
    made: Arrays = {}
    padded = average([fitted(update, rank) for update in updates], weights) if aggregation == "residual" else {}
    for layer in layers(updates[0]):
        b, a = stacked(updates, weights, layer)
        if aggregation == "svd":
            b, a = refactorise(b, a, rank)
            made[f"A/{layer}"], made[f"B/{layer}"] = a.astype(np.float32), b.astype(np.float32)
            continue
        dense = before[f"W/{layer}"].astype(np.float64) + b @ a
        if aggregation == "residual":
            made[f"A/{layer}"], made[f"B/{layer}"] = padded[f"A/{layer}"], padded[f"B/{layer}"]
            dense = dense - padded[f"B/{layer}"].astype(np.float64) @ padded[f"A/{layer}"]
        made[f"W/{layer}"] = dense.astype(np.float32)
    return made


def norm_of_change(after: Arrays, before: Arrays) -> float:
    """L2 norm of an update over all its arrays."""
    return math.sqrt(sum(float(np.square(after[name].astype(np.float64) - before[name]).sum()) for name in after))


def as_arrays(tensors: Mapping[str, torch.Tensor]) -> Arrays:
    """Tensors as arrays of their own."""
    return {name: value.detach().cpu().numpy().copy() for name, value in tensors.items()}
