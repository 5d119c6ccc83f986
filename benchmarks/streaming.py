"""Streaming: what one new slot costs, and what filters that are some slots old cost in NMSE.

    python -P benchmarks/streaming.py [--model airlam-tiny]

UMa NLOS, 32 ports x 48 tones, 20 dB CSI SNR, 16 -> 4 slots of 0.5 ms, 24 links; 24 predictions in a row of each are
judged. ``ar`` stands there with its default settings. Prints a table and writes runs/streaming.json.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table

import airlam
from airlam.channels import load_channel
from airlam.csi import measure
from airlam.metrics import nmse
from airlam.models import StreamingPredictor

SPEEDS_KMH = (3, 30, 60, 100)
REFRESH = (1, 2, 4, 8, 16)
FIRST, LAST, HISTORY, HORIZON = 20, 44, 16, 4


def decibels(values: list[float]) -> float:
    return 10 * float(torch.tensor(values, dtype=torch.float64).mean().log10())


def accuracy(predictor, speed_kmh: float, links: int, seed: int) -> dict[str, float]:
    """NMSE [dB] over all slots: of ``ar``, and of streams by how often they refresh."""
    batch = load_channel({"scenario": "uma", "state": "nlos", "speed_kmh": speed_kmh}).sample(
        links, LAST + HORIZON, seed=seed
    )
    measured, shape = measure(batch.h, 20.0, torch.Generator().manual_seed(seed)), batch.port_shape
    ar = airlam.load_predictor("ar")
    found = {
        "ar": decibels(
            [
                float(
                    nmse(
                        ar.predict(measured[:, s - HISTORY + 1 : s + 1], HORIZON, port_shape=shape),
                        batch.h[:, s + 1 : s + 1 + HORIZON],
                    )
                )
                for s in range(FIRST, LAST)
            ]
        )
    }
    for every in REFRESH:
        stream = StreamingPredictor(predictor, HORIZON, history=HISTORY, refresh_every=every, port_shape=shape)
        errors = []
        for s in range(LAST):
            predicted = stream.push(measured[:, s])
            if s >= FIRST:
                errors.append(float(nmse(predicted, batch.h[:, s + 1 : s + 1 + HORIZON])))
        found[str(every)] = decibels(errors)
    return found


def latency_ms(predictor, repeats: int = 200) -> dict[str, float]:
    """Median time of a push between refreshes, of a refresh, and of a full prediction, batch 1."""
    h = torch.randn(1, 20 + repeats, 48, 1, 32, dtype=torch.complex64)
    stream = StreamingPredictor(predictor, HORIZON, refresh_every=10**9, port_shape=(2, 4, 4))
    for s in range(20):
        stream.push(h[:, s])

    def median(work) -> float:
        times = []
        for i in range(repeats):
            start = time.perf_counter()
            work(i)
            times.append(1e3 * (time.perf_counter() - start))
        return sorted(times)[repeats // 2]

    return {
        "push": median(lambda i: stream.push(h[:, 20 + i])),
        "refresh": median(lambda i: stream.refresh()),
        "full": median(lambda i: predictor.predict(h[:, i : i + HISTORY], HORIZON, port_shape=(2, 4, 4))),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="airlam-tiny")
    parser.add_argument("--links", type=int, default=24)
    parser.add_argument("--seed", type=int, default=5)
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    predictor = airlam.load_predictor(chosen.model)
    times = latency_ms(predictor)
    table = Table("km/h", "ar", *(f"refresh every {n}" for n in REFRESH), title=f"{chosen.model}: NMSE [dB]")
    rows = []
    for speed in SPEEDS_KMH:
        found = accuracy(predictor, speed, chosen.links, chosen.seed)
        rows.append({"speed_kmh": speed, **found})
        table.add_row(f"{speed}", *(f"{value:.2f}" for value in found.values()))
    console = Console()
    console.print(table)
    console.print(
        f"median time: push {times['push']:.2f} ms, refresh {times['refresh']:.2f} ms, "
        f"full prediction {times['full']:.2f} ms"
    )
    out = Path("runs/streaming.json")
    out.parent.mkdir(exist_ok=True)
    out.write_text(json.dumps({"model": chosen.model, "latency_ms": times, "nmse_db": rows}, indent=1))
    console.print(f"written: {out}")


if __name__ == "__main__":
    main()
