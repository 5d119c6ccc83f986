"""Ray-traced channels: recipes and errors anywhere; geometry in closed form; the rest where ray tracing runs."""

from __future__ import annotations

import math
import os
import subprocess
import sys
from dataclasses import fields

import pytest
import torch

from airlam.channels import load_channel, rt_available
from airlam.channels.ray_traced import RayTracedChannel, TracedPaths, length_change, steering
from airlam.channels.ray_tracing import SCENES, find_llvm
from airlam.errors import RecipeError

RT = {"scenario": "ray_traced", "scene": "munich"}
SINGLE = {"rows": 1, "columns": 1, "polarisation": "single", "pattern": "omni"}
C = 299_792_458.0


@pytest.fixture(scope="module")
def traced():
    """Skips, with the reason, where ray tracing cannot run."""
    found = rt_available()
    if not found:
        pytest.skip(f"ray tracing cannot run here: {found.reason}")


@pytest.mark.parametrize("scene", SCENES)
def test_each_scene_has_a_base_station(scene):
    model = load_channel({**RT, "scene": scene})
    assert isinstance(model, RayTracedChannel) and model.port_shape == (2, 4, 4)
    assert tuple(model.recipe["bs_position"]) == SCENES[scene].position
    moved = load_channel({**RT, "scene": scene, "bs_position": [0, 0, 30], "bs_bearing_deg": 10})
    assert (moved.recipe["bs_position"], moved.recipe["bs_bearing_deg"]) == ([0.0, 0.0, 30.0], 10.0)


@pytest.mark.parametrize(
    "change, text",
    [
        ({"scene": "munch"}, "scene is 'munch'.*did you mean 'munich'"),
        ({"scene": 3}, "scene is 3"),
        ({"bs_position": [1, 2]}, r"bs_position is \[1, 2\], but must be \[x, y, z\]"),
        ({"bs_position": [1, 2, "up"]}, r"bs_position\[2\] is 'up'"),
        ({"carrier_frequency": 80e9}, "carrier_frequency is 8e\\+10, but the scenes' materials hold"),
        ({"key_distance": 0}, "key_distance is 0"),
        ({"max_depth": 2.5}, "max_depth is 2.5, but must be a whole number"),
        ({"diffraction": "yes"}, "diffraction is 'yes', but must be true or false"),
        ({"state": "indoor"}, "state is 'indoor'"),
        ({"spatial_consistency": True}, "no key 'spatial_consistency'"),
        ({"max_distanc": 50}, "did you mean 'max_distance'"),
    ],
)
def test_mistakes_are_named(change, text):
    with pytest.raises(RecipeError, match=text) as caught:
        load_channel({**RT, **change})
    assert "\n" not in str(caught.value)


def test_without_llvm_the_process_lives_and_says_what_is_missing(tmp_path):
    """Also: other channels work where ray tracing does not, whichever package brought sionna/__init__.py."""
    broken = tmp_path / "libLLVM.so"
    broken.write_bytes(b"not a library")
    code = (
        "from airlam.channels import load_channel, rt_available\n"
        "from airlam.errors import AirlamError\n"
        "print('works', bool(rt_available()), rt_available().reason)\n"
        "try: load_channel('rt_munich').sample(1, 2, seed=0)\n"
        "except AirlamError as error: print('refused:', error)\n"
        "print(load_channel({'scenario': 'cdl_a', 'num_subcarriers': 2}).sample(1, 2, seed=0).h.shape)\n"
    )
    environment = {**os.environ, "DRJIT_LIBLLVM_PATH": str(broken), "CUDA_VISIBLE_DEVICES": ""}
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment)
    assert result.returncode == 0, result.stderr
    assert "works False" in result.stdout and "libllvm19" in result.stdout
    assert "refused: ray tracing cannot run here" in result.stdout and "torch.Size([1, 2, 2, 1, 32])" in result.stdout


def test_the_users_llvm_comes_first(monkeypatch):
    monkeypatch.setenv("DRJIT_LIBLLVM_PATH", "/opt/mine/libLLVM.so")
    assert find_llvm() == "/opt/mine/libLLVM.so"


def test_length_change_is_exact_geometry():
    generator = torch.Generator().manual_seed(0)
    source = 5 + 500 * torch.rand(20, generator=generator, dtype=torch.float64)
    arrival = torch.nn.functional.normalize(torch.randn(20, 3, generator=generator, dtype=torch.float64), dim=-1)
    moved = torch.randn(7, 3, generator=generator, dtype=torch.float64)
    point = source[:, None] * arrival
    want = (moved[:, None] - point).norm(dim=-1) - point.norm(dim=-1)
    # the difference of two lengths of 500 m in double precision
    torch.testing.assert_close(length_change(source, arrival, moved), want, rtol=0, atol=1e-12)


