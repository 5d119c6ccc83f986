"""LiteRT graphs of the shipped model, in an environment that has the converter (docs/export.md, LiteRT).

A relative tolerance of 1e-4: both sides compute in single precision and sum in another order. Measured: 6e-7.
"""

from __future__ import annotations

import shutil

import pytest
import torch

from airlam.channels import load_channel
from airlam.cli import main
from airlam.csi import measure
from airlam.errors import CheckpointError
from airlam.loading import load_predictor
from airlam.metrics import nmse
from airlam.models import AirlamConfig, AirlamModel, LitertPredictor, exported_format, load_checkpoint

for package in ("litert_torch", "ai_edge_litert"):
    pytest.importorskip(package, reason=f"{package} is not installed; it takes an environment of its own")

from airlam.export import export_litert  # noqa: E402

pytestmark = pytest.mark.slow  # a conversion takes half a minute
SHAPE = (2, 2, 2)
GPT2 = {"model_type": "gpt2", "n_embd": 16, "n_layer": 1, "n_head": 2, "vocab_size": 2, "n_positions": 64}


@pytest.fixture(scope="module")
def plain():
    return load_predictor("airlam-tiny")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    out = tmp_path_factory.mktemp("litert") / "float"
    assert main(["export", "airlam-tiny", "--format", "litert", "--out", str(out)]) == 0
    return out


@pytest.fixture(scope="module")
def folder_int8(plain, tmp_path_factory):
    return export_litert(plain.model, tmp_path_factory.mktemp("litert") / "int8", int8=True)


def assert_close(a: torch.Tensor, b: torch.Tensor) -> None:
    assert a.shape == b.shape and a.dtype == b.dtype
    assert float((a - b).abs().max()) <= 1e-4 * float(b.abs().max())


@pytest.mark.parametrize("links", [0, 1, 3])
@pytest.mark.parametrize(("slots", "tones"), [(2, 12), (16, 12), (40, 24), (16, 1), (16, 3)])
def test_parity_for_any_batch_history_and_band(plain, folder, links, slots, tones):
    """Narrow bands have fewer tokens than the graph, whose other places are masked."""
    exported = load_predictor(folder)
    assert isinstance(exported, LitertPredictor)
    h = torch.randn(links, slots, tones, 1, 8, dtype=torch.complex64, generator=torch.Generator().manual_seed(0))
    out = exported.predict(h, 3, port_shape=SHAPE)
    assert out.shape == (links, 3, tones, 1, 8)
    if links:
        assert_close(out, plain.predict(h, 3, port_shape=SHAPE))


def test_parity_of_variances_and_masks(plain, folder):
    h = torch.randn(3, 16, 12, 1, 8, dtype=torch.complex64, generator=torch.Generator().manual_seed(0))
    exported = load_predictor(folder)
    for a, b in zip(*(p.predict_with_variance(h, 4, port_shape=SHAPE) for p in (exported, plain)), strict=True):
        assert_close(a, b)
    observed = torch.ones(3, 16, dtype=torch.bool)
    observed[:, [3, 15]] = False
    a, b = (p.predict(h, 4, port_shape=SHAPE, context={"observed": observed}) for p in (exported, plain))
    assert_close(a, b)


def test_int8_is_small_and_near(plain, folder, folder_int8):
    assert exported_format(folder_int8) == "litert-int8"
    sizes = [(x / "model.tflite").stat().st_size for x in (folder, folder_int8)]
    assert sizes[1] < 0.5 * sizes[0]
    links = load_channel("uma_nlos").sample(16, 20, seed=1)
    past = measure(links.h[:, :16], 20.0, torch.Generator().manual_seed(1))
    scores = [
        float(10 * nmse(p.predict(past, 4, port_shape=links.port_shape), links.h[:, 16:]).mean().log10())
        for p in (plain, load_predictor(folder_int8))
    ]
    assert scores[0] < -10 and abs(scores[1] - scores[0]) < 0.05  # measured: 0.001 dB


def test_another_backbone(tmp_path):
    torch.manual_seed(0)
    model = AirlamModel(AirlamConfig(backbone=GPT2, num_tokens=8, num_groups=0)).eval()
    h = torch.randn(2, 16, 12, 1, 8, dtype=torch.complex64)
    exported = load_predictor(export_litert(model, tmp_path / "gpt2"))
    assert_close(exported.predict(h, 4, port_shape=SHAPE), model(h, 4, port_shape=SHAPE))


def test_what_is_refused(plain, folder, tmp_path):
    with pytest.raises(CheckpointError, match="not an empty folder"):
        export_litert(plain.model, folder)
    with pytest.raises(CheckpointError, match="only predicts"):
        load_checkpoint(folder)
    damaged = tmp_path / "damaged"
    shutil.copytree(folder, damaged)
    with (damaged / "model.tflite").open("r+b") as file:
        file.seek(1000)
        file.write(b"damage")
    with pytest.raises(CheckpointError, match="damaged"):
        load_predictor(damaged)
    (damaged / "model.tflite").unlink()
    with pytest.raises(CheckpointError, match=r"has no model\.tflite"):
        load_predictor(damaged)
