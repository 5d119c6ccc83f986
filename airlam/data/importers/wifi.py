"""Recordings of Wi-Fi receivers, as the tools PicoScenes, Nexmon and the ESP32 CSI toolkit write them.

Example recordings of every kind ship with the public project CSIKit (https://github.com/Gi-z/CSIKit, MIT licence). Its
binary files become the arrays that are read here with the package ``csiread`` (those of Intel's and Nexmon's own tools
are read directly, too: :mod:`airlam.data.importers.captures`):

- Intel 5300 and AX200 through PicoScenes: ``.npz`` with ``csi [packet, tone, tx, rx]``, ``subcarrier_index [tone]``,
  ``timestamp_us [packet]``;
- Broadcom through Nexmon: ``.npz`` with ``csi [packet, tone]``, tones in FFT order, and ``time_s [packet]``;
- ESP32: ``.csv`` with a column ``CSI_DATA`` of pairs (imaginary, real) for 64 tones in FFT order.

A receiver adds a phase and a timing offset of its own to every packet, and its automatic gain control scales it.
:func:`airlam.data.importers.align` removes all three. The true channel of such a recording is not known.
"""

from __future__ import annotations

import csv
import zipfile
from pathlib import Path

import numpy as np
import torch

from airlam.data.importers.recording import Importer, Recording
from airlam.errors import StoreError

LIVE_POWER = 1e-3  # a tone with less of the strongest tone's mean power is a guard tone or an empty channel
ESP32_TONES = 64
ESP32_INVALID = 2  # the first two pairs of a packet are not CSI (the driver's first_word_invalid)


class WifiArrays(Importer):
    """A ``.npz`` of PicoScenes or Nexmon arrays; which of the two follows from the axes of ``csi``."""

    name = "wifi-arrays"
    suffixes = (".npz",)

    def read(self, path: Path) -> Recording:
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
            tones, times, receiver = fft_order(csi.shape[1]), arrays.get("time_s"), "Nexmon"
            csi = csi[:, :, None, None]
        else:
            tones, times, receiver = arrays.get("subcarrier_index"), arrays.get("timestamp_us"), "PicoScenes"
            if tones is None or tones.shape != csi.shape[1:2]:
                raise StoreError(f"{path} has csi of {csi.shape[1]} tones, but no subcarrier_index of that length")
            times = None if times is None else times * 1e-6
        return recording_of(path, csi, times, tones, receiver)


class Esp32(Importer):
    """A ``.csv`` of the ESP32 CSI toolkit."""

    name = "esp32"
    suffixes = (".csv",)

    def read(self, path: Path) -> Recording:
        packets, times, skipped = [], [], 0
        try:
            with path.open(encoding="utf-8", newline="") as file:
                reader = csv.DictReader(file)
                if reader.fieldnames is None or not {"CSI_DATA", "real_timestamp"} <= set(reader.fieldnames):
                    raise StoreError(
                        f"{path} has no columns CSI_DATA and real_timestamp, as the ESP32 toolkit writes them"
                    )
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
        return recording_of(path, csi, np.asarray(times), fft_order(ESP32_TONES)[ESP32_INVALID:], "ESP32", notes)


def fft_order(count: int) -> np.ndarray:
    """Subcarrier numbers of FFT bins: 0, 1, ..., -2, -1."""
    return np.fft.fftfreq(count, 1 / count).round().astype(np.int64)


def recording_of(path, csi, times, tones, receiver, notes=()) -> Recording:
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
