"""Scenario folders of DeepMIMO 4, written as ``save_mat`` in ``deepmimo/utils/io.py`` does, and exported channels."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from scipy.io import savemat

from airlam.data import CSIStore
from airlam.data.importers.sets import Description, import_set
from airlam.errors import RecipeError, StoreError

CARRIER_HZ, COLUMNS, ROWS, TONES, SPACING_HZ = 3.5e9, 3, 4, 12, 60e3
UNITS = Description(subcarrier_spacing_hz=SPACING_HZ, port_shape=(1, COLUMNS, ROWS), split=(0, 0, 1))
OPTIONS = {"subcarriers": TONES}


def scenario(folder, users: int = 3, paths: int = 2, scenes: int = 1, num_tx: int = 1) -> dict[str, np.ndarray]:
    """A folder of random paths; the last user has none, the first only one."""
    rng = np.random.default_rng(0)
    ranges = {"power": (-120, -80), "phase": (-180, 180), "delay": (1e-7, 1e-6)}
    ranges |= {"aoa_az": (-180, 180), "aoa_el": (0, 180), "aod_az": (-180, 180), "aod_el": (0, 180)}
    rays = {name: rng.uniform(*ends, size=(users, paths)).astype(np.float32) for name, ends in ranges.items()}
    rays["inter"] = np.tile(np.float32([0, 12])[:paths], (users, 1))
    for array in rays.values():
        array[-1], array[0, 1:] = np.nan, np.nan
    rays |= {"rx_pos": rng.uniform(0, 50, (users, 3)), "tx_pos": np.array([[1.0, 2.0, 10.0]])}
    sets = {
        "txrx_set_0": {"id": 0, "is_tx": True, "is_rx": True, "num_points": num_tx},
        "txrx_set_1": {"id": 1, "is_tx": False, "is_rx": True, "num_points": users},
    }
    parameters = {"txrx_sets": sets, "rt_params": {"frequency": CARRIER_HZ}, "scene": {"num_scenes": scenes}}
    folder.mkdir()
    (folder / "params.json").write_text(json.dumps(parameters))
    for name, array in rays.items():
        np.savez_compressed(folder / f"{name}_t000_tx000_r001.npz", **{name: array})
    return rays


def channel(rays, user: int, velocity: np.ndarray, slots: int, slot_s: float, azimuth_deg: float = 0.0) -> np.ndarray:
    """One element, subcarrier and slot after the other, as generator/channel.py and geometry.py write the sum."""
    h = np.zeros((slots, TONES, 1, COLUMNS, ROWS), complex)
    for p in np.flatnonzero(np.isfinite(rays["power"][user])):
        ray = {name: float(array[user, p]) for name, array in rays.items() if array.shape == rays["power"].shape}
        zenith, azimuth = np.deg2rad(ray["aod_el"]), np.deg2rad(ray["aod_az"] - azimuth_deg)
        arrival = np.deg2rad(ray["aoa_el"]), np.deg2rad(ray["aoa_az"])
        to_source = [
            np.sin(arrival[0]) * np.cos(arrival[1]),
            np.sin(arrival[0]) * np.sin(arrival[1]),
            np.cos(arrival[0]),
        ]
        doppler = velocity @ to_source * CARRIER_HZ / 299792458.0
        for y in range(COLUMNS):
            for z in range(ROWS):  # upwards
                place = np.pi * (y * np.sin(zenith) * np.sin(azimuth) + z * np.cos(zenith))
                for t in range(slots):
                    phase = np.deg2rad(ray["phase"]) + 2 * np.pi * doppler * t * slot_s + place
                    phase = phase - 2 * np.pi * ray["delay"] * SPACING_HZ * np.arange(TONES)
                    h[t, :, 0, y, ROWS - 1 - z] += 10 ** (ray["power"] / 20) * np.exp(1j * phase)
    return h.reshape(slots, TONES, 1, -1)


@pytest.mark.parametrize("read_bytes", [64 * 2**20, 1])
def test_a_scenario_of_moving_users(tmp_path, monkeypatch, read_bytes):
    monkeypatch.setattr("airlam.data.importers.sets.layout.READ_BYTES", read_bytes)
    rays = scenario(tmp_path / "city", users=5)
    units = replace(UNITS, slot_s=1e-3)
    options = {**OPTIONS, "slots": "4", "speed_kmh": "36", "azimuth_deg": "30"}
    notes = import_set(tmp_path / "city", tmp_path / "x.h5", description=units, options=options)
    assert notes == ("1 of 5 users have no path and were left out",)
    store = CSIStore(tmp_path / "x.h5")
    store.verify()
    assert store.attrs["carrier_frequency"] == CARRIER_HZ and store.attrs["slot_duration"] == 1e-3
    for i, user in enumerate(store.truth["drop"].tolist()):
        truth = {name: values[i].numpy() for name, values in store.truth.items()}
        h = channel(rays, user, truth["velocity"].astype(float), 4, 1e-3, 30.0)
        power = np.mean(np.abs(h) ** 2)
        np.testing.assert_allclose(store.h[i].numpy(), h / np.sqrt(power), atol=5e-3)
        np.testing.assert_allclose(truth["gain_db"], 10 * np.log10(power), atol=1e-3)
        np.testing.assert_allclose(truth["position"], rays["rx_pos"][user] - [1, 2, 0], rtol=1e-6)
        np.testing.assert_allclose([np.linalg.norm(truth["velocity"]), truth["speed"]], 10, rtol=1e-6)
        assert truth["los"] and truth["velocity"][2] == 0


def test_users_that_stand_still_have_one_slot(tmp_path):
    rays = scenario(tmp_path / "city")
    import_set(tmp_path / "city", tmp_path / "x.h5", layout="deepmimo", description=UNITS, options=OPTIONS)
    store = CSIStore(tmp_path / "x.h5")
    assert store.h.shape == (2, 1, TONES, 1, COLUMNS * ROWS)
    first = store.truth["drop"].tolist().index(0)
    h = channel(rays, 0, np.zeros(3), 1, 0.0)
    np.testing.assert_allclose(store.h[first].numpy(), h / np.sqrt(np.mean(np.abs(h) ** 2)), atol=5e-3)
    assert len(store.recipe["channel"]["files"]) == 11


@pytest.mark.parametrize("suffix", ["npz", "v5", "v7.3"])
def test_an_exported_channel(tmp_path, golden, suffix):
    """``[user, rx, tx, subcarrier, time]``, elements along y first, then upwards."""
    h = golden.wave()[:, :, 0]  # slot, tone, column, row from the top
    array = h[..., ::-1].transpose(3, 2, 1, 0).reshape(1, -1, golden.tones, golden.slots)  # rx, tx, tone, time
    array = np.stack([array, 2 * array])
    path = tmp_path / ("x.npz" if suffix == "npz" else "x.mat")
    if suffix == "npz":
        np.savez(path, channel=array, delay=np.zeros(3))
    elif suffix == "v5":
        savemat(path, {"channel": array})
    else:
        golden.put_v73(path, "channel", array)
    ports = (1, *golden.ports[1:])
    import_set(path, tmp_path / "x.h5", description=replace(golden.units, port_shape=ports))
    expected = h.reshape(golden.slots, golden.tones, 1, -1)
    store = golden.check(tmp_path / "x.h5", 2, expected, ports)
    np.testing.assert_allclose(store.h[0].numpy(), expected, atol=golden.float16)
    assert store.recipe["channel"]["layout"] == "deepmimo"


@pytest.mark.parametrize(
    ("options", "units", "match"),
    [
        ({}, UNITS, "give --subcarriers"),
        (OPTIONS, replace(UNITS, port_shape=None), "give --port-shape"),
        (OPTIONS, replace(UNITS, port_shape=(2, 1, 2)), "2 polarisations, but the paths have one"),
        ({**OPTIONS, "slots": 4}, UNITS, "give --slot-s"),
        ({**OPTIONS, "rx_set": 7}, UNITS, "--rx-set is 7, but .* has 1"),
        ({**OPTIONS, "azimuth_deg": "east"}, UNITS, "--azimuth-deg is 'east'"),
    ],
)
def test_what_a_scenario_needs(tmp_path, options, units, match):
    scenario(tmp_path / "city")
    with pytest.raises(RecipeError, match=match):
        import_set(tmp_path / "city", tmp_path / "x.h5", description=units, options=options)
    assert not (tmp_path / "x.h5").exists()


def test_scenarios_that_are_not_read(tmp_path):
    def refused(folder, match, error=StoreError):
        with pytest.raises(error, match=match) as caught:
            import_set(folder, tmp_path / "x.h5", layout="deepmimo", description=UNITS, options=OPTIONS)
        assert "\n" not in str(caught.value)

    scenario(tmp_path / "moving", scenes=3)
    refused(tmp_path / "moving", "has 3 scenes, but only static")
    scenario(tmp_path / "many", num_tx=2)
    refused(tmp_path / "many", "has tx 0, 1; say which with --tx", RecipeError)
    scenario(tmp_path / "part")
    (tmp_path / "part/delay_t000_tx000_r001.npz").unlink()
    refused(tmp_path / "part", "expects delay_t000_tx000_r001.npz; there are aoa_az")
    (tmp_path / "part/params.json").write_text("{}")
    refused(tmp_path / "part", "expects params.json with txrx_sets")
    (tmp_path / "empty").mkdir()
    with pytest.raises(StoreError, match="looks like none of"):
        import_set(tmp_path / "empty", tmp_path / "x.h5", description=UNITS)
