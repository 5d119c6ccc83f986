"""Recordings of Wi-Fi receivers, as the tools PicoScenes, Nexmon and the ESP32 CSI toolkit write them.

Example recordings of every kind ship with the public project CSIKit (https://github.com/Gi-z/CSIKit, MIT licence). Its
binary files become the arrays that are read here with the package ``csiread``:

- Intel 5300 and AX200 through PicoScenes: ``.npz`` with ``csi [packet, tone, tx, rx]``, ``subcarrier_index [tone]``,
  ``timestamp_us [packet]``;
- Broadcom through Nexmon: ``.npz`` with ``csi [packet, tone]``, tones in FFT order, and ``time_s [packet]``;
- ESP32: ``.csv`` with a column ``CSI_DATA`` of pairs (imaginary, real) for 64 tones in FFT order.

A receiver adds a phase and a timing offset of its own to every packet, and its automatic gain control scales it.
:func:`align` removes all three. The true channel of such a recording is not known.
"""

from __future__ import annotations

import csv
import math
import zipfile
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from airlam.interfaces import StoreError

LIVE_POWER = 1e-3  # a tone with less of the strongest tone's mean power is a guard tone or an empty channel
ESP32_TONES = 64
ESP32_INVALID = 2  # the first two pairs of a packet are not CSI (the driver's first_word_invalid)


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


def read_recording(path: str | Path) -> Recording:
    """Read a recording; the kind follows from the file's content.

    Args:
        path: a ``.npz`` of PicoScenes or Nexmon arrays, or a ``.csv`` of the ESP32 toolkit (see the module's text).

    Raises:
        StoreError: the file is missing, of another kind, or damaged.

    Example:
        >>> import tempfile, numpy as np
        >>> rng = np.random.default_rng(0)
        >>> file = Path(tempfile.mkdtemp()) / "capture.npz"
        >>> np.savez(file, csi=rng.normal(size=(20, 64)) + 1j, time_s=np.arange(20) / 10)
        >>> read_recording(file).csi.shape
        torch.Size([20, 64, 1, 1])
    """
    path = Path(path).expanduser()
    if not path.is_file():
        raise StoreError(f"no recording {path}")
    if path.suffix == ".csv":
        return _read_esp32(path)
    if path.suffix != ".npz":
        raise StoreError(f"{path} is neither .npz (PicoScenes, Nexmon) nor .csv (ESP32)")
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise StoreError(f"{path} cannot be read as .npz arrays without pickled objects: {error}") from error
    csi = arrays.get("csi")
    if csi is None or csi.ndim not in (2, 4) or 0 in csi.shape or csi.dtype.kind not in "cfiu":
        found = "no array csi" if csi is None else f"csi {csi.dtype} {list(csi.shape)}"
        raise StoreError(f"{path} has {found}; csi must be [packet, tone, tx, rx] or [packet, tone]")
    if csi.ndim == 2:
        tones, times, receiver = _fft_order(csi.shape[1]), arrays.get("time_s"), "Nexmon"
        csi = csi[:, :, None, None]
    else:
        tones, times, receiver = arrays.get("subcarrier_index"), arrays.get("timestamp_us"), "PicoScenes"
        if tones is None or tones.shape != csi.shape[1:2]:
            raise StoreError(f"{path} has csi of {csi.shape[1]} tones, but no subcarrier_index of that length")
        times = None if times is None else times * 1e-6
    return _recording(path, csi, times, tones, receiver)


def _fft_order(count: int) -> np.ndarray:
    """Subcarrier numbers of FFT bins: 0, 1, ..., -2, -1."""
    return np.fft.fftfreq(count, 1 / count).round().astype(np.int64)


def _read_esp32(path: Path) -> Recording:
    packets, times, skipped = [], [], 0
    try:
        with path.open(encoding="utf-8", newline="") as file:
            reader = csv.DictReader(file)
            if reader.fieldnames is None or not {"CSI_DATA", "real_timestamp"} <= set(reader.fieldnames):
                raise StoreError(f"{path} has no columns CSI_DATA and real_timestamp, as the ESP32 toolkit writes them")
            for row in reader:
                try:
                    values = [int(value) for value in (row["CSI_DATA"] or "").strip("[] ").split()]
                    time = float(row["real_timestamp"])
                except (TypeError, ValueError):
                    values = []
                if len(values) != 2 * ESP32_TONES:  # rows are cut where the serial line lost bytes
                    skipped += 1
                    continue
                packets.append(values)
                times.append(time)
    except (csv.Error, UnicodeDecodeError) as error:
        raise StoreError(f"{path} cannot be read as the ESP32 toolkit's .csv: {error}") from error
    if not packets:
        raise StoreError(f"{path} has no row with {ESP32_TONES} tones ({2 * ESP32_TONES} numbers) in CSI_DATA")
    pairs = np.asarray(packets, np.float32).reshape(len(packets), ESP32_TONES, 2)
    csi = (pairs[..., 1] + 1j * pairs[..., 0])[:, ESP32_INVALID:, None, None]
    notes = [f"{skipped} rows without {ESP32_TONES} whole tones were left out."] if skipped else []
    return _recording(path, csi, np.asarray(times), _fft_order(ESP32_TONES)[ESP32_INVALID:], "ESP32", notes)


