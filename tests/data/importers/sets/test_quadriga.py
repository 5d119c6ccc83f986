"""Channel objects of QuaDRiGa, as ``mat_save`` lays them out, and as a struct array."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy.io import savemat

from airlam.data import CSIStore
from airlam.data.importers.sets import import_set
from airlam.errors import RecipeError, StoreError

OPTIONS = {"subcarriers": 12, "elements": "3gpp"}


def channel(golden, gain: float = 1.0, individual: bool = False) -> dict[str, np.ndarray]:
    """The golden wave of one path, and a second path without power; elements as gen_arrayant_3gpp_3d.m counts them."""
    h = golden.wave(gain)[:, 0, :, :, ::-1]  # slot, polarisation, column, row from the bottom
    coeff = h.transpose(1, 3, 2, 0).reshape(1, -1, 1, golden.slots, order="F")  # rx, element, path, snapshot
    coeff = np.concatenate([coeff, 0 * coeff], axis=2)
    delay = np.tile([[golden.delay_s], [1e-7]], (1, golden.slots))
    if individual:
        delay = np.broadcast_to(delay, coeff.shape)
    steps = np.arange(golden.slots) * golden.slot_s
    rx = np.stack([30 + 10 * steps, 40 + 0 * steps, 1.5 + 0 * steps])
    return {"coeff": coeff, "delay": delay, "center_frequency": np.float64([[golden.carrier_hz]]),
            "rx_position": rx, "tx_position": np.array([[10.0], [10.0], [25.0]])}  # fmt: skip


def mat_save(path, channels, golden, version: str) -> None:
    names = {"coeff": "Coeffs", "delay": "Delays", "center_frequency": "CenterFrequency"}
    variables = {"ChannelDims": np.array([[len(channels), 1, 1, 1]])}
    for number, entry in enumerate(channels, 1):
        for key, array in entry.items():
            single = array.astype(np.complex64 if array.dtype.kind == "c" else np.float32)
            variables[f"channel_{number:05}_{names.get(key, key)}"] = single
    if version == "v5":
        savemat(path, variables)
    else:
        for name, array in variables.items():
            golden.put_v73(path, name, array)


@pytest.mark.parametrize("individual", [False, True])
@pytest.mark.parametrize("version", ["v5", "v7.3", "struct"])
def test_a_wave(tmp_path, golden, monkeypatch, version, individual):
    monkeypatch.setattr("airlam.data.importers.sets.layout.READ_BYTES", 20000)
    channels = [channel(golden, gain, individual) for gain in (1.0, 2.0, 3.0)]
    path = tmp_path / "x.mat"
    if version == "struct":
        fields = [(name, object) for name in channels[0]]
        struct = np.array([[tuple(entry.values())] for entry in channels], fields)
        savemat(path, {"c": struct})
    else:
        mat_save(path, channels, golden, version)
    layout = "quadriga" if version == "struct" else "auto"
    units = replace(golden.units, carrier_hz=None)
    import_set(path, tmp_path / "x.h5", layout=layout, description=units, options=OPTIONS)
    store = golden.check(tmp_path / "x.h5", 3, golden.expected)
    np.testing.assert_allclose(store.h[0].numpy(), golden.expected, atol=golden.float16)
    np.testing.assert_allclose(sorted(store.truth["gain_db"].tolist()), 20 * np.log10([1, 2, 3]), atol=1e-4)
    np.testing.assert_allclose(store.attrs["carrier_frequency"], golden.carrier_hz, rtol=1e-6)
    np.testing.assert_allclose(store.truth["position"], [[20, 30, 1.5]] * 3, rtol=1e-6)
    np.testing.assert_allclose(store.truth["velocity"], [[10, 0, 0]] * 3, atol=2e-3)  # positions are float32 there
    np.testing.assert_allclose(store.truth["speed"], 10, rtol=2e-4)


def test_elements_keep_their_order_and_last_axes_may_be_missing(tmp_path):
    from airlam.data.importers.sets import Description

    coeff = np.random.default_rng(0).normal(size=(2, 3, 4, 2)).view(np.complex128)[..., 0]  # one snapshot
    delay = np.array([[0.0], [1e-7], [2e-7], [3e-7]])
    savemat(tmp_path / "x.mat", {"channel_00001_Coeffs": coeff, "channel_00001_Delays": delay})
    units = Description(1e-3, 2e9, 1e5, split=(0, 0, 1))
    import_set(tmp_path / "x.mat", tmp_path / "x.h5", description=units, options={"subcarriers": "5"})
    turn = np.exp(-2j * np.pi * delay * np.arange(5) * 1e5)
    expected = np.einsum("rtp,pk->krt", coeff, turn)
    store = CSIStore(tmp_path / "x.h5")
    assert store.h.shape == (1, 1, 5, 2, 3)
    expected /= np.sqrt(np.mean(np.abs(expected) ** 2))
    np.testing.assert_allclose(store.h[0, 0].numpy(), expected, atol=5e-3)


def test_what_does_not_fit(tmp_path, golden):
    def refused(channels, match, error=StoreError, options=OPTIONS, units=golden.units, version="v5"):
        mat_save(tmp_path / "x.mat", channels, golden, version)
        with pytest.raises(error, match=match) as caught:
            import_set(tmp_path / "x.mat", tmp_path / "x.h5", description=units, options=options)
        assert "\n" not in str(caught.value) and not (tmp_path / "x.h5").exists()

    good = channel(golden)
    refused([good], "give --subcarriers", RecipeError, {})
    refused([good], "--elements is 'up'", RecipeError, {**OPTIONS, "elements": "up"})
    refused([good], "needs a --port-shape of the 24", RecipeError, units=replace(golden.units, port_shape=None))
    refused([{**good, "delay": good["delay"][:1]}], r"delay is .*\[1, 20\], but coeff \[1, 24, 2, 20\] needs")
    refused([{k: v for k, v in good.items() if k != "delay"}], "expects channel_00001_Delays")
    short = {**good, "coeff": good["coeff"][..., :10], "delay": good["delay"][:, :10]}
    refused([good, short], "channel 2 has 10 snapshots, .* the first has 20 snapshots")
    savemat(tmp_path / "y.mat", {"H": np.ones(3)})
    with pytest.raises(StoreError, match="expects channel_00001_Coeffs .* found H"):
        import_set(tmp_path / "y.mat", tmp_path / "x.h5", layout="quadriga", options=OPTIONS)
