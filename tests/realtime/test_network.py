"""The fastest network: the same values from every runtime, a choice that says why, and torch where nothing else is."""

from __future__ import annotations

import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
import torch

from airlam.errors import CheckpointError
from airlam.models import AirlamConfig, AirlamModel
from airlam.realtime import fastest_network, network
from airlam.realtime.runtimes import ROUNDED_WAYS, WAYS

TOKENS = 12


def model(**fields) -> AirlamModel:
    torch.manual_seed(0)
    body = {"model_type": "roberta-prelayernorm", "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2}
    body |= {"intermediate_size": 32, "vocab_size": 2}
    made = AirlamModel(AirlamConfig(**{"backbone": body, "error_variance": True, **fields})).eval()
    with torch.no_grad():
        made.head.weight.normal_(std=0.3)
    return made


def inputs(model: AirlamModel) -> tuple[np.ndarray, ...]:
    random, grid = np.random.default_rng(1), model.config.doppler_grid
    shapes = (1, TOKENS, model.num_features), (1, TOKENS, grid), (1, TOKENS)
    return tuple(np.abs(random.standard_normal(shape, np.float32)) for shape in shapes)


def expected(model: AirlamModel, given: tuple[np.ndarray, ...]) -> list[np.ndarray]:
    with torch.inference_mode():
        return [x.numpy() for x in model.network(*map(torch.from_numpy, given)) if x is not None]


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("kind", ["roberta-prelayernorm", "bert"])
def test_every_runtime_computes_what_the_model_does(way, kind):
    for package in {"onnxruntime": ("onnx", "onnxruntime"), "openvino": ("onnx", "openvino")}.get(way, ()):
        pytest.importorskip(package, reason=f"{package} is not installed: pip install 'airlam[realtime]'")
    body = {"model_type": kind, "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2}
    mine = model(backbone={**body, "intermediate_size": 32, "vocab_size": 2})
    fast = fastest_network(mine, TOKENS, ways={way: WAYS[way]})
    assert fast.engine == way and not fast.left_out and set(fast.seconds) == {way}
    given = inputs(mine)
    for factor in (1.0, 0.5):  # the second call must read its own inputs
        scaled = tuple(np.float32(factor) * x for x in given)
        for a, b in zip(fast(*scaled), expected(mine, scaled), strict=True):
            assert a.dtype == np.float32 and a.shape == b.shape
            assert np.abs(a - b).max() <= 1e-4 * np.abs(b).max()


def test_bfloat16_takes_part_only_where_it_may():
    mine = model()
    assert not set(ROUNDED_WAYS) & {*(fast := fastest_network(mine, TOKENS)).seconds, *fast.left_out}
    allowed = fastest_network(mine, TOKENS, precision="bfloat16")
    assert set(ROUNDED_WAYS) <= {*allowed.seconds, *allowed.left_out} and set(WAYS) & set(allowed.seconds)
    rounded = {name: WAYS["torch"] for name in ROUNDED_WAYS}
    assert fastest_network(mine, TOKENS, precision="bfloat16", ways=rounded).engine in ROUNDED_WAYS
    for package in ("onnx", "openvino"):
        pytest.importorskip(package, reason=f"{package} is not installed: pip install openvino")
    fast = fastest_network(mine, TOKENS, precision="bfloat16", ways=ROUNDED_WAYS)
    given = inputs(mine)
    for a, b in zip(fast(*given), expected(mine, given), strict=True):
        assert np.abs(a - b).max() <= 0.1 * np.abs(b).max()  # eight bits


def test_signals_are_survived_when_networks_are_gone():
    """Cores of OpenVINO leave freed stacks for signals behind: a child that ended killed its parent."""
    pytest.importorskip("openvino", reason="openvino is not installed: pip install openvino")
    code = (
        "import gc, os, signal, faulthandler\n"
        "faulthandler.enable()  # signals have a stack of their own\n"
        "signal.signal(signal.SIGCHLD, lambda *_: print('a child ended', flush=True))\n"
        "from test_network import TOKENS, WAYS, fastest_network, model\n"
        "nets = [fastest_network(model(), TOKENS, ways={'openvino': WAYS['openvino']}) for _ in range(2)]\n"
        "while nets: del nets[0]; gc.collect()\n"
        "os.kill(os.getpid(), signal.SIGCHLD)\n"
    )
    here = Path(__file__).parent
    result = subprocess.run([sys.executable, "-c", code], cwd=here, capture_output=True, text=True)
    assert result.returncode == 0 and result.stdout.endswith("a child ended\n"), result.stderr


def test_it_runs_in_another_thread():
    mine = model(error_variance=False)
    fast, found = fastest_network(mine, TOKENS), []
    given = inputs(mine)
    thread = threading.Thread(target=lambda: found.extend(x.copy() for x in fast(*given)))
    thread.start()
    thread.join()
    assert len(found) == 3
    assert np.allclose(found[0], expected(mine, given)[0], atol=1e-5)


def test_what_is_left_out_says_why(monkeypatch):
    for package in ("onnx", "onnxruntime", "openvino"):
        monkeypatch.setitem(sys.modules, package, None)
    monkeypatch.delitem(sys.modules, "airlam.realtime.graph", raising=False)
    fast = fastest_network(model(), TOKENS)
    assert fast.engine in ("torch", "torch-onednn")
    assert {"onnxruntime", "openvino"} <= set(fast.left_out)


def test_a_wrong_runtime_is_left_out():
    mine = model()
    wrong = {
        "wrong": lambda m, x, threads: lambda: tuple(1.01 * y for y in WAYS["torch"](m, x, threads)()),
        "other shapes": lambda m, x, threads: lambda: (x[0],),
        "nan": lambda m, x, threads: lambda: tuple(np.nan * y for y in WAYS["torch"](m, x, threads)()),
        "broken": lambda m, x, threads: 1 / 0,
    }
    fast = fastest_network(mine, TOKENS, ways=wrong)
    assert fast.engine == "model" and set(fast.left_out) == set(wrong)
    assert "off by" in fast.left_out["wrong"] and "division" in fast.left_out["broken"]
    given = inputs(mine)
    assert all(np.array_equal(a, b) for a, b in zip(fast(*given), expected(mine, given), strict=True))


def test_the_fastest_one_stays(monkeypatch):
    monkeypatch.setattr(network, "_trial", lambda runs: {name: float(name == "torch") for name in runs})
    ways = {name: WAYS["torch"] for name in ("torch", "a", "b")}
    assert fastest_network(model(), TOKENS, ways=ways).engine == "a"


def test_a_process_chooses_once(monkeypatch):
    """Else two streams of one model round differently, and their values differ by up to 1e-4."""
    monkeypatch.setattr(network, "_timed", {})
    order = list(WAYS)

    def trial(runs):
        order.reverse()
        return {name: float(order.index(name)) for name in runs}

    monkeypatch.setattr(network, "_trial", trial)
    first, second = fastest_network(model(), TOKENS), fastest_network(model(), TOKENS)
    assert first.engine == second.engine and first.seconds == second.seconds
    fastest_network(model(), TOKENS + 1)
    assert len(network._timed) == 2  # another number of tokens is another kind


def test_a_backbone_without_a_lean_form_uses_the_model():
    body = {"model_type": "gpt2", "n_embd": 16, "n_layer": 1, "n_head": 2, "vocab_size": 2, "n_positions": 64}
    fast = fastest_network(model(backbone=body), TOKENS)
    reasons = [reason for reason in fast.left_out.values() if not reason.endswith("is not installed")]
    assert fast.engine == "model" and {*fast.left_out} == {*WAYS} and len(reasons) >= len(("torch", "torch-onednn"))
    assert all("gpt2" in reason for reason in reasons)


def test_mistakes():
    with pytest.raises(ValueError, match="tokens must be"):
        fastest_network(model(), 0)
    with pytest.raises(ValueError, match="threads must be"):
        fastest_network(model(), 8, threads=0)
    with pytest.raises(ValueError, match="precision must be one of float32, bfloat16"):
        fastest_network(model(), 8, precision="int8")
    with pytest.raises(CheckpointError, match="sensors"):
        fastest_network(model(context=["velocity"]), 8)
    mine = model()
    fast = fastest_network(mine, TOKENS, ways={})
    features, spectrum, noise = inputs(mine)
    with pytest.raises(ValueError, match="features must be of shape"):
        fast(features[:, :1], spectrum, noise)