def test_steering_is_that_of_the_statistical_channels():
    """Same panel, same port order as Sionna's PanelArray."""
    from airlam.channels.panels import panel_array
    from airlam.channels.ray_response import Directions, Panel

    panel = {"rows": 3, "columns": 4, "polarisation": "dual", "pattern": "38.901"}
    zenith, azimuth = torch.tensor([[0.3, 1.2, 2.0]]), torch.tensor([[0.1, -1.0, 2.5]])
    orientation = torch.tensor([[0.4, 0.2, -0.1]])
    directions = Directions(zenith, azimuth, orientation)
    want = directions.steering(Panel.of(panel_array(panel, 2.4e9)), torch.tensor(C / 2.4e9))
    # phases of up to ten radians in single precision
    torch.testing.assert_close(steering(panel, directions.unit, orientation), want, rtol=0, atol=1e-5)


@pytest.mark.slow
def test_phase_of_the_line_of_sight_advances_as_its_length_does(traced):
    """h[t, f] / h[0, f] = exp(-j 2 pi f (L(t) - L(0)) / c), over several traced positions."""
    recipe = {
        **RT,
        "state": "los",
        "max_depth": 0,
        "diffraction": False,
        "speed_kmh": 100,
        "key_distance": 0.2,
        "bs_panel": SINGLE,
        "num_subcarriers": 4,
        "chunk": 4,
    }
    model = load_channel(recipe)
    links = model.sample(4, 40, seed=3)
    assert links.los.all()
    time = links.slot_duration * torch.arange(40, dtype=torch.float64)
    place = links.position.double()[:, None] + time[:, None] * links.velocity.double()[:, None]
    place[..., 2] -= model.recipe["bs_position"][2]
    length = place.norm(dim=-1)
    assert (length[:, -1] - length[:, 0]).abs().max() > 2 * C / 2.4e9  # they do move
    tone = model.carrier_frequency + model.subcarrier_spacing * (torch.arange(4, dtype=torch.float64) - 2)
    want = -2 * math.pi * tone * (length - length[:, :1])[..., None] / C
    error = torch.angle(links.h[..., 0, 0] / links.h[:, :1, :, 0, 0] * torch.polar(torch.ones_like(want), -want))
    # the solver's delays are single precision: 3e-7 s with an error of 3e-14 s is 5e-4 rad, at either end
    assert error.abs().max() < 5e-3


@pytest.mark.slow
def test_sampling(traced):
    model = load_channel({**RT, "chunk": 8, "speed_kmh": [3, 100]})
    links, again = model.sample(8, 20, seed=1), load_channel(model.recipe).sample(5, 20, seed=1)
    assert torch.equal(links.position[:5], again.position)
    # 1e-5 of entries of unit mean power: the tracer's threads decide in which order a link's paths are added
    torch.testing.assert_close(links.h[:5], again.h, rtol=0, atol=1e-5)
    assert not torch.equal(links.h, model.sample(8, 20, seed=2).h)
    assert links.h.shape == (8, 20, 48, 1, 32) and links.h.isfinite().all()
    power = links.h.abs().square().mean((1, 2, 3, 4))
    torch.testing.assert_close(power, torch.ones(8), rtol=0, atol=1e-4)  # float32 sums of 3e4 terms
    bearing = torch.atan2(links.position[:, 1], links.position[:, 0]).rad2deg() - model.recipe["bs_bearing_deg"]
    assert (((bearing + 180) % 360 - 180).abs() < 60.1).all() and (links.position[:, 2] == 1.5).all()
    distance = links.position[:, :2].norm(dim=-1)
    assert (distance > 9.9).all() and (distance < 120.1).all()
    assert (links.gain_db < -20 * math.log10(4 * math.pi * 10 * 2.4e9 / C) + 8 + 3).all()  # free space, 8 dBi element
    assert (links.speed > 3 / 3.6 - 1e-3).all() and (links.speed < 100 / 3.6 + 1e-3).all()
    with pytest.raises(ValueError, match="no rays"):
        model.sample(1, 2, seed=0, return_rays=True)


@pytest.mark.slow
def test_all_paths_match_sionnas_own_array(traced):
    """CSI of 32 ports from one traced element, against Sionna RT's synthetic array at the same positions."""
    model = load_channel({**RT, "chunk": 6})
    model.sample(1, 2, seed=0)
    tracks = model._tracer.draw(6, 0.5, torch.Generator().manual_seed(0))
    want, heard = _sionnas_cfr(model, tracks), 0
    # one position per user, taken for both keys: which weak paths are found depends on who else is traced
    for user, paths in enumerate(model._tracer.trace(tracks.start[:, None], tracks.orientation)):
        if want[user].abs().any():
            both = TracedPaths(*(getattr(paths, f.name).repeat_interleave(2, 0) for f in fields(TracedPaths)))
            got = model._response(tracks[[user]], both, 1)[0, :, 0]
            # delays in single precision: 1e-4 turns of the carrier
            assert (got - want[user]).norm() < 2e-3 * want[user].norm()
            heard += 1
    assert heard >= 3


