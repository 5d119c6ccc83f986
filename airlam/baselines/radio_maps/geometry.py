"""What a height map says of the way from a station to a place."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from airlam.csi import HeightMap

WAY = 32  # parts of the direct line
AROUND, AROUND_STEP = 16, 6.0  # cells, and their side [m], of the square around a place
_FINE, _LOOKS = 4, 2  # looks at the height map in each part of the way, and along each side of a cell
_OWN_ROOF, _OWN_WALL = 5.0, 2.5  # m from the station and from the user, where nothing counts as in the way
_LOW, _HIGH = -20.0, 40.0  # m, bounds of clearances
_AT_ONCE = 512  # places


@dataclass
class Geometry:
    """Of every place and station.

    Attributes:
        distance: on the ground ``[place, station]`` m. bearing: off that of the station [rad].
        rise: of the station above the place [m].
        line_of_sight: whether no roof reaches the direct line ``bool``.
        knife_edge: loss over the worst roof as a knife edge [dB] (ITU-R P.526-15, equation 31).
        way: how far roofs reach above the direct line, from the station to the place ``[place, station, WAY]`` m.
        around: highest above the place's ground in cells around it, the first axis towards the station
            ``[place, station, AROUND, AROUND]`` m.
    """

    distance: Tensor
    bearing: Tensor
    rise: Tensor
    line_of_sight: Tensor
    knife_edge: Tensor
    way: Tensor
    around: Tensor

    @classmethod
    def of(cls, stations: Tensor, place: Tensor, heights: HeightMap | None, wavelength: float = 0.0857) -> Geometry:
        """From places ``[place, 3]`` and ``stations [station, 4]`` (see :class:`~airlam.csi.SiteCSI`), in metres.

        Without a height map nothing stands anywhere.

        Example:
            >>> wall = HeightMap(torch.tensor([[0.0, 20.0, 0.0]]), (0.0, 0.0), 20.0)
            >>> there = torch.tensor([[10.0, 10.0, 1.5], [50.0, 10.0, 1.5]])
            >>> Geometry.of(torch.tensor([[5.0, 10.0, 8.0, 0.0]]), there, wall).line_of_sight
            tensor([[ True],
                    [False]])
        """
        parts = [_some(stations.float(), some, heights, wavelength) for some in place.float().split(_AT_ONCE)]
        return cls(*(torch.cat(found) for found in zip(*parts, strict=True)))

    @property
    def pattern(self) -> Tensor:
        """Gain of an antenna element off its best ``[place, station]`` dB (TR 38.901 table 7.3-1, horizontal cut)."""
        return -(12 * (self.bearing.rad2deg() / 65).square()).clamp_max(30.0)


def _some(stations: Tensor, place: Tensor, heights: HeightMap | None, wave: float) -> tuple[Tensor, ...]:
    end = place[:, None].expand(-1, len(stations), -1)
    start = stations[:, :3].expand_as(end)
    gap = end - start
    flat = torch.linalg.vector_norm(gap[..., :2], dim=-1).clamp_min(1.0)
    towards = -gap[..., :2] / flat[..., None]
    bearing = torch.atan2(gap[..., 1], gap[..., 0]) - torch.deg2rad(stations[:, 3])
    bearing = torch.atan2(bearing.sin(), bearing.cos())
    rise = -gap[..., 2]
    fine = WAY * _FINE
    walked = flat[..., None] * (torch.arange(fine) + 0.5) / fine
    if heights is None:
        above = torch.full_like(walked, _LOW)
        around = torch.zeros(*flat.shape, AROUND, AROUND)
    else:
        above = heights.above_line(start, end, fine).clamp(_LOW, _HIGH)
        own = (walked < _OWN_ROOF) | (flat[..., None] - walked < _OWN_WALL)
        above = above.masked_fill(own, _LOW)
        around = _around(place, towards, heights)
    slant = (flat.square() + rise.square()).sqrt()
    before = (slant / flat)[..., None] * walked
    after = (slant[..., None] - before).clamp_min(1.0)
    edge = (above * (2 / wave * (1 / before.clamp_min(1.0) + 1 / after)).sqrt()).amax(-1)
    return (
        flat,
        bearing,
        rise,
        above.amax(-1) <= 0,
        knife_edge(edge),
        above.unflatten(-1, (WAY, _FINE)).amax(-1),
        around,
    )


def _around(place: Tensor, towards: Tensor, heights: HeightMap) -> Tensor:
    fine = AROUND * _LOOKS
    axis = (torch.arange(fine) - (fine - 1) / 2) * AROUND_STEP / _LOOKS
    across = torch.stack((-towards[..., 1], towards[..., 0]), -1)
    where = (
        place[:, None, None, None, :2]
        + axis[:, None, None] * towards[:, :, None, None]
        + axis[:, None] * across[:, :, None, None]
    )
    ground = heights.at(place[:, :2])[:, None, None, None]
    seen = torch.nn.functional.max_pool2d((heights.at(where) - ground).flatten(0, 1), _LOOKS)
    return seen.unflatten(0, towards.shape[:2]).clamp(-5.0, _HIGH)


def knife_edge(nu: Tensor) -> Tensor:
    """Loss [dB] over a knife edge of diffraction parameter ``nu`` (ITU-R P.526-15, equation 31).

    Example:
        >>> knife_edge(torch.tensor([-1.0, 0.0, 2.4])).round(decimals=1)
        tensor([ 0.0000,  6.0000, 20.5000])
    """
    loss = 6.9 + 20 * (((nu - 0.1).square() + 1).sqrt() + nu - 0.1).clamp_min(1e-6).log10()
    return torch.where(nu > -0.78, loss, 0.0)
