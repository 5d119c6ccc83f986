"""The reader of Wi-Fi recordings: every format, what is left out, and the alignment of packets."""

import os
from pathlib import Path

import numpy as np
import pytest
import torch

from airlam.data.importers import Recording, align, read_recording, windows
from airlam.errors import StoreError

MEASURED = os.environ.get("AIRLAM_MEASURED_DIR")
measured = pytest.mark.skipif(
    not MEASURED, reason="AIRLAM_MEASURED_DIR names no folder with recordings (see docs/measured.md)"
)


def numbers(seed: int, *shape: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return (rng.normal(size=shape) + 1j * rng.normal(size=shape)).astype(np.complex64)


def picoscenes(path: Path, csi: np.ndarray, **change) -> Path:
    tones = np.arange(-2, csi.shape[1] - 2)
    arrays = {"csi": csi, "subcarrier_index": tones, "timestamp_us": 1000 * np.arange(len(csi))} | change
    np.savez(path, **{name: value for name, value in arrays.items() if value is not None})
    return path


def test_picoscenes_axes_and_times(tmp_path):
    csi = numbers(0, 5, 6, 2, 3)  # [packet, tone, tx, rx]
    found = read_recording(picoscenes(tmp_path / "x.npz", csi))
    torch.testing.assert_close(found.csi, torch.from_numpy(csi.transpose(0, 1, 3, 2)))
    assert found.time_s.tolist() == pytest.approx([0.0, 1e-3, 2e-3, 3e-3, 4e-3])
    assert found.tones.tolist() == [-2, -1, 0, 1, 2, 3] and found.notes == () and found.receiver == "PicoScenes"


def test_missing_times_are_said(tmp_path):
    csi = numbers(1, 4, 3, 1, 1)
    for times in (np.zeros(4, np.int64), None):
        found = read_recording(picoscenes(tmp_path / "x.npz", csi, timestamp_us=times))
        assert found.time_s is None and "times are missing" in found.notes[0]


def test_what_holds_no_signal_is_left_out_and_said(tmp_path):
    csi = numbers(2, 8, 6, 1, 3)
    csi[..., 1] = 0  # an antenna that is not connected
    csi[:, 4] *= 1e-3  # a guard tone, 60 dB down
    csi[3] = 0  # a lost packet
    tones = np.array([5, 4, 3, 2, 1, 5])  # the last one is padding: number 5 stands already
    found = read_recording(picoscenes(tmp_path / "x.npz", csi, subcarrier_index=tones))
    assert found.csi.shape == (7, 4, 2, 1) and found.tones.tolist() == [2, 3, 4, 5] and len(found.time_s) == 7
    torch.testing.assert_close(found.csi[0, :, 1, 0], torch.from_numpy(csi[0, [3, 2, 1, 0], 0, 2]))
    said = [note.split(" hold")[0] for note in found.notes]
    assert said == ["2 of 6 tones", "1 of 3 receive antennas", "1 of 8 packets"]


def test_nexmon_tones_come_in_fft_order(tmp_path):
    csi = numbers(3, 4, 8)
    np.savez(tmp_path / "x.npz", csi=csi, time_s=np.arange(4) * 0.1)
    found = read_recording(tmp_path / "x.npz")
    assert found.tones.tolist() == [-4, -3, -2, -1, 0, 1, 2, 3]
    torch.testing.assert_close(found.csi[:, :, 0, 0], torch.from_numpy(np.fft.fftshift(csi, 1)))


def esp32(path: Path, rows: list[np.ndarray], *, damaged: int = 0) -> Path:
    """Rows ``complex [64]`` in FFT order, and ``damaged`` rows cut in the middle."""
    lines = ["type,real_timestamp,len,CSI_DATA"]
    for place, row in enumerate(rows):
        pairs = " ".join(f"{int(x.imag)} {int(x.real)}" for x in row)
        lines.append(f"CSI_DATA,{0.01 * place},128,[{pairs} ]")
    lines += ["CSI_DATA,0.5,128,[1 2 3"] * damaged
    path.write_text("\n".join(lines) + "\n")
    return path


def test_esp32_pairs_are_imaginary_then_real(tmp_path):
    rows = np.round(20 * numbers(4, 3, 64))
    rows[:, :2] = 38 + 96j  # what the driver leaves in the first two pairs
    rows[:, 27:38] = 0  # guard tones
    found = read_recording(esp32(tmp_path / "x.csv", list(rows), damaged=2))
    assert found.tones.tolist() == [*range(-26, 0), *range(2, 27)]
    rising = np.concatenate([rows[:, 38:], rows[:, 2:27]], 1)
    torch.testing.assert_close(found.csi[:, :, 0, 0], torch.from_numpy(rising))
    assert found.notes[0].startswith("2 rows without 64 whole tones") and found.time_s.tolist() == [0.0, 0.01, 0.02]


def _arrays(path: Path, **arrays: np.ndarray) -> Path:
    np.savez(path, **arrays)
    return path


def _text(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda p: p / "absent.npz", "no recording"),
        (lambda p: _text(p / "x.bin", "?"), "no importer takes; name one of wifi-arrays .*, nexmon"),
        (lambda p: _text(p / "x.npz", "not a zip file"), "cannot be read as .npz"),
        (lambda p: _text(p / "x.csv", "a,b\n1,2\n"), "no columns CSI_DATA"),
        (lambda p: _text(p / "x.csv", "real_timestamp,CSI_DATA\n1,[3 4]\n"), "no row with 64 tones"),
        (lambda p: _arrays(p / "x.npz", other=np.ones(3)), "no array csi"),
        (lambda p: _arrays(p / "x.npz", csi=numbers(0, 4, 3, 1)), r"complex64 \[4, 3, 1\]"),
        (lambda p: picoscenes(p / "x.npz", numbers(0, 4, 3, 1, 1), subcarrier_index=np.arange(2)), "3 tones, but no"),
        (lambda p: picoscenes(p / "x.npz", numbers(0, 4, 3, 1, 1), timestamp_us=np.arange(3)), "4 packets but times"),
        (lambda p: picoscenes(p / "x.npz", np.zeros((4, 3, 1, 1))), "zeros only"),
        (lambda p: picoscenes(p / "x.npz", numbers(0, 4, 3, 1, 1) * np.nan), "NaN"),
        (lambda p: picoscenes(p / "x.npz", np.empty((2, 2), object)), "without pickled objects"),
    ],
)
def test_what_is_not_a_recording_is_refused_in_one_line(tmp_path, make, message):
    with pytest.raises(StoreError, match=message) as caught:
        read_recording(make(tmp_path))
    assert "\n" not in str(caught.value)


