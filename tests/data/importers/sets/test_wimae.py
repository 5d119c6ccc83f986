"""The ``.npz`` files of ContraWiMAE (one slot) and PilotWiMAE (several)."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from airlam.data.importers.sets import import_set
from airlam.errors import RecipeError, StoreError


@pytest.mark.parametrize("order", [None, "antenna,subcarrier", "subcarrier,antenna"])
def test_contrawimae(tmp_path, golden, order):
    expected = golden.expected[:1]  # slot, tone, rx, port
    array = expected[0, :, 0].T if order != "subcarrier,antenna" else expected[0, :, 0]
    np.savez_compressed(tmp_path / "x.npz", channels=np.stack([array, 3 * array])[:, None])
    import_set(tmp_path / "x.npz", tmp_path / "x.h5", description=golden.units, options={"order": order})
    store = golden.check(tmp_path / "x.h5", 2, expected)
    np.testing.assert_allclose(store.h[0].numpy(), expected, atol=golden.float16)
    assert store.recipe["channel"]["layout"] == "wimae"


def test_pilotwimae(tmp_path, golden):
    array = golden.expected[:, :, 0].transpose(2, 0, 1)[None, None, None]  # sample, 1, 1, tx_ant, time, subcarrier
    np.savez(tmp_path / "x.npz", h=array, shape=np.array(array.shape))
    import_set(tmp_path / "x.npz", tmp_path / "x.h5", description=golden.units)
    store = golden.check(tmp_path / "x.h5", 1, golden.expected)
    np.testing.assert_allclose(store.h[0].numpy(), golden.expected, atol=golden.float16)
    assert store.recipe["channel"]["layout"] == "wimae"


@pytest.mark.parametrize(
    ("arrays", "options", "match"),
    [
        ({"csi": np.ones((2, 1, 3, 4), complex)}, {}, "expects channels .* found csi"),
        ({"channels": np.ones((2, 2, 3, 4), complex)}, {}, r"\[2, 2, 3, 4\], but must be complex \[sample, 1"),
        ({"channels": np.ones((2, 1, 3, 4))}, {}, "is float64"),
        ({"h": np.ones((2, 1, 1, 3, 4, 5), complex)}, {"order": "subcarrier,antenna"}, "--order is for channels"),
        ({"channels": np.ones((2, 1, 3, 4), complex)}, {"order": "up"}, "--order is 'up'"),
    ],
)
def test_what_does_not_fit(tmp_path, golden, arrays, options, match):
    np.savez(tmp_path / "x.npz", **arrays)
    units = replace(golden.units, port_shape=None)
    with pytest.raises((StoreError, RecipeError), match=match):
        import_set(tmp_path / "x.npz", tmp_path / "x.h5", layout="wimae", description=units, options=options)
    assert not (tmp_path / "x.h5").exists()
