"""Delays, angles and powers of a user's CSI at each station, by hand."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from airlam.constants import SPEED_OF_LIGHT
from airlam.csi import SiteCSI, check_port_shape

FINE = 8  # points of the delay profile for each tap
NAMES = ("first", "peak", "mean", "spread", "power", "lag_re", "lag_im", "first_re", "first_im")
HALF_WIDTH = 0.603  # taps from the half-amplitude point of a tap's sinc to its top
_AT_ONCE = 256  # users


def fingerprint(csi: SiteCSI) -> Tensor:
    """Power of each beam and delay over the noise, polarisations together: ``[user, station, delay, beam]``, linear."""
    return csi.delay_beam_power()


def delay_angle(csi: SiteCSI) -> Tensor:
    """What a receiver would report of each station ``float64 [user, station, feature]``, in the order of ``NAMES``.

    - ``first, peak``: lengths [m] of the first path above the threshold, and of the strongest point;
    - ``mean, spread``: power-weighted mean and RMS of the lengths above the noise [m];
    - ``power``: mean power over the noise [dB];
    - ``lag_re, lag_im``: correlation of neighbouring columns over all tones, its angle is that of departure;
      ``first_re, first_im``: the same of the first path alone.

    Example:
        >>> csi = SiteCSI(torch.randn(2, 3, 64, 8, dtype=torch.complex64), torch.zeros(3, 4), 1e6, (2, 4, 1))
        >>> delay_angle(csi).shape
        torch.Size([2, 3, 9])
    """
    return torch.cat([_of(csi[start : start + _AT_ONCE]) for start in range(0, len(csi), _AT_ONCE)])


def heard(features: Tensor) -> Tensor:
    """Whether a station is heard at all ``bool [user, station]``, from :func:`delay_angle`."""
    return features[..., NAMES.index("power")] > -7.0  # 10 tones x antennas of noise alone stay below


def _of(csi: SiteCSI) -> Tensor:
    tones, ports = csi.h.shape[-2:]
    metre = SPEED_OF_LIGHT / (FINE * tones * csi.subcarrier_spacing)  # of one point of the profile
    response = torch.fft.ifft(csi.h, FINE * tones, dim=2) * FINE * math.sqrt(tones)
    profile = response.abs().square().mean(-1)  # noise has mean 1
    top = profile.amax(-1, keepdim=True)
    above = profile > torch.maximum(0.05 * top, torch.full_like(top, 4.0))
    first = above.int().argmax(-1)
    signal = (profile - 2).clamp_min(0)
    signal[..., int(0.9 * FINE * tones) :] = 0  # what lies just before delay zero comes from the other end
    weight = signal / signal.sum(-1, keepdim=True).clamp_min(1e-9)
    length = metre * torch.arange(profile.shape[-1])
    mean = (weight * length).sum(-1)
    spread = (weight * (length - mean[..., None]).square()).sum(-1).sqrt()
    power = (csi.h.abs().square().mean((2, 3)) - 1).clamp_min(0.01).log10() * 10
    at = first[..., None, None].expand(*first.shape, 1, ports)
    lag, of_first = _lag(csi.h, csi.port_shape), _lag(response.gather(2, at), csi.port_shape)
    columns = [first * metre, profile.argmax(-1) * metre, mean, spread, power, lag.real, lag.imag]
    return torch.stack([*columns, of_first.real, of_first.imag], -1).double()


def _lag(h: Tensor, port_shape) -> Tensor:
    """Normalised correlation of neighbouring columns, ``complex [user, station]``."""
    x = h.unflatten(-1, check_port_shape(h.shape[-1], port_shape))
    if x.shape[-2] == 1:
        return torch.zeros(h.shape[:2], dtype=h.dtype)
    product = (x[..., 1:, :] * x[..., :-1, :].conj()).sum((2, 3, 4, 5))
    return product / h.abs().square().sum((2, 3)).clamp_min(1e-9)
