"""Exported graphs: parity with torch, free batch and tokens, eight bits, and folders that are not what they should be.

A relative tolerance of 1e-4 throughout: both sides compute in single precision and sum in another order. Measured: 5e-7
for predictions, 1e-5 for variances (they pass through an exponential).
"""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

import pytest
import torch

from airlam.channels import load_channel
from airlam.csi import measure
from airlam.errors import CheckpointError
from airlam.loading import load_predictor
from airlam.metrics import nmse
from airlam.models import (
    AirlamConfig,
    AirlamModel,
    AirlamPredictor,
    OnnxPredictor,
    add_lora,
    load_checkpoint,
)

for package in ("onnx", "onnxscript", "onnxruntime"):
    pytest.importorskip(package, reason=f"{package} is not installed: pip install 'airlam[onnx]'")

from airlam.export import export_onnx  # noqa: E402
from airlam.realtime import Stream, engine_for  # noqa: E402

SHAPE = (2, 2, 2)
BERT = {
    "model_type": "roberta-prelayernorm",
    "hidden_size": 16,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 32,
    "max_position_embeddings": 66,
    "vocab_size": 2,
    "pad_token_id": 1,
}
GPT2 = {"model_type": "gpt2", "n_embd": 16, "n_layer": 1, "n_head": 2, "vocab_size": 2, "n_positions": 64}


def model(backbone=BERT, **changes) -> AirlamModel:
    """A small model that says something: a fresh one's head is silent."""
    torch.manual_seed(0)
    fields = {"num_tokens": 16, "num_groups": 4, "error_variance": True, "phase_tracker": True}
    made = AirlamModel(AirlamConfig(backbone=backbone, **{**fields, **changes})).eval()
    with torch.no_grad():
        made.head.weight.normal_(std=0.3)
        made.head.bias.normal_(std=0.3)
    return made


def noise_links(links=5, slots=16, tones=12, seed=0) -> torch.Tensor:
    g = torch.Generator().manual_seed(seed)
    return torch.randn(links, slots, tones, 1, 8, dtype=torch.complex64, generator=g)


def assert_close(a: torch.Tensor, b: torch.Tensor) -> None:
    assert a.shape == b.shape and a.dtype == b.dtype
    assert float((a - b).abs().max()) <= 1e-4 * float(b.abs().max())


@pytest.fixture(scope="module")
def plain() -> AirlamPredictor:
    return AirlamPredictor(model())


@pytest.fixture(scope="module")
def folder(plain, tmp_path_factory):
    return export_onnx(plain.model, tmp_path_factory.mktemp("exported") / "float")


@pytest.fixture(scope="module")
def folder_int8(plain, tmp_path_factory):
    return export_onnx(plain.model, tmp_path_factory.mktemp("exported") / "int8", int8=True)


@pytest.mark.parametrize("links", [0, 1, 2, 7])
@pytest.mark.parametrize("slots", [2, 9, 16, 40])
def test_parity_for_any_batch_and_history(plain, folder, links, slots):
    exported = load_predictor(folder)
    assert isinstance(exported, OnnxPredictor)
    h = noise_links(links, slots)
    out = exported.predict(h, 3, port_shape=SHAPE)
    assert out.shape == (links, 3, 12, 1, 8)
    if links:
        assert_close(out, plain.predict(h, 3, port_shape=SHAPE))


@pytest.mark.parametrize("tones", [1, 2, 3, 24])
def test_parity_for_any_number_of_tokens(plain, folder, tones):
    """8, 16, 17 and 20 tokens: bands so narrow that they have fewer coefficients than the model would take."""
    h = noise_links(3, tones=tones)
    assert_close(load_predictor(folder).predict(h, 4, port_shape=SHAPE), plain.predict(h, 4, port_shape=SHAPE))


def test_parity_of_variances_and_masks(plain, folder):
    exported, h = load_predictor(folder), noise_links()
    for a, b in zip(*(p.predict_with_variance(h, 4, port_shape=SHAPE) for p in (exported, plain)), strict=True):
        assert_close(a, b)
    observed = torch.ones(5, 16, dtype=torch.bool)
    observed[:, [3, 15]] = False
    a, b = (p.predict(h, 4, port_shape=SHAPE, context={"observed": observed}) for p in (exported, plain))
    assert_close(a, b)


