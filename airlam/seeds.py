"""Seeds: independent, repeatable streams of random numbers from a few numbers or from plain data."""

from __future__ import annotations

from typing import Any

import numpy as np

from airlam.io import recipe_hash


def noise_seed(*key: int) -> int:
    """63-bit seed from a key of non-negative integers: different keys give unrelated streams.

    Example:
        >>> noise_seed(7, 0) != noise_seed(7, 1)
        True
    """
    low, high = np.random.SeedSequence(key).generate_state(2)
    return (int(high) << 32 | int(low)) & (2**63 - 1)


def stream_seed(*facts: Any) -> int:
    """31-bit seed from plain data (numbers, texts, recipes): equal data, equal seed, on every machine.

    Example:
        >>> stream_seed(7, {"scenario": "uma"}, "test") == stream_seed(7, {"scenario": "uma"}, "test")
        True
    """
    return int(recipe_hash(list(facts)), 16) % 2**31


def mix32(x: int) -> int:
    """A bijection of the 32-bit integers that hides their order (the finaliser of MurmurHash3)."""
    x &= 0xFFFFFFFF
    x = ((x ^ (x >> 16)) * 0x85EBCA6B) & 0xFFFFFFFF
    x = ((x ^ (x >> 13)) * 0xC2B2AE35) & 0xFFFFFFFF
    return x ^ (x >> 16)
