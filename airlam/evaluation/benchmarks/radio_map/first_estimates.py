"""What a map is good for: the first estimate of a user that enters, from one noisy pilot."""

from __future__ import annotations

import torch
from torch import Tensor

from airlam.baselines.radio_maps import as_taps
from airlam.csi import SiteCSI, SiteMap, to_beam_delay
from airlam.csi.site_map import FLOOR_DB

FACTORS = (2.0, 3.0, 4.0, 6.0, 8.0, 12.0, 16.0)  # thresholds over the noise
WIDTHS = (0.0, 1.0, 2.0, 3.0, 4.0)  # how far bins may differ from the map, nepers of the power
ANYWHERE = 0.05  # share of the power that no map tells
_NODES = torch.linspace(-2.5, 2.5, 9)


class FirstEstimates:
    """Pilots of users, and how well each prior turns them into CSI.

    Args:
        csi: true, of users and stations that judge.
        snr_db: of the pilot on each tone and port. seed: of its noise.

    Every method has one setting, a width or a threshold, which is the best of all tried for these users and stations
    together: the same hindsight for each.
    """

    def __init__(self, csi: SiteCSI, snr_db: float, seed: int):
        self.noise = 10 ** (-snr_db / 10)
        h = csi.h / csi.h.abs().square().mean((2, 3), keepdim=True).clamp_min(1e-30).sqrt()
        noise = torch.randn(h.shape, dtype=h.dtype, generator=torch.Generator().manual_seed(seed))
        self.heard = SiteMap.of(csi, noise=False).power_db > FLOOR_DB
        shape = csi.port_shape

        def bins(x: Tensor) -> Tensor:
            return to_beam_delay(x[..., None, :], shape).squeeze(-2).unflatten(-1, (shape[0], -1))

        self.true = bins(h)  # [place, station, delay, polarisation, beam]
        self.pilot = self.true + bins(self.noise**0.5 * noise)

    def nmse(self, profile: Tensor) -> list[float]:
        """NMSE [dB] at each station with the map ``profile [place, station, DELAYS, beam]`` as a prior.

        A bin's power is the map's times a log-normal factor; the estimate is the posterior mean over a grid of factors,
        which is Wiener's for width zero and close to a threshold for a large one.
        """
        delays, beams = profile.shape[-2:]
        known = (1 - ANYWHERE) * profile + ANYWHERE / (beams * delays)
        expected = as_taps(known, self.pilot.shape[2])
        return self._best([self._posterior(expected[..., None, :], width) for width in WIDTHS])

    def without_a_map(self) -> list[float]:
        """NMSE [dB] at each station where bins above a threshold are kept."""
        power = self.pilot.abs().square()
        return self._best([(power > factor * self.noise).float() for factor in FACTORS])

    def _posterior(self, expected: Tensor, width: float) -> Tensor:
        """Weights of the pilot's bins."""
        power = self.pilot.abs().square()
        total, useful = torch.zeros_like(power), torch.zeros_like(power)
        for node in _NODES if width else _NODES[:1] * 0:
            prior = expected * (width * node).exp()
            seen = prior + self.noise
            likely = (-power / seen - node.square() / 2).exp() / seen
            total += likely
            useful += likely * prior / seen
        return useful / total.clamp_min(1e-30)

    def _best(self, weights: list[Tensor]) -> list[float]:
        """NMSE [dB] at each station with the best of the weights."""
        found = []
        for weight in weights:
            error = (weight * self.pilot - self.true).abs().square().mean((2, 3, 4))
            found.append(
                torch.stack([column[heard].mean() for column, heard in zip(error.mT, self.heard.mT, strict=True)])
            )
        return min((10 * x.log10() for x in found), key=lambda x: float(x.mean())).tolist()
