"""Updates of a round: which of them can be used, and how exactly they were averaged."""

from __future__ import annotations

import numpy as np

from airlam.edge.federated.adapters import Arrays, Shapes, average, fitted, product_error
from airlam.edge.federated.recipe.federation import Federation

ABSURD = 10.0  # times the median norm of a round's updates


def problem_of(update: Arrays, expected: Arrays) -> str | None:
    """Why an update cannot be used: names, shapes or values; None if it can."""
    if update.keys() != expected.keys():
        return f"arrays {sorted(update.keys() ^ expected.keys())[:2]} are missing or unknown"
    for name, value in update.items():
        if value.shape != expected[name].shape:
            return f"{name} has shape {value.shape}, not {expected[name].shape}"
        if not np.isfinite(value).all():
            return f"{name} has {int((~np.isfinite(value)).sum())} values that are not finite"
    return None


def norm_problems(federation: Federation, norms: dict[int, float]) -> dict[int, str]:
    """Number of a site -> why its update is too large: beyond the recipe's bound, or ten times the round's median.

    Args:
        norms: number of a site -> L2 norm of its update.
    """
    ordered = sorted(norms.values()) or [0.0]
    limit = federation.max_update_norm or ABSURD * ordered[(len(ordered) - 1) // 2]  # of two the smaller
    return {site: f"norm {norm:.3g} is above {limit:.3g}" for site, norm in norms.items() if norm > limit > 0}


def weaknesses(federation: Federation, count: int) -> list[str]:
    """What a round of ``count`` usable updates cannot promise any more."""
    if not count:
        return ["nobody's update could be used: the model stays as it was"]
    why = federation.server_strategy.weakness(count)
    return [why] if why else []


def aggregation_errors(
    federation: Federation,
    shapes: Shapes,
    number: int,
    before: Arrays,
    updates: list[Arrays],
    weights: list[float],
    result: Arrays,
) -> tuple[float | None, float | None]:
    """The share of the round's change that the result misses, and the share that averaging A and B by themselves would
    have missed. None where it is not defined: all weights are trained, or the strategy takes no plain mean.

    Args:
        number: of the round. before: what it began with. updates: of the devices, each of its own rank.
    """
    f, rank = federation, federation.largest_rank
    if f.lora_rank is None or not result or not f.server_strategy.plain_mean:
        return None, None
    if f.scheme.freezes_a:
        shared = f.scheme.drawn(shapes, rank, f.seed, number)
        every = [fitted({**shared, **update}, rank) for update in updates]
        return product_error(every, weights, {**shared, **result}, {**shared, **before}), None
    naive = average([fitted(update, rank) for update in updates], weights)
    start = {name: value for name, value in before.items() if not name.startswith("W/")}
    return product_error(updates, weights, result, before), product_error(updates, weights, naive, start)
