"""Malformed requests to a server: which answers there are, and whether its memory grows.

    python -P benchmarks/serving_fuzz.py --requests 10000

Half of the requests are made up from the server's OpenAPI description (schemathesis, invalid values), half are valid
bodies in which bytes were changed or cut off. The server is `airlam serve --plain` in a process of its own.
"""

from __future__ import annotations

import argparse
import random
import subprocess
import sys
import warnings
from collections import Counter

import httpx
import numpy as np
import psutil
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from schemathesis import GenerationMode

from airlam.serving.wire import NPY, SAFETENSORS, encode

PORT = 18555
LOOKS = 10  # at the memory


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--requests", type=int, default=10_000)
    count = parser.parse_args().requests
    command = [sys.executable, "-P", "-m", "airlam", "serve", "--plain", "--listen.port", str(PORT)]
    server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert server.stdout is not None
    print(server.stdout.readline().strip())
    memory = psutil.Process(server.pid).memory_info
    statuses: Counter[int] = Counter()
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{PORT}", timeout=30) as client:
            seen = [memory().rss]
            for turn in range(LOOKS):
                described(count // LOOKS // 2, statuses, turn)
                damaged(client, count // LOOKS // 2, statuses, turn)
                seen.append(memory().rss)
            assert client.get("/readyz").status_code == 200
    finally:
        server.terminate()
    print("answers by status:", dict(sorted(statuses.items())), "in all", sum(statuses.values()))
    print("memory [MB]:", ", ".join(f"{each / 1e6:.0f}" for each in seen))
    print(f"growth after the first tenth: {seen[-1] / seen[1] - 1:+.1%}")
    faults = sum(number for status, number in statuses.items() if status >= 500 and status != 503)
    print(f"faults: {faults}")


def described(count: int, statuses: Counter[int], seed: int) -> None:
    """Requests from the description, with values that it does not allow."""
    for kind in (NPY, SAFETENSORS):
        schemathesis.openapi.media_type(kind, st.binary(max_size=400))
    schema = schemathesis.openapi.from_url(f"http://127.0.0.1:{PORT}/openapi.json")
    operations = [
        each.ok() for each in schema.get_all_operations() if each.ok().method != "get" or "{" in each.ok().path
    ]
    for operation in operations:
        left = -(-count // len(operations))

        @given(operation.as_strategy(generation_mode=GenerationMode.NEGATIVE))
        @settings(
            max_examples=left,
            deadline=None,
            database=None,
            phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        )
        def run(case):
            statuses[case.call().status_code] += 1

        run()


def damaged(client: httpx.Client, count: int, statuses: Counter[int], seed: int) -> None:
    """Valid bodies in which bytes were changed or cut off."""
    chance, noise = random.Random(seed), np.random.default_rng(seed)
    for _ in range(count):
        shape = tuple(noise.integers(1, 9, size=int(noise.integers(1, 6))))
        h = (noise.normal(size=shape) + 1j * noise.normal(size=shape)).astype(np.complex64)
        kind = chance.choice((NPY, SAFETENSORS))
        body = bytearray(encode({"h": h}, kind))
        for _ in range(chance.randrange(1, 6)):
            body[chance.randrange(min(len(body), 200))] = chance.randrange(256)
        if chance.random() < 0.3:
            body = body[: chance.randrange(len(body))]
        path = chance.choice(
            ("/v1/predict/ar?num_future=2", "/v1/precode/rzf?power=1&no=1", "/v1/sessions/u?model=ar&num_future=2")
        )
        method = "PUT" if "sessions" in path else "POST"
        answer = client.request(method, path, content=bytes(body), headers={"content-type": kind})
        statuses[answer.status_code] += 1


if __name__ == "__main__":
    warnings.filterwarnings("ignore")
    main()
