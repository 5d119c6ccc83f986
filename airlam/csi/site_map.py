"""What is known, said or true of the places of a site: power, and where it comes from in delay and angle."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from airlam.csi.site import SiteCSI

DELAYS = 32  # parts of the delay axis
FLOOR_DB = -10.0  # over the noise of a tone and port; less is called so much
HEARD = 0.3  # share of places that must hear a station for a map to be worth its name


@dataclass
class SiteMap:
    """Delay-beam powers at places.

    Attributes:
        place: ``[place, 3]`` m.
        taps: ``[place, station, DELAYS, beam]``, power over the noise, linear, polarisations together; its sum over
            the number of tones and beams is the mean power of a tone and port.
        tones: number of tones. subcarrier_spacing: Hz between them.

    Example:
        >>> import torch
        >>> h = 10 * torch.randn(5, 3, 96, 8, dtype=torch.complex64)
        >>> csi = SiteCSI(h, torch.zeros(3, 4), 1e6, (2, 4, 1), torch.zeros(5, 3))
        >>> SiteMap.of(csi).power_db.shape
        torch.Size([5, 3])
    """

    place: Tensor
    taps: Tensor
    tones: int
    subcarrier_spacing: float

    @classmethod
    def of(cls, csi: SiteCSI, noise: bool = True) -> SiteMap:
        """From the CSI of users.

        Args:
            csi: in units of the noise, with positions.
            noise: whether it was measured with noise, whose mean power is then taken off.

        Raises:
            ValueError: no positions; tones that cannot be parted into :data:`DELAYS` delays.
        """
        tones = csi.h.shape[2]
        if tones % DELAYS:
            raise ValueError(f"the CSI has {tones} tones, but maps need a multiple of {DELAYS}")
        taps = (csi.delay_beam_power() - float(noise)).unflatten(2, (DELAYS, -1)).sum(3)
        return cls(csi.known().float(), taps.clamp_min(0), tones, csi.subcarrier_spacing)

    def measured(self, snr_db: float, generator: torch.Generator, polarisations: int = 2) -> SiteMap:
        """True powers (in any unit) as they would be measured, in units of the noise.

        The noise's share of each power is drawn from a Gaussian of the right mean and variance, the mean is taken off.

        Args:
            snr_db: of a tone and port at the strongest station of the median place.
            polarisations: of the stations' panels, over which powers are means.
        """
        true = self.over_noise(snr_db).taps
        added = self.tones / DELAYS  # noise in one part of the delay axis
        deviation = ((added + 2 * true) / polarisations).sqrt()
        taps = true + deviation * torch.randn(true.shape, generator=generator)
        return replace(self, taps=taps.clamp_min(0))

    def over_noise(self, snr_db: float) -> SiteMap:
        """The same powers with the strongest station of the median place ``snr_db`` over the noise."""
        usual = self.taps.sum((-2, -1)).amax(1).median() / (self.tones * self.taps.shape[-1])
        taps = self.taps * (10 ** (snr_db / 10) / usual)
        return replace(self, taps=taps)

    def __len__(self) -> int:
        return len(self.place)

    def __getitem__(self, places) -> SiteMap:
        """Some of the places (slice, list or tensor)."""
        return replace(self, place=self.place[places], taps=self.taps[places])

    def of_stations(self, stations: Tensor) -> SiteMap:
        """Some of the stations, by their numbers."""
        return replace(self, taps=self.taps[:, stations])

    def worth_mapping(self) -> Tensor:
        """Numbers of the stations that enough places hear; of all if there are none."""
        heard = (self.power_db > FLOOR_DB).float().mean(0) > HEARD
        return heard.nonzero()[:, 0] if heard.any() else torch.arange(len(heard))

    @property
    def power_db(self) -> Tensor:
        """Mean power of a tone and port over the noise ``[place, station]`` dB, at least ``FLOOR_DB``."""
        mean = self.taps.sum((-2, -1)) / (self.tones * self.taps.shape[-1])
        return 10 * mean.clamp_min(10 ** (FLOOR_DB / 10)).log10()

    @property
    def profile(self) -> Tensor:
        """Shares of the power ``[place, station, DELAYS, beam]``, which sum to one; zeros where nothing is heard."""
        return self.taps / self.taps.sum((-2, -1), keepdim=True).clamp_min(1e-30)
