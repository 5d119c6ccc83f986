"""Hand-made statistics of a link, computed without a network."""

from __future__ import annotations

import torch
from torch import Tensor

from airlam.csi import PortShape, resolve_inputs, to_beam_delay
from airlam.interfaces import check_csi


@resolve_inputs
def link_features(h: Tensor, port_shape: PortShape | None = None) -> Tensor:
    """Statistics of a measured history that change neither with a global phase nor a global scale.

    Doppler: magnitude of the correlation over 1, 2, 4 and 8 slots, and the log-periodogram over slots (mean over
    beam-delay bins). Delay: log of the power-delay profile's first 16 bins, mean delay, delay spread. Fading: Rician
    K-factor by the method of moments (Greenstein et al., IEEE Commun. Lett. 1999) over tones and antennas; share of
    the strongest beam-delay bin; entropy of the beams.

    Args:
        h: ``complex [link, slot, subcarrier, rx_ant, tx_ant]``, at least two slots.

    Returns:
        ``float32 [link, feature]``.

    Example:
        >>> link_features(torch.randn(3, 16, 48, 1, 32, dtype=torch.complex64), (2, 4, 4)).shape
        torch.Size([3, 41])
    """
    check_csi(h, min_slots=2, name="h")
    power = (h.real.square() + h.imag.square()).mean((1, 2, 3, 4), keepdim=True)
    h = h / power.sqrt().clamp_min(1e-30)
    slots = h.shape[1]
    correlation = []
    for lag in (1, 2, 4, 8):
        lag = min(lag, slots - 1)
        correlation.append((h[:, lag:] * h[:, :-lag].conj()).mean((1, 2, 3, 4)).abs())
    bins = to_beam_delay(h, port_shape)
    energy = bins.real.square() + bins.imag.square()
    spectrum = torch.fft.fft(bins.flatten(2), n=16, dim=1).abs().square().mean(-1)
    profile = energy.mean((1, 3, 4))
    profile = profile / profile.sum(-1, keepdim=True).clamp_min(1e-30)
    few = torch.nn.functional.pad(profile, (0, max(0, 16 - profile.shape[-1])))[:, :16]
    delay = torch.arange(profile.shape[-1], device=h.device, dtype=profile.dtype)
    mean = (profile * delay).sum(-1)
    spread = (profile * (delay - mean[:, None]).square()).sum(-1).sqrt()
    gain = h.real.square() + h.imag.square()
    variance = gain.flatten(1).var(-1)
    steady = (1 - variance).clamp_min(0).sqrt()  # of unit mean power: E|h|^2 = 1
    k_factor = steady / (1 - steady).clamp_min(1e-3)
    joint = energy.mean(1).flatten(1)
    strongest = joint.amax(-1) / joint.sum(-1).clamp_min(1e-30)
    beams = energy.mean((1, 2)).flatten(1)
    beams = beams / beams.sum(-1, keepdim=True).clamp_min(1e-30)
    entropy = -(beams * beams.clamp_min(1e-12).log()).sum(-1)
    scalars = torch.stack([*correlation, mean, spread, torch.log(k_factor + 1e-2), strongest, entropy], -1)
    return torch.cat([scalars, torch.log(spectrum + 1e-3), torch.log(few + 1e-4)], -1).float()
