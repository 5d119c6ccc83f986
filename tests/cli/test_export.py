"""``airlam export``."""

from __future__ import annotations

import pytest
import torch

from airlam.models import AirlamConfig, AirlamModel, save_checkpoint


def test_exports_a_checkpoint(airlam, refuses, tmp_path, tiny_backbone):
    for package in ("onnx", "onnxscript", "onnxruntime"):
        pytest.importorskip(package, reason=f"{package} is not installed: pip install 'airlam[onnx]'")
    from airlam import load_predictor

    save_checkpoint(AirlamModel(AirlamConfig(backbone=tiny_backbone, num_tokens=8, num_groups=0)), tmp_path / "mine")
    result = airlam("export", "mine", "--format", "onnx", "--out", "graph", "--int8")
    assert result.code == 0 and "airlam.load_predictor('graph')" in result.out, result
    out = load_predictor("graph").predict(torch.randn(16, 6, 1, 4, dtype=torch.complex64), 2)
    assert out.shape == (2, 6, 1, 4)
    assert "not an empty folder" in refuses("export", "mine", "--out", "graph")
    assert "no network that could be exported" in refuses("export", "graph", "--out", "again")


def test_mistakes(refuses, tmp_path):
    assert "did you mean 'onnx'?" in refuses("export", "airlam-tiny", "--format", "onxx", "--out", "x")
    assert "formats: onnx, litert, tensorflow" in refuses("export", "airlam-tiny", "--format", "zzzz", "--out", "x")
    assert "--out" in refuses("export", "airlam-tiny")
    assert "CHECKPOINT" in refuses("export", "--out", "x")
    assert "did you mean 'airlam-tiny'?" in refuses("export", "airlam-tny", "--out", "x")
    assert "no network" in refuses("export", "hold", "--out", "x")
    assert not (tmp_path / "x").exists()