def _recording(path, csi, times, tones, receiver, notes=()) -> Recording:
    """Arrays ``csi [packet, tone, tx, rx]`` as a :class:`Recording`: live tones and antennas, tones in rising order."""
    notes = list(notes)
    if not np.isfinite(csi).all():
        raise StoreError(f"{path} holds NaN or infinity in csi")
    csi = csi.transpose(0, 1, 3, 2).astype(np.complex64)  # [packet, tone, rx, tx]
    power = np.square(np.abs(csi)).mean(0)
    if not power.any():
        raise StoreError(f"{path} holds zeros only")
    first = np.zeros(len(tones), bool)
    first[np.unique(tones, return_index=True)[1]] = True  # a tone's number stands once; PicoScenes pads with repeats
    live = first & (power.sum((1, 2)) > LIVE_POWER * power.sum((1, 2)).max())
    rx, tx = power.sum((0, 2)) > 0, power.sum((0, 1)) > 0
    heard = np.square(np.abs(csi[:, live])).sum((1, 2, 3)) > 0
    for kind, kept in (("tones", live), ("receive antennas", rx), ("transmit antennas", tx), ("packets", heard)):
        if not kept.all():
            notes.append(f"{int((~kept).sum())} of {len(kept)} {kind} hold no signal and were left out.")
    order = np.flatnonzero(live)[np.argsort(tones[live])]
    csi = csi[np.ix_(heard, order, rx, tx)]
    if times is not None and times.shape != heard.shape:
        raise StoreError(f"{path} has {len(heard)} packets but times of shape {list(times.shape)}")
    if times is None or not np.isfinite(times).all() or np.ptp(times) == 0:
        notes.append("Arrival times are missing: packets are taken in order, as if equally spaced.")
        time_s = None
    else:
        time_s = torch.from_numpy(np.ascontiguousarray(times[heard], dtype=np.float64))
    tones = torch.from_numpy(np.ascontiguousarray(tones[order], dtype=np.int64))
    return Recording(torch.from_numpy(np.ascontiguousarray(csi)), time_s, tones, receiver, tuple(notes))


def align(recording: Recording, num_reference: int = 16, *, timing: bool = True) -> Recording:
    """Remove each packet's common phase, timing offset and gain.

    Packet ``h_p[f, r]`` becomes ``g h_p[f, r] exp(-j (a + b k_f))`` with subcarrier numbers ``k_f``. ``b`` and ``a``
    maximise the real part of its inner product with a reference; one pair serves all antennas, because they share an
    oscillator. The gain ``g`` makes the packet's mean power 1, so a fade that all tones and antennas share is removed
    along with the automatic gain. The reference is the mean of the first ``num_reference`` packets, aligned to the
    first one: later packets never change earlier ones.

    Args:
        recording: as :func:`read_recording` returns it.
        num_reference: packets that make the reference, at least 1.
        timing: ``False`` leaves the timing offsets in: only phase and gain are removed.

    Example:
        >>> h = torch.randn(1, 8, 1, 1, dtype=torch.complex64).expand(4, -1, -1, -1)
        >>> turned = h * torch.polar(torch.arange(1.0, 5.0), torch.arange(4.0))[:, None, None, None]
        >>> even = align(Recording(turned, None, torch.arange(8), "made up")).csi
        >>> bool((even - even[:1]).abs().max() < 1e-4)
        True
    """
    if num_reference < 1:
        raise ValueError(f"num_reference must be at least 1, got {num_reference}")
    csi = recording.csi
    csi = csi / csi.abs().square().mean((1, 2, 3), keepdim=True).sqrt()
    start = _turned(csi[:num_reference], csi[0], recording.tones, timing)
    return replace(recording, csi=_turned(csi, start.mean(0), recording.tones, timing))


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
