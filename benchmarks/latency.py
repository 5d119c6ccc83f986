"""Latency of prediction, and what each way to make it faster costs in NMSE.

    python -P benchmarks/latency.py [--rounds 5] [--batches 1 16 64] [--threads 1 2] [--out runs/latency.json]

32 ports x 48 tones, 16 -> 4 slots (the headline set-up), UMa NLOS at 20 dB CSI SNR. Three tables: latency of every
method by batch and threads; NMSE of the same methods; NMSE and latency of airlam-tiny by number of tokens. Methods
are timed in turn, several rounds, so that a busy moment of the machine meets all of them; the median over rounds of
p50 and p99 is printed. Classical methods have their default settings here. The last column is the ratio to
``ar-reference``, the frozen AR of reference/ar.py, in the same run. Without the extra ``onnx`` its rows are left out.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import tempfile
from collections.abc import Callable
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor

from airlam import load_predictor
from airlam.channels import load_channel
from airlam.csi import measure
from airlam.errors import CheckpointError
from airlam.evaluation.latency.reference import REFERENCE, reference_predict
from airlam.export import export_onnx
from airlam.interfaces import Predictor
from airlam.metrics import measure_latency, nmse

SPEEDS_KMH = (3, 30, 60, 100)
SHAPE, HISTORY, HORIZON = (2, 4, 4), 16, 4
METHODS = {
    "hold": ("hold", {}),
    "pad": ("pad", {}),
    "ar": ("ar", {}),
    "eigen-ar": ("eigen-ar", {}),
    "{model}:no-correction": ("{model}", {"correction": False}),
    "{model}": ("{model}", {}),
    "{model}:2-views": ("{model}", {"views": 2}),
    "{model}:3-views": ("{model}", {"views": 3}),
    "{model}:bfloat16": ("{model}", {"precision": "bfloat16"}),
    "{model}:onnx": ("{float}", {}),
    "{model}:onnx-int8": ("{int8}", {}),
}
# num_tokens, num_groups, group_size; the third is what airlam-tiny runs with
TOKENS = ((128, 32, 8), (96, 32, 8), (64, 16, 16), (48, 16, 16), (32, 8, 16), (16, 8, 16), (32, 0, 16))


def predictors(names: dict[str, str], threads: int | None = None) -> dict[str, Predictor]:
    """All methods whose checkpoint is there; graphs get ``threads``."""
    found = {}
    for label, (name, options) in METHODS.items():
        name = name.format(**names)
        if name:
            extra = {"threads": threads} if "onnx" in label and threads else {}
            found[label.format(**names)] = load_predictor(name, **options, **extra)
    return found


def in_turn(calls: dict[str, Callable[[], object]], rounds: int, repeats: int, threads: int) -> dict[str, dict]:
    """Median over rounds of p50 and p99 [ms] of each call."""
    seen: dict[str, list] = {label: [] for label in calls}
    for _ in range(rounds):
        for label, call in calls.items():
            warmup = max(1, repeats // 12)
            seen[label].append(measure_latency(call, warmup=warmup, repeats=repeats, threads=threads))
    return {
        label: {f"{key}_ms": 1e3 * statistics.median(getattr(r, key) for r in results) for key in ("p50", "p99")}
        for label, results in seen.items()
    }


def latency(names: dict[str, str], batches: list[int], threads: list[int], rounds: int) -> list[dict]:
    past, reference = links(60, max(batches), seed=1)[0], reference_predict()
    rows = []
    for count in threads:
        torch.set_num_threads(count)
        every = predictors(names, count)
        for batch in batches:
            h = past[:batch]
            calls: dict[str, Callable[[], object]] = {
                label: lambda predictor=predictor: predictor.predict(h, HORIZON, port_shape=SHAPE)  # noqa: B023
                for label, predictor in every.items()
            }
            calls[REFERENCE] = lambda: reference(h, HORIZON, SHAPE)  # noqa: B023
            found = in_turn(calls, rounds, 60 if batch == 1 else 5, count)
            rows += [
                {
                    "method": label,
                    "batch": batch,
                    "threads": count,
                    **times,
                    "ms_per_link": times["p50_ms"] / batch,
                    "ratio": times["p50_ms"] / found[REFERENCE]["p50_ms"],
                }
                for label, times in found.items()
            ]
    torch.set_num_threads(1)
    return rows


def links(speed_kmh: float, number: int, seed: int) -> tuple[Tensor, Tensor]:
    """Measured history and true future."""
    channel = load_channel({"scenario": "uma", "state": "nlos", "speed_kmh": speed_kmh})
    h = channel.sample(number, HISTORY + HORIZON, seed=seed).h
    return measure(h[:, :HISTORY], 20.0, torch.Generator().manual_seed(seed)), h[:, HISTORY:]


def accuracy(predictor: Predictor, data: dict[int, tuple[Tensor, Tensor]]) -> dict[str, float]:
    """NMSE [dB] by speed, and its mean."""
    found = {
        f"{speed}": 10 * float(nmse(predictor.predict(past, HORIZON, port_shape=SHAPE), future).log10())
        for speed, (past, future) in data.items()
    }
    return {**found, "mean": statistics.mean(found.values())}


def by_tokens(names: dict[str, str], data: dict, rounds: int) -> list[dict]:
    """NMSE, and latency of one link on one thread, of the model and of its graph."""
    past = data[60][0][:1]
    kinds = [kind for kind in ("model", "float") if names[kind]]
    rows = []
    for tokens, groups, size in TOKENS:
        every = {}
        for kind in kinds:
            every[kind] = load_predictor(names[kind])
            config = every[kind].model.config  # settings, not weights: see docs/models.md
            config.num_tokens, config.num_groups, config.group_size = tokens, groups, size
        calls = {
            kind: lambda predictor=predictor: predictor.predict(past, HORIZON, port_shape=SHAPE)
            for kind, predictor in every.items()
        }
        times = in_turn(calls, rounds, 60, 1)
        rows.append(
            {
                "tokens": f"{tokens} + {groups} x {size}",
                "nmse_db": accuracy(every["model"], data),
                **{("torch" if kind == "model" else "onnx") + "_p50_ms": times[kind]["p50_ms"] for kind in kinds},
            }
        )
    return rows


def export(model: str, folder: Path) -> dict[str, str]:
    """Graphs of ``model`` in ``folder``: names for :data:`METHODS`, empty where there is no ONNX."""
    names = {"model": model, "float": str(folder / "float"), "int8": str(folder / "int8")}
    try:
        for kind in ("float", "int8"):
            export_onnx(load_predictor(model).model, names[kind], int8=kind == "int8")
    except CheckpointError as error:
        print(f"without ONNX: {error}")
        names |= {"float": "", "int8": ""}
    return names


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="airlam-tiny")
    parser.add_argument("--out", type=Path, default=Path("runs/latency.json"))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 16, 64])
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--links", type=int, default=64, help="at each speed, for the NMSE")
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    console = Console()
    data = {speed: links(speed, chosen.links, seed=100 + speed) for speed in SPEEDS_KMH}
    with tempfile.TemporaryDirectory() as folder:
        names = export(chosen.model, Path(folder))
        quality = [{"method": label, **accuracy(p, data)} for label, p in predictors(names).items()]
        knob = by_tokens(names, data, chosen.rounds)
        rows = latency(names, chosen.batches, chosen.threads, chosen.rounds)

    columns = ["method", "batch", "threads", "p50 [ms]", "p99 [ms]", "ms a link", "p50 / ar-reference"]
    table = Table(*columns, title="prediction, measured")
    for row in rows:
        times = (f"{row[key]:.2f}" for key in ("p50_ms", "p99_ms", "ms_per_link"))
        table.add_row(row["method"], str(row["batch"]), str(row["threads"]), *times, f"{row['ratio']:.2f}")
    console.print(table)
    columns = [*map(str, SPEEDS_KMH), "mean"]
    table = Table("method", *columns, title=f"NMSE in dB by speed in km/h, {chosen.links} links each")
    for row in quality:
        table.add_row(row["method"], *(f"{row[c]:.3f}" for c in columns))
    console.print(table)
    times = [key for key in ("torch_p50_ms", "onnx_p50_ms") if key in knob[0]]
    heads = [key.replace("_p50_ms", ", ms") for key in times]
    table = Table("tokens", *columns, *heads, title="NMSE in dB by tokens + groups x size; one link, one thread")
    for row in knob:
        table.add_row(row["tokens"], *(f"{row['nmse_db'][c]:.2f}" for c in columns), *(f"{row[t]:.2f}" for t in times))
    console.print(table)

    chosen.out.parent.mkdir(parents=True, exist_ok=True)
    machine = {"processor": platform.processor() or platform.machine(), "torch": torch.__version__}
    written = {"machine": machine, "model": chosen.model, "rounds": chosen.rounds, "links": chosen.links}
    chosen.out.write_text(json.dumps(written | {"rows": rows, "nmse_db": quality, "tokens": knob}, indent=1))
    print(f"written: {chosen.out}")


if __name__ == "__main__":
    main()
