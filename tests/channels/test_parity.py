"""The fast evaluation against Sionna's own, on the same random stream."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from airlam.channels import load_channel, ray_capture
from airlam.channels.drops import draw_drops, draw_velocity
from airlam.channels.panels import panel_array
from airlam.channels.ray_response import Panel, phasor_ramp
from airlam.channels.sionna_stream import sionna_stream
from airlam.csi import from_sionna

SMALL = {
    "bs_panel": {"rows": 2, "columns": 3, "polarisation": "dual", "pattern": "38.901"},
    "ut_panel": {"rows": 1, "columns": 2, "polarisation": "dual", "pattern": "omni"},
    "num_subcarriers": 13,
    "speed_kmh": [3, 100],
}
CASES = [
    {"scenario": "uma", "state": "nlos"},
    {"scenario": "uma", "state": "random"},
    {"scenario": "umi", "state": "los"},
    {"scenario": "umi", "state": "indoor"},
    {"scenario": "umi", "state": "random"},
    {"scenario": "rma", "state": "los"},
    {"scenario": "rma", "state": "random"},
    {"scenario": "inh", "state": "random"},
    {"scenario": "inf", "state": "random", "factory": "sl"},
    {"scenario": "inf", "state": "nlos", "factory": "dh"},
    {"scenario": "umi", "state": "random", "links_per_drop": 8, "spatial_consistency": True},
    *({"scenario": f"cdl_{letter}", "delay_spread": [30e-9, 300e-9]} for letter in "abcde"),
    *({"scenario": f"tdl_{letter}", "delay_spread": [30e-9, 300e-9]} for letter in "abcde"),
]


def relative_error(a, b):
    axes = tuple(range(1, a.dim()))
    return float((torch.linalg.vector_norm(a - b, dim=axes) / torch.linalg.vector_norm(b, dim=axes)).max())


@pytest.mark.parametrize("case", CASES, ids=lambda c: "-".join(str(v) for v in c.values()))
def test_fast_equals_stock(case):
    fast = load_channel({**SMALL, **case}).sample(40, 7, seed=5)
    stock = load_channel({**SMALL, **case, "fast": "stock"}).sample(40, 7, seed=5)
    # float32 sums in another order: 1e-6 measured; 1e-5 is what is promised
    assert relative_error(fast.h, stock.h) < 1e-5
    torch.testing.assert_close(fast.gain_db, stock.gain_db, atol=1e-4, rtol=0)
    for name in ("path_loss_db", "speed", "los", "indoor", "delay_spread", "position", "velocity", "drop"):
        assert torch.equal(getattr(fast, name), getattr(stock, name)), name


@pytest.mark.parametrize("bs", [("single", "omni"), ("single", "38.901"), ("dual", "omni")])
@pytest.mark.parametrize("ut", ["single", "dual"])
def test_fast_equals_stock_for_every_kind_of_panel(bs, ut):
    panels = {
        "bs_panel": {"rows": 3, "columns": 1, "polarisation": bs[0], "pattern": bs[1]},
        "ut_panel": {"rows": 1, "columns": 1, "polarisation": ut, "pattern": "38.901"},
    }
    recipe = {"scenario": "umi", "state": "los", "num_subcarriers": 6, "carrier_frequency": 28e9, **panels}
    fast = load_channel(recipe).sample(8, 5, seed=6)
    assert relative_error(fast.h, load_channel({**recipe, "fast": "stock"}).sample(8, 5, seed=6).h) < 1e-5


def chunk_seeds(seed, number=0):
    topology, stream = np.random.SeedSequence([seed, number]).generate_state(2, np.uint64)
    return torch.Generator().manual_seed(int(topology)), int(stream)


def arrays_of(model):
    return {f"{end}_array": panel_array(model.recipe[f"{end}_panel"], model.carrier_frequency) for end in ("ut", "bs")}


def ofdm(a, tau, model):
    from sionna.phy.channel import cir_to_ofdm_channel, subcarrier_frequencies

    tones = subcarrier_frequencies(model.num_subcarriers, model.subcarrier_spacing, device="cpu")
    return from_sionna(cir_to_ofdm_channel(tones, a, tau))


def test_system_level_equals_plain_sionna():
    """No airlam code between the topology and the CSI: UMa as Sionna's documentation uses it."""
    from sionna.phy.channel.tr38901 import UMa

    model = load_channel({**SMALL, "scenario": "uma", "state": "nlos"})
    batch = model.sample(32, 6, seed=9)
    generator, stream = chunk_seeds(9)
    drops = draw_drops(model.recipe, 32, generator)
    arrays = arrays_of(model)
    plain = UMa(carrier_frequency=2.4e9, o2i_model="low", direction="downlink", device="cpu", **arrays)
    with sionna_stream(stream):
        plain.set_topology(
            drops.ut_position,
            drops.bs_position,
            drops.ut_orientation,
            drops.bs_orientation,
            drops.velocity,
            drops.indoor,
            los=False,
        )
        h = ofdm(*plain(6, 1 / model.slot_duration), model)
    ours = batch.h * (10 ** (batch.gain_db / 20)).reshape(-1, 1, 1, 1, 1)
    assert relative_error(ours, h) < 1e-5


