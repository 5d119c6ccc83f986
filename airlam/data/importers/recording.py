"""What an importer returns, and what is done with it: packets aligned, and cut into windows."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar

import torch
from torch import Tensor


@dataclass(frozen=True)
class Recording:
    """What one receiver recorded.

    Attributes:
        csi: ``complex64 [packet, subcarrier, rx_ant, tx_ant]``: guard tones and antennas without a signal are left out.
        time_s: ``float64 [packet]``, arrival times in seconds; ``None`` where the recording holds none.
        tones: ``int64 [subcarrier]``, subcarrier numbers, counted from the centre of the recorded band.
        receiver: the receiver and the tool.
        notes: what was left out or is missing, one sentence each.
    """

    csi: Tensor
    time_s: Tensor | None
    tones: Tensor
    receiver: str
    notes: tuple[str, ...] = ()


class Importer:
    """Reads the recordings of one format. A subclass has a ``name`` and :meth:`read`.

    Attributes:
        name: of the format, as ``read_recording(path, name)`` and ``IMPORTERS.register`` take it.
        suffixes: of files that are taken for this format where none is named, such as ``(".npz",)``.
    """

    name: ClassVar[str] = ""
    suffixes: ClassVar[tuple[str, ...]] = ()

    def read(self, path: Path) -> Recording:
        """The recording in a file that exists.

        Raises:
            StoreError: the file is of another format, or damaged.
        """
        raise NotImplementedError(f"{type(self).__name__} must bring read(path)")


def align(recording: Recording, num_reference: int = 16, *, timing: bool = True, gain: bool = True) -> Recording:
    """Remove each packet's common phase, timing offset and gain.

    Packet ``h_p[f, r]`` becomes ``g h_p[f, r] exp(-j (a + b k_f))`` with subcarrier numbers ``k_f``. ``b`` and ``a``
    maximise the real part of its inner product with a reference; one pair serves all antennas, because they share an
    oscillator. The gain ``g`` makes the packet's mean power 1, so a fade that all tones and antennas share is removed
    along with the automatic gain. The reference is the mean of the first ``num_reference`` packets, aligned to the
    first one: later packets never change earlier ones.

    Args:
        recording: as :func:`read_recording` returns it.
        num_reference: packets that make the reference, at least 1.
        timing: ``False`` leaves the timing offsets in.
        gain: ``False`` leaves the gains in: each packet keeps its power.

    Example:
        >>> h = torch.randn(1, 8, 1, 1, dtype=torch.complex64).expand(4, -1, -1, -1)
        >>> turned = h * torch.polar(torch.arange(1.0, 5.0), torch.arange(4.0))[:, None, None, None]
        >>> even = align(Recording(turned, None, torch.arange(8), "made up")).csi
        >>> bool((even - even[:1]).abs().max() < 1e-4)
        True
    """
    if num_reference < 1:
        raise ValueError(f"num_reference must be at least 1, got {num_reference}")
    power = recording.csi.abs().square().mean((1, 2, 3), keepdim=True)
    csi = recording.csi / power.sqrt()
    start = _turned(csi[:num_reference], csi[0], recording.tones, timing)
    turned = _turned(csi, start.mean(0), recording.tones, timing)
    return replace(recording, csi=turned if gain else turned * power.sqrt())


def _turned(csi: Tensor, reference: Tensor, tones: Tensor, timing: bool) -> Tensor:
    """``csi [packet, tone, rx, tx]`` with the phase ramp removed that separates each packet from ``reference``."""
    product = (csi * reference.conj()).sum((2, 3)).to(torch.complex128)  # [packet, tone]
    if not timing:
        return csi * torch.sgn(product.sum(1)).conj()[:, None, None, None].to(csi.dtype)
    place = tones - tones.min()
    size = 8 * 2 ** math.ceil(math.log2(int(place.max()) + 2))  # slopes at an eighth of what the band resolves
    padded = product.new_zeros(len(csi), size).index_copy(1, place, product)
    slope = 2 * math.pi * torch.fft.fft(padded).abs().argmax(1).double() / size
    place = place.double()
    for _ in range(3):  # Newton's steps on |sum_f product exp(-j slope f)|^2, from within a sixteenth of the main lobe
        terms = product * torch.polar(torch.ones_like(slope)[:, None], -slope[:, None] * place)
        s0, s1, s2 = terms.sum(1), (terms * -1j * place).sum(1), (terms * -place.square()).sum(1)
        first = 2 * (s0.conj() * s1).real
        second = 2 * (s1.abs().square() + (s0.conj() * s2).real)
        slope = slope - torch.where(second < 0, first / second.clamp(max=-1e-30), torch.zeros_like(first))
    ramp = torch.polar(torch.ones_like(slope)[:, None], -slope[:, None] * place)
    ramp = ramp * torch.sgn((product * ramp).sum(1, keepdim=True)).conj()
    return csi * ramp[:, :, None, None].to(csi.dtype)


def windows(csi: Tensor, history: int, horizon: int, step: int = 4) -> tuple[Tensor, Tensor]:
    """Runs of consecutive packets: histories, and the packets that follow each.

    Args:
        csi: ``[packet, subcarrier, rx_ant, tx_ant]``.
        history, horizon: packets seen, and packets to predict.
        step: packets from the start of one window to the next.

    Returns:
        ``[window, history, subcarrier, rx_ant, tx_ant]``, ``[window, horizon, subcarrier, rx_ant, tx_ant]``.

    Raises:
        ValueError: the recording is too short for one window.

    Example:
        >>> past, future = windows(torch.zeros(100, 8, 1, 1, dtype=torch.complex64), 16, 4)
        >>> past.shape, future.shape
        (torch.Size([21, 16, 8, 1, 1]), torch.Size([21, 4, 8, 1, 1]))
    """
    if len(csi) < history + horizon:
        raise ValueError(f"{len(csi)} packets are too few for a window of {history} + {horizon}")
    runs = csi.unfold(0, history + horizon, step).movedim(-1, 1)
    return runs[:, :history], runs[:, history:]
