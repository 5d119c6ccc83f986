"""The CSI convention, in one place: axes, views, transforms, measurement.

CSI is ``complex [..., slot, subcarrier, rx_ant, tx_ant]``; a batch has one link per entry. A slot is one CSI
occasion. Groups of users of one base station put ``user`` right before ``slot``.

The ``tx_ant`` axis folds into ``port_shape = (polarisations, columns, rows)`` in Sionna's port order: all ports of
the first polarisation, then those of the second; within one, top to bottom down each column.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

SLOT, SUBCARRIER, RX_ANT, TX_ANT = -4, -3, -2, -1
PortShape = tuple[int, int, int]


def from_sionna(h: Tensor) -> Tensor:
    """Sionna's OFDM channel -> airlam's CSI.

    Args:
        h: ``[batch, num_rx, num_rx_ant, num_tx, num_tx_ant, num_slots, num_subcarriers]`` with ``num_rx * num_tx``
            links in each batch entry.

    Returns:
        ``[batch * num_rx * num_tx, slot, subcarrier, rx_ant, tx_ant]``; links run over batch, then rx, then tx.

    Example:
        >>> from_sionna(torch.zeros(5, 2, 1, 1, 8, 14, 48, dtype=torch.complex64)).shape
        torch.Size([10, 14, 48, 1, 8])
    """
    if h.dim() != 7:
        raise ValueError(f"Sionna's OFDM channel has 7 axes, got {h.dim()}: {tuple(h.shape)}")
    return h.permute(0, 1, 3, 5, 6, 2, 4).flatten(0, 2)


def to_sionna(h: Tensor) -> Tensor:
    """airlam's CSI ``[batch, slot, subcarrier, rx_ant, tx_ant]`` -> Sionna's order with one rx and one tx.

    Example:
        >>> to_sionna(torch.zeros(10, 14, 48, 1, 8)).shape
        torch.Size([10, 1, 1, 1, 8, 14, 48])
    """
    if h.dim() != 5:
        raise ValueError(f"CSI has 5 axes [batch, slot, subcarrier, rx_ant, tx_ant], got {h.dim()}: {tuple(h.shape)}")
    return h.permute(0, 3, 4, 1, 2)[:, None, :, None]


def check_port_shape(num_tx_ant: int, port_shape: PortShape | None) -> PortShape:
    """``port_shape`` as a tuple of ints whose product is ``num_tx_ant``; ``None`` means one line of ports."""
    if port_shape is None:
        return (1, num_tx_ant, 1)
    whole = isinstance(port_shape, (tuple, list, torch.Size)) and all(type(n) is int for n in port_shape)
    shape = tuple(port_shape) if whole else ()
    if len(shape) != 3 or min(shape) < 1:
        raise ValueError(f"port_shape is (polarisations, columns, rows), three positive integers; got {port_shape}")
    if math.prod(shape) != num_tx_ant:
        raise ValueError(
            f"port_shape {shape} folds {math.prod(shape)} ports, but the CSI has {num_tx_ant} transmit antennas; "
            "give the shape of the panel that made this CSI, or None for one line of ports"
        )
    return shape  # type: ignore[return-value]


def to_beam_delay(h: Tensor, port_shape: PortShape | None = None) -> Tensor:
    """Unitary transform of CSI to the beam-delay domain.

    An inverse DFT over subcarriers gives delay; a DFT over columns and rows of the panel gives beams. Polarisations
    and receive antennas stay as they are. Energy is kept (Parseval).

    Args:
        h: ``complex [..., slot, subcarrier, rx_ant, tx_ant]``.
        port_shape: how ``tx_ant`` folds; see the module's docstring.

    Returns:
        ``complex [..., slot, delay, rx_ant, beam]`` of the same shape, beams in the ports' order.

    Example:
        >>> h = torch.randn(2, 16, 48, 1, 32, dtype=torch.complex64)
        >>> torch.allclose(from_beam_delay(to_beam_delay(h, (2, 4, 4)), (2, 4, 4)), h, atol=1e-5)
        True
    """
    shape = check_port_shape(h.shape[TX_ANT], port_shape)
    x = torch.fft.ifft(h, dim=SUBCARRIER, norm="ortho").unflatten(-1, shape)
    return torch.fft.fft2(x, dim=(-2, -1), norm="ortho").flatten(-3)


def from_beam_delay(x: Tensor, port_shape: PortShape | None = None) -> Tensor:
    """Inverse of :func:`to_beam_delay`."""
    shape = check_port_shape(x.shape[TX_ANT], port_shape)
    h = torch.fft.ifft2(x.unflatten(-1, shape), dim=(-2, -1), norm="ortho").flatten(-3)
    return torch.fft.fft(h, dim=SUBCARRIER, norm="ortho")


def series_along(h: Tensor, axis: str, port_shape: PortShape | None = None) -> tuple[Tensor, PortShape]:
    """CSI with another axis in the place of the slots: what predicts over time then predicts over tones or antennas.

    Args:
        h: ``[..., slot, subcarrier, rx_ant, tx_ant]``.
        axis: ``"slot"`` (unchanged), ``"subcarrier"`` (slots and tones change places), or ``"column"`` (the panel's
            columns come first, slots join the receive antennas).
        port_shape: (polarisations, columns, rows) of ``tx_ant``.

    Returns:
        The view ``[..., series, *, *, *]`` and the port shape of its last axis.

    Example:
        >>> x, shape = series_along(torch.zeros(5, 2, 48, 1, 32), "column", (2, 4, 4))
        >>> x.shape, shape
        (torch.Size([5, 4, 48, 2, 8]), (2, 1, 4))
    """
    polarisations, columns, rows = check_port_shape(h.shape[TX_ANT], port_shape)
    if axis == "slot":
        return h, (polarisations, columns, rows)
    if axis == "subcarrier":
        return h.transpose(SLOT, SUBCARRIER), (polarisations, columns, rows)
    if axis == "column":
        folded = h.unflatten(TX_ANT, (polarisations, columns, rows))  # ..., slot, tone, rx, polarisation, column, row
        moved = folded.movedim((-2, -5, -6), (-6, -5, -4))  # ..., column, tone, slot, rx, polarisation, row
        return moved.flatten(-2).flatten(-3, -2), (polarisations, 1, rows)
    raise ValueError(f"axis must be slot, subcarrier or column, got {axis!r}")


def series_back(
    x: Tensor, axis: str, port_shape: PortShape | None, shape: torch.Size | tuple[int, int, int, int]
) -> Tensor:
    """Inverse of :func:`series_along`.

    Args:
        x: ``[..., series, *, *, *]``.
        axis, port_shape: as they were.
        shape: (slot, subcarrier, rx_ant, tx_ant) of the CSI.

    Example:
        >>> h = torch.randn(5, 2, 48, 1, 32)
        >>> x, _ = series_along(h, "column", (2, 4, 4))
        >>> torch.equal(series_back(x, "column", (2, 4, 4), h.shape[-4:]), h)
        True
    """
    if axis == "slot":
        return x
    if axis == "subcarrier":
        return x.transpose(SLOT, SUBCARRIER)
    if axis != "column":
        raise ValueError(f"axis must be slot, subcarrier or column, got {axis!r}")
    polarisations, _, rows = check_port_shape(shape[-1], port_shape)
    folded = x.unflatten(-1, (polarisations, rows)).unflatten(-3, (shape[0], shape[2]))
    # ..., column, tone, slot, rx, polarisation, row -> ..., slot, tone, rx, polarisation, column, row
    return folded.movedim((-6, -5, -4), (-2, -5, -6)).flatten(-3)


def mean_power(h: Tensor) -> Tensor:
    """Mean ``|h|^2`` of each link over slots, subcarriers and antennas: ``[...]`` without the last four axes."""
    return (h.real.square() + h.imag.square()).mean(dim=(SLOT, SUBCARRIER, RX_ANT, TX_ANT))


def normalise(h: Tensor) -> tuple[Tensor, Tensor]:
    """Each link scaled to unit mean power, and its scale: ``h = scale * normalised``. A zero link keeps scale 1.

    Each link is treated alone: nothing depends on its neighbours in the batch.
    """
    scale = mean_power(h).sqrt()
    scale = torch.where(scale > 0, scale, torch.ones_like(scale))[..., None, None, None, None]
    return h / scale, scale


def measure(h: Tensor, csi_snr_db: float | Tensor, generator: torch.Generator | None = None) -> Tensor:
    """Measured CSI: true CSI plus complex Gaussian noise, ``csi_snr_db`` below the link's own mean power.

    Args:
        h: true CSI of the *history* ``complex [..., slot, subcarrier, rx_ant, tx_ant]``: the noise level is relative
            to the mean power over the slots given here.
        csi_snr_db: one value, or one per link ``[...]``; ``inf`` adds nothing.
        generator: source of randomness; its seed makes the noise repeatable.

    Example:
        >>> h = torch.ones(1, 100, 48, 1, 4, dtype=torch.complex64)
        >>> noise = measure(h, 10.0, torch.Generator().manual_seed(0)) - h
        >>> round(float(mean_power(noise)), 2)
        0.1
    """
    if not h.is_complex():
        raise TypeError(f"h must be complex, got {h.dtype}; torch.complex(real, imag) joins two real tensors")
    if isinstance(csi_snr_db, str):
        raise TypeError(f"csi_snr_db must be a number or a tensor, got the text {csi_snr_db!r}")
    snr_db = torch.as_tensor(csi_snr_db, dtype=h.real.dtype, device=h.device)
    if bool(torch.isnan(snr_db).any()):
        raise ValueError("csi_snr_db is NaN; give decibels, or inf for no noise")
    variance = mean_power(h) * 10 ** (-snr_db / 10)
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
    """

    phase_std: float = 0.0
    cfo_hz: float = 0.0
    timing_std_s: float = 0.0
    missing: float = 0.0


