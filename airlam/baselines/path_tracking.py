"""Paths of an earlier history in a later one: refined where they are, dropped where they died, new ones looked for.

A path's delay and direction change over metres, its Doppler shift with them, so the paths of some hundred slots ago are
the best place to begin. This takes half the time of a search from nothing, and finds more: each time refines the paths
of the time before.
"""

from __future__ import annotations

import math

from torch import Tensor

from airlam.baselines.path_fit import PathFit, Search, squares
from airlam.baselines.path_memory import Found, find
from airlam.baselines.path_series import strongest_first

STEPS = 2  # of Gauss-Newton from where the paths were
ROUNDS = 1  # of detection
ALIVE = 2.0  # energy of a path over what noise alone would give it, times a third of the logarithm of the entries
LOST = 0.3  # of the power: more unexplained than this and the noise before, and the link is searched anew


def track(x: Tensor, earlier: Found, search: Search) -> Found:
    """Paths of one link, from those that it had.

    Args:
        x: ``complex64 [1, gain, slot, subcarrier, column, row]``, of unit mean power.
        earlier: paths of an earlier history: shifts, which there are, noise.
        search: how hard new ones are looked for.

    Example:
        >>> import torch
        >>> t = torch.arange(16)[:, None]
        >>> x = torch.exp(2j * torch.pi * (0.01 * t + 0.1 * torch.arange(12)))[None, None, :, :, None, None]
        >>> shift, live, noise = track(x, find(x, Search(most=4)), Search(most=4))
        >>> [round(float(value), 3) for value in shift[0, 0, :2]]
        [0.01, 0.1]
    """
    shift, live, noise = earlier
    if not bool(live.any()):
        return find(x, search)
    fit, entries = PathFit(x), math.prod(x.shape[1:])
    fit.shift, fit.live, fit.noise = shift.to(x.real.dtype), live.clone(), noise.to(x.real.dtype)
    gain = fit._refine(STEPS)
    fit.noise = squares(x - fit.synthesise(gain)).mean((1, 2, 3, 4, 5)).clamp_min(1e-6)
    if float(fit.noise) > LOST + float(noise):
        return find(x, search)
    least = ALIVE * math.log(entries) / 3 * fit.gains * fit.noise
    fit.live &= squares(gain).sum(-1) * entries / fit.gains > least[:, None]
    fit.shift, fit.live = fit.shift[fit.live][None], fit.live[fit.live][None]
    most = min(search.most, entries // (2 * fit.gains + len(fit.free)))
    for _ in range(ROUNDS):
        if not bool(fit._detect(x - fit.synthesise(fit._refine(1)), most, search).any()):
            break
    fit._refine(1)
    if not bool(fit.live.any()):
        return find(x, search)
    return strongest_first(fit.finished())
