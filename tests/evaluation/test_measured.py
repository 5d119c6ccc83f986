"""The benchmark of measured channels: recordings of known noise, what is refused, and real files where they are."""

from __future__ import annotations

import os

import numpy as np
import pytest
import torch
import yaml

from airlam.cli import main
from airlam.data.importers import Recording, align
from airlam.errors import RecipeError
from airlam.evaluation import MeasuredBenchmark, Results
from airlam.evaluation.benchmarks.measured.cell import turned_nmse
from airlam.evaluation.benchmarks.measured.config import VIEWS, MeasuredSizes
from airlam.evaluation.benchmarks.measured.figures import error_and_noise, what_offsets_cost, what_offsets_do_to_shape
from airlam.evaluation.benchmarks.measured.noise import ORDER, divided_differences, packet_noise, tone_noise
from airlam.evaluation.benchmarks.measured.windows import blocks_of, cut, halves, is_regular
from airlam.evaluation.runner import run
from airlam.metrics import nmse

MEASURED = os.environ.get("AIRLAM_MEASURED_DIR")
TONES = torch.cat([torch.arange(-26, 0), torch.arange(1, 27)])


def made(packets: int, snr_db: float, seed: int = 0, *, moving: float = 0.0, offsets: bool = True) -> Recording:
    """Four rays within 0.2 us, noise, and in every packet a phase, a timing offset and a gain.

    ``moving``: the fastest ray's Doppler shift in cycles a packet.
    """
    g = torch.Generator().manual_seed(seed)
    delay = torch.rand(4, generator=g) * 0.2e-6 * 312.5e3  # cycles a tone
    doppler = moving * (2 * torch.rand(4, generator=g) - 1)
    ray = torch.randn(4, dtype=torch.complex64, generator=g)
    turn = doppler * torch.arange(packets)[:, None]
    h = torch.polar(torch.ones(()), 6.2832 * (turn[:, None] - delay * TONES[:, None])) @ ray  # [packet, tone]
    h = h / h.abs().square().mean().sqrt()
    h = h + 10 ** (-snr_db / 20) * torch.randn(h.shape, dtype=h.dtype, generator=g)
    if offsets:
        phase, slope = 6.28 * torch.rand(packets, 1, generator=g), 0.06 * torch.rand(packets, 1, generator=g) - 0.03
        h = h * torch.polar(0.3 + torch.rand(packets, 1, generator=g), phase + slope * TONES)
    return Recording(h[:, :, None, None], 0.01 * torch.arange(packets, dtype=torch.float64), TONES, "made up")


def saved(path, recording: Recording) -> None:
    csi = recording.csi[:, :, :, 0].transpose(1, 2)[:, :, None]  # [packet, rx, 1, tone]
    csi = csi.permute(0, 3, 2, 1)  # PicoScenes: [packet, tone, tx, rx]
    times = {} if recording.time_s is None else {"timestamp_us": (1e6 * recording.time_s).numpy()}
    np.savez(path, csi=csi.numpy(), subcarrier_index=recording.tones.numpy(), **times)


@pytest.mark.parametrize("snr_db", [5.0, 15.0, 30.0])
def test_noise_of_known_snr_is_found_in_a_channel_that_moves(snr_db):
    """A twentieth of a turn from packet to packet: 1e-4 of the channel's power would be -23 dB of difference."""
    recording = align(made(300, snr_db, moving=0.05))
    expected = -10 * np.log10(1 + 10 ** (snr_db / 10))  # packets have power 1 with their noise
    found = 10 * np.log10(float(tone_noise(recording.csi, recording.tones).mean()))
    # 300 packets x 48 stencils: a spread below 0.1 dB; alignment takes 3 of 104 real numbers, 0.13 dB
    assert found == pytest.approx(expected, abs=0.3)


def test_noise_across_packets_holds_motion_too():
    still, moving = (align(made(300, 20.0, moving=speed)).csi for speed in (0.0, 0.05))
    floor = 1 / (1 + 100)
    assert float(packet_noise(still).mean()) == pytest.approx(floor, rel=0.07)  # 3 of 104 numbers, and the spread
    assert float(packet_noise(moving).mean()) > 2 * floor


def test_differences_ignore_smooth_channels_on_uneven_tones():
    tones = torch.tensor([-28, -26, -24, -22, -20, -4, -2, -1, 1, 3, 5, 7])
    rows, place = divided_differences(tones), tones.double()
    for power in range(ORDER):
        assert float((rows @ place**power).abs().max()) < 1e-8 * 28**power
    torch.testing.assert_close(rows.norm(dim=1), torch.ones(len(rows), dtype=rows.dtype))
    assert not any(row[4] != 0 and row[5] != 0 for row in rows)  # none across the gap of 16 tones
    with pytest.raises(ValueError, match="4 tones are too few"):
        divided_differences(torch.arange(4))


