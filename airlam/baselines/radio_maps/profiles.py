"""Where the power comes from at a place: the profiles of its neighbours, moved to it."""

from __future__ import annotations

import torch
from torch import Tensor

from airlam.constants import SPEED_OF_LIGHT
from airlam.csi import SiteMap
from airlam.csi.site_map import FLOOR_DB


def moved(profile: Tensor, metres: Tensor, length: float) -> Tensor:
    """Profiles ``[..., delay, beam]`` later by ``metres [...]``, where a part of the delay axis is ``length`` m long.

    Linear interpolation; the delay axis is a circle, as that of a DFT.

    Example:
        >>> moved(torch.tensor([[1.0], [0.0], [0.0], [0.0]]), torch.tensor(15.0), 10.0).mT
        tensor([[0.0000, 0.5000, 0.5000, 0.0000]])
    """
    delays = profile.shape[-2]
    source = torch.arange(delays) - (metres / length)[..., None]
    low = source.floor()
    part = (source - low)[..., None]
    index = low.long().remainder(delays)[..., None].expand(profile.shape)
    return (1 - part) * profile.gather(-2, index) + part * profile.gather(-2, (index + 1).remainder(delays))


def part_length(known: SiteMap) -> float:
    """Length of one part of the delay axis [m]."""
    return SPEED_OF_LIGHT / (known.subcarrier_spacing * known.taps.shape[-2])


def as_taps(profile: Tensor, tones: int) -> Tensor:
    """Powers of the ``tones`` taps of each beam ``[..., tones, beam]`` where a tone and port have unit power.

    Example:
        >>> as_taps(torch.tensor([[1.0], [0.0]]), 4).mT
        tensor([[2., 2., 0., 0.]])
    """
    fine = tones // profile.shape[-2]
    return (profile * tones * profile.shape[-1] / fine).repeat_interleave(fine, -2)


def neighbours_profile(known: SiteMap, place: Tensor, stations: Tensor, reach: float = 10.0, most: int = 16) -> Tensor:
    """Mean of the nearest known profiles ``[place, station, delay, beam]``, each moved by the difference of distances.

    Args:
        place: ``[place, 3]`` m. stations: ``[station, 4]``.
        reach: weights fall by ``e`` over so many metres; 0: the nearest alone.
        most: neighbours that count; only places where the station is heard do.
    """
    length = part_length(known)
    gap, heard, out = torch.cdist(place[:, :2], known.place[:, :2]), known.power_db > FLOOR_DB, []
    for number, station in enumerate(stations):
        there = heard[:, number].nonzero()[:, 0]
        if not len(there):  # nothing is known: anything
            shape = known.taps.shape[-2:]
            out.append(torch.full((len(place), *shape), 1.0 / shape.numel()))
            continue
        near = gap[:, there].topk(min(most if reach else 1, len(there)), largest=False)
        index = there[near.indices]
        far, far_known = (torch.linalg.vector_norm(x[:, :3] - station[:3], dim=-1) for x in (place, known.place))
        profiles = moved(known.profile[index, number], far[:, None] - far_known[index], length)
        weight = (-near.values / reach).softmax(-1) if reach else torch.ones_like(near.values)
        out.append((weight[..., None, None] * profiles).sum(1))
    return torch.stack(out, 1)