def impair(
    h: Tensor, impairment: Impairment, *, slot_duration: float, subcarrier_spacing: float, generator=None
) -> Tensor:
    """Apply all of an :class:`Impairment` but lost slots to a history ``[..., slot, subcarrier, rx_ant, tx_ant]``."""
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


def lose_slots(
    h: Tensor, probability: float, generator: torch.Generator | None = None
) -> tuple[Tensor, Tensor]:
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
    observed = torch.rand(h.shape[: SUBCARRIER], device=h.device, generator=generator) >= probability
    observed[..., 0] = observed[..., -1] = True
    slot = torch.arange(h.shape[SLOT], device=h.device).expand_as(observed)
    before = torch.where(observed, slot, 0).cummax(-1).values
    after = torch.where(observed, slot, h.shape[SLOT] - 1).flip(-1).cummin(-1).values.flip(-1)
    share = ((slot - before) / (after - before).clamp_min(1)).to(h.real.dtype)[..., None, None, None]

    def at(index: Tensor) -> Tensor:
        return h.gather(SLOT, index[..., None, None, None].expand(h.shape))

    return torch.where(observed[..., None, None, None], h, (1 - share) * at(before) + share * at(after)), observed


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


def phase_combiner(num_pilots: int, num_tx_ant: int, generator: torch.Generator | None = None) -> Tensor:
    """Combining vectors of an array behind phase shifters ``complex64 [pilot, tx_ant]``: random phases, rows of unit
    norm. With as many pilots as antennas the rows of a DFT, which is unitary.

    Example:
        >>> phase_combiner(4, 16).abs().square().sum(-1)
        tensor([1., 1., 1., 1.])
    """
    if not 1 <= num_pilots <= num_tx_ant:
        raise ValueError(f"num_pilots is {num_pilots}, but must lie between 1 and {num_tx_ant}, the antennas")
    if num_pilots == num_tx_ant:
        return torch.fft.fft(torch.eye(num_tx_ant, dtype=torch.complex64), norm="ortho")
    phase = 2 * torch.pi * torch.rand(num_pilots, num_tx_ant, generator=generator)
    return torch.polar(torch.full_like(phase, num_tx_ant**-0.5), phase)