def test_streams_run_on_graphs(tmp_path):
    plain = AirlamPredictor(model(forward_backward=True))
    both = load_predictor(export_onnx(plain.model, tmp_path / "graph")), plain
    engines = (engine_for(p, tuple(noise_links().shape[2:]), 2, history=8, port_shape=SHAPE) for p in both)
    a, b = (Stream(engine, refresh_every=3) for engine in engines)
    for slot in noise_links(1, 16)[0]:
        assert_close(a.push(slot), b.push(slot))
    assert a.state.memory


def test_options_and_zero_csi(plain, folder):
    exported = load_predictor(folder, name="mine", threads=1)
    h = noise_links()
    assert exported.name == "mine" and load_predictor(folder).name == "float"
    start = load_predictor(folder, correction=False).predict(h, 4, port_shape=SHAPE)
    assert_close(start, AirlamPredictor(plain.model, correction=False).predict(h, 4, port_shape=SHAPE))
    out = exported.predict(torch.zeros_like(h), 4, port_shape=SHAPE)
    assert torch.equal(out, torch.zeros_like(out))
    with pytest.raises(ValueError, match="threads must be"):
        load_predictor(folder, threads=0)
    with pytest.raises(ValueError, match="precision that it was exported in"):
        AirlamPredictor(exported.model, precision="bfloat16")


def test_other_backbones_and_heads(tmp_path):
    """A causal backbone; neither variances nor tracker."""
    made = model(GPT2, error_variance=False, phase_tracker=False)
    exported = load_predictor(export_onnx(made, tmp_path / "gpt2"))
    assert sorted(path.name for path in (tmp_path / "gpt2").iterdir()) == ["config.json", "model.onnx"]
    h = noise_links()
    assert_close(exported.predict(h, 4, port_shape=SHAPE), AirlamPredictor(made).predict(h, 4, port_shape=SHAPE))
    with pytest.raises(ValueError, match="no error variances"):
        exported.predict_with_variance(h, 4, port_shape=SHAPE)


def test_int8_is_near_and_smaller(plain, folder, folder_int8):
    h = noise_links()
    a, b = (p.predict(h, 4, port_shape=SHAPE) for p in (load_predictor(folder_int8), plain))
    # eight bits: a weight's rounding error is 1/254 of its row's largest; measured -50 dB
    assert 0 < float(nmse(a, b)) < 1e-3
    import onnx

    graphs = (onnx.load(path / "model.onnx").graph for path in (folder, folder_int8))
    full, eight = ([node.op_type for node in graph.node] for graph in graphs)
    # four projections of the attention and two layers of the feed-forward part; embedding and head stay as they are
    assert eight.count("MatMulInteger") == 6 and "MatMulInteger" not in full
    assert full.count("MatMul") - eight.count("MatMul") == 6


def test_int8_leaves_links_alone(folder_int8):
    """Its scales come from the tensor at hand: were that the batch, a loud neighbour would coarsen all steps."""
    exported, h = load_predictor(folder_int8), noise_links()
    others = h.clone()
    others[1:] = noise_links(4, seed=9).cumsum(1) * 100
    first = exported.predict(h, 4, port_shape=SHAPE)[0]
    assert torch.equal(exported.predict(others, 4, port_shape=SHAPE)[0], first)
    assert_close(exported.predict(h[:1], 4, port_shape=SHAPE)[0], first)