def test_cdl_equals_plain_sionna():
    from sionna.phy.channel.tr38901 import CDL

    model = load_channel({**SMALL, "scenario": "cdl_c", "delay_spread": 250e-9})
    batch = model.sample(32, 6, seed=9)
    generator, stream = chunk_seeds(9)
    velocity = draw_velocity(model.recipe["speed_kmh"], (32,), generator)
    arrays = arrays_of(model)
    plain = CDL("C", 250e-9, 2.4e9, direction="downlink", ut_velocity=velocity, device="cpu", **arrays)
    with sionna_stream(stream):
        h = ofdm(*plain(32, 6, 1 / model.slot_duration), model)
    ours = batch.h * (10 ** (batch.gain_db / 20)).reshape(-1, 1, 1, 1, 1)
    assert relative_error(ours, h) < 1e-5  # the delay spread is multiplied in later here: one rounding more


def test_without_the_hook_sionna_evaluates(monkeypatch):
    recipe = {**SMALL, "scenario": "umi", "state": "los"}
    expected = load_channel(recipe).sample(8, 4, seed=3)
    monkeypatch.setattr(ray_capture, "install", lambda model, attribute: None)
    model = load_channel(recipe)
    with pytest.warns(UserWarning, match="slow way"):
        batch = model.sample(8, 4, seed=3)
    assert relative_error(batch.h, expected.h) < 1e-5
    assert (batch.delay_spread > 0).all()  # of what the antennas hear, for want of rays: of the same order, not equal
    with pytest.raises(NotImplementedError, match="no rays"):
        model.sample(8, 4, seed=3, return_rays=True)


def test_arrays_that_do_not_factor_are_recognised():
    from sionna.phy.channel.tr38901 import HandheldUTArray, PanelArray

    common = dict(polarization="dual", polarization_type="cross", antenna_pattern="38.901", carrier_frequency=3e9)
    assert Panel.of(PanelArray(2, 2, num_rows=1, num_cols=1, device="cpu", **common)) is not None
    assert Panel.of(PanelArray(2, 2, num_rows=1, num_cols=2, device="cpu", **common)) is None
    assert Panel.of(HandheldUTArray(carrier_frequency=3e9, polarization="single", device="cpu")) is None


@pytest.mark.parametrize("count", [1, 2, 5, 24, 49])
def test_phasor_ramp(count):
    phase = torch.linspace(-3, 3, 7)
    exact = torch.polar(torch.ones(7, count).double(), phase.double()[:, None] * torch.arange(count))
    # two float32 phases and one product: a few times 2^-24 times the largest phase
    torch.testing.assert_close(phasor_ramp(phase, count).to(exact.dtype), exact, atol=3e-7 * max(count, 3), rtol=0)


def test_port_order_is_sionnas():
    """Rotating the user's position moves phase along columns (azimuth), not along rows, as port_shape says."""
    panel = {"rows": 2, "columns": 4, "polarisation": "single", "pattern": "omni"}
    one = {"rows": 1, "columns": 1, "polarisation": "single", "pattern": "omni"}
    recipe = {"scenario": "cdl_d", "bs_panel": panel, "ut_panel": one, "num_subcarriers": 1, "speed_kmh": 0}
    rays = load_channel(recipe).sample(1, 1, seed=0, return_rays=True).rays
    array = rays.array[0, 0].reshape(4, 2)  # the LOS path leaves at azimuth 0, zenith 98.5 degrees
    columns = (array[1:] * array[:-1].conj()).angle()
    rows = (array[:, 1] * array[:, 0].conj()).angle()
    assert columns.abs().max() < 1e-4
    # rows run from top to bottom, half a wavelength apart
    expected = -math.pi * math.cos(math.radians(98.5))
    torch.testing.assert_close(rows, torch.full((4,), expected), atol=1e-4, rtol=0)
