"""One rank of real processes that take the first steps of collaborative mechanisms, and count bytes.

Started by :mod:`airlam.edge.parallel.benchmark.proof` as ``python -m airlam.edge.parallel.benchmark.ranks FOLDER RANK
WORLD``. ``FOLDER/cases.json`` says what to run; the records of all ranks go to the path that each case names.
"""

from __future__ import annotations

import datetime
import os
import sys
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

from airlam.edge.parallel.engine.training import Training
from airlam.edge.parallel.recipe import run_from_dict
from airlam.errors import AirlamError
from airlam.io import read_json, write_json


def main() -> int:
    """Run all cases; returns the exit code."""
    folder, rank, world = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
    torch.set_num_threads(1)
    spec = read_json(folder / "cases.json")
    wait = datetime.timedelta(seconds=spec["timeout"])
    dist.init_process_group(
        "gloo", store=dist.FileStore(str(folder / "store"), world), rank=rank, world_size=world, timeout=wait
    )
    batches = torch.load(folder / "batches.pt", weights_only=True)
    for case in spec["cases"]:
        records = steps(case, batches)
        if rank == 0:
            write_json(case["record"], records)
        dist.barrier()
    dist.destroy_process_group()
    return 0


def steps(case: dict[str, Any], batches: list[dict[str, Any]]) -> dict[str, Any]:
    """The steps of one case: losses and norms, and the bytes that each rank hands over in the last one."""
    training = Training(run_from_dict(case["run"]))
    losses, norms, handed = [], [], {}
    for batch in batches:
        record = training.train_step(batch if training.engine.needs_tokens else None)
        losses.append(record.loss)
        norms.append(record.norm)
        handed = dict(record.bytes)
    ranks: list[Any] = [None] * dist.get_world_size()
    dist.all_gather_object(ranks, handed)
    return {"losses": losses, "norms": norms, "bytes": ranks}


if __name__ == "__main__":
    try:
        code = main()
    except AirlamError as error:
        print(error, file=sys.stderr)
        code = 2
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)
