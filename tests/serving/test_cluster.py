"""Tests on a real Ray cluster, in a process of their own: Ray ends a process whose cluster was killed."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("ray", reason="the extra 'serving' is not installed")


@pytest.mark.slow
def test_on_a_cluster():
    tests = Path(__file__).with_name("on_a_cluster.py")
    command = [
        sys.executable,
        "-P",
        "-m",
        "pytest",
        "-q",
        "-m",
        "",
        "-p",
        "no:cacheprovider",
        "-p",
        "no:xdist",
        str(tests),
    ]
    environment = {key: value for key, value in os.environ.items() if not key.startswith("PYTEST_")}
    run = subprocess.run(command, cwd=tests.parents[2], env=environment, capture_output=True, text=True, timeout=570)
    assert run.returncode == 0, run.stdout[-6000:]