def dft_line(ports: int, beams: int) -> Tensor:
    """``exp(j 2 pi port beam / beams)``, ``complex64 [port, beam]``: an axis of a panel, seen from each direction."""
    angle = 2 * torch.pi * torch.outer(torch.arange(ports), torch.arange(beams)) / beams
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
    return h @ codebook.to(h.dtype)


def beam_power(h: Tensor, codebook: Tensor) -> Tensor:
    """``|h w|^2``, mean over subcarriers, sum over receive antennas: ``[..., slot, beam]``, of CSI ``h [..., slot,
    subcarrier, rx_ant, tx_ant]`` (row not conjugated) and ``codebook [tx_ant, beam]``."""
    return _through_beams(h, codebook).abs().square().sum(-2).mean(-2)


def measure_beams(h: Tensor, codebook: Tensor, noise: float, generator: torch.Generator | None = None) -> Tensor:
    """What a user reports of every beam: the mean over subcarriers of the received power of one pilot each, over the
    power of the noise in it. Where there is nothing but noise it is about 1.

    Args:
        h: ``complex [..., slot, subcarrier, rx_ant, tx_ant]``. codebook: ``complex [tx_ant, beam]``.
        noise: variance at each receive antenna and subcarrier.

    Returns:
        ``[..., slot, beam]``.
    """
    if not isinstance(noise, (int, float)) or not 0 < noise < float("inf"):
        raise ValueError(f"noise must be a positive, finite number (linear, not dB), got {noise!r}")
    heard = _through_beams(h, codebook)
    white = torch.randn(*heard.shape, 2, generator=generator, dtype=heard.real.dtype)
    heard = heard + (noise / 2) ** 0.5 * torch.view_as_complex(white)
    return heard.abs().square().mean((-3, -2)) / noise


