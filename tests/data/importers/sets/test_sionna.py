"""Channels of Sionna saved as arrays; its own functions say what they mean."""

from __future__ import annotations

import h5py
import numpy as np
import pytest
import torch

from airlam.csi import to_sionna
from airlam.data import CSIStore
from airlam.data.importers.sets import import_set
from airlam.errors import RecipeError, StoreError


def gains(golden, **shape) -> tuple[np.ndarray, np.ndarray]:
    """``a [1, 1, 1, 1, tx_ant, path, slot]``, ``tau [1, 1, 1, path]``: the golden wave and a path without power."""
    a = golden.wave()[:, 0].reshape(golden.slots, -1).T  # [tx_ant, slot]
    a = np.stack([a, 0 * a], axis=1)[None, None, None, None]
    return a, np.array([golden.delay_s, 0.0]).reshape(1, 1, 1, 2)


@pytest.mark.parametrize("name", ["h", "h_freq", "cfr"])
@pytest.mark.parametrize("suffix", ["npz", "h5"])
def test_a_frequency_response(tmp_path, golden, name, suffix):
    h = to_sionna(torch.from_numpy(golden.expected[None]).to(torch.complex64)).numpy()
    h = np.concatenate([h, 2 * h])
    if suffix == "npz":
        np.savez(tmp_path / "x.npz", **{name: h}, other=np.zeros(3))
    else:
        with h5py.File(tmp_path / "x.h5", "w") as file:
            file[name] = h
    import_set(tmp_path / f"x.{suffix}", tmp_path / "store.h5", description=golden.units)
    store = golden.check(tmp_path / "store.h5", 2, golden.expected)
    np.testing.assert_allclose(store.h[0].numpy(), golden.expected, atol=golden.float16)
    assert store.recipe["channel"]["layout"] == "sionna"


@pytest.mark.parametrize("axes", ["shared delays", "delays of each antenna", "no batch"])
def test_path_gains_become_a_frequency_response(tmp_path, golden, axes):
    a, tau = gains(golden)
    if axes == "delays of each antenna":
        tau = np.broadcast_to(tau[:, :, None, :, None], a.shape[:-1])
    elif axes == "no batch":
        a, tau = a[0], tau[0]
    np.savez(tmp_path / "x.npz", a=a, tau=tau)
    options = {"subcarriers": golden.tones}
    import_set(tmp_path / "x.npz", tmp_path / "x.h5", description=golden.units, options=options)
    golden.check(tmp_path / "x.h5", 1, golden.expected)


def test_sionna_itself_agrees(tmp_path, golden, monkeypatch):
    """Random path gains of several users and receivers against Sionna's ``cir_to_ofdm_channel``."""
    from sionna.phy.channel import cir_to_ofdm_channel, subcarrier_frequencies

    monkeypatch.setattr("airlam.data.importers.sets.layout.READ_BYTES", 3000)
    rng = np.random.default_rng(0)
    a = rng.normal(size=(3, 2, 2, 2, 4, 5, 6, 2)).astype(np.float32).view(np.complex64)[..., 0]
    tau = rng.uniform(0, 1e-6, size=(3, 2, 2, 5)).astype(np.float32)
    with h5py.File(tmp_path / "cir.h5", "w") as file:
        file.create_dataset("a", data=a, chunks=(2, 2, 2, 2, 4, 5, 6))
        file["tau"] = tau
    from airlam.data.importers.sets import Description

    units = Description(1e-3, 3e9, 30e3, split=(0, 0, 1))
    import_set(tmp_path / "cir.h5", tmp_path / "x.h5", description=units, options={"subcarriers": "7"})
    h = cir_to_ofdm_channel(subcarrier_frequencies(7, 30e3), torch.from_numpy(a), torch.from_numpy(tau))
    expected = h.permute(0, 1, 3, 5, 6, 2, 4).reshape(12, 6, 7, 2, 4).numpy()
    store = CSIStore(tmp_path / "x.h5")
    assert sorted(store.truth["drop"].tolist()) == [0] * 4 + [1] * 4 + [2] * 4
    order = np.argsort(store.truth["drop"].numpy(), kind="stable")
    gain = 10 ** (store.truth["gain_db"].numpy() / 20)
    read = store.h[:].numpy() * gain[:, None, None, None, None]
    np.testing.assert_allclose(read[order], expected, atol=2e-3 * np.abs(expected).max())


def test_what_does_not_fit(tmp_path, golden):
    a, tau = gains(golden)

    def refused(match, error=StoreError, options=None, layout="sionna", **arrays):
        np.savez(tmp_path / "x.npz", **arrays)
        with pytest.raises(error, match=match) as caught:
            import_set(
                tmp_path / "x.npz", tmp_path / "x.h5", layout=layout, description=golden.units, options=options or {}
            )
        assert "\n" not in str(caught.value) and not (tmp_path / "x.h5").exists()

    refused("give --subcarriers", RecipeError, a=a, tau=tau)
    refused(r"needs real \[1, 1, 1, 2\]", options={"subcarriers": 8}, a=a, tau=tau[..., :1])
    refused("must be complex", options={"subcarriers": 8}, a=a.real, tau=tau)
    refused("--subcarriers is for path gains", RecipeError, {"subcarriers": 8}, h=a)
    refused("expects a .* found csi", csi=a)
    refused(r"has 3 axes \[20, 24, 1\], expected 6 or 7", h=np.ones((20, 24, 1), complex))
