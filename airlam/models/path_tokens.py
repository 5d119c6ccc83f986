"""Paths as tokens: what a history says of each path that was found in it, and how paths lie to each other.

Nothing here depends on a global phase or scale, on the order of the axes' origins, or on how many antennas, subcarriers
or slots there are but through the paths themselves.
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass

import torch
from torch import Tensor

from airlam.baselines.path_series import Paths
from airlam.baselines.paths import SPREAD, start

ORDERS = 5  # of the Legendre polynomials in which a path's change over slots is described
NUM_FEATURES = 14 + 2 * ORDERS
NUM_PAIR_FEATURES = 7


@dataclass
class PathTokens:
    """Tokens of paths.

    Attributes:
        features: ``float32 [link, path, NUM_FEATURES]``. pairs: ``float32 [link, path, path, NUM_PAIR_FEATURES]``.
        power: ``[link, path]``, of a path's gains; width: ``[link]``, of the classic's Doppler spectrum.
    """

    features: Tensor
    pairs: Tensor
    power: Tensor
    width: Tensor

    @classmethod
    def of(cls, paths: Paths) -> PathTokens:
        """Least squares gains of the paths, what is left of the history, and where paths lie."""
        slots, live, noise = paths.sizes[0], paths.live, paths.noise[:, None]
        seen, gains, entries = paths.seen[:, 0], paths.seen.shape[3], paths.entries
        wave = paths.wave(0)
        gain, root = paths.gains
        power = gain.abs().square().mean(-1).clamp_min(1e-9)
        doubt = torch.cholesky_inverse(root).diagonal(dim1=1, dim2=2).real * noise / power
        # what a path's series does beside turning, relative to its gain
        rest = (seen - torch.einsum("bkj,bjg,bjs->bkgs", paths.place, gain, wave)) / entries
        change = torch.einsum("bkgs,bkg->bks", rest, gain.conj()) * wave.conj() / (gains * power[..., None])
        change = torch.asinh(4 * (change @ legendre(slots).to(change)))
        left = rest.abs().square().mean((-1, -2)) * entries / noise
        counted, rms, width = start(paths, SPREAD)
        rms = rms[:, None]
        top = counted.amax(1, keepdim=True).clamp_min(1e-9)
        doppler = paths.shift[..., 0]
        facts = [
            power.log() / 4,
            (power / noise).log() / 4,
            (power / top).log() / 4,
            doubt.clamp_min(1e-9).log() / 4,
            left.clamp_min(1e-4).log() / 2,
            torch.asinh(doppler * slots),
            (doppler / rms.clamp_min(1e-9)).clamp(-4, 4),
            (rms * slots).clamp_min(1e-4).log() / 2,
            noise.log() / 4,
            live.sum(1, keepdim=True) / 80,
            power.new_tensor(math.log(slots / 16)),
            power.new_tensor(math.log(entries) / 4 - 1.7),
            power.new_tensor(min(gains, 8) / 2 - 1),
            (gain.abs().square().amax(-1) / power).clamp_min(1e-9).log(),
        ]
        rows = [fact.expand_as(power)[..., None] for fact in facts]
        features = torch.cat([*rows, change.real, change.imag], -1)
        features = torch.where(live[..., None], features, 0).float()
        return cls(features, pairs(paths, power), counted, width)


def pairs(paths: Paths, power: Tensor) -> Tensor:
    """How paths lie to each other: distances along the axes in units of their resolution, the signed one of Doppler
    shifts, likeness over antennas and subcarriers, ratio of powers."""
    facts = []
    for axis in range(4):
        apart = paths.shift[:, :, None, axis] - paths.shift[:, None, :, axis]
        if axis:
            apart = apart - apart.round()
        facts.append(torch.asinh(4 * apart.abs() * paths.sizes[axis]) / 2 if paths.sizes[axis] > 1 else 0 * apart)
    doppler = paths.shift[..., 0]
    facts.append(torch.asinh(2 * (doppler[:, :, None] - doppler[:, None]) * paths.sizes[0]) / 2)
    facts.append(paths.place.abs() / paths.entries)
    level = power.log()
    facts.append(((level[:, :, None] - level[:, None]) / 4).clamp(-3, 3))
    return torch.stack(facts, -1).float()


@functools.lru_cache(maxsize=64)
def legendre(slots: int) -> Tensor:
    """Legendre polynomials over the slots, such that a product gives coefficients: ``float64 [slot, order]``."""
    with torch.inference_mode(False):  # cached: must also serve training
        x = torch.linspace(-1, 1, slots, dtype=torch.float64) if slots > 1 else torch.zeros(1, dtype=torch.float64)
        return torch.stack(
            [torch.special.legendre_polynomial_p(x, n) * math.sqrt(2 * n + 1) / slots for n in range(ORDERS)], -1
        )
