"""Pilots of an array behind phase shifters: the combining vectors, and what the array receives."""

from __future__ import annotations

import torch
from torch import Tensor

from airlam.csi.lazy import resolve_inputs
from airlam.csi.randomness import check_generator


def phase_combiner(num_pilots: int, num_tx_ant: int, generator: torch.Generator | None = None) -> Tensor:
    """Combining vectors of an array behind phase shifters ``complex64 [pilot, tx_ant]``: random phases, rows of unit
    norm, on the generator's device. With as many pilots as antennas the rows of a DFT, which is unitary.

    Example:
        >>> phase_combiner(4, 16).abs().square().sum(-1)
        tensor([1., 1., 1., 1.])
    """
    check_generator(generator)
    if not 1 <= num_pilots <= num_tx_ant:
        raise ValueError(f"num_pilots is {num_pilots}, but must lie between 1 and {num_tx_ant}, the antennas")
    device = None if generator is None else generator.device
    if num_pilots == num_tx_ant:
        return torch.fft.fft(torch.eye(num_tx_ant, dtype=torch.complex64, device=device), norm="ortho")
    phase = 2 * torch.pi * torch.rand(num_pilots, num_tx_ant, generator=generator, device=device)
    return torch.polar(torch.full_like(phase, num_tx_ant**-0.5), phase)


@resolve_inputs
def observe_pilots(
    h: Tensor, combiner: Tensor, noise: float | Tensor, generator: torch.Generator | None = None
) -> Tensor:
    """What the array hears of pilots: ``y = h combiner^T + n``.

    Args:
        h: ``complex [..., subcarrier, tx_ant]``. combiner: ``complex [pilot, tx_ant]``.
        noise: variance of each pilot, broadcastable against ``[...]``.
        generator: source of randomness, on the device of ``h``.

    Returns:
        ``complex [..., subcarrier, pilot]``.
    """
    check_generator(generator)
    if combiner.dim() != 2 or h.shape[-1] != combiner.shape[-1]:
        raise ValueError(f"combiner {tuple(combiner.shape)} must be [pilot, tx_ant], for h {tuple(h.shape)}")
    if not bool((torch.as_tensor(noise) >= 0).all()):
        given = torch.as_tensor(noise).flatten()[:3].tolist()
        raise ValueError(f"noise must not be negative (linear, not dB), got {given}")
    clean = h @ combiner.to(h).mT
    white = torch.randn(*clean.shape, 2, generator=generator, dtype=clean.real.dtype, device=clean.device)
    level = (torch.as_tensor(noise, dtype=clean.real.dtype, device=clean.device) / 2).sqrt()[..., None, None]
    return clean + level * torch.view_as_complex(white)