@pytest.mark.slow
def test_keys_half_a_metre_apart_tell_what_those_every_decimetre_do(traced):
    model = load_channel({**RT, "chunk": 6})
    dense = load_channel({**model.recipe, "key_distance": 0.1})
    model.sample(1, 2, seed=0)
    tracks = model._tracer.draw(6, 1.0, torch.Generator().manual_seed(0))
    tracks.speed[:] = 50.0  # 0.5 m in 20 slots of 0.5 ms: four wavelengths

    def trace(channel):
        step = channel.recipe["key_distance"] * torch.arange(round(1 / channel.recipe["key_distance"]) + 1)
        where = tracks.start[:, None] + step[:, None] * tracks.heading[:, None]
        return [
            channel._response(tracks[[user]], paths, 20)
            for user, paths in enumerate(model._tracer.trace(where, tracks.orientation))
        ]

    errors = [float((a - b).norm() / b.norm()) for a, b in zip(trace(model), trace(dense), strict=True) if b.any()]
    # phases agree everywhere; what differs are weak paths, found from some positions and not from others: -25 dB in
    # the median over 12 users, -13 dB at worst
    assert len(errors) >= 3 and max(errors) < 0.35 and sorted(errors)[len(errors) // 2] < 0.15


def _sionnas_cfr(model, tracks):
    """``[user, tone, port]`` at the start of each track, from Sionna RT's own synthetic array."""
    tracer, scene = model._tracer, model._tracer.scene
    element = scene.tx_array
    scene.tx_array = tracer.rt.PlanarArray(
        num_rows=4, num_cols=4, vertical_spacing=0.5, horizontal_spacing=0.5, pattern="tr38901", polarization="cross"
    )
    names = [f"x{user}" for user in range(len(tracks.speed))]
    for name, place, held in zip(names, tracks.start.tolist(), tracks.orientation.tolist(), strict=True):
        scene.add(tracer.rt.Receiver(name, place, orientation=held))
    try:
        paths = tracer.solver(
            scene, max_depth=3, samples_per_src=model.recipe["num_samples"], diffraction=True, refraction=False
        )
        tones = (180e3 * (torch.arange(48) - 24)).numpy()
        h = paths.cfr(frequencies=tones, normalize_delays=False, normalize=False, out_type="numpy")
    finally:
        scene.tx_array = element
        for name in names:
            scene.remove(name)
    return torch.from_numpy(h[:, 0, 0, :, 0].copy()).mT


SITE = {
    "scenario": "ray_traced_site",
    "scene": "simple_street_canyon",
    "carrier_frequency": 3.5e9,
    "num_subcarriers": 64,
    "subcarrier_spacing": 1.5e6,
    "speed_kmh": 0,
    "num_samples": 10_000,
    "stations": [[-33.0, 11.0, 20.0, 0.0], [33.0, -5.0, 10.0, 180.0]],
    "area": [-60.0, 60.0, -12.0, 12.0],
    "links_per_drop": 2,
    "bs_panel": {"rows": 1, "columns": 4, "polarisation": "dual", "pattern": "38.901"},
}


@pytest.mark.parametrize(
    "change, text",
    [
        ({"stations": None}, "stations is"),
        ({"stations": None, "area": None}, "needs at least one"),
        ({"stations": [[1, 2, 3]]}, r"must be \[x, y, z, bearing_deg\]"),
        ({"area": None}, "no area"),
        ({"cars": [[1, 2]]}, r"cars\[0\] is \[1, 2\]"),
        ({"state": "los"}, "write random"),
        ({"max_distance": 50}, "no key 'max_distance'"),
    ],
)
def test_mistakes_in_a_site_are_named(change, text):
    words = "area is" if change == {"stations": None} else text
    with pytest.raises(RecipeError, match=words):
        load_channel({**SITE, **change})


@pytest.mark.slow
def test_a_site_has_paths_as_long_as_the_way_and_its_cars_change_it(traced):
    from airlam.channels import by_station

    links = load_channel(SITE).sample(48, 1, seed=1)
    h, first = by_station(links)
    stations = torch.tensor(SITE["stations"])[:, :3]
    distance = torch.cdist(links.position[first], stations)
    profile = torch.fft.ifft(h[:, :, 0, :, 0], 16 * 64, dim=2).abs().square().sum(-1)
    strongest = profile.argmax(-1) / (16 * 64 * 1.5e6) * C
    clear = links.los.view(-1, 2)
    # a tap is 3.1 m; the strongest peak is the line of sight, bent by the reflections within its tap
    assert clear.float().mean() > 0.3 and (strongest - distance)[clear].abs().median() < 0.5
    assert torch.equal(load_channel(SITE).sample(24, 1, seed=1).position, links.position[:24])
    cars = load_channel({**SITE, "cars": [[-10.0, 3.0, 90.0], [15.0, -2.0, 0.0]]}).sample(48, 1, seed=1)
    same = (cars.position == links.position).all(1)
    assert same.float().mean() > 0.5 and not torch.allclose(cars.h[same], links.h[same], atol=0.1)
