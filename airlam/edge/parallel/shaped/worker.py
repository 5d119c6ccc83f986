"""What runs in each process of a shaped pool: ``python -m airlam.edge.parallel.shaped.worker JOB.json``.

A job has a ``kind``: ``train`` (steps of a :class:`~airlam.edge.parallel.recipe.ParallelTraining` on random links, each
timed), ``collectives`` (times of gloo's collectives), ``speed`` (time of a step of a model on this device alone),
``profile`` (what each part of a step costs on this device).
Results go to ``result-RANK.json`` beside the job; times are of the host's monotonic clock, the same for all processes.
"""

from __future__ import annotations

import datetime
import os
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

from airlam.edge.parallel.launching import processes as p
from airlam.edge.parallel.shaped.processes import wait_to_go
from airlam.io import read_json, write_json


def random_batch(
    links: int, history: int, horizon: int, subcarriers: int, ports: list[int], seed: int
) -> dict[str, Any]:
    """Links whose CSI is a random walk over slots."""
    generator = torch.Generator().manual_seed(seed)
    size = (links, history + horizon, subcarriers, 1, ports[0] * ports[1] * ports[2])
    h = torch.randn(size, dtype=torch.complex64, generator=generator).cumsum(1) * 0.3
    return {"h_past": h[:, :history], "h_future": h[:, history:], "port_shape": tuple(ports)}


def train(job: dict[str, Any], begin: Callable[[], None]) -> dict[str, Any]:
    """Steps of a run: when each ended, and what it sent."""
    from airlam.edge.parallel.engine.training import Training
    from airlam.edge.parallel.recipe import run_from_dict

    training = Training(run_from_dict(job["run"]))
    batches = [random_batch(**job["batch"], seed=seed) for seed in range(2)]
    training.train_step(batches[0])  # memory, buckets and schedules come into being
    begin()
    started, ends, records = time.monotonic(), [], []
    for number in range(job["steps"]):
        used = time.process_time()
        record = training.train_step(batches[number % 2])
        ends.append(time.monotonic())
        seconds = record.seconds | {"processor": time.process_time() - used}
        records.append({"bytes": record.bytes, "seconds": seconds, "links": record.links, "loss": record.loss})
    return {"started": started, "ends": ends, "records": records}


def collectives(job: dict[str, Any], begin: Callable[[], None]) -> dict[str, Any]:
    """Seconds of each collective by payload in bytes, median; ``send`` is half of a way there and back."""
    begin()
    found: dict[str, dict[str, float]] = {}
    for kind in job["kinds"]:
        found[kind] = {}
        for size in job["sizes"]:
            call, took = collective(kind, size), []
            for number in range(job["repeats"] + 1):
                dist.barrier()
                start = time.monotonic()
                call()
                last = torch.tensor([time.monotonic()], dtype=torch.float64)
                dist.all_reduce(last, op=dist.ReduceOp.MAX)  # one clock
                if number:
                    took.append(float(last) - start)
            found[kind][str(size)] = statistics.median(took) / (2 if kind == "send" else 1)
    return found


def collective(kind: str, size: int) -> Callable[[], Any]:
    """A call of a collective whose payload on every rank has so many bytes, or of a way there and back."""
    world, rank = dist.get_world_size(), dist.get_rank()
    x = torch.ones(max(1, size // 4 // world) * world)
    if kind == "all_gather":
        parts = [torch.empty_like(x) for _ in range(world)]
        return lambda: dist.all_gather(parts, x)
    if kind == "reduce_scatter":
        part = torch.empty(x.numel() // world)
        return lambda: dist.reduce_scatter_tensor(part, x)
    if kind == "reduce":
        return lambda: dist.reduce(x, 0)
    if kind == "broadcast":
        return lambda: dist.broadcast(x, 0)
    if kind == "send":
        return lambda: there_and_back(x, rank)
    return lambda: dist.all_reduce(x)


def there_and_back(x: torch.Tensor, rank: int) -> None:
    """Rank 0 sends to rank 1, which sends it back."""
    if rank == 0:
        dist.send(x, 1)
        dist.recv(x, 1)
    elif rank == 1:
        dist.recv(x, 0)
        dist.send(x, 0)


def speed(job: dict[str, Any], begin: Callable[[], None]) -> dict[str, Any]:
    """Mean seconds of a step of the model on this device alone, over at least ``seconds``."""
    from airlam.models import AirlamConfig, AirlamModel
    from airlam.tasks.objectives import forecast_target, predicted_error

    torch.manual_seed(0)
    model = AirlamModel(AirlamConfig(**job["model"])).train()
    batch = random_batch(**job["batch"], seed=0)

    def step() -> None:
        target = forecast_target(model, batch["h_past"], batch["h_future"], batch["port_shape"])
        torch.log(predicted_error(model, target)).mean().backward()
        model.zero_grad()

    step()
    begin()
    start, count = time.monotonic(), 0
    while time.monotonic() - start < job["seconds"]:
        step()
        count += 1
    return {"seconds": (time.monotonic() - start) / count}


def begin(folder: Path) -> None:
    """From here on quotas hold."""
    wait_to_go(folder, dist.get_rank())
    dist.barrier()


def profile(job: dict[str, Any], begin: Callable[[], None]) -> dict[str, Any]:
    """The profile of a model on this device."""
    from airlam.edge.parallel.cost_model.measuring import measure_profile
    from airlam.models import AirlamConfig

    begin()
    return asdict(measure_profile(AirlamConfig(**job["model"]), links=job["links"]))


JOBS = {"train": train, "collectives": collectives, "speed": speed, "profile": profile}


def main() -> int:
    """Entry."""
    p.die_with_parent()
    path = Path(sys.argv[1])
    job = read_json(path)
    torch.set_num_threads(1)
    dist.init_process_group("gloo", timeout=datetime.timedelta(seconds=job.get("timeout", 120)))
    result = JOBS[job["kind"]](job, lambda: begin(path.parent))
    write_json(path.with_name(f"result-{dist.get_rank()}.json"), result)
    dist.barrier()
    return 0


if __name__ == "__main__":
    code = main()
    sys.stdout.flush()
    os._exit(code)
