"""Noise on what leaves a device, and what it is worth: clipping, Gaussian noise, Renyi-DP accounting.

The unit of privacy is a device: all its users at once. The server is not trusted, so each device clips its own update
to an L2 norm and adds noise before it sends; no amplification by sampling is claimed, for the server knows who took
part.
"""

from __future__ import annotations

import math

import numpy as np

from airlam.edge.federated.adapters import Arrays, norm_of_change


def privatise(after: Arrays, before: Arrays, *, clip: float, noise_multiplier: float, seed: int | None) -> Arrays:
    """An update with norm at most ``clip`` and Gaussian noise of ``noise_multiplier * clip`` on each entry.

    A change that is not finite has no norm to clip, and is left out: noise alone leaves the device.

    Args:
        after, before: the weights after and before training.
        seed: of the noise; None: nobody knows it. Who knows it can take the noise away again.

    Example:
        >>> one = {"w": np.ones((50, 50), np.float32)}
        >>> noisy = privatise(one, {"w": np.zeros((50, 50), np.float32)}, clip=1.0, noise_multiplier=2.0, seed=0)
        >>> round(float(noisy["w"].std()), 1)
        2.0
    """
    rng = np.random.default_rng(seed)
    norm = norm_of_change(after, before)
    if not math.isfinite(norm):
        after = before
    scale = min(1.0, clip / max(norm, 1e-30))
    return {
        name: (
            before[name]
            + scale * (after[name] - before[name])
            + noise_multiplier * clip * rng.standard_normal(after[name].shape)
        ).astype(np.float32)
        for name in after
    }


def epsilon(noise_multiplier: float, releases: int, delta: float, sample_rate: float = 1.0) -> float:
    """The epsilon of ``releases`` noisy updates at ``delta``: Opacus' Renyi-DP accountant.

    Args:
        sample_rate: probability of a device to take part in a round, where that is secret; 1: it is not.

    Example:
        >>> round(epsilon(10.0, 20, 1e-5), 2)
        1.91

    Raises:
        ImportError: without ``pip install 'airlam[federated]'``.
    """
    if releases == 0:
        return 0.0
    if not noise_multiplier > 0 or not 0 < delta < 1 or not 0 < sample_rate <= 1:
        raise ValueError(
            f"noise_multiplier {noise_multiplier} must be positive, delta {delta} in (0, 1), sample_rate {sample_rate} "
            "in (0, 1]"
        )
    from opacus.accountants.analysis import rdp

    orders = [1 + n / 1000 for n in (1, 2, 5, 10, 20, 50)] + [1 + n / 10 for n in range(1, 100)]
    orders += list(range(11, 64)) + [2**n for n in range(6, 14)]
    spent = rdp.compute_rdp(q=sample_rate, noise_multiplier=noise_multiplier, steps=releases, orders=orders)
    found, _ = rdp.get_privacy_spent(orders=orders, rdp=spent, delta=delta)
    return float(found) if math.isfinite(found) else math.inf
