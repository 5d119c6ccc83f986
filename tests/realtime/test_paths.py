"""Streams of paths: compiled and plain kernels, receivers with offsets, odd sizes, what a push allocates."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
import torch

from airlam import load_predictor
from airlam.baselines.path_fit import Search
from airlam.baselines.path_memory import find
from airlam.baselines.path_tracking import track
from airlam.baselines.paths import PathPredictor
from airlam.channels import load_channel
from airlam.csi import Impairment, receive
from airlam.metrics import nmse
from airlam.realtime import PathEngine, Stream, engine_for

SHAPE, PANEL, HISTORY = (24, 1, 8), (2, 2, 2), 16
FEW = PathPredictor(num_paths=24, rounds=4)


def links(number: int, slots: int, speed_kmh: float = 30.0, impairment: Impairment | None = None, seed: int = 1):
    """Measured and true CSI of UMa without line of sight at 20 dB, ``[link, slot, 24, 1, 8]``."""
    panel = {"rows": 2, "columns": 2, "polarisation": "dual", "pattern": "38.901"}
    recipe = {"scenario": "uma", "state": "nlos", "speed_kmh": speed_kmh, "bs_panel": panel, "num_subcarriers": 24}
    h = load_channel(recipe).sample(number, slots, seed=seed).h
    generator = torch.Generator().manual_seed(seed)
    seen, _ = receive(h, 20.0, impairment, generator, slot_duration=0.5e-3, subcarrier_spacing=180e3)
    return seen.numpy(), h


@pytest.mark.parametrize("impairment", [None, Impairment(phase_std=0.1, timing_std_s=1e-8)], ids=["clean", "impaired"])
def test_compiled_and_plain_kernels_agree(impairment):
    pytest.importorskip("numba")
    seen, _ = links(2, 40, impairment=impairment)
    predictor = load_predictor("airlam-paths")
    engines = [PathEngine(predictor, SHAPE, 4, port_shape=PANEL, compiled=compiled) for compiled in (True, False)]
    for slots in seen:
        memories = [engine.refresh(slots[:HISTORY]) for engine in engines]
        assert (memories[0]["offsets"] > 0) == (impairment is not None)
        # the same filters for both: a refresh of one's own differs by the rounding of its tracker
        memories[1] = {name: value.copy() for name, value in memories[0].items()}
        memories[1] |= {name: engines[1].refresh(slots[:HISTORY])[name] for name in ("products",) if impairment}
        for stop in range(HISTORY + 1, 40):
            found = [np.empty((4, *SHAPE), np.complex64) for _ in engines]
            for engine, memory, out in zip(engines, memories, found, strict=True):
                engine.advance(memory, np.ascontiguousarray(slots[stop - HISTORY : stop]), 1, out)
            difference = np.linalg.norm(found[0] - found[1]) / np.linalg.norm(found[1])
            assert difference < 1e-4  # single precision, sums in another order


def test_a_stream_keeps_up_with_full_predictions():
    seen, h = links(6, 124)
    stream_nmse, full_nmse = [], []
    engine = PathEngine(FEW, SHAPE, 4, port_shape=PANEL)
    for slots, true in zip(seen, h, strict=True):
        stream = Stream(engine, refresh_every=50)
        stream.start(slots[:HISTORY])
        for slot in slots[HISTORY:120]:
            future = stream.push(slot)
        full = FEW.predict(torch.from_numpy(slots[104:120]), 4, port_shape=PANEL)
        stream_nmse.append(float(nmse(torch.from_numpy(future)[None], true[None, 120:])))
        full_nmse.append(float(nmse(full[None], true[None, 120:])))
    assert np.mean(stream_nmse) < 1.3 * np.mean(full_nmse)  # filters are 50 slots old


def test_an_impaired_receiver_is_followed():
    impairment = Impairment(phase_std=0.1)
    seen, h = links(4, 64, impairment=impairment)
    predictor = load_predictor("airlam-paths")
    engine = PathEngine(predictor, SHAPE, 4, port_shape=PANEL)
    found = []
    for slots in seen:
        stream = Stream(engine, refresh_every=10**6)
        stream.start(slots[:HISTORY])
        for slot in slots[HISTORY:60]:
            future = stream.push(slot)
        found.append(torch.from_numpy(future))
    full = predictor.predict(torch.from_numpy(seen[:, 44:60]), 4, port_shape=PANEL)
    # a phase that all entries of a slot share is no one's to predict: both are off by it
    assert float(nmse(torch.stack(found), h[:, 60:])) < 1.5 * float(nmse(full, h[:, 60:])) + 0.01


@pytest.mark.parametrize("name", ["paths", "airlam-paths"])
@pytest.mark.parametrize("shape, panel", [((1, 1, 1), (1, 1, 1)), ((5, 3, 6), (1, 3, 2)), ((12, 2, 4), (2, 2, 1))])
def test_any_size_and_any_window_gives_finite_predictions(name, shape, panel):
    engine = engine_for(load_predictor(name), shape, 3, history=8, port_shape=panel)
    random = np.random.default_rng(0)
    noise = (random.standard_normal((8, *shape)) + 1j * random.standard_normal((8, *shape))).astype(np.complex64)
    for window in (np.zeros_like(noise), noise, np.ones_like(noise) * np.complex64(1e-5)):
        out = np.empty((3, *shape), np.complex64)
        memory = engine.refresh(window)
        engine.advance(memory, window, 0, out)
        engine.advance(engine.refresh(window, memory), window, 1, out)
        assert np.isfinite(out).all() and np.abs(out).max() <= 2 * max(np.abs(window).max(), 1e-9)


def test_paths_are_followed_die_and_are_born():
    t, f = torch.arange(16)[:, None], torch.arange(24)

    def waves(*paths: tuple[float, float, float]) -> torch.Tensor:
        h = sum(a * torch.exp(2j * torch.pi * (v * t + d * f)) for v, d, a in paths)
        noise = torch.randn(16, 24, dtype=torch.complex64, generator=torch.Generator().manual_seed(0))
        return (h + 0.03 * noise)[None, None, :, :, None, None].to(torch.complex64)

    search = Search(most=8)
    before = find(waves((0.01, 0.1, 1.0), (-0.05, 0.3, 0.7)), search)
    shift, live, _ = track(waves((0.012, 0.103, 1.0), (0.07, -0.2, 0.5)), before, search)
    found = sorted([round(v, 2), round(d, 2)] for v, d in shift[0, live[0], :2].tolist())
    assert found == [[0.01, 0.1], [0.07, -0.2]]
    # another link altogether is searched anew
    shift, live, _ = track(waves((0.2, 0.4, 1.0)), before, search)
    assert [[round(x, 1) for x in each[:2]] for each in shift[0, live[0]].tolist()] == [[0.2, 0.4]]


def test_a_push_allocates_nothing_of_size():
    pytest.importorskip("numba")
    seen, _ = links(1, 60)
    stream = Stream(PathEngine(FEW, SHAPE, 4, port_shape=PANEL), refresh_every=10**6)
    stream.start(seen[0, :HISTORY])
    out = np.empty((4, *SHAPE), np.complex64)
    for slot in seen[0, HISTORY:40]:
        stream.push(slot, out=out)
    tracemalloc.start()
    try:
        for slot in seen[0, 40:]:
            tracemalloc.reset_peak()
            before = tracemalloc.get_traced_memory()[0]
            stream.push(slot, out=out)
            # Python's own small objects; a slot has 1.5 kB, a prediction 6 kB
            assert tracemalloc.get_traced_memory()[1] - before < 3000
    finally:
        tracemalloc.stop()
