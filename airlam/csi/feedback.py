"""What a user reports of its CSI where the base station cannot measure by itself."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from airlam.csi.axes import SUBCARRIER, PortShape
from airlam.csi.beam_delay import from_beam_delay, to_beam_delay
from airlam.csi.lazy import resolve_inputs


class Feedback(NamedTuple):
    """What a user reports of its CSI where the base station cannot measure by itself (FDD).

    Attributes:
        coefficients: beam-delay coefficients in a report, the strongest over the history.
        phase_bits, amplitude_bits: of each; amplitudes below the range are reported as zero.
        amplitude_step_db: between two amplitudes; 3 dB in the enhanced Type II codebook.
    """

    coefficients: int = 128
    phase_bits: int = 4
    amplitude_bits: int = 4
    amplitude_step_db: float = 3.0


@resolve_inputs
def feed_back(h: Tensor, feedback: Feedback, port_shape: PortShape | None = None) -> Tensor:
    """CSI as the base station knows it from quantised reports.

    In the manner of the enhanced Type II codebook (TS 38.214 clause 5.2.2.2.5): beams and delays by a DFT, the
    strongest coefficients alone, quantised in phase and, relative to the strongest one, in amplitude. Unlike there,
    beams are not chosen from an oversampled grid, coefficients may fall on any beam and delay, and the phase between
    reports is kept.

    Args:
        h: ``complex [..., slot, subcarrier, rx_ant, tx_ant]``, what the user measured.
        port_shape: (polarisations, columns, rows) of ``tx_ant``.

    Returns:
        The same shape. Errors are large where the channel is strong: this is no white noise.

    Raises:
        ValueError: more coefficients than there are, or no bits.

    Example:
        >>> h = torch.randn(2, 16, 12, 1, 4, dtype=torch.complex64)
        >>> fine = feed_back(h, Feedback(48, phase_bits=10, amplitude_bits=10, amplitude_step_db=0.1))
        >>> bool((fine - h).abs().max() < 0.05)
        True
    """
    x = to_beam_delay(h, port_shape)
    series = x.flatten(SUBCARRIER)  # [..., slot, coefficient]
    count, phase_bits, amplitude_bits, step_db = feedback
    if not isinstance(count, int) or not 1 <= count <= series.shape[-1]:
        raise ValueError(f"coefficients is {count!r}, but must lie between 1 and {series.shape[-1]}, all there are")
    for name, bits in (("phase_bits", phase_bits), ("amplitude_bits", amplitude_bits)):
        if not isinstance(bits, int) or not 1 <= bits <= 16:
            raise ValueError(f"{name} is {bits!r}, but must be a whole number between 1 and 16")
    if not 0 < step_db < math.inf:
        raise ValueError(f"amplitude_step_db is {step_db!r}, but must be a positive number of decibels")
    power = (series.real.square() + series.imag.square()).mean(-2, keepdim=True)
    index = power.topk(count, -1).indices.expand(*series.shape[:-1], count)
    kept = series.gather(-1, index)
    amplitude = kept.abs()
    strongest = amplitude.amax((-2, -1), keepdim=True).clamp_min(torch.finfo(amplitude.dtype).tiny)
    steps = (-20 / step_db * (amplitude / strongest).clamp_min(1e-30).log10()).round()
    reported = torch.where(steps < 2**amplitude_bits, strongest * 10 ** (-step_db / 20 * steps), 0)
    turn = 2 * math.pi / 2**phase_bits
    quantised = torch.polar(reported, (kept.angle() / turn).round() * turn)
    placed = torch.zeros_like(series).scatter(-1, index, quantised)
    return from_beam_delay(placed.unflatten(-1, x.shape[-3:]), port_shape)
