"""A plane wave, written in each layout as its generator writes it, comes out with airlam's axes, signs and ports."""

from __future__ import annotations

import h5py
import numpy as np
import pytest
import torch
from scipy.io import savemat

from airlam.csi import to_beam_delay
from airlam.data import CSIDataModule, CSIStore
from airlam.data.importers.sets import Description, import_set

SLOT_S, SPACING_HZ, DELAY_S, DOPPLER_HZ = 0.5e-3, 180e3, 0.4e-6, 300.0
SLOTS, TONES, POLARISATIONS, COLUMNS, ROWS = 20, 12, 2, 3, 4
COLUMN_STEP, ROW_STEP, POLARISATION_STEP = 0.7, -0.4, 1.9  # phase [rad] from port to port in airlam's order
UNITS = Description(SLOT_S, 2.4e9, SPACING_HZ, (POLARISATIONS, COLUMNS, ROWS), split=(0, 0, 1))


def wave(gain: float = 1.0) -> np.ndarray:
    """``complex128 [slot, tone, polarisation, column, row]``, rows from top to bottom: airlam's convention."""
    n = np.ogrid[:SLOTS, :TONES, :POLARISATIONS, :COLUMNS, :ROWS]
    phase = 2 * np.pi * (DOPPLER_HZ * SLOT_S * n[0] - SPACING_HZ * DELAY_S * n[1])
    return gain * np.exp(1j * (phase + POLARISATION_STEP * n[2] + COLUMN_STEP * n[3] + ROW_STEP * n[4]))


EXPECTED = wave().reshape(SLOTS, TONES, 1, -1)
FLOAT16 = 2e-3  # rounding of unit-power values that a store keeps as float16, with room for the phase's sum


def put_v73(path, name: str, array: np.ndarray) -> None:
    """As MATLAB's ``save -v7.3`` lays out a complex double: axes reversed, a compound of real and imag."""
    pairs = np.empty(array.T.shape, [("real", "<f8"), ("imag", "<f8")])
    pairs["real"], pairs["imag"] = array.T.real, array.T.imag
    with h5py.File(path, "a", userblock_size=512) if not path.exists() else h5py.File(path, "a") as file:
        file[name] = pairs


def check_wave(path, num_links: int) -> CSIStore:
    store = CSIStore(path)
    store.verify()
    assert len(store) == num_links and store.splits["test"] == (0, num_links)
    assert store.port_shape == (POLARISATIONS, COLUMNS, ROWS)
    for name, value in (("slot_duration", SLOT_S), ("subcarrier_spacing", SPACING_HZ), ("carrier_frequency", 2.4e9)):
        assert store.attrs[name] == value
    for h in store.h[:]:
        np.testing.assert_allclose(h.numpy(), EXPECTED, atol=FLOAT16)
    return store


def llm4cp(path, speeds: int = 3, users: int = 2, history: int = 16) -> None:
    """History and future ``[speed, user, slot, tone, column, row from the bottom, polarisation]``."""
    link = np.moveaxis(wave()[..., ::-1], 2, -1)
    array = np.broadcast_to(link, (speeds, users, *link.shape))
    gains = np.arange(1, speeds * users + 1).reshape(speeds, users, 1, 1, 1, 1, 1)
    put_v73(path, "H_U_his_train", (array * gains)[:, :, :history])
    put_v73(path.with_name("H_U_pre_train.mat"), "H_U_pre_train", (array * gains)[:, :, history:])
    put_v73(path.with_name("H_D_pre_train.mat"), "H_D_pre_train", (array * gains)[:, :, history:])


@pytest.mark.parametrize("dtype", ["complex64", "complex128"])
def test_numpy_with_axes_in_any_order(tmp_path, dtype):
    array = np.stack([wave(gain) for gain in (1.0, 3.0)]).astype(dtype)  # link, slot, tone, polarisation, column, row
    np.save(tmp_path / "x.npy", array.transpose(5, 2, 0, 4, 1, 3))
    axes = {"axes": "row,subcarrier,link,column,slot,polarisation"}
    units = Description(SLOT_S, 2.4e9, SPACING_HZ, split=(0, 0, 1))  # the axes tell the port shape
    import_set(tmp_path / "x.npy", tmp_path / "x.h5", description=units, options=axes)
    store = check_wave(tmp_path / "x.h5", 2)
    np.testing.assert_allclose(sorted(store.truth["gain_db"].tolist()), [0, 20 * np.log10(3)], atol=1e-4)
    assert torch.isnan(store.truth["speed"]).all() and torch.isnan(store.truth["position"]).all()


def test_numpy_axes_that_are_not_named_have_length_one_and_phases_can_be_turned(tmp_path):
    np.savez(tmp_path / "x.npz", other=np.zeros(3), csi=wave().conj().reshape(SLOTS, TONES, -1))
    options = {"axes": "slot,subcarrier,tx_ant", "variable": "csi"}
    units = Description(SLOT_S, 2.4e9, SPACING_HZ, UNITS.port_shape, split=(0, 0, 1), conjugate=True)
    import_set(tmp_path / "x.npz", tmp_path / "x.h5", description=units, options=options)
    check_wave(tmp_path / "x.h5", 1)


