"""A plane wave of known delay, Doppler shift and phase from port to port, for the tests of the layouts."""

from __future__ import annotations

from types import SimpleNamespace

import h5py
import numpy as np
import pytest

from airlam.data import CSIStore
from airlam.data.importers.sets import Description

SLOT_S, CARRIER_HZ, SPACING_HZ, DELAY_S, DOPPLER_HZ = 0.5e-3, 2.4e9, 180e3, 0.4e-6, 300.0
SLOTS, TONES, POLARISATIONS, COLUMNS, ROWS = 20, 12, 2, 3, 4
COLUMN_STEP, ROW_STEP, POLARISATION_STEP = 0.7, -0.4, 1.9  # phase [rad] from port to port in airlam's order
FLOAT16 = 2e-3  # rounding of unit-power values that a store keeps as float16, with room for the phase's sum


def wave(gain: float = 1.0, doppler_hz: float = DOPPLER_HZ, slots: int = SLOTS) -> np.ndarray:
    """``complex128 [slot, tone, polarisation, column, row]``, rows from top to bottom: airlam's convention."""
    n = np.ogrid[:slots, :TONES, :POLARISATIONS, :COLUMNS, :ROWS]
    phase = 2 * np.pi * (doppler_hz * SLOT_S * n[0] - SPACING_HZ * DELAY_S * n[1])
    return gain * np.exp(1j * (phase + POLARISATION_STEP * n[2] + COLUMN_STEP * n[3] + ROW_STEP * n[4]))


def put_v73(path, name: str, array: np.ndarray, **storage) -> None:
    """As MATLAB's ``save -v7.3`` lays out an array: axes reversed, complex values a compound of real and imag."""
    stored = array.T
    if array.dtype.kind == "c":
        stored = np.empty(array.T.shape, [("real", array.real.dtype), ("imag", array.real.dtype)])
        stored["real"], stored["imag"] = array.T.real, array.T.imag
    with h5py.File(path, "a") if path.exists() else h5py.File(path, "w", userblock_size=512) as file:
        file.create_dataset(name, data=stored, **storage)


def check(path, num_links: int, expected: np.ndarray, port_shape=(POLARISATIONS, COLUMNS, ROWS)) -> CSIStore:
    """Every link is the expected ``[slot, tone, rx_ant, tx_ant]`` up to one complex factor of each link."""
    store = CSIStore(path)
    store.verify()
    assert len(store) == num_links and store.port_shape == port_shape
    unit = expected / np.sqrt(np.mean(np.abs(expected) ** 2))
    for h in store.h[:].numpy():
        turn = np.vdot(unit, h) / np.vdot(unit, unit)
        np.testing.assert_allclose(abs(turn), 1, atol=FLOAT16)
        np.testing.assert_allclose(h, unit * turn, atol=2 * FLOAT16 * np.abs(unit).max())
    return store


@pytest.fixture
def golden() -> SimpleNamespace:
    ports = (POLARISATIONS, COLUMNS, ROWS)
    units = Description(SLOT_S, CARRIER_HZ, SPACING_HZ, ports, split=(0, 0, 1))
    constants = dict(
        slot_s=SLOT_S, spacing_hz=SPACING_HZ, delay_s=DELAY_S, doppler_hz=DOPPLER_HZ, carrier_hz=CARRIER_HZ
    )
    steps = {"column_step": COLUMN_STEP, "row_step": ROW_STEP, "polarisation_step": POLARISATION_STEP}
    expected = wave().reshape(SLOTS, TONES, 1, -1)
    return SimpleNamespace(
        wave=wave, expected=expected, units=units, check=check, put_v73=put_v73, float16=FLOAT16, slots=SLOTS,
        tones=TONES, ports=ports, **constants, **steps,
    )  # fmt: skip
