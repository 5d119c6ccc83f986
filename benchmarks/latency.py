"""Latency of prediction at batch 1, 16 and 64, one thread: airlam-tiny, its classical start, and classics, in one run.

    python benchmarks/latency.py [--out runs/latency.json]

32 ports x 48 tones, 16 -> 4 slots (the headline set-up). Methods are timed in turn, several rounds, so that a busy
moment of the machine meets all of them; the median over rounds of p50 and p99 is printed.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table

from airlam import load_predictor
from airlam.channels import load_channel
from airlam.csi import measure
from airlam.metrics import measure_latency

METHODS = {
    "hold": ("hold", {}),
    "pad": ("pad", {}),
    "ar": ("ar", {}),
    "eigen-ar": ("eigen-ar", {}),
    "airlam-tiny:no-correction": ("airlam-tiny", {"correction": False}),
    "airlam-tiny": ("airlam-tiny", {}),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("runs/latency.json"))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 16, 64])
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    links = load_channel("uma_nlos").sample(max(arguments.batches), 20, seed=1)
    past = measure(links.h[:, :16], 20.0, torch.Generator().manual_seed(1))
    predictors = {label: load_predictor(name, **options) for label, (name, options) in METHODS.items()}
    rows = []
    for batch in arguments.batches:
        h = past[:batch]
        seen: dict[str, list] = {label: [] for label in predictors}
        for _ in range(arguments.rounds):
            for label, predictor in predictors.items():
                repeats = 60 if batch == 1 else 5
                seen[label].append(
                    measure_latency(
                        lambda predictor=predictor, h=h: predictor.predict(h, 4, port_shape=links.port_shape),
                        warmup=5 if batch == 1 else 1,
                        repeats=repeats,
                    )
                )
        for label, rounds in seen.items():
            p50, p99 = (1e3 * statistics.median(getattr(r, key) for r in rounds) for key in ("p50", "p99"))
            rows.append({"method": label, "batch": batch, "p50_ms": p50, "p99_ms": p99, "ms_per_link": p50 / batch})
    table = Table("method", "batch", "p50 [ms]", "p99 [ms]", "ms a link", title="prediction, one thread, measured")
    for row in rows:
        table.add_row(
            row["method"], str(row["batch"]), *(f"{row[key]:.2f}" for key in ("p50_ms", "p99_ms", "ms_per_link"))
        )
    Console().print(table)
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    machine = {"processor": platform.processor() or platform.machine(), "torch": torch.__version__, "threads": 1}
    arguments.out.write_text(json.dumps({"machine": machine, "rounds": arguments.rounds, "rows": rows}, indent=1))
    print(f"written: {arguments.out}")


if __name__ == "__main__":
    main()