@pytest.mark.slow
def test_shipped_checkpoint_on_3gpp_links(tmp_path):
    plain = load_predictor("airlam-tiny")
    batch = load_channel({"scenario": "uma", "state": "nlos", "speed_kmh": 60}).sample(24, 20, seed=3)
    past = measure(batch.h[:, :16], 20.0, torch.Generator().manual_seed(0))
    wanted = plain.predict(past, 4, port_shape=batch.port_shape)
    found = {}
    for int8 in (False, True):
        exported = load_predictor(export_onnx(plain.model, tmp_path / f"{int8}", int8=int8))
        found[int8] = exported.predict(past, 4, port_shape=batch.port_shape)
    assert_close(found[False], wanted)
    cost = 10 * (nmse(found[True], batch.h[:, 16:]) / nmse(wanted, batch.h[:, 16:])).log10()
    assert abs(float(cost)) < 0.02  # measured: 0.001 dB


def test_nothing_is_overwritten(plain, folder, tmp_path):
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    (tmp_path / "file").write_text("mine")
    for taken in (folder, tmp_path / "file"):
        with pytest.raises(CheckpointError, match="not an empty folder"):
            export_onnx(plain.model, taken)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    assert not list(folder.parent.glob(".exporting-*"))


def test_only_plain_models(plain, tmp_path):
    with pytest.raises(TypeError, match="only an AirlamModel"):
        export_onnx(plain, tmp_path / "x")
    with pytest.raises(TypeError, match="only an AirlamModel"):
        export_onnx(add_lora(model(), rank=2), tmp_path / "x")


def test_sensors_have_no_place_in_a_graph(tmp_path):
    with pytest.raises(CheckpointError, match=r"has sensors \(velocity\)"):
        export_onnx(model(context=["velocity"]), tmp_path / "x")
    assert not (tmp_path / "x").exists()


def test_missing_packages_are_named(plain, folder, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)  # how Python marks what cannot be imported
    with pytest.raises(CheckpointError, match=r"needs onnxruntime; pip install 'airlam\[onnx\]'"):
        export_onnx(plain.model, tmp_path / "x")
    with pytest.raises(CheckpointError, match=r"needs ONNX Runtime; pip install 'airlam\[onnx\]'"):
        load_predictor(folder)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda f: (f / "model.onnx").unlink(), "has no model.onnx"),
        (lambda f: (f / "tracker.safetensors").unlink(), "has no tracker.safetensors"),
        (lambda f: (f / "model.onnx").write_bytes((f / "model.onnx").read_bytes()[:-1] + b"x"), "damaged"),
        (lambda f: edit(f, export_format="onnx2"), "not one of"),
        (lambda f: edit(f, num_tokens=0), "num_tokens must be"),
        (lambda f: (edit(f, graph_sha256=None), (f / "model.onnx").write_bytes(b"nonsense")), "no graph that ONNX"),
    ],
)
def test_damaged_folders_are_refused(folder, tmp_path, damage, message):
    copy = shutil.copytree(folder, tmp_path / "copy")
    damage(copy)
    with pytest.raises(CheckpointError, match=message):
        load_predictor(copy)


def edit(folder, **changes):
    fields = json.loads((folder / "config.json").read_text()) | changes
    (folder / "config.json").write_text(json.dumps(fields))


def test_a_graph_is_no_checkpoint_and_a_checkpoint_no_graph(folder):
    with pytest.raises(CheckpointError, match="exported graph, which only predicts"):
        load_checkpoint(folder)
    with pytest.raises(CheckpointError, match="no exported graph"):
        OnnxPredictor("nowhere")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"max_history": 10**9}, "max_history must be at most 512"),
        ({"max_history": 64, "phase_tracker": False}, "do not belong together"),
        ({"doppler_grid": 33}, "do not belong together"),
        ({"error_variance": False}, "do not belong together"),
        ({"num_token": 8}, "did you mean 'num_tokens'"),
        ({"parameters": 10**30}, "parameters must be at most"),
        ({"model_type": "x" * 5000}, "only models of type 'airlam'"),
        ({"export_format": ["onnx"] * 5000}, "export_format"),
    ],
)
def test_configurations_of_strangers_are_refused(folder, tmp_path, changes, message):
    copy = Path(shutil.copytree(folder, tmp_path / "copy"))
    edit(copy, **changes)
    with pytest.raises(CheckpointError, match=message) as caught:
        load_predictor(copy)
    assert len(str(caught.value)) < 700
