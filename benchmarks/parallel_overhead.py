"""What airlam's data-parallel step costs beside DDP written by hand: same model, same batches, same processes.

    python -P -m torch.distributed.run --standalone --nproc-per-node 2 benchmarks/parallel_overhead.py

Both take steps in turn, a few at a time, so that a busy moment of the machine meets both; their order changes from
round to round. The hand-written one is the loop of torch's tutorial: DDP around the loss, ``clip_grad_norm_``, AdamW.
Printed are the ratio of the medians of wall-clock time of a step, and of processor time, with the quartiles over
rounds.
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import torch
import torch.distributed as dist
from rich.console import Console
from rich.table import Table
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from airlam.edge.parallel.engine.training import Training
from airlam.edge.parallel.recipe import ParallelTraining, run_from_dict
from airlam.edge.parallel.shaped.worker import random_batch
from airlam.io import write_json
from airlam.models import AirlamConfig, AirlamModel
from airlam.tasks.objectives import forecast_target, predicted_error

MODEL = {"error_variance": True, "num_tokens": 64, "num_groups": 16}  # airlam-tiny


class Loss(nn.Module):
    """Mean over links of ``log NMSE``."""

    def __init__(self, model: AirlamModel) -> None:
        super().__init__()
        self.model = model

    def forward(self, target):
        return torch.log(predicted_error(self.model, target)).mean()


def by_hand(batches: list[dict]) -> Callable[[int], float]:
    """The hand-written step."""
    rank, world = dist.get_rank(), dist.get_world_size()
    torch.manual_seed(1)
    model = AirlamModel(AirlamConfig(**MODEL)).train()
    for name, parameter in model.named_parameters():  # never trained; DDP wants to know
        if "word_embeddings" in name or "pooler" in name:
            parameter.requires_grad_(False)
    loss = DistributedDataParallel(Loss(model), gradient_as_bucket_view=True)
    trained = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=5e-4)

    def step(number: int) -> float:
        batch = batches[number % len(batches)]
        part = len(batch["h_past"]) // world
        own = slice(rank * part, (rank + 1) * part)
        value = loss(forecast_target(model, batch["h_past"][own], batch["h_future"][own], batch["port_shape"]))
        value.backward()
        nn.utils.clip_grad_norm_(trained, 1.0)
        optimizer.step()
        optimizer.zero_grad()
        return float(value.detach())

    return step


def ours(batches: list[dict], links: int) -> Callable[[int], float]:
    """airlam's step."""
    task = {"class_path": "airlam.tasks.ChannelPrediction", "init_args": {"model": MODEL}}
    plain = asdict(ParallelTraining(task, "tiny")) | {"nproc": dist.get_world_size(), "steps": 100_000}
    training = Training(run_from_dict(plain))
    return lambda number: training.train_step(batches[number % len(batches)]).loss


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--steps", type=int, default=4, help="of each in a round")
    parser.add_argument("--links", type=int, default=32, help="of a batch")
    parser.add_argument("--out", type=Path, default=Path("runs/parallel_overhead.json"))
    known = parser.parse_args()
    torch.set_num_threads(1)
    dist.init_process_group("gloo")
    shape = {"history": 16, "horizon": 4, "subcarriers": 48, "ports": [2, 4, 4]}
    batches = [random_batch(known.links, **shape, seed=seed) for seed in range(2)]
    calls = {"by hand": by_hand(batches), "airlam": ours(batches, known.links)}
    wall: dict[str, list[float]] = {name: [] for name in calls}
    cpu: dict[str, list[float]] = {name: [] for name in calls}
    for number in range(known.rounds + 1):
        for name in sorted(calls, reverse=bool(number % 2)):
            dist.barrier()
            before, used = time.perf_counter(), time.process_time()
            for step in range(known.steps):
                calls[name](step)
            took = torch.tensor([time.perf_counter() - before, time.process_time() - used], dtype=torch.float64)
            dist.all_reduce(took, op=dist.ReduceOp.MAX)
            if number:  # the first round warms up
                wall[name].append(float(took[0]) / known.steps)
                cpu[name].append(float(took[1]) / known.steps)
    if dist.get_rank() == 0:
        report(known.out, wall, cpu)
    dist.barrier()
    dist.destroy_process_group()


def report(out: Path, wall: dict[str, list[float]], cpu: dict[str, list[float]]) -> None:
    """Print and write."""
    table = Table(title=f"One data-parallel step on {dist.get_world_size()} ranks [ms]")
    for title in ("clock", "by hand", "airlam", "ratio", "quartiles over rounds"):
        table.add_column(title, justify="left" if title == "clock" else "right")
    facts = {}
    for clock, times in (("wall", wall), ("processor", cpu)):
        hand, mine = (statistics.median(times[name]) for name in ("by hand", "airlam"))
        ratios = [a / b for a, b in zip(times["airlam"], times["by hand"], strict=True)]
        low, middle, high = statistics.quantiles(ratios, n=4)
        row = (f"{1e3 * hand:.1f}", f"{1e3 * mine:.1f}", f"{mine / hand:.3f}", f"{low:.3f}, {middle:.3f}, {high:.3f}")
        table.add_row(clock, *row)
        facts[clock] = {"by hand": hand, "airlam": mine, "ratio": mine / hand, "quartiles": [low, middle, high]}
    Console().print(table)
    write_json(out, facts | {"load": os.getloadavg()[0], "wall_times": wall, "processor_times": cpu})


if __name__ == "__main__":
    main()
