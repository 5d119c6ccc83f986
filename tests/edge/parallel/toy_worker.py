"""A worker that trains four numbers by averaged gradients: what a run does about faults, without a model.

Settings come in the environment: TOY_STEPS, TOY_EVERY (steps between durable ones), TOY_SECONDS (of a step), TOY_ODD
(a device with another recipe), TOY_FAIL (device:step of an exception), TOY_HANG (device:step of an endless pause).
"""

from __future__ import annotations

import os
import sys
import time

from airlam.edge.parallel.launching import watchdog
from airlam.io import read_json, write_json

STEPS = int(os.environ.get("TOY_STEPS", "40"))
EVERY = int(os.environ.get("TOY_EVERY", "10"))
SECONDS = float(os.environ.get("TOY_SECONDS", "0.05"))
LINKS = 12


def meant(name: str, watch: watchdog.Watchdog, step: int) -> bool:
    """Whether this device is meant to do what ``name`` says at this step."""
    device, _, when = os.environ.get(name, ":").partition(":")
    return device == watch.devices[watch.rank] and str(step) == when


def train(watch: watchdog.Watchdog) -> None:
    import torch
    import torch.distributed as dist

    place = {"pid": os.getpid(), "rank": watch.rank, "round": watch.place.number, "shares": watch.shares}
    write_json(watch.folder / "workers" / watch.devices[watch.rank], place)
    found = sorted((watch.folder / "steps").glob("*.json"))
    state = read_json(found[-1]) if found else {"step": 0, "weights": [0.0] * 4, "velocity": [0.0] * 4}
    step = state["step"]
    weights, velocity = (torch.tensor(state[key], dtype=torch.float64) for key in ("weights", "velocity"))

    def save() -> None:
        if watch.rank == 0:
            kept = {"step": step, "weights": weights.tolist(), "velocity": velocity.tolist()}
            write_json(watch.folder / "steps" / f"{step:06d}.json", kept)
        watch.saved(step)

    while step < STEPS:
        if watch.begin(step):
            save()
            return
        if meant("TOY_FAIL", watch, step):
            raise ValueError("a toy is broken")
        if meant("TOY_HANG", watch, step):
            time.sleep(600)
        data = torch.randn(LINKS, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(step))
        target = data @ torch.tensor([1.0, -2.0, 3.0, 0.5], dtype=torch.float64)
        mine = slice(LINKS * watch.rank // watch.world_size, LINKS * (watch.rank + 1) // watch.world_size)
        time.sleep(SECONDS)
        gradient = (data[mine] * (data[mine] @ weights - target[mine])[:, None]).sum(0) / LINKS
        with watchdog.waiting("the sum of the gradients"):
            dist.all_reduce(gradient)
        velocity = 0.9 * velocity + gradient
        weights = weights - 0.05 * velocity
        step += 1
        if watch.rank == 0:
            print(f"step {step}", flush=True)
        if step % EVERY == 0:
            save()


def replan(devices):
    """Shares of the links for the devices that are left."""
    return [LINKS * (i + 1) // len(devices) - LINKS * i // len(devices) for i in range(len(devices))]


def facts() -> dict[str, str]:
    return {"data": "odd" if os.environ.get("TOY_ODD") == os.environ.get("AIRLAM_PARALLEL_DEVICE") else "even"}


if __name__ == "__main__":
    sys.exit(watchdog.run(sys.argv[1], train, facts=facts(), replan=replan))
