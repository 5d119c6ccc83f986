"""Histories for the tests of this folder."""

from __future__ import annotations

import math

import numpy as np
import torch

from airlam.channels import load_channel
from airlam.csi import measure

# (subcarriers, rx_ants, tx_ants), port_shape, history
SIZES = [
    ((7, 2, 6), (2, 3, 1), 16),  # odd numbers of tones and ports, two receive antennas
    ((5, 1, 1), None, 8),  # one antenna, one polarisation
    ((6, 1, 4), (2, 2, 1), 3),  # short
]


def rays(shape: tuple[int, int, int], slots: int, *, seed: int = 0, jitter: float = 0.0) -> np.ndarray:
    """A link of few rays of very different power, ``complex64 [slot, subcarrier, rx_ant, tx_ant]``, at 30 dB: no two
    eigenvalues of its covariances are close, so that its basis is clear to rounding. ``jitter``: random phase and slope
    of each slot [rad]."""
    g = torch.Generator().manual_seed(seed)
    count = 9
    tones, rx_ants, tx_ants = shape
    gain = torch.randn(count, rx_ants, dtype=torch.complex64, generator=g) * (0.6 ** torch.arange(count))[:, None]

    def waves(size: int, widest: float) -> torch.Tensor:
        angle = 2 * math.pi * widest * (torch.rand(count, 1, generator=g) - 0.5) * torch.arange(size)
        return torch.polar(torch.ones_like(angle), angle)

    h = torch.einsum("lr,lt,lf,la->tfra", gain, waves(slots, 0.15), waves(tones, 1.0), waves(tx_ants, 1.0))
    h = h + 0.03 * torch.randn(h.shape, dtype=torch.complex64, generator=g)
    offsets = jitter * torch.randn(2, slots, 1, generator=g)
    angle = offsets[0] + offsets[1] * torch.linspace(-1, 1, tones)
    return (h * torch.polar(torch.ones_like(angle), angle)[..., None, None]).numpy()


def measured(slots: int, seed: int = 0) -> np.ndarray:
    """A link of 32 ports and 48 subcarriers, UMa NLOS, 20 dB: ``complex64 [slot, 48, 1, 32]``."""
    h = load_channel("uma_nlos").sample(1, slots, seed=seed).h
    return np.ascontiguousarray(measure(h, 20.0, torch.Generator().manual_seed(seed))[0].numpy())


def distance(a, b) -> float:
    """Norm of the difference relative to that of ``b``."""
    return float(np.linalg.norm(np.asarray(a) - np.asarray(b)) / np.linalg.norm(np.asarray(b)))


def windows(h: np.ndarray, history: int, last: int):
    """Windows that end with slot ``last``, ``last + 1``, ..., each contiguous."""
    for stop in range(last + 1, len(h) + 1):
        yield np.ascontiguousarray(h[stop - history : stop])
