"""Captures as the Intel 5300 and Nexmon tools write them, decoded by the package ``csiread`` (``airlam[csiread]``).

The files are walked here first, record by record: ``csiread`` trusts the lengths that a file states.
"""

from __future__ import annotations

import struct
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import numpy as np

from airlam.data.importers.recording import Importer, Recording
from airlam.data.importers.wifi import fft_order, recording_of
from airlam.errors import StoreError

BFEE, BFEE_HEADER = 0xBB, 20  # code of a record with CSI, and the bytes of its header
HT40 = 0x800  # bit of the rate: 40 MHz
# subcarriers of the 30 groups (IEEE 802.11n-2009, table 7-25f)
TONES_20 = [*range(-28, -1, 2), -1, *range(1, 28, 2), 28]
TONES_40 = range(-58, 59, 4)
CLOCK = 2**32  # microseconds until the clock starts again
NEXMON_HEADERS = 60  # Ethernet, IP, UDP: 42 bytes; Nexmon's own: 18
CHIPS = {0x0001: "4339", 0x0065: "43455c0", 0x0003: "4358", 0xDEAD: "4358", 0x006A: "4366c0", 0xE834: "4366c0"}
PCAP = {b"\xd4\xc3\xb2\xa1": "<", b"\x4d\x3c\xb2\xa1": "<", b"\xa1\xb2\xc3\xd4": ">", b"\xa1\xb2\x3c\x4d": ">"}


class Intel5300(Importer):
    """A ``.dat`` of the Linux 802.11n CSI Tool: records ``bfee`` of 30 groups of tones.

    Packets with another number of antennas or another bandwidth than most are left out. The gain control is not undone:
    what counts is what :func:`airlam.data.importers.align` leaves.
    """

    name = "intel5300"
    suffixes = (".dat",)

    def read(self, path: Path) -> Recording:
        csiread = _csiread(path)
        kinds = list(_bfee_records(path, path.read_bytes()))
        if not kinds:
            raise StoreError(f"{path} holds no record with CSI (bfee) of the Linux 802.11n CSI Tool")
        found = csiread.Intel(str(path), nrxnum=3, ntxnum=3, if_report=False)
        found.read()
        if found.count != len(kinds):
            raise StoreError(
                f"{path} has {len(kinds)} records with CSI, but csiread finds {found.count}: it is damaged"
            )
        (rx, tx, wide), count = Counter(kinds).most_common(1)[0]
        kept = np.array([kind == (rx, tx, wide) for kind in kinds])
        notes = [] if kept.all() else [f"{len(kinds) - count} packets of other antennas or bandwidth were left out."]
        csi = found.csi[kept][:, :, :rx, :tx].transpose(0, 1, 3, 2)
        times = np.unwrap(found.timestamp_low[kept].astype(np.float64), period=CLOCK) * 1e-6
        tones = np.array(TONES_40 if wide else TONES_20)
        return recording_of(path, csi, times, tones, "Intel 5300", notes)


class Nexmon(Importer):
    """A ``.pcap`` of Nexmon; chip and bandwidth follow from the first packet, others are left out.

    Packets of several cores or spatial streams stay one after the other, as they came.
    """

    name = "nexmon"
    suffixes = (".pcap",)

    def read(self, path: Path) -> Recording:
        csiread = _csiread(path)
        kinds, every = _nexmon_packets(path, path.read_bytes())
        (size, version), count = Counter(kinds).most_common(1)[0]
        if version not in CHIPS:
            raise StoreError(f"{path} has CSI of a chip {version:#06x}; csiread knows {', '.join(CHIPS.values())}")
        # csiread writes into its buffer before it looks at the packet: one place more
        found = csiread.Nexmon(str(path), CHIPS[version], round(size / 3.2), if_report=False, bufsize=every + 1)
        found.read()
        if found.count != len(kinds):
            raise StoreError(
                f"{path} has {len(kinds)} packets with CSI, but csiread finds {found.count}: it is damaged"
            )
        kept = np.array([kind == (size, version) for kind in kinds])
        notes = [] if kept.all() else [f"{len(kinds) - count} packets of another chip or bandwidth were left out."]
        streams = len(set(zip(found.core[kept], found.spatial[kept], strict=True)))
        notes += [f"Packets of {streams} cores and spatial streams follow each other."] if streams > 1 else []
        times = found.sec[kept] + found.usec[kept] * (1e-9 if found.nano else 1e-6)
        csi = found.csi[kept][:, :, None, None]
        return recording_of(path, csi, times, fft_order(size), f"Nexmon {CHIPS[version]}", notes)


def _csiread(path: Path) -> ModuleType:
    try:
        import csiread
    except ImportError as error:
        raise StoreError(f"{path} needs the package csiread; pip install 'airlam[csiread]'") from error
    return csiread


def _bfee_records(path: Path, data: bytes) -> Iterator[tuple[int, int, bool]]:
    """(receive antennas, transmit antennas, whether 40 MHz) of each record with CSI; a cut last one is left out."""
    place = 0
    while place + 3 <= len(data):
        length, code = struct.unpack_from(">HB", data, place)
        end = place + 2 + length
        if length < 1:
            raise StoreError(f"{path} has a record of length 0 at byte {place}: it is no file of the 802.11n CSI Tool")
        if end > len(data):
            return
        if code == BFEE:
            body = data[place + 3 : end]
            rx, tx = (body[8], body[9]) if len(body) >= BFEE_HEADER else (0, 0)
            size, rate = struct.unpack_from("<HH", body, 16) if rx else (0, 0)
            expected = (30 * (rx * tx * 16 + 3) + 7) // 8
            if not (1 <= rx <= 3 and 1 <= tx <= 3 and size == expected == len(body) - BFEE_HEADER):
                raise StoreError(f"{path} has a damaged record with CSI at byte {place}")
            yield rx, tx, bool(rate & HT40)
        place = end


def _nexmon_packets(path: Path, data: bytes) -> tuple[list[tuple[int, int]], int]:
    """(tones, chip) of each packet with CSI, and the number of all packets."""
    order = PCAP.get(data[:4])
    if order is None:
        raise StoreError(f"{path} is no .pcap file (it begins with {data[:4].hex() or 'nothing'})")
    kinds, every, place = [], 0, 24
    while place + 16 <= len(data):
        (length,) = struct.unpack_from(order + "I", data, place + 8)
        packet = data[place + 16 : place + 16 + length]
        place, every = place + 16 + length, every + 1
        if packet[6:12] != b"NEXMON":
            continue
        tones, rest = divmod(len(packet) - NEXMON_HEADERS, 4)
        if len(packet) < length or rest or tones not in (64, 128, 256):
            raise StoreError(
                f"{path} has a packet of {len(packet)} bytes with CSI; {NEXMON_HEADERS} and 4 for each of 64, 128 or "
                "256 tones are expected: it is damaged, or cut"
            )
        kinds.append((tones, struct.unpack_from("<H", packet, NEXMON_HEADERS - 2)[0]))
    if not kinds:
        raise StoreError(f"{path} holds no packet with CSI of Nexmon among {every}")
    return kinds, every