def jittered(seed: int, packets: int = 40) -> tuple[torch.Tensor, Recording]:
    """A static channel of two antennas, and the same with a phase, a timing offset and a gain in every packet."""
    g = torch.Generator().manual_seed(seed)
    tones = torch.cat([torch.arange(-26, 0), torch.arange(1, 27)])
    delays = torch.tensor([0.0, 0.02, 0.05])  # cycles per tone
    rays = torch.randn(3, 2, dtype=torch.complex64, generator=g)
    h = torch.polar(torch.ones(()), -6.2832 * tones[:, None] * delays).to(torch.complex64) @ rays
    phase, slope = 6.28 * torch.rand(packets, generator=g), 0.6 * torch.rand(packets, generator=g) - 0.3
    gain = 0.5 + torch.rand(packets, generator=g)
    turn = torch.polar(gain[:, None], phase[:, None] + slope[:, None] * tones)
    return h, Recording((turn[:, :, None] * h)[..., None], None, tones, "made up")


def test_align_removes_phase_timing_and_gain():
    h, recording = jittered(0)
    csi = align(recording).csi[..., 0]
    assert float((csi - csi[:1]).abs().max()) < 1e-3  # single precision, slopes to 1e-5 rad a tone
    assert csi[0].abs().square().mean() == pytest.approx(1.0, rel=1e-5)
    ratio = csi[0] / h  # still the channel, turned: amplitudes and the antennas' relation are untouched
    torch.testing.assert_close(ratio.abs(), ratio.abs()[:1, :1].expand_as(ratio), rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(ratio[:, 0], ratio[:, 1], rtol=1e-4, atol=1e-4)


def test_without_timing_slopes_stay():
    _, recording = jittered(1)
    csi = align(recording, timing=False).csi
    assert float((csi - csi[:1]).abs().max()) > 0.3
    assert csi.abs().square().mean((1, 2, 3)).tolist() == pytest.approx([1.0] * 40, rel=1e-4)


def test_later_packets_never_change_earlier_ones():
    _, recording = jittered(2)
    short = Recording(recording.csi[:20], None, recording.tones, "made up")
    torch.testing.assert_close(align(short).csi, align(recording).csi[:20])


def test_windows_are_consecutive_packets():
    csi = torch.arange(30.0)[:, None, None, None].to(torch.complex64)
    past, future = windows(csi, 16, 4, step=5)
    assert past.shape == (3, 16, 1, 1, 1) and future.shape == (3, 4, 1, 1, 1)
    assert past[1].real.flatten().tolist() == list(range(5, 21))
    assert future[2].real.flatten().tolist() == [26, 27, 28, 29]
    with pytest.raises(ValueError, match="19 packets are too few"):
        windows(csi[:19], 16, 4)


@measured
@pytest.mark.parametrize(
    ("file", "shape", "timed"),
    [
        ("iwl5300.npz", (840, 30, 1, 1), True),
        ("ax200.npz", (778, 52, 1, 1), False),
        ("nexmon_4366c0.npz", (293, 52, 1, 1), True),
        ("esp32_100hz.csv", (833, 51, 1, 1), True),
    ],
)
def test_recordings_of_real_receivers(file, shape, timed):
    """Packets and live tones of CSIKit's examples; aligned, neighbouring packets are alike (they are not before)."""
    recording = read_recording(Path(MEASURED) / file)
    assert tuple(recording.csi.shape) == shape and (recording.time_s is not None) == timed
    csi = align(recording).csi
    change = (csi[1:] - csi[:-1]).abs().square().mean() / csi.abs().square().mean()
    before = (recording.csi[1:] - recording.csi[:-1]).abs().square().mean() / recording.csi.abs().square().mean()
    assert change < 0.06 < 0.5 < before


@measured
def test_tuned_ar_reaches_the_mean_on_real_receivers():
    from airlam.baselines import ARPredictor, MeanPredictor, tune
    from airlam.metrics import nmse

    for file in ("ax200.npz", "nexmon_4366c0.npz"):
        csi = align(read_recording(Path(MEASURED) / file), timing=False).csi
        half = len(csi) // 2
        fit, (past, future) = windows(csi[:half], 16, 4), windows(csi[half:], 16, 4)
        mean = float(nmse(MeanPredictor().predict(past, 4), future))
        found = float(nmse(ARPredictor(**tune(ARPredictor, *fit, batch_size=256)).predict(past, 4), future))
        assert found < 1.06 * mean  # a quarter of a dB; without the mean set aside it is above by 0.6 to 0.8 dB
