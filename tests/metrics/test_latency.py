"""Latency measurement."""

from __future__ import annotations

import time

import pytest
import torch

from airlam.metrics import Latency, measure_latency


def test_it_measures_sleep_and_restores_threads():
    before = torch.get_num_threads()
    found = measure_latency(lambda: time.sleep(0.002), warmup=1, repeats=20, threads=1)
    assert 0.002 <= found.p50 <= found.p99
    assert found.threads == 1 and found.repeats == 20
    assert torch.get_num_threads() == before


def test_the_share_of_the_core_tells_work_from_waiting():
    def work():
        end = time.thread_time() + 0.002  # 2 ms of the processor, however long that takes
        while time.thread_time() < end:
            pass

    def disturbed():
        work()
        time.sleep(0.002)  # what another program on the same core looks like from within

    assert measure_latency(disturbed, warmup=0, repeats=20).cpu_share < 0.7
    # this machine may be busy itself, so the calls that only work are compared, not bounded
    assert measure_latency(work, warmup=0, repeats=20).cpu_share > measure_latency(disturbed, repeats=20).cpu_share
    assert Latency(1.0, 1.0, 1, 1, 0.89).busy and not Latency(1.0, 1.0, 1, 1, 0.91).busy
    assert not Latency(1.0, 1.0, 4, 1, 0.5).busy  # of several threads the caller also waits for the others


def test_bad_input():
    with pytest.raises(ValueError, match="repeats"):
        measure_latency(lambda: None, repeats=0)
