"""How CSI is measured: power, normalisation, noise, impairments of the receiver, lost slots."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from airlam.csi.axes import RX_ANT, SLOT, SUBCARRIER, TX_ANT
from airlam.csi.lazy import resolve_inputs
from airlam.csi.randomness import check_generator


@resolve_inputs
def mean_power(h: Tensor) -> Tensor:
    """Mean ``|h|^2`` of each link over slots, subcarriers and antennas: ``[...]`` without the last four axes."""
    return (h.real.square() + h.imag.square()).mean(dim=(SLOT, SUBCARRIER, RX_ANT, TX_ANT))


@resolve_inputs
def normalise(h: Tensor) -> tuple[Tensor, Tensor]:
    """Each link scaled to unit mean power, and its scale: ``h = scale * normalised``. A zero link keeps scale 1.

    Each link is treated alone: nothing depends on its neighbours in the batch.
    """
    scale = mean_power(h).sqrt()
    scale = torch.where(scale > 0, scale, torch.ones_like(scale))[..., None, None, None, None]
    return h / scale, scale


@resolve_inputs
def measure(h: Tensor, csi_snr_db: float | Tensor, generator: torch.Generator | None = None) -> Tensor:
    """Measured CSI: true CSI plus complex Gaussian noise, ``csi_snr_db`` below the link's own mean power.

    Args:
        h: true CSI of the *history* ``complex [..., slot, subcarrier, rx_ant, tx_ant]``: the noise level is relative
            to the mean power over the slots given here.
        csi_snr_db: one value, or one per link ``[...]``; ``inf`` adds nothing.
        generator: source of randomness, on the device of ``h``; its seed makes the noise repeatable.

    Raises:
        TypeError, ValueError: ``h`` is not complex; ``generator`` is a seed; ``csi_snr_db`` is text, NaN or ``-inf``;
            the noise has no finite variance.

    Example:
        >>> h = torch.ones(1, 100, 48, 1, 4, dtype=torch.complex64)
        >>> noise = measure(h, 10.0, torch.Generator().manual_seed(0)) - h
        >>> round(float(mean_power(noise)), 2)
        0.1
    """
    check_generator(generator)
    if not h.is_complex():
        raise TypeError(f"h must be complex, got {h.dtype}; torch.complex(real, imag) joins two real tensors")
    if isinstance(csi_snr_db, str):
        raise TypeError(f"csi_snr_db must be a number or a tensor, got the text {csi_snr_db!r}")
    snr_db = torch.as_tensor(csi_snr_db, dtype=h.real.dtype)
    if not snr_db.is_meta and not bool((snr_db > -math.inf).all()):
        given = snr_db.flatten()[:3].tolist()
        raise ValueError(f"csi_snr_db must be decibels above -inf, or inf for no noise, got {given}")
    variance = mean_power(h) * 10 ** (-snr_db.to(h.device) / 10)
    if not variance.is_meta and not bool(torch.isfinite(variance).all()):
        raise ValueError(
            f"the noise variance at csi_snr_db {snr_db.flatten()[:3].tolist()} of h with mean power up to "
            f"{float(mean_power(h).max()):.3g} is not finite in {variance.dtype}; scale h, or raise csi_snr_db"
        )
    noise = torch.randn(h.shape, dtype=h.dtype, device=h.device, generator=generator)
    return h + variance.sqrt()[..., None, None, None, None] * noise


class Impairment(NamedTuple):
    """What a receiver does to a history of CSI besides noise (DESIGN: impairments sweep).

    Attributes:
        phase_std: standard deviation [rad] of a common phase, drawn afresh for each slot.
        cfo_hz: carrier frequency offset [Hz]: a phase ramp over slots.
        timing_std_s: standard deviation [s] of a timing offset drawn afresh for each slot: a ramp over subcarriers.
        missing: probability that a slot was not measured (the first slot and the last one always are); see
            :func:`lose_slots`.
        bits: of each real and imaginary part after the noise, see :func:`quantise`; 0 for no quantisation.
    """

    phase_std: float = 0.0
    cfo_hz: float = 0.0
    timing_std_s: float = 0.0
    missing: float = 0.0
    bits: float = 0


@resolve_inputs
def impair(
    h: Tensor, impairment: Impairment, *, slot_duration: float, subcarrier_spacing: float, generator=None
) -> Tensor:
    """What an :class:`Impairment` does before the noise, to a history ``[..., slot, subcarrier, rx_ant, tx_ant]``."""
    check_generator(generator)
    num_slots, num_subcarriers = h.shape[SLOT], h.shape[SUBCARRIER]
    lead, real = h.shape[:SLOT], h.real.dtype
    draw = dict(dtype=real, device=h.device, generator=generator)
    slot = torch.arange(num_slots, device=h.device, dtype=real)
    tone = torch.arange(num_subcarriers, device=h.device, dtype=real) - (num_subcarriers - 1) / 2
    phase = impairment.phase_std * torch.randn(*lead, num_slots, **draw)
    phase = phase + 2 * math.pi * impairment.cfo_hz * slot_duration * slot
    delay = impairment.timing_std_s * torch.randn(*lead, num_slots, **draw)
    phase = phase[..., None] - 2 * math.pi * subcarrier_spacing * tone * delay[..., None]
    out = h * torch.polar(torch.ones_like(phase), phase)[..., None, None]
    return out


@resolve_inputs
def quantise(h: Tensor, bits: float) -> Tensor:
    """Real and imaginary parts of measured CSI on a uniform grid of ``2 ** bits`` levels over four times their root
    mean square on either side of zero; larger ones are clipped. Each link has a grid of its own.

    Example:
        >>> quantise(torch.tensor([0.2 + 1j]).view(1, 1, 1, 1), 1)[0, 0, 0, 0]
        tensor(1.4422+1.4422j)
    """
    half = 2 ** (check_bits(bits) - 1)
    step = 4 * (mean_power(h) / 2).sqrt()[..., None, None, None, None] / half
    step = torch.where(step > 0, step, 1.0)
    parts = [((part / step).floor().clamp(-half, half - 1) + 0.5) * step for part in (h.real, h.imag)]
    return torch.complex(*parts)


def check_bits(bits: float) -> int:
    """A number of bits from 1 to 24."""
    if not (float(bits).is_integer() and 1 <= bits <= 24):
        raise ValueError(f"bits is {bits!r}, but must be a whole number from 1 to 24")
    return int(bits)


def receive(
    h: Tensor,
    csi_snr_db: float | Tensor,
    impairment: Impairment | None,
    generator: torch.Generator | None = None,
    *,
    slot_duration: float,
    subcarrier_spacing: float,
) -> tuple[Tensor, Tensor | None]:
    """The measured history of true CSI: impaired, noisy, quantised, with lost slots filled in; and ``observed`` of
    :func:`lose_slots` where slots may be lost. ``None`` for a receiver that only adds noise."""
    if impairment is None:
        return measure(h, csi_snr_db, generator), None
    grid = {"slot_duration": slot_duration, "subcarrier_spacing": subcarrier_spacing}
    h = measure(impair(h, impairment, **grid, generator=generator), csi_snr_db, generator)
    h = quantise(h, impairment.bits) if impairment.bits else h
    return lose_slots(h, impairment.missing, generator) if impairment.missing > 0 else (h, None)


@resolve_inputs
def lose_slots(h: Tensor, probability: float, generator: torch.Generator | None = None) -> tuple[Tensor, Tensor]:
    """Lose slots of a measured history at random, all but the first and the last.

    Args:
        h: ``[..., slot, subcarrier, rx_ant, tx_ant]``.
        probability: of each slot to be lost.

    Returns:
        The history with each lost slot interpolated linearly between its measured neighbours, and
        ``observed``, ``bool [..., slot]``, False where a slot was lost.

    Example:
        >>> h, observed = lose_slots(torch.ones(3, 16, 2, 1, 1, dtype=torch.complex64), 0.5)
        >>> bool(observed[:, 0].all()), bool((h == 1).all())
        (True, True)
    """
    check_generator(generator)
    observed = torch.rand(h.shape[:SUBCARRIER], device=h.device, generator=generator) >= probability
    observed[..., 0] = observed[..., -1] = True
    slot = torch.arange(h.shape[SLOT], device=h.device).expand_as(observed)
    before = torch.where(observed, slot, 0).cummax(-1).values
    after = torch.where(observed, slot, h.shape[SLOT] - 1).flip(-1).cummin(-1).values.flip(-1)
    share = ((slot - before) / (after - before).clamp_min(1)).to(h.real.dtype)[..., None, None, None]

    def at(index: Tensor) -> Tensor:
        return h.gather(SLOT, index[..., None, None, None].expand(h.shape))

    return torch.where(observed[..., None, None, None], h, (1 - share) * at(before) + share * at(after)), observed
