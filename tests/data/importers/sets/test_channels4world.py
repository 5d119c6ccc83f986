"""Records of Channels4World: real ``Record`` objects of the package, made here, because no root is at hand.

What opens a downloaded root is tested for its errors alone.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from airlam.data import CSIStore
from airlam.data.importers.sets import LAYOUTS, Description, import_set
from airlam.data.importers.sets.channels4world import Channels4World, Station
from airlam.errors import StoreError

c4w = pytest.importorskip("channels4world", reason="the extra channels4world is not installed")

HZ, TONES = 3_500_000_000, 12
UNITS = Description(1e-3, float(HZ), 60e3, (1, 1, 1), split=(0, 0, 1))


def record(bs: int, paths: list[int], golden_path: dict | None = None):
    """Random paths, ``paths[i]`` of link ``i``, to the users 0, 2, 4, ...; or the same path for all links."""
    rng, total = np.random.default_rng(bs), sum(paths)
    core = {"link_ue_index": 2 * np.arange(len(paths), dtype=np.int32)}
    core["link_path_offsets"] = np.concatenate([[0], np.cumsum(paths)]).astype(np.int64)
    core["path_rank"] = np.arange(total, dtype=np.uint8)
    ranges = {"a_real": (-1e-5, 1e-5), "a_imag": (-1e-5, 1e-5), "tau": (1e-7, 1e-6)}
    ranges |= {"theta_t": (0, np.pi), "phi_t": (-3, 3), "theta_r": (0, np.pi), "phi_r": (-3, 3)}
    for name, ends in ranges.items():
        core[name] = rng.uniform(*ends, total).astype(np.float32)
    for name, value in (golden_path or {}).items():
        core[name] = np.full(total, value, np.float32)
    core["interaction_count"] = (np.arange(total) % 2).astype(np.uint8)
    core["interaction_flags"] = (2 * core["interaction_count"]).astype(np.uint16)
    header = {
        "identity": {"scene_id": "made_up", "frequency_hz": HZ, "bs_index": bs},
        "dependencies": {"positions": {"ues": 2 * len(paths)}},
    }
    return c4w.Record(header, f"r{bs}", core, None)


@pytest.fixture
def root(tmp_path, monkeypatch):
    """A function that imports these records, in the place of those that the package reads from a root."""

    def run(records, units=UNITS, **options) -> CSIStore:
        users = np.random.default_rng(9).uniform(0, 50, (20, 3))
        stations = [Station(made, np.array([1.0, 2.0, 10.0]), users) for made in records]

        class Made(Channels4World):
            def _stations(self, path):
                return float(HZ), lambda: iter(stations)

        monkeypatch.setitem(LAYOUTS._classes, "channels4world", Made)
        (tmp_path / "root").mkdir(exist_ok=True)
        (tmp_path / "root/c4w-root.json").write_text("{}")
        import_set(tmp_path / "root", tmp_path / "x.h5", description=units, options=options, overwrite=True)
        return CSIStore(tmp_path / "x.h5")

    return run


@pytest.mark.parametrize("read_bytes", [64 * 2**20, 1])
def test_the_packages_own_frequency_response(root, monkeypatch, read_bytes):
    monkeypatch.setattr("airlam.data.importers.sets.layout.READ_BYTES", read_bytes)
    records = [record(0, [3, 1, 2]), record(4, [2, 5])]
    store = root(records, subcarriers=TONES)
    offsets = (np.arange(TONES) - TONES // 2) * 60e3
    expected = np.concatenate([c4w.transforms.frequency_response(made, offsets) for made in records])
    assert store.h.shape == (5, 1, TONES, 1, 1) and sorted(store.truth["drop"].tolist()) == [0, 0, 0, 1, 1]
    spread = np.concatenate([c4w.transforms.delay_spread(made) for made in records])
    order = [int(np.argmin(np.abs(spread - float(value)))) for value in store.truth["delay_spread"]]
    assert sorted(order) == list(range(5))
    read = store.h[:].numpy()[:, 0, :, 0, 0] * 10 ** (store.truth["gain_db"].numpy() / 20)[:, None]
    np.testing.assert_allclose(read, expected[order], atol=3e-3 * np.abs(expected).max())
    users = np.random.default_rng(9).uniform(0, 50, (20, 3))[[0, 2, 4, 0, 2]][order]
    np.testing.assert_allclose(store.truth["position"], users - [1, 2, 0], rtol=1e-5)


def test_a_wave_on_a_panel(root, tmp_path, golden):
    """One path of known angles and delay, a user that moves."""
    _, columns, rows = golden.ports
    zenith = np.arccos(-golden.row_step / np.pi)  # upwards, so from row to row the phase falls
    azimuth = np.arcsin(golden.column_step / np.pi / np.sin(zenith))
    angles = {"theta_t": zenith, "phi_t": azimuth + np.deg2rad(30), "theta_r": np.pi / 2, "phi_r": 0.5}
    made = record(0, [1], {"tau": golden.delay_s, "interaction_count": 0, **angles})
    units = replace(UNITS, slot_s=golden.slot_s, subcarrier_spacing_hz=golden.spacing_hz, port_shape=(1, columns, rows))
    store = root([made], units, subcarriers=str(golden.tones), slots="20", speed_kmh="90", azimuth_deg="30")
    velocity = store.truth["velocity"][0].numpy()
    doppler = (velocity[0] * np.cos(0.5) + velocity[1] * np.sin(0.5)) * HZ / 299792458
    expected = golden.wave(doppler_hz=float(doppler))[:, :, 0].reshape(golden.slots, golden.tones, 1, -1)
    golden.check(tmp_path / "x.h5", 1, expected, (1, columns, rows))
    np.testing.assert_allclose(store.truth["speed"], 25)


def test_roots_that_are_none(tmp_path):
    with pytest.raises(StoreError, match="expects a folder with c4w-root.json"):
        import_set(tmp_path, tmp_path / "x.h5", layout="channels4world", description=UNITS)
    (tmp_path / "c4w-root.json").write_text("{}")
    with pytest.raises(StoreError, match="cannot be read by channels4world .*not a channels4world root"):
        import_set(tmp_path, tmp_path / "x.h5", description=UNITS, options={"subcarriers": 4})
