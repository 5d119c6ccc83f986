"""``airlam bench-latency``."""

from __future__ import annotations

import json

import pytest
import torch

from airlam.evaluation.latency.benchmark import LatencyBenchmark
from airlam.evaluation.latency.streams import Setting


@pytest.fixture
def no_channel(monkeypatch):
    slots = torch.randn(1, 6, 4, 1, 4, dtype=torch.complex64)
    monkeypatch.setattr(LatencyBenchmark, "setting", lambda self: Setting(slots, 4, self.num_future, (1, 2, 2)))


def test_it_times_and_writes(airlam, no_channel, tmp_path):
    result = airlam(
        "bench-latency", "hold", "ar", "--rounds", 1, "--seconds", 0, "--num-future", 2, "--out", "a/l.json"
    )
    assert result.code == 0, result
    assert "ar-reference" in result.out and "hold" in result.out and "written: a/l.json" in result.out
    found = json.loads((tmp_path / "a" / "l.json").read_text())
    assert [row["method"] for row in found["methods"]] == ["ar-reference", "hold", "ar"]
    assert found["setting"]["num_future"] == 2 and found["environment"]["threads"] == 1
    assert ("busy machine" in result.out) == found["busy"]


def test_mistakes(refuses, no_channel, tmp_path):
    assert "did you mean 'eigen-ar'?" in refuses("bench-latency", "eigen-a")
    assert "rounds is 0" in refuses("bench-latency", "hold", "--rounds", 0)
    assert "did you mean '--rounds'?" in refuses("bench-latency", "--round", 3)
    assert "invalid int value" in refuses("bench-latency", "--rounds", "many")
    assert "core is 99999" in refuses("bench-latency", "hold", "--core", 99999)
    assert "--out is empty" in refuses("bench-latency", "hold", "--out", "")
    assert "is a folder" in refuses("bench-latency", "hold", "--out", tmp_path)
    (tmp_path / "file").write_text("")
    assert "is a file" in refuses("bench-latency", "hold", "--out", "file/l.json")
    assert sorted(path.name for path in tmp_path.iterdir()) in (["file"], ["cache", "file"])


def test_a_channel_that_does_not_exist(refuses):
    assert "uma_nlos" in refuses("bench-latency", "hold", "--channel", "uma_nols")
