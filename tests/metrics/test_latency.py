"""Latency measurement."""

from __future__ import annotations

import time

import pytest
import torch

from airlam.metrics import measure_latency


def test_it_measures_sleep_and_restores_threads():
    before = torch.get_num_threads()
    found = measure_latency(lambda: time.sleep(0.002), warmup=1, repeats=20, threads=1)
    assert 0.002 <= found.p50 <= found.p99
    assert found.threads == 1 and found.repeats == 20
    assert torch.get_num_threads() == before


def test_bad_input():
    with pytest.raises(ValueError, match="repeats"):
        measure_latency(lambda: None, repeats=0)
