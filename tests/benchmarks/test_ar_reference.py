"""The frozen AR of benchmarks/ stays what it was: the ``ar`` of airlam with its default settings."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest
import torch

import airlam

FILE = Path(__file__).resolve().parents[2] / "benchmarks" / "reference" / "ar.py"


def reference():
    spec = importlib.util.spec_from_file_location("ar_reference", FILE)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("slots, tones, shape", [(16, 48, (2, 4, 4)), (16, 12, (1, 4, 1)), (6, 24, (2, 2, 2))])
def test_it_predicts_what_ar_predicts(slots, tones, shape):
    ports = shape[0] * shape[1] * shape[2]
    generator = torch.Generator().manual_seed(0)
    h = torch.randn(3, slots, tones, 1, ports, dtype=torch.complex64, generator=generator).cumsum(1)
    mine = airlam.load_predictor("ar").predict(h, 4, port_shape=shape)
    # 1e-5: the same operations in single precision, in another order where airlam's may be rearranged one day
    assert torch.linalg.vector_norm(reference().predict(h, 4, shape) - mine) < 1e-5 * torch.linalg.vector_norm(mine)


def test_it_stands_alone():
    text = FILE.read_text(encoding="utf-8")
    assert "import airlam" not in text and "from airlam" not in text
