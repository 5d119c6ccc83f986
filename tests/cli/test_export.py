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


@pytest.mark.parametrize(("kind", "runtime"), [("map", "OnnxMap"), ("position", "OnnxPosition")])
def test_exports_a_network_of_a_site(airlam, refuses, tmp_path, tiny_backbone, kind, runtime):
    for package in ("onnx", "onnxscript", "onnxruntime"):
        pytest.importorskip(package, reason=f"{package} is not installed: pip install 'airlam[onnx]'")
    from airlam import models
    from airlam.baselines.positioning import PositionEstimate
    from airlam.csi import SiteCSI, SiteMap

    network = {
        "map": lambda: models.AirlamMap(models.AirlamMapConfig(tiny_backbone)),
        "position": lambda: models.AirlamPosition(models.AirlamPositionConfig(tiny_backbone, stations=2)),
    }[kind]()
    save_checkpoint(network, tmp_path / "mine")
    assert "exported to onnx alone, not to litert" in refuses("export", "mine", "--format", "litert", "--out", "graph")
    assert "--int8 is for predictors" in refuses("export", "mine", "--int8", "--out", "graph")
    assert not (tmp_path / "graph").exists()
    result = airlam("export", "mine", "--out", "graph")
    assert result.code == 0 and f"run it: airlam.models.{runtime}('graph')" in result.out, result
    graph = getattr(models, runtime)("graph")
    place = 50 * torch.rand(6, 3)
    csi = SiteCSI(9 * torch.randn(6, 2, 64, 8, dtype=torch.complex64), torch.zeros(2, 4), 1e6, (2, 4, 1), place)
    if kind == "map":
        assert graph.fit(SiteMap.of(csi), csi.stations).at(place[:4]).power_db.shape == (4, 2)
    else:
        start = PositionEstimate(place[:, :2].double(), torch.eye(2).double().expand(6, 2, 2))
        assert torch.allclose(graph.locate(csi, start).mean, start.mean, atol=1e-4)  # new weights give the start
    assert "not an empty folder" in refuses("export", "mine", "--out", "graph")
    assert "exported graph, which only predicts" in refuses("export", "graph", "--out", "again")


def test_mistakes(refuses, tmp_path):
    assert "did you mean 'onnx'?" in refuses("export", "airlam-tiny", "--format", "onxx", "--out", "x")
    assert "formats: onnx, litert, tensorflow" in refuses("export", "airlam-tiny", "--format", "zzzz", "--out", "x")
    assert "--out" in refuses("export", "airlam-tiny")
    assert "CHECKPOINT" in refuses("export", "--out", "x")
    assert "did you mean 'airlam-tiny'?" in refuses("export", "airlam-tny", "--out", "x")
    assert "no network" in refuses("export", "hold", "--out", "x")
    assert not (tmp_path / "x").exists()
