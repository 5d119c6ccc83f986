"""What a map says of places where nothing was measured."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from airlam.baselines.radio_maps.profiles import as_taps
from airlam.csi import SiteCSI, SiteMap, from_beam_delay

SPREAD_90 = 1.6448536269514722  # of a Gaussian: 90 % lie within so many standard deviations


@dataclass
class MapEstimate:
    """Of each place and station.

    Attributes:
        power_db: mean of the power over the noise ``[place, station]`` dB. spread_db: its standard deviation.
        profile: shares of the power in delay and beam ``[place, station, DELAYS, beam]``, which sum to one.
    """

    power_db: Tensor
    spread_db: Tensor
    profile: Tensor

    def draw(self, known: SiteMap, stations: Tensor, port_shape, generator: torch.Generator) -> SiteCSI:
        """CSI as it might be at these places: a power, then Rayleigh fading of each delay and beam.

        Args:
            known: the map that this estimate was made from, for its tones.
            stations, port_shape: see :class:`~airlam.csi.SiteCSI`.

        Returns:
            ``h [place, station, tone, tx_ant]`` in units of the noise, without noise.
        """
        power = self.power_db + self.spread_db * torch.randn(self.power_db.shape, generator=generator)
        taps = as_taps(self.profile * (10 ** (power / 10))[..., None, None], known.tones)
        taps = taps[..., None, :].expand(*taps.shape[:-1], port_shape[0], -1)
        h = torch.randn(taps.shape, dtype=torch.complex64, generator=generator) * taps.sqrt()
        h = from_beam_delay(h.flatten(-2)[..., None, :], port_shape).squeeze(-2)
        return SiteCSI(h, stations, known.subcarrier_spacing, port_shape)


def check_site(known: SiteMap, stations: Tensor) -> Tensor:
    """``stations`` in single precision.

    Raises:
        ValueError: nothing was measured, or the stations are not those of ``known``.
    """
    count = known.taps.shape[1]
    if not len(known):
        raise ValueError("known holds no place; a map needs at least one where CSI was measured")
    if tuple(stations.shape) != (count, 4):
        raise ValueError(
            f"stations has shape {list(stations.shape)}, but known has {count} stations: give [{count}, 4], "
            "x, y, z [m] and bearing [degrees]"
        )
    return stations.float()


def check_places(place: Tensor) -> Tensor:
    """``place`` in single precision.

    Raises:
        ValueError: not ``[place, 3]``, no place, NaN or infinite values.
    """
    if place.dim() != 2 or place.shape[1] != 3 or not len(place):
        raise ValueError(f"place has shape {list(place.shape)}, but must be [place, 3], x, y, z [m] of at least one")
    if not bool(torch.isfinite(place).all()):
        raise ValueError("place holds NaN or infinite values")
    return place.float()