def test_receive_antennas_stay_receive_antennas(tmp_path):
    csi = np.random.default_rng(0).normal(size=(3, 5, 6, 2, 4, 2)).view(np.complex128)[..., 0]
    np.save(tmp_path / "x.npy", csi)
    import_set(tmp_path / "x.npy", tmp_path / "x.h5", description=Description(1e-3, 1e9, 1e4, split=(0, 0, 1)))
    store = CSIStore(tmp_path / "x.h5")
    assert store.port_shape == (1, 4, 1) and store.h.shape == (3, 5, 6, 2, 4)
    unit = csi / np.sqrt(np.mean(np.abs(csi) ** 2, axis=(1, 2, 3, 4), keepdims=True))
    np.testing.assert_allclose(store.h[:].numpy()[np.argsort(store.truth["drop"].numpy())], unit, atol=5 * FLOAT16)


def test_llm4cp_up_is_history_and_future_in_one_link(tmp_path):
    file = tmp_path / "H_U_his_train.mat"
    llm4cp(file)
    units = Description(split=(0, 0, 1))  # the layout tells the rest
    notes = import_set(file, tmp_path / "x.h5", description=units, options={"speed_kmh": "36,108"})
    store = check_wave(tmp_path / "x.h5", 6)
    assert notes == ()
    # Links of the file are in the order of their gains: users of one speed share a drop, and stay side by side.
    order = store.truth["gain_db"].argsort()
    np.testing.assert_allclose(store.truth["speed"][order], [10, 10, 20, 20, 30, 30], rtol=1e-6)
    assert store.truth["drop"][order].tolist() == [0, 0, 1, 1, 2, 2]
    assert [f["name"] for f in store.recipe["channel"]["files"]] == ["H_U_his_train.mat", "H_U_pre_train.mat"]


def test_llm4cp_down_is_the_future_alone(tmp_path):
    llm4cp(tmp_path / "H_U_his_train.mat")
    file = tmp_path / "H_D_pre_train.mat"
    notes = import_set(file, tmp_path / "x.h5", description=Description(split=(0, 0, 1)), options={"link": "down"})
    store = CSIStore(tmp_path / "x.h5")
    assert store.h.shape == (6, 4, TONES, 1, 24) and "--speed-kmh" in notes[0]
    np.testing.assert_allclose(store.h[0].numpy(), EXPECTED[16:], atol=FLOAT16)
    assert store.attrs["carrier_frequency"] == 2.4e9 + TONES * SPACING_HZ


def test_llm4cp_knows_the_published_speeds(tmp_path):
    llm4cp(tmp_path / "H_U_his_train.mat", speeds=10, users=1)
    import_set(tmp_path / "H_U_his_train.mat", tmp_path / "x.h5")
    speed = CSIStore(tmp_path / "x.h5").truth["speed"].sort().values
    np.testing.assert_allclose(3.6 * speed, np.arange(10, 101, 10), rtol=1e-6)


@pytest.mark.parametrize("version", ["v7.3", "v5"])
def test_wifo(tmp_path, version):
    array = np.stack([wave(gain).reshape(SLOTS, TONES, -1) for gain in (1.0, 2.0, 0.1)])
    if version == "v5":
        savemat(tmp_path / "X_test.mat", {"X_val": array})
    else:
        put_v73(tmp_path / "X_test.mat", "X_val", array)
    import_set(tmp_path / "X_test.mat", tmp_path / "x.h5", description=UNITS)
    store = check_wave(tmp_path / "x.h5", 3)
    assert store.recipe["channel"]["layout"] == "wifo"


def test_an_imported_wave_is_one_peak_where_airlam_puts_it(tmp_path):
    """An on-grid wave: one beam-delay bin, at the bin that airlam's transform gives for a positive delay."""
    n = np.ogrid[:SLOTS, :TONES, :COLUMNS, :ROWS]
    h = np.exp(2j * np.pi * (-3 * n[1] / TONES + n[2] / COLUMNS + n[3] / ROWS)) + 0 * n[0]
    np.save(tmp_path / "x.npy", h[None])
    axes = {"axes": "link,slot,subcarrier,column,row"}
    import_set(tmp_path / "x.npy", tmp_path / "x.h5", description=Description(SLOT_S, 1e9, 1e5), options=axes)
    store = CSIStore(tmp_path / "x.h5")
    bins = to_beam_delay(store.h[:], store.port_shape)[0, 0, :, 0].abs()
    delay, beam = divmod(int(bins.argmax()), COLUMNS * ROWS)
    assert delay == 3 and divmod(beam, ROWS) == (1, 1)


def test_the_data_module_reads_it_like_a_generated_one(tmp_path):
    rng = np.random.default_rng(1)
    np.save(tmp_path / "x.npy", rng.normal(size=(40, 20, 6, 1, 4, 2)).view(np.complex128)[..., 0])
    import_set(tmp_path / "x.npy", tmp_path / "x.h5", description=Description(1e-3, 3e9, 3e4))
    data = CSIDataModule(store=str(tmp_path / "x.h5"), batch_size=4, num_train=32)
    batch = next(iter(data.train_dataloader()))
    assert batch["h_past"].shape == (4, 16, 6, 1, 4) and batch["h_future"].shape == (4, 4, 6, 1, 4)
    assert batch["slot_duration"] == 1e-3 and batch["port_shape"] == (1, 4, 1)
    assert [len(loader.dataset) for loader in (data.val_dataloader(), data.test_dataloader())] == [4, 4]
