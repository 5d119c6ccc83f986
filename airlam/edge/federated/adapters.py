"""Adapters (or all weights) as named arrays: cutting, averaging, products, and how far an average is from exact.

A layer of weights ``W0 [out, in]`` is adapted by ``SCALE * B @ A`` with ``A [rank, in]`` and ``B [out, rank]``; some
aggregation schemes add a dense part ``SCALE * W``. Arrays are named ``A/layer``, ``B/layer``, ``W/layer``. Where all
weights travel, they have the parameters' own names. A device of a smaller rank takes the first rows of A and the first
columns of B.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
import torch

SCALE = 2.0  # airlam.models.add_lora's alpha / rank, for every rank
Arrays = dict[str, np.ndarray]
Shapes = dict[str, tuple[int, int]]  # adapted layer -> (out, in)


def layers(arrays: Arrays) -> list[str]:
    """The adapted layers, in order."""
    return [name[2:] for name in arrays if name.startswith("B/")]


def fresh_a(shapes: Shapes, rank: int, *key: int) -> Arrays:
    """``A/layer [rank, in]`` drawn from a seed, the same on every device, with peft's initial distribution.

    The first rows of a larger rank are the rows of a smaller one.
    """
    made = {}
    for number, (name, (_, fan_in)) in enumerate(shapes.items()):
        rng = np.random.default_rng([*key, number])
        bound = math.sqrt(1 / fan_in)  # kaiming_uniform_ with a = sqrt(5)
        made[f"A/{name}"] = rng.uniform(-bound, bound, (rank, fan_in)).astype(np.float32)
    return made


def zero_a(shapes: Shapes, rank: int) -> Arrays:
    """``A/layer [rank, in]`` of zeros."""
    return {f"A/{name}": np.zeros((rank, fan_in), np.float32) for name, (_, fan_in) in shapes.items()}


def zero_b(shapes: Shapes, rank: int) -> Arrays:
    """``B/layer [out, rank]`` of zeros."""
    return {f"B/{name}": np.zeros((out, rank), np.float32) for name, (out, _) in shapes.items()}


def zero_w(shapes: Shapes) -> Arrays:
    """``W/layer [out, in]`` of zeros."""
    return {f"W/{name}": np.zeros(shape, np.float32) for name, shape in shapes.items()}


def fitted(arrays: Arrays, rank: int) -> Arrays:
    """Adapters cut, or padded with zeros, to ``rank``; every other array as it is."""
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
    """The weighted mean of the updates, array by array."""
    parts = shares(weights)
    return {
        name: np.tensordot(parts, np.stack([update[name] for update in updates]), 1).astype(np.float32)
        for name in updates[0]
    }


def stacked(updates: list[Arrays], weights: list[float], layer: str) -> tuple[np.ndarray, np.ndarray]:
    """``B [out, sum of ranks]`` and ``A [sum of ranks, in]`` whose product is the weighted mean of the updates'
    products of a layer, in double precision."""
    parts = shares(weights).tolist()
    wide = [part * update[f"B/{layer}"].astype(np.float64) for part, update in zip(parts, updates, strict=True)]
    tall = [update[f"A/{layer}"].astype(np.float64) for update in updates]
    return np.concatenate(wide, 1), np.concatenate(tall, 0)


def product(arrays: Arrays, layer: str) -> np.ndarray:
    """``B @ A`` of a layer in double precision."""
    return arrays[f"B/{layer}"].astype(np.float64) @ arrays[f"A/{layer}"].astype(np.float64)


def product_error(updates: list[Arrays], weights: list[float], result: Arrays, before: Arrays | None = None) -> float:
    """The share of a round's change that aggregation misses.

    It is the distance of the result from the mean of the updates' products, over the distance of that mean from the
    products that the round began with (Frobenius norms over all layers).

    Args:
        before: what the devices started from. Its ``W/layer``, if there are any, are in the result's as well.
    """
    wrong = right = 0.0
    before = before or {}
    for layer in layers(updates[0]):
        b, a = stacked(updates, weights, layer)
        target, got, start = b @ a, np.zeros(()), np.zeros(())
        if f"A/{layer}" in before:
            start = product(before, layer)
        if f"B/{layer}" in result:
            got = got + product(result, layer)
        if f"W/{layer}" in result:
            got = got + result[f"W/{layer}"] - before.get(f"W/{layer}", 0.0)
        wrong += float(np.square(got - target).sum())
        right += float(np.square(target - start).sum())
    return math.sqrt(wrong / right) if right > 0 else 0.0


def norm_of_change(after: Arrays, before: Arrays) -> float:
    """L2 norm of an update over all its arrays."""
    return math.sqrt(sum(float(np.square(after[name].astype(np.float64) - before[name]).sum()) for name in after))


def as_arrays(tensors: Mapping[str, torch.Tensor]) -> Arrays:
    """Copies of tensors as arrays."""
    return {name: value.detach().cpu().numpy().copy() for name, value in tensors.items()}