def test_halves_do_not_touch():
    sizes = MeasuredSizes(guard=20, step=1)
    recording = Recording(
        torch.arange(1.0, 201)[:, None, None, None] + 0j * torch.ones(1, 8, 1, 1), None, TONES[:8], ""
    )
    fit, test = halves(recording, VIEWS["as recorded"], sizes)
    scale = float(fit.past[0, 0].real.mean())
    number = (torch.tensor([float(fit.future.real.max()), float(test.past.real.min())]) / scale).round()
    assert number.tolist() == [100.0, 121.0]
    assert test.at.tolist()[0] == 120 + sizes.history
    blocks = blocks_of(test.at, 120, 200, sizes)
    assert blocks.min() >= 0 and len(blocks.unique()) <= 4  # 80 packets: no block shorter than 20


def test_the_regular_grid_keeps_received_targets_only():
    """Packets 5 and 30 of 60 are lost, times jitter by a twentieth: histories know, targets are never made up."""
    sizes, g = MeasuredSizes(step=1), torch.Generator().manual_seed(0)
    kept = torch.tensor([packet for packet in range(60) if packet not in (5, 30)])
    value = kept.float()[:, None, None, None].to(torch.complex64).expand(-1, 4, 1, 1)
    times = kept.double() + 0.05 * (2 * torch.rand(len(kept), generator=g, dtype=torch.float64) - 1)
    found = cut(Recording(value, times, torch.arange(4), ""), slice(0, None), VIEWS["regular grid"], sizes)
    start = found.past[:, 0].real.mean((1, 2, 3)).round()
    assert not {5.0, 30.0} & set(found.future.real.flatten().tolist())
    # received targets, linear values: the interpolated ones are right, too
    torch.testing.assert_close(found.past.real[..., 0, 0, 0], start[:, None] + torch.arange(16.0))
    torch.testing.assert_close(found.future.real[..., 0, 0, 0], start[:, None] + torch.arange(16.0, 20.0))
    assert (found.observed == ~torch.isin(start[:, None] + torch.arange(16.0), torch.tensor([5.0, 30.0]))).all()
    assert kept[found.at].float().tolist() == (start + 16).tolist()


def test_a_grid_ends_where_times_jump():
    times = torch.cat([torch.arange(30.0), 500 + torch.arange(30.0), torch.arange(10.0)]).double()
    csi = torch.ones(70, 4, 1, 1, dtype=torch.complex64)
    found = cut(
        Recording(csi, times, torch.arange(4), ""), slice(0, None), VIEWS["regular grid"], MeasuredSizes(step=1)
    )
    assert found.at.tolist() == [*range(16, 27), *range(46, 57)] and found.observed.all()
    assert is_regular(torch.arange(50.0)) and not is_regular(times)


