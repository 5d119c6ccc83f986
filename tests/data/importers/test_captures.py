"""Captures of Intel 5300 and Nexmon, written here byte by byte and decoded by csiread."""

import os
import struct
from pathlib import Path

import numpy as np
import pytest
import torch

from airlam.data.importers import read_recording
from airlam.errors import StoreError

pytest.importorskip("csiread", reason="csiread is not installed (pip install 'airlam[csiread]')")
MEASURED = os.environ.get("AIRLAM_MEASURED_DIR")


def whole_numbers(seed: int, largest: int, *shape: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    real, imag = rng.integers(-largest, largest + 1, (2, *shape))
    return real + 1j * imag


def bfee(csi: np.ndarray, time_us: int, rate: int = 0x100, antennas: int = 0b100100) -> bytes:
    """One record of ``csi [30, rx, tx]``: before the numbers of a group three bits are left out."""
    bits, place = 0, 0
    for group in csi:
        place += 3
        for value in group.flatten():
            for part in (int(value.real), int(value.imag)):
                bits |= (part & 0xFF) << place
                place += 8
    payload = bits.to_bytes((place + 7) // 8, "little")
    head = struct.pack("<IHH", time_us, 0, 0) + bytes([*csi.shape[1:], 30, 30, 30, 160, 40, antennas])
    body = head + struct.pack("<HH", len(payload), rate) + payload
    return struct.pack(">HB", len(body) + 1, 0xBB) + body


def nexmon(rows: list[np.ndarray], chip: int = 0x0065, mac: bytes = b"NEXMON") -> bytes:
    """A capture of int16 pairs, a second and 100 ms apart, with a foreign packet in front."""
    out = struct.pack("<IHHIIII", 0xA1B2C3D4, 2, 4, 0, 0, 65535, 1)
    packets = [b"\x01" * 80]
    for number, row in enumerate(rows):
        pairs = np.stack([row.real, row.imag], -1).astype("<i2").tobytes()
        head = struct.pack("<I6sHHHH", 0x11111111, b"\x02" * 6, number, 0, 0x1001, chip)
        packets.append(bytes(6) + mac + bytes(30) + head + pairs)
    for number, packet in enumerate(packets):
        out += struct.pack("<IIII", 5, 100_000 * number, len(packet), len(packet)) + packet
    return out


def put(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path


def test_intel_5300(tmp_path):
    csi = whole_numbers(0, 100, 4, 30, 3, 2)  # [packet, group, rx, tx]
    times = [2**32 - 1000, 1000, 3000, 6000]  # the clock starts again
    records = [bfee(each, time) for each, time in zip(csi, times, strict=True)]
    records.insert(2, struct.pack(">HB", 5, 0xC1) + b"none")  # a record of another kind
    records.insert(3, bfee(csi[0, :, :2, :1], 2000))
    found = read_recording(put(tmp_path / "x.dat", b"".join(records) + records[0][:50]))
    torch.testing.assert_close(found.csi, torch.from_numpy(csi.astype(np.complex64)))
    assert found.time_s.diff().tolist() == pytest.approx([0.002, 0.002, 0.003])
    assert found.tones.tolist() == [*range(-28, -1, 2), -1, *range(1, 28, 2), 28] and found.receiver == "Intel 5300"
    assert found.notes == ("1 packets of other antennas or bandwidth were left out.",)


def test_intel_5300_at_40_mhz(tmp_path):
    csi = whole_numbers(1, 100, 3, 30, 1, 1)
    data = b"".join(bfee(each, 1000 * number, rate=0x900) for number, each in enumerate(csi))
    assert read_recording(put(tmp_path / "x.dat", data)).tones.tolist() == list(range(-58, 59, 4))


def test_nexmon(tmp_path):
    csi = whole_numbers(2, 2000, 5, 64)
    found = read_recording(put(tmp_path / "x.pcap", nexmon(list(csi))))
    torch.testing.assert_close(found.csi[:, :, 0, 0], torch.from_numpy(np.fft.fftshift(csi, 1).astype(np.complex64)))
    assert found.tones.tolist() == list(range(-32, 32)) and found.receiver == "Nexmon 43455c0" and not found.notes
    assert found.time_s.tolist() == pytest.approx([5.1, 5.2, 5.3, 5.4, 5.5])


def test_nexmon_packets_of_another_bandwidth(tmp_path):
    wide = whole_numbers(3, 2000, 3, 128)
    found = read_recording(put(tmp_path / "x.pcap", nexmon([whole_numbers(4, 2000, 64), *wide])))
    assert found.csi.shape == (3, 128, 1, 1) and found.notes[0].startswith("1 packets of another chip or bandwidth")


ONE = bfee(whole_numbers(5, 100, 30, 1, 1), 0)
CAPTURE = nexmon([whole_numbers(6, 2000, 64)])


@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        ("x.dat", b"", "holds no record with CSI"),
        ("x.dat", bytes(100), "record of length 0 at byte 0"),
        ("x.dat", ONE[:11] + b"\x09" + ONE[12:], "damaged record with CSI at byte 0"),
        ("x.dat", struct.pack(">HB", 4, 0xBB) + b"abc", "damaged record with CSI at byte 0"),
        ("x.pcap", b"", "is no .pcap file"),
        ("x.pcap", b"garbage", "is no .pcap file"),
        ("x.pcap", CAPTURE[:24], "holds no packet with CSI of Nexmon among 0"),
        ("x.pcap", nexmon([whole_numbers(6, 2000, 64)], mac=b"others"), "no packet with CSI of Nexmon among 2"),
        ("x.pcap", CAPTURE[:-10], "a packet of 306 bytes with CSI"),
        ("x.pcap", nexmon([whole_numbers(6, 2000, 2000)]), "a packet of 8060 bytes with CSI"),
        ("x.pcap", nexmon([whole_numbers(6, 2000, 64)], chip=0x7777), "chip 0x7777; csiread knows"),
    ],
)
def test_damaged_captures_are_refused_in_one_line(tmp_path, name, data, message):
    with pytest.raises(StoreError, match=message) as caught:
        read_recording(put(tmp_path / name, data))
    assert "\n" not in str(caught.value)


@pytest.mark.skipif(not MEASURED, reason="AIRLAM_MEASURED_DIR names no folder with recordings (see docs/measured.md)")
def test_a_real_intel_5300():
    found = read_recording(Path(MEASURED) / "intel5300.dat")
    assert found.csi.shape == (26, 30, 3, 2) and found.receiver == "Intel 5300"
    assert float(found.csi.abs().amax()) <= 128 * 2**0.5  # int8
    assert (found.time_s.diff() > 0).all()
