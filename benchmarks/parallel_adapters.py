"""Adapters on a pool of two ranks: LoRA against a parallel adapter whose backbone runs in the first epoch only.

    python -P benchmarks/parallel_adapters.py [--links 256] [--epochs 5] [--seeds 3] [--out runs/parallel_adapters]

airlam-tiny is adapted to a family of channels that pretraining never saw (InF-SH NLOS: 32 ports x 48 tones, 20 dB CSI
SNR, 16 -> 4 slots). Every row trains on the same links and is judged on the same 192 held-out ones; seeds are of the
adapters' start and of the order of batches. Time is CPU time of both ranks together, one thread each. An interrupted
run goes on. Prints a table and writes results.json.
"""

from __future__ import annotations

import argparse
import datetime
import json
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from airlam.edge.parallel import ParallelTraining
from airlam.edge.parallel.adapters.recipe import Adapter

MODEL, TEST, BATCH = "airlam-tiny", 192, 16
ROWS = {
    "LoRA, rank 8, fresh noise": (Adapter("lora", 8, cache=False), "data", 1e-3),
    "LoRA, rank 8, tokens cached": (Adapter("lora", 8), "data", 1e-3),
    "parallel, width 32, attention": (Adapter("parallel", 32), "data", 2e-3),
    "the same, pipeline for the first epoch": (Adapter("parallel", 32), "pipeline", 2e-3),
    "the same, fresh noise (no cache)": (Adapter("parallel", 32, cache=False), "data", 2e-3),
    "parallel, width 32, units": (Adapter("parallel", 32, "units"), "data", 2e-3),
    "parallel, width 64, attention": (Adapter("parallel", 64), "data", 2e-3),
}
ONCE = ("the same, pipeline for the first epoch",)  # equal to the row above: one seed shows bytes and time


