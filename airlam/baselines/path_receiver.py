"""Before and after the search for paths: faults of a receiver or an array, unrelated antennas, means of histories.

Few paths cannot follow what is not theirs, so what they leave unexplained is the fault.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from airlam.baselines.path_fit import Search
from airlam.baselines.path_memory import recall
from airlam.baselines.path_series import as_panel
from airlam.csi import PortShape

COARSE = (12, 24, 48)  # how many paths: first, and later
SHORTER = 2  # slots by which each further history is shorter
ENOUGH = 0.75  # part of the measured slots that a shorter history has to keep
AGREEMENT = 0.7  # correlation of the errors of predictions from histories that differ by two slots, measured

View = tuple[Tensor, Tensor | None, Tensor]


def explained(h: Tensor, shape: PortShape, observed: Tensor | None, most: int) -> Tensor:
    """What the ``most`` strongest paths explain of histories ``[link, slot, subcarrier, rx_ant, tx_ant]``; nothing of
    slots that were not measured."""
    x = as_panel(h, shape)
    search = Search(most, rounds=2 + most // 12, final=4)
    paths = recall(x, search, observed)
    series = x.new_zeros(*paths.seen.shape, dtype=torch.complex128)
    series[:, 0] = paths.gains[0][..., None] * paths.wave(0)[:, :, None]
    return paths.synthesise(series.to(h.dtype), h.shape[3])


def aligned(h: Tensor, shape: PortShape, observed: Tensor | None, most: int) -> Tensor:
    """Histories of which each slot is turned in phase and timing to what the strongest paths say of it."""
    alike = (explained(h, shape, observed, most).conj() * h).sum((3, 4))  # [link, slot, subcarrier]
    whole = alike.sum(2, keepdim=True)
    turn = torch.polar(torch.ones_like(whole.real), whole.angle())
    alike = alike * turn.conj()
    tone = torch.arange(h.shape[2], dtype=h.real.dtype, device=h.device) - (h.shape[2] - 1) / 2
    slope = (alike.imag * tone).sum(2) / (alike.real * tone.square()).sum(2).clamp_min(1e-9)
    ramp = torch.polar(torch.ones_like(alike.real), slope[..., None] * tone)
    return h * (turn * ramp).conj()[..., None, None]


def port_gains(h: Tensor, shape: PortShape, observed: Tensor | None, most: int) -> Tensor:
    """Gain and phase of each port against the strongest paths, ``[link, 1, 1, rx_ant, tx_ant]``: least squares."""
    y = explained(h, shape, observed, most)
    power = (y.real.square() + y.imag.square()).sum((1, 2), keepdim=True)
    gain = (y.conj() * h).sum((1, 2), keepdim=True) / power.clamp_min(1e-9)
    # a port that the paths do not reach says nothing
    return torch.where((power > 1e-6) & (gain.abs() > 0.05), gain, 1.0)


def unrelated(h: Tensor, shape: PortShape, observed: Tensor | None = None) -> Tensor:
    """Whether antennas do not see the same plane waves, ``bool [link]``, as in TDL channels of several antennas. An
    array whose ports are given in a wrong order is not always recognised.

    Plane waves are stronger in few beams. Where the power of the strongest delays and Doppler shifts is spread over
    beams as it is over ports, each port's gain is better left free. The power's concentration is its second moment
    over the squared mean: near 1.5 over both where fading is unrelated, 2 to 12 over beams of a panel.

    Args:
        h: histories ``[link, slot, subcarrier, rx_ant, tx_ant]``.
        shape: of the panel they are said to have; with fewer than four ports of a polarisation nothing can be said.
        observed: ``bool [link, slot]``, False where a slot was not measured.
    """
    if shape[1] * shape[2] < 4:
        return torch.zeros(len(h), dtype=torch.bool, device=h.device)
    x = as_panel(h if observed is None else h * observed[:, :, None, None, None], shape)
    x = torch.fft.fftn(x, dim=(2, 3))
    over_ports, over_beams = (concentration(y) for y in (x, torch.fft.fftn(x, dim=(4, 5))))
    return (over_beams < 1.3 * over_ports) & (over_beams < 2.1)


def by_panel(h: Tensor, shape: PortShape, observed: Tensor | None = None) -> list[tuple[Tensor, PortShape]]:
    """Groups of links ``bool [link]``, none of them empty, and the shape of the panel that paths are laid over."""
    alone = unrelated(h, shape, observed)
    groups = ((~alone, shape), (alone, free_gains(shape)))
    return [(group, panel) for group, panel in groups if bool(group.any())]


def free_gains(shape: PortShape) -> PortShape:
    """The same ports as a panel of one place, each with a gain of its own."""
    return (math.prod(shape), 1, 1)


def concentration(x: Tensor) -> Tensor:
    """Second moment over squared mean of the power over the last two axes ``[link]``; strong bins count most."""
    power = (x.real.square() + x.imag.square()).sum(1).flatten(3)  # [link, Doppler shift, delay, port]
    total = power.sum(-1).square()
    return power.shape[-1] * power.square().sum((1, 2, 3)) / total.sum((1, 2)).clamp_min(1e-30)


def shortened(h: Tensor, observed: Tensor | None, views: int) -> list[View]:
    """A history and ``views - 1`` shorter ones without its oldest slots. Each: history, ``observed``, and the weight
    ``[link]`` of its prediction: 0 where the link keeps less than three quarters of its measured slots."""
    seen = torch.ones(h.shape[:2], device=h.device) if observed is None else observed.float()
    found = []
    for start in range(0, SHORTER * views, SHORTER):
        if start > (1 - ENOUGH) * h.shape[1]:
            break
        weight = (seen[:, start:].sum(1) >= ENOUGH * seen.sum(1)).to(h.real.dtype)
        if bool(weight.any()):
            found.append((h[:, start:], None if observed is None else observed[:, start:], weight))
    return found


def mean_of_views(values: Sequence[Tensor], weights: Sequence[Tensor]) -> Tensor:
    """Mean of ``values [link, ...]`` of several histories with ``weights [link]`` of 0 or 1."""
    if len(values) == 1:
        return values[0]
    total, out = torch.stack(list(weights)).sum(0), torch.zeros_like(values[0])
    for value, weight in zip(values, weights, strict=True):
        out += value * (weight / total).view(-1, *(1,) * (value.dim() - 1)).to(value.dtype)
    return out


def left_of_variance(weights: Sequence[Tensor]) -> Tensor:
    """Variance of the mean over the mean variance ``[link]``: errors of the views agree to a part."""
    total = torch.stack(list(weights)).sum(0)
    return AGREEMENT + (1 - AGREEMENT) / total