def sweep_schedule(
    num_beams: int, beams_per_sweep: int, num_sweeps: int, generator: torch.Generator | None = None
) -> Tensor:
    """Which beams each sweep measures, ``bool [sweep, beam]``: the next ``beams_per_sweep`` of a random order, round
    and round.

    Example:
        >>> sweep_schedule(8, 2, 4).sum(0)
        tensor([1, 1, 1, 1, 1, 1, 1, 1])
    """
    for value, name in ((beams_per_sweep, "beams_per_sweep"), (num_sweeps, "num_sweeps"), (num_beams, "num_beams")):
        if not isinstance(value, int) or value < 1:
            raise ValueError(f"{name} is {value!r}, but must be a whole number of at least 1")
    if not beams_per_sweep <= num_beams:
        raise ValueError(f"beams_per_sweep is {beams_per_sweep}, but must lie between 1 and {num_beams}, the beams")
    order = torch.randperm(num_beams, generator=generator)
    taken = order[torch.arange(num_sweeps * beams_per_sweep) % num_beams].reshape(num_sweeps, beams_per_sweep)
    return torch.zeros(num_sweeps, num_beams, dtype=torch.bool).scatter_(1, taken, True)


def observe_pilots(
    h: Tensor, combiner: Tensor, noise: float | Tensor, generator: torch.Generator | None = None
) -> Tensor:
    """What the array hears of pilots: ``y = h combiner^T + n``.

    Args:
        h: ``complex [..., subcarrier, tx_ant]``. combiner: ``complex [pilot, tx_ant]``.
        noise: variance of each pilot, broadcastable against ``[...]``.

    Returns:
        ``complex [..., subcarrier, pilot]``.
    """
    if combiner.dim() != 2 or h.shape[-1] != combiner.shape[-1]:
        raise ValueError(f"combiner {tuple(combiner.shape)} must be [pilot, tx_ant], for h {tuple(h.shape)}")
    if not bool((torch.as_tensor(noise) >= 0).all()):
        given = torch.as_tensor(noise).flatten()[:3].tolist()
        raise ValueError(f"noise must not be negative (linear, not dB), got {given}")
    clean = h @ combiner.mT
    white = torch.randn(*clean.shape, 2, generator=generator, dtype=clean.real.dtype)
    level = (torch.as_tensor(noise, dtype=clean.real.dtype) / 2).sqrt()[..., None, None]
    return clean + level * torch.view_as_complex(white)