def runs(links: int, epochs: int, seeds: int, out: Path) -> dict[str, dict[str, Any]]:
    """Name of each run -> row, seed, and what is trained."""
    data = {"channel": "inf_nlos", "num_train": links, "num_val": 64, "num_test": TEST, "batch_size": BATCH, "seed": 3}
    found = {}
    for seed in range(seeds):
        for row, (adapter, mode, rate) in ROWS.items():
            if seed and row in ONCE:
                continue
            if adapter.cache:  # one cache for what needs the same numbers; that of a pipeline is made anew
                kind = mode if mode == "pipeline" else adapter.kind
                adapter = replace(adapter, cache_folder=str(out / f"cache-{kind}"))
            task = {"class_path": "airlam.tasks.ChannelPrediction", "init_args": {"learning_rate": rate}}
            steps = epochs * (links // BATCH)
            run = ParallelTraining(
                task, data, mode, nproc=2, checkpoint=MODEL, adapter=adapter, steps=steps, seed=seed, micro_batches=4
            )
            found[f"{row}, seed {seed}"] = {"row": row, "seed": seed, "run": run.to_dict()}
    return found


def train(what: dict[str, Any], folder: Path, test: list[Any]) -> dict[str, Any]:
    """One run on this rank, and what all ranks did; the errors of held-out links on rank 0."""
    import torch.distributed as dist

    from airlam.edge.parallel.engine.loop import begin
    from airlam.edge.parallel.engine.training import data_module
    from airlam.edge.parallel.recipe import run_from_dict

    run = run_from_dict(what["run"])
    data = data_module(run)
    source = data.train_dataloader().source
    training = begin(run, source, folder)
    epochs: list[dict[str, Any]] = []
    while training.step < run.steps:
        dist.barrier()
        cpu, wall, traffic, links = time.process_time(), time.perf_counter(), {}, 0
        for _ in range(len(source)):
            record = training.train_step(training.batch(source))
            links += record.links
            for kind, count in record.bytes.items():
                traffic[kind] = traffic.get(kind, 0) + count
        epochs.append(
            {
                "cpu_s": time.process_time() - cpu,
                "wall_s": time.perf_counter() - wall,
                "bytes": traffic,
                "links": links,
                "known": len(getattr(training, "known", ())),
            }
        )
    training.write(folder)
    every: list[Any] = [None] * dist.get_world_size()
    dist.all_gather_object(every, epochs)
    trainable = sum(value.numel() for value in training.part.model.parameters() if value.requires_grad)
    cache = training.cache
    found = {
        "row": what["row"],
        "seed": what["seed"],
        "ranks": every,
        "parameters": trainable,
        "cache_bytes": 0 if cache is None else cache.size,
    }
    if dist.get_rank() == 0:
        from airlam import load_predictor

        found["nmse"] = errors(load_predictor(folder / "checkpoint").model, test)
    return found


def errors(model: Any, test: list[Any]) -> list[float]:
    """NMSE of each held-out link."""
    with torch.no_grad():
        return torch.cat([target.error(target.told(model)) for target in test]).tolist()


def worker(spec: Path) -> None:
    """Train every run that has no result yet, on this rank."""
    import torch.distributed as dist

    from airlam.edge.parallel.engine.training import data_module
    from airlam.edge.parallel.recipe import run_from_dict
    from airlam.models import load_checkpoint
    from airlam.recipes import find_checkpoint
    from airlam.tasks.objectives import forecast_target

    torch.set_num_threads(1)
    dist.init_process_group("gloo", timeout=datetime.timedelta(minutes=30))
    out, what = spec.parent, json.loads(spec.read_text())
    rank, test = dist.get_rank(), []
    if rank == 0:
        base = load_checkpoint(find_checkpoint(MODEL))
        for batch in data_module(run_from_dict(next(iter(what.values()))["run"])).test_dataloader():
            test.append(forecast_target(base, batch["h_past"], batch["h_future"], batch["port_shape"]))
        (out / "unadapted.json").write_text(json.dumps({"nmse": errors(base, test)}))
    dist.barrier()
    for number, (name, one) in enumerate(what.items()):
        result = out / f"{number:03d}.json"
        done = [result.is_file()]
        dist.broadcast_object_list(done)
        if done[0]:
            continue
        found = train(one, out / "runs" / f"{number:03d}", test)
        if rank == 0:
            result.write_text(json.dumps(found))
            mean = 10 * torch.tensor(found["nmse"]).log10().mean()
            cpu = [sum(one[epoch]["cpu_s"] for one in found["ranks"]) for epoch in (0, -1)]
            print(f"{name}: {mean:.3f} dB; CPU s an epoch {cpu[0]:.1f}, then {cpu[1]:.1f}", flush=True)
        dist.barrier()
    dist.destroy_process_group()


def decibels(results: list[dict[str, Any]]) -> torch.Tensor:
    """dB of each held-out link, mean over seeds."""
    return (10 * torch.tensor([one["nmse"] for one in results], dtype=torch.float64).log10()).mean(0)


def interval(difference: torch.Tensor) -> tuple[float, float, float]:
    """Mean of paired differences, and its 95 % bootstrap interval over links."""
    draw = torch.Generator().manual_seed(0)
    picks = torch.randint(len(difference), (10_000, len(difference)), generator=draw)
    low, high = difference[picks].mean(1).quantile(torch.tensor([0.025, 0.975], dtype=torch.float64))
    return float(difference.mean()), float(low), float(high)


def summary(out: Path) -> list[dict[str, Any]]:
    """One row for each way to adapt."""
    results = [json.loads(path.read_text()) for path in sorted(out.glob("[0-9][0-9][0-9].json"))]
    unadapted = decibels([json.loads((out / "unadapted.json").read_text())])
    reference = {one["seed"]: one for one in results if one["row"] == "LoRA, rank 8, fresh noise"}
    rows = []
    for row in ROWS:
        mine = [one for one in results if one["row"] == row and one["seed"] in reference]
        if not mine:
            continue
        own = decibels(mine)
        against = decibels([reference[one["seed"]] for one in mine])
        first, later = [], []
        for one in mine:
            for epoch, ranks in enumerate(zip(*one["ranks"], strict=True)):
                sent = [rank["bytes"] for rank in ranks]
                entry = {"cpu_s": sum(rank["cpu_s"] for rank in ranks), "bytes": sent}
                (first if epoch == 0 else later).append(entry)
        rows.append(
            {
                "row": row,
                "parameters": mine[0]["parameters"],
                "seeds": len(mine),
                "nmse_db": float(own.mean()),
                "gain_over_unadapted_db": interval(unadapted - own),
                "above_lora_db": interval(own - against),
                # a cache serves later seeds from their first epoch on, so seed 0 alone shows what filling it costs
                "first_epoch_cpu_s": first[0]["cpu_s"],
                "later_epoch_cpu_s": sorted(one["cpu_s"] for one in later)[len(later) // 2],
                "first_epoch_bytes": first[0]["bytes"],
                "later_epoch_bytes": later[-1]["bytes"],
                "cache_bytes": mine[0]["cache_bytes"],
            }
        )
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--links", type=int, default=256)
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--out", type=Path, default=Path("runs/parallel_adapters"))
    parser.add_argument("--worker", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.worker is not None:
        worker(args.worker)
        return
    from rich.console import Console
    from rich.table import Table

    from airlam.edge.parallel.engine.training import data_module
    from airlam.edge.parallel.recipe import run_from_dict

    args.out.mkdir(parents=True, exist_ok=True)
    spec = args.out / "spec.json"
    every = runs(args.links, args.epochs, args.seeds, args.out)
    spec.write_text(json.dumps(every, indent=2))
    data_module(run_from_dict(next(iter(every.values()))["run"])).prepare_data()
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    subprocess.run([*command, __file__, "--worker", str(spec)], check=True)
    rows = summary(args.out)
    (args.out / "results.json").write_text(json.dumps({"rows": rows, "arguments": vars(args)}, indent=2, default=str))
    table = Table()
    for name in (
        "",
        "parameters",
        "NMSE [dB]",
        "above LoRA [dB]",
        "CPU s: 1st epoch, later",
        "MB: 1st, later",
        "cache MB",
    ):
        table.add_column(name)
    for one in rows:
        sent = [sum(sum(b.values()) for b in one[f"{name}_epoch_bytes"]) / 1e6 for name in ("first", "later")]
        mean, low, high = one["above_lora_db"]
        table.add_row(
            one["row"],
            f"{one['parameters']:,}",
            f"{one['nmse_db']:.2f}",
            f"{mean:+.3f} ({low:+.3f} to {high:+.3f})",
            f"{one['first_epoch_cpu_s']:.1f}, {one['later_epoch_cpu_s']:.1f}",
            f"{sent[0]:.1f}, {sent[1]:.1f}",
            f"{one['cache_bytes'] / 1e6:.0f}",
        )
    Console(width=160).print(table)


if __name__ == "__main__":
    main()