def test_gains_that_stay_in():
    recording = made(40, 40.0)
    even, uneven = (align(recording, gain=gain).csi for gain in (True, False))
    power = recording.csi.abs().square().mean((1, 2, 3))
    torch.testing.assert_close(uneven.abs().square().mean((1, 2, 3)), power, rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(uneven / power.sqrt()[:, None, None, None], even, rtol=1e-3, atol=1e-4)


def test_turned_nmse_ignores_phase_and_gain():
    g = torch.Generator().manual_seed(0)
    h = torch.randn(3, 4, 16, 1, 1, dtype=torch.complex64, generator=g)
    factor = torch.randn(3, 4, 1, 1, 1, dtype=torch.complex64, generator=g)
    assert float(turned_nmse(factor * h, h).max()) < 1e-6
    other = torch.randn(h.shape, dtype=h.dtype, generator=g)
    # the error of a fit with one free complex number is the error at that number
    fit = (other.conj() * h).sum(2, keepdim=True) / other.abs().square().sum(2, keepdim=True)
    torch.testing.assert_close(
        turned_nmse(other, h), nmse(fit * other, h, reduction="none", per_step=True).mean(1), rtol=1e-4, atol=1e-5
    )


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    folder, out = tmp_path_factory.mktemp("recordings"), tmp_path_factory.mktemp("measured")
    saved(folder / "still.npz", made(240, 20.0))
    lossy = made(260, 20.0, 1)
    kept = torch.rand(260, generator=torch.Generator().manual_seed(1)) > 0.1
    saved(folder / "lossy.npz", Recording(lossy.csi[kept], lossy.time_s[kept], TONES, ""))
    saved(folder / "short.npz", made(40, 20.0))
    (folder / "broken.npz").write_text("nothing")
    (folder / "notes.md").write_text("no recording")
    changes = {
        "methods": ["hold", "mean", "ar", "{model}"],
        "headline_only": ["ar"],  # its tuning takes the most time here
        "views": ["aligned", "gain left in", "as recorded", "history turned", "regular grid"],
        "sizes": {"step": 4, "blocks": 5},
    }
    report = run("tasks/channel_prediction/measured.yaml", out, data=str(folder), **changes)
    assert report.is_file()
    return Results.load(out / "results.json")


def test_rows_of_made_recordings(results):
    rows = {(row.data, row.label, row.method): row for row in results.select(group="cell")}
    assert {data for data, _, _ in rows} == {"still", "lossy"}
    assert ("lossy", "regular grid", "mean") in rows and ("still", "regular grid", "mean") not in rows
    error = {key: row.figures["nmse"].number for key, row in rows.items()}
    floor = 1 / 101
    # a channel that stands still: hold has twice the noise, the mean of 16 packets 1 + 1/16 of it. 15 %: the spread of
    # 23 windows, and what alignment takes from the noise
    assert error["still", "aligned", "hold"] == pytest.approx(2 * floor, rel=0.15)
    assert error["still", "aligned", "mean"] == pytest.approx(17 / 16 * floor, rel=0.15)
    assert results.extras["noise"]["still"]["across_tones"]["db"] == pytest.approx(-20.04, abs=0.4)
    # nothing can predict a random phase, but the shape of the channel is still there
    assert error["still", "as recorded", "airlam-tiny"] > 0.3
    shape = {key: row.figures["nmse_turned_db"].number for key, row in rows.items()}
    assert shape["still", "history turned", "airlam-tiny"] < shape["still", "as recorded", "airlam-tiny"] - 1.0
    assert error["still", "gain left in", "mean"] > 3 * error["still", "aligned", "mean"]
    gain = rows["still", "aligned", "airlam-tiny"].figures["gain_db"]
    assert gain.note == "mean" and gain.groups == 5 and rows["still", "aligned", "ar"].settings


def test_words_and_plots(results):
    assert "airlam-tiny (as it is)" in results.headline and "from mean" in results.headline
    assert any("short.npz has 40 packets" in note for note in results.notes)
    assert any("broken.npz cannot be read" in note for note in results.notes)
    for draw in (error_and_noise, what_offsets_cost, what_offsets_do_to_shape):
        assert draw(results) is not None
    tables = {table["title"]: table for table in results.extras["tables"]}
    assert tables["Recordings"]["lines"][0][3] == "10 ms, irregular"
    assert {"still: what is removed", "lossy: what is removed"} <= set(tables)


def test_the_folder_is_an_option_of_the_command(capsys):
    main(["evaluate", "--config", "tasks/channel_prediction/measured.yaml", "--data", "recordings", "--print_config"])
    assert yaml.safe_load(capsys.readouterr().out)["init_args"]["data"] == "recordings"


def test_refusals(tmp_path, monkeypatch):
    monkeypatch.delenv("AIRLAM_MEASURED_DIR", raising=False)
    (tmp_path / "empty").mkdir()
    (tmp_path / "x.npz").write_text("nothing")
    for change, message in (
        ({"data": ""}, "data is empty and AIRLAM_MEASURED_DIR is not set; name a folder of recordings: --data FOLDER"),
        ({"data": str(tmp_path / "absent")}, "which is no folder and no file"),
        ({"data": str(tmp_path / "empty")}, "holds no recording; importers take .*csv.*npz"),
        ({"data": str(tmp_path)}, "can be used. Left out: .*cannot be read as .npz"),
        ({"views": ["best"]}, "views holds 'best', but must be among aligned"),
        ({"methods": ["mean", "genie_lmmse"]}, "needs simulated channels"),
        ({"methods": ["hold", "{model}"]}, "bar is 'mean', which is not among the methods"),
        ({"sizes": {"guard": -1}}, "sizes.guard is -1"),
    ):
        with pytest.raises(RecipeError, match=message) as caught:
            MeasuredBenchmark(**change).run(tmp_path / "out")
        assert "\n" not in str(caught.value)


@pytest.mark.skipif(not MEASURED, reason="AIRLAM_MEASURED_DIR names no folder with recordings (see docs/measured.md)")
def test_real_receivers(tmp_path):
    """The mean of the history stands on the noise of its target, and the model is not far above it."""
    MeasuredBenchmark(quick=True).run(tmp_path)
    results = Results.load(tmp_path / "results.json")
    error = {(row.data, row.method): row.figures["nmse_db"].number for row in results.select(group="cell")}
    assert {data for data, _ in error} >= {"iwl5300", "ax200", "nexmon_4366c0", "esp32_100hz"}
    for data in ("iwl5300", "ax200", "esp32_100hz"):
        floor = results.extras["noise"][data]
        assert floor["across_tones"]["db"] < error[data, "mean"] < error[data, "hold"]
        assert error[data, "airlam-tiny"] < error[data, "mean"] + 0.5
