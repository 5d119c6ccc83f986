"""Channel estimates of the MATLAB 5G Toolbox: ``[subcarrier, symbol, rx, tx]`` and an axis of links."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy.io import savemat

from airlam.data import CSIStore
from airlam.data.importers.sets import import_set
from airlam.errors import StoreError


def save(path, version: str, array: np.ndarray, golden, name: str = "hest") -> None:
    if version == "v5":
        savemat(path, {name: array})
    else:
        golden.put_v73(path, name, array)


def estimate(golden, **kind) -> np.ndarray:
    """``[subcarrier, symbol, rx, tx]``: antennas over rows, columns, polarisations, as nrCDLChannel counts them."""
    h = golden.wave(**kind)  # slot, tone, polarisation, column, row
    matlab = h.transpose(1, 0, 4, 3, 2)  # tone, symbol, row, column, polarisation
    return matlab.reshape(*matlab.shape[:2], 1, -1, order="F")


@pytest.mark.parametrize("version", ["v7.3", "v5"])
def test_a_wave_of_three_links(tmp_path, golden, version):
    array = np.stack([estimate(golden, gain=gain) for gain in (1, 2, 3)], axis=-1)
    save(tmp_path / "x.mat", version, array, golden)
    import_set(tmp_path / "x.mat", tmp_path / "x.h5", description=golden.units)
    store = golden.check(tmp_path / "x.h5", 3, golden.expected)
    np.testing.assert_allclose(store.h[0].numpy(), golden.expected, atol=golden.float16)
    np.testing.assert_allclose(sorted(store.truth["gain_db"].tolist()), 20 * np.log10([1, 2, 3]), atol=1e-4)
    assert store.recipe["channel"]["layout"] == "matlab-5g"


@pytest.mark.parametrize("read_bytes", [64 * 2**20, 1000])
def test_one_symbol_in_each_slot_and_a_recording_cut_into_links(tmp_path, golden, monkeypatch, read_bytes):
    monkeypatch.setattr("airlam.data.importers.sets.layout.READ_BYTES", read_bytes)
    symbols = np.stack([estimate(golden, doppler_hz=golden.doppler_hz / 3, slots=140)] * 2, axis=-1)
    symbols[:, np.arange(140) % 3 != 0] = 7  # the symbols between are not looked at
    save(tmp_path / "x.mat", "v7.3", symbols, golden)
    options = {"every": "3", "slots": "20"}
    notes = import_set(tmp_path / "x.mat", tmp_path / "x.h5", description=golden.units, options=options)
    assert notes == ("the last 7 of 47 slots of each link were left out",)
    store = golden.check(tmp_path / "x.h5", 4, golden.expected)
    assert store.truth["drop"].tolist() in ([0, 0, 1, 1], [1, 1, 0, 0])  # cuts of one recording share a drop


def test_axes_of_length_one_that_matlab_drops(tmp_path, golden):
    csi = np.random.default_rng(0).normal(size=(6, 5, 2, 2)).view(np.complex128)[..., 0]  # [tone, symbol, rx]
    save(tmp_path / "x.mat", "v7.3", csi, golden, "H")
    one = replace(golden.units, port_shape=None)
    import_set(tmp_path / "x.mat", tmp_path / "x.h5", layout="matlab-5g", description=one, options={"variable": "H"})
    store = CSIStore(tmp_path / "x.h5")
    assert store.h.shape == (1, 5, 6, 2, 1)
    unit = csi / np.sqrt(np.mean(np.abs(csi) ** 2))
    np.testing.assert_allclose(store.h[0, :, :, :, 0].numpy(), unit.transpose(1, 0, 2), atol=5 * golden.float16)


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"variable": "no"}, "expects one variable no, found H, hest"),
        ({"slots": 30}, "has 20 slots, fewer than --slots 30"),
        ({"every": 0}, "--every is 0"),
    ],
)
def test_what_does_not_fit(tmp_path, golden, options, match):
    save(tmp_path / "x.mat", "v7.3", estimate(golden), golden)
    save(tmp_path / "x.mat", "v7.3", estimate(golden), golden, "H")
    with pytest.raises((StoreError, ValueError), match=match):
        import_set(tmp_path / "x.mat", tmp_path / "x.h5", description=golden.units, options=options)
    assert not (tmp_path / "x.h5").exists()
