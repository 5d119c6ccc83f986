"""Beams of a panel: the DFT codebook, the power through each beam, and measurements of it."""

from __future__ import annotations

import torch
from torch import Tensor

from airlam.csi.axes import PortShape
from airlam.csi.lazy import resolve_inputs
from airlam.csi.randomness import check_generator


def dft_line(ports: int, beams: int, device: torch.device | str | None = None) -> Tensor:
    """``exp(j 2 pi port beam / beams)``, ``complex64 [port, beam]``: an axis of a panel, seen from each direction."""
    port, beam = torch.arange(ports, device=device), torch.arange(beams, device=device)
    angle = 2 * torch.pi * torch.outer(port, beam) / beams
    return torch.polar(torch.ones_like(angle), angle)


def dft_codebook(port_shape: PortShape, beams_per_axis: int | None = None) -> Tensor:
    """Beams of a panel ``complex64 [tx_ant, beam]`` of unit norm: the DFT over its columns and over its rows, one block
    a polarisation; beam ``(p, c, r)`` stands at place ``(p C + c) R + r``. As many as there are ports, orthonormal, or
    ``beams_per_axis`` along columns and along rows.

    Example:
        >>> beams = dft_codebook((1, 8, 8))
        >>> torch.allclose(beams.mH @ beams, torch.eye(64, dtype=torch.complex64), atol=1e-5)
        True
    """
    whole = isinstance(port_shape, (tuple, list)) and len(port_shape) == 3
    if not whole or not all(isinstance(n, int) and n >= 1 for n in port_shape):
        raise ValueError(f"port_shape is {port_shape!r}, but must be three whole numbers: polarisations, columns, rows")
    polarisations, columns, rows = port_shape
    lines = [dft_line(ports, beams_per_axis or ports).conj() / ports**0.5 for ports in (columns, rows)]
    return torch.block_diag(*[torch.kron(*lines)] * polarisations)


def _through_beams(h: Tensor, codebook: Tensor) -> Tensor:
    """``h w`` for every beam, checked."""
    if not h.is_complex() or not codebook.is_complex():
        raise TypeError(f"h and codebook must be complex, got {h.dtype} and {codebook.dtype}")
    if h.dim() < 4 or codebook.dim() != 2 or h.shape[-1] != len(codebook):
        raise ValueError(
            f"h {tuple(h.shape)} must be [..., slot, subcarrier, rx_ant, tx_ant], and codebook {tuple(codebook.shape)} "
            "[tx_ant, beam]"
        )
    return h @ codebook.to(h)


@resolve_inputs
def beam_power(h: Tensor, codebook: Tensor) -> Tensor:
    """``|h w|^2``, mean over subcarriers, sum over receive antennas: ``[..., slot, beam]``, of CSI ``h [..., slot,
    subcarrier, rx_ant, tx_ant]`` (row not conjugated) and ``codebook [tx_ant, beam]``."""
    return _through_beams(h, codebook).abs().square().sum(-2).mean(-2)


@resolve_inputs
def measure_beams(h: Tensor, codebook: Tensor, noise: float, generator: torch.Generator | None = None) -> Tensor:
    """What a user reports of every beam: the mean over subcarriers of the received power of one pilot each, over the
    power of the noise in it. Where there is nothing but noise it is about 1.

    Args:
        h: ``complex [..., slot, subcarrier, rx_ant, tx_ant]``. codebook: ``complex [tx_ant, beam]``.
        noise: variance at each receive antenna and subcarrier.
        generator: source of randomness, on the device of ``h``.

    Returns:
        ``[..., slot, beam]``.
    """
    check_generator(generator)
    if not isinstance(noise, (int, float)) or not 0 < noise < float("inf"):
        raise ValueError(f"noise must be a positive, finite number (linear, not dB), got {noise!r}")
    heard = _through_beams(h, codebook)
    white = torch.randn(*heard.shape, 2, generator=generator, dtype=heard.real.dtype, device=heard.device)
    heard = heard + (noise / 2) ** 0.5 * torch.view_as_complex(white)
    return heard.abs().square().mean((-3, -2)) / noise


def sweep_schedule(
    num_beams: int, beams_per_sweep: int, num_sweeps: int, generator: torch.Generator | None = None
) -> Tensor:
    """Which beams each sweep measures, ``bool [sweep, beam]``: the next ``beams_per_sweep`` of a random order, round
    and round. On the generator's device.

    Example:
        >>> sweep_schedule(8, 2, 4).sum(0)
        tensor([1, 1, 1, 1, 1, 1, 1, 1])
    """
    check_generator(generator)
    for value, name in ((beams_per_sweep, "beams_per_sweep"), (num_sweeps, "num_sweeps"), (num_beams, "num_beams")):
        if not isinstance(value, int) or value < 1:
            raise ValueError(f"{name} is {value!r}, but must be a whole number of at least 1")
    if not beams_per_sweep <= num_beams:
        raise ValueError(f"beams_per_sweep is {beams_per_sweep}, but must lie between 1 and {num_beams}, the beams")
    device = None if generator is None else generator.device
    order = torch.randperm(num_beams, generator=generator, device=device)
    turn = torch.arange(num_sweeps * beams_per_sweep, device=device) % num_beams
    taken = order[turn].reshape(num_sweeps, beams_per_sweep)
    return torch.zeros(num_sweeps, num_beams, dtype=torch.bool, device=device).scatter_(1, taken, True)
