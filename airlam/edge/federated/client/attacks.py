"""Poisoned updates, to try defences on; sent only where the ``attack`` of a recipe asks for them."""

from __future__ import annotations

import numpy as np

from airlam.edge.federated.adapters import Arrays


def poisoned(after: Arrays, before: Arrays, kind: str, scale: float, seed: int) -> Arrays:
    """An update as a malicious or broken device would send it.

    Args:
        kind: ``sign_flip`` (the honest update times ``-scale``), ``noise`` (Gaussian, ``scale`` times the honest norm),
            ``huge`` (the honest update times 1e6), ``nan``, ``shape`` (an array of another shape).
    """
    rng = np.random.default_rng(seed)
    change = {name: after[name] - before[name] for name in after}
    if kind == "sign_flip":
        return {name: (before[name] - scale * change[name]).astype(np.float32) for name in after}
    if kind == "noise":
        size = np.sqrt(sum(np.square(c).sum() for c in change.values()) / sum(c.size for c in change.values()))
        return {
            name: (before[name] + scale * size * rng.standard_normal(c.shape)).astype(np.float32)
            for name, c in change.items()
        }
    if kind == "huge":
        return {name: (before[name] + 1e6 * change[name]).astype(np.float32) for name in after}
    first = next(iter(after))
    if kind == "nan":
        return {**after, first: np.full_like(after[first], np.nan)}
    return {**after, first: np.concatenate([after[first], after[first]])}
