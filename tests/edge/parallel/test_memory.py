"""Freed memory goes back to the kernel where a run asks for it."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

PROGRAM = """
import sys
from airlam.edge.parallel.launching.processes import give_memory_back
import numpy as np

def resident():
    return 1024 * next(int(l.split()[1]) for l in open("/proc/self/status") if l.startswith("VmRSS"))

given = give_memory_back() if sys.argv[1] == "yes" else None
del (first := [np.ones(500_000)])[:]  # from now on glibc takes pieces of this size from its heap
blocks, small, before = [], [], resident()
for _ in range(100):
    blocks.append(np.ones(250_000))
    small.append(bytearray(100_000))  # keeps the heap from shrinking
blocks.clear()
print(given, (resident() - before) // 10**6)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="mallopt is of Linux's C libraries")
def test_freed_memory_goes_back_to_the_kernel():
    def run(word, **environment):
        command = [sys.executable, "-c", PROGRAM, word]
        done = subprocess.run(command, env=os.environ | environment, capture_output=True, text=True, check=True)
        given, megabytes = done.stdout.split()
        return given, int(megabytes)

    given, left = run("yes")
    if given == "False":
        pytest.skip("this C library cannot do it")
    kept = run("no")[1]
    assert left < 40 < 150 < kept  # of 200 MB in pieces, with 10 MB in use
    assert run("yes", MALLOC_MMAP_THRESHOLD_="33554432")[0] == "False"
