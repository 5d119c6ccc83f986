"""Whole numbers shared out by weight: links, tokens, heads, units or layers over unequal devices."""

from __future__ import annotations

from collections.abc import Sequence

from airlam.errors import RecipeError


def share_out(total: int, weights: Sequence[float], *, least: int = 1, what: str = "units") -> list[int]:
    """``total`` shared out in proportion to ``weights``, in whole numbers: the method of largest remainders.

    Everyone gets ``least`` first; what the proportion then misses by goes to the largest remainders, and among equal
    ones to those that come first.

    Args:
        total: what is shared out.
        weights: of each part, at least zero, not all zero; the speeds of devices, for instance.
        least: of each part.
        what: is shared out, for the error.

    Returns:
        One whole number for each weight; their sum is ``total``.

    Raises:
        RecipeError: more parts than there is to share out, or weights that are no proportion.

    Example:
        >>> share_out(8, [3.0, 1.0])
        [6, 2]
        >>> share_out(4, [10.0, 0.1, 0.1])
        [2, 1, 1]
    """
    parts = len(weights)
    if not parts or min(weights) < 0 or not 0 < sum(weights) < float("inf"):
        raise RecipeError(f"weights are {list(weights)}, but must be at least zero, and not all zero")
    if total < parts * least:
        raise RecipeError(f"{total} {what} cannot be shared out over {parts} ranks with at least {least} each")
    # Everyone's wish by proportion. Those who wish for less than the least get that, the others share the rest.
    out, free = [least] * parts, list(range(parts))
    while True:
        rest, weight = total - least * (parts - len(free)), sum(weights[n] for n in free)
        wish = {n: rest * weights[n] / weight if weight else 0.0 for n in free}
        small = [n for n in free if wish[n] < least]
        if not small or len(small) == len(free):
            break
        free = [n for n in free if n not in small]
    for n in free:
        out[n] = max(least, int(wish[n]))
    missing = total - sum(out)
    order = sorted(free, key=lambda n: (-(wish[n] - int(wish[n])), n))
    for n in range(missing):
        out[order[n % len(order)]] += 1
    return out


def equal_shares(total: int, parts: int, *, what: str = "units") -> list[int]:
    """``total`` in ``parts`` parts that differ by one at most, the larger ones first.

    Example:
        >>> equal_shares(10, 4)
        [3, 3, 2, 2]
    """
    return share_out(total, [1.0] * parts, what=what)


def check_shares(name: str, shares: Sequence[int], total: int, parts: int) -> list[int]:
    """``shares`` as a list, if it holds one positive whole number for each of ``parts`` ranks and sums to ``total``.

    Raises:
        RecipeError: another count, a share that is no positive whole number, or another sum.

    Example:
        >>> check_shares("shares.data", [6, 2], 8, 2)
        [6, 2]
    """
    out = list(shares)
    if len(out) != parts:
        raise RecipeError(f"{name} is {out}, but needs one whole number for each of {parts} ranks")
    if any(isinstance(n, bool) or not isinstance(n, int) or n < 1 for n in out):
        raise RecipeError(f"{name} is {out}, but every rank's share must be a whole number of at least 1")
    if sum(out) != total:
        raise RecipeError(f"{name} is {out}, which sums to {sum(out)}, but there are {total} to share out")
    return out


def parts_of(shares: Sequence[int]) -> list[slice]:
    """Where each share lies in the whole.

    Example:
        >>> parts_of([3, 1])
        [slice(0, 3, None), slice(3, 4, None)]
    """
    out, start = [], 0
    for share in shares:
        out.append(slice(start, start + share))
        start += share
    return out
