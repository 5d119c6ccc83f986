"""Real processes of every collaborative mechanism: the losses of one process, and bytes counted at collectives."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from airlam.edge.parallel.cost_model import volume as v
from airlam.edge.parallel.cost_model.cost import simulate
from airlam.edge.parallel.cost_model.plan import Plan
from airlam.edge.parallel.cost_model.pool import Pool
from airlam.edge.parallel.cost_model.profiling import ModelProfile
from airlam.edge.parallel.recipe import ParallelTraining
from airlam.errors import AirlamError
from airlam.io import write_json

POLL = 0.2  # s


@dataclass(frozen=True)
class Case:
    """A mechanism's run, and where its record goes."""

    name: str
    run: ParallelTraining
    record: Path


def run_cases(
    cases: Sequence[Case], batches: list[dict[str, Any]], timeout: float, watch: Callable[[str], None]
) -> None:
    """Run cases in as many processes as their runs have ranks; cases of equal size share the processes.

    Args:
        batches: of the steps. timeout: seconds for one group of processes. watch: called with a line before each group.

    Raises:
        AirlamError: a process failed, or did not end in time.
    """
    for world in sorted({case.run.nproc for case in cases}):
        mine = [case for case in cases if case.run.nproc == world]
        watch(f"{world} processes: {', '.join(case.name for case in mine)}")
        with tempfile.TemporaryDirectory(prefix="airlam-ranks-") as folder:
            described = [{"run": case.run.to_dict(), "record": str(case.record)} for case in mine]
            write_json(Path(folder) / "cases.json", {"cases": described, "timeout": timeout})
            torch.save(batches, Path(folder) / "batches.pt")
            launch(Path(folder), world, timeout)


def launch(folder: Path, world: int, timeout: float) -> None:
    """Start the ranks, wait for them, and leave none behind."""
    environment = {"OMP_NUM_THREADS": "1", "TORCH_CPP_LOG_LEVEL": "ERROR", **os.environ}
    command = [sys.executable, "-m", "airlam.edge.parallel.benchmark.ranks", str(folder)]
    ranks: list[subprocess.Popen[bytes]] = []
    deadline = time.monotonic() + timeout
    try:
        for rank in range(world):
            with open(folder / f"{rank}.log", "wb") as log:
                ranks.append(
                    subprocess.Popen([*command, str(rank), str(world)], env=environment, stdout=log, stderr=log)
                )
        while any(one.poll() is None for one in ranks):
            for number, one in enumerate(ranks):
                if one.poll() not in (None, 0):
                    said = (folder / f"{number}.log").read_text(errors="replace").strip().splitlines()
                    raise AirlamError(f"rank {number} of {world} failed: {said[-1] if said else one.returncode}")
            if time.monotonic() > deadline:
                raise AirlamError(f"{world} processes did not end within {timeout:g} s; raise proof.timeout")
            time.sleep(POLL)
        bad = [number for number, one in enumerate(ranks) if one.returncode]
        if bad:
            raise AirlamError(f"ranks {bad} of {world} failed")
    finally:
        for one in ranks:
            if one.poll() is None:
                one.kill()
            one.wait()


def difference(record: dict[str, Any], reference: dict[str, Any], key: str = "losses") -> float:
    """Largest relative difference, step by step, of losses (or ``norms`` of the gradient).

    Example:
        >>> difference({"losses": [2.0]}, {"losses": [2.5, 1.0]})
        0.2
    """
    pairs = zip(record[key], reference[key], strict=False)
    return max((abs(mine - theirs) / max(abs(theirs), 1e-12) for mine, theirs in pairs), default=0.0)


def closed_form(plan: Plan, profile: ModelProfile, pool: Pool, frozen: Sequence[Sequence[int]]) -> list[int]:
    """Bytes that each rank hands to its collectives in a step: the mode's formula, of a hybrid the simulated step's.

    Args:
        frozen: shapes of the parameters that are not trained, which sharding gathers with the others.
    """
    n, p = len(plan.devices), profile
    step = {"links": plan.batch, "tokens": p.tokens, "width": p.width}
    if plan.shard:
        groups = [[*p.shapes["embedding"], *p.shapes["head"]], *[p.shapes["layer"]] * p.layers]
        found = [v.sharded_volume(groups=groups, ranks=n, frozen=frozen)] * n
    elif plan.mode == "data":
        found = [v.data_volume(parameters=p.parameters, ranks=n)] * n
    elif plan.mode == "sequence":
        sizes = {"key_width": p.key_width, "layers": p.depth, "parameters": p.parameters}
        found = [v.sequence_volume(links=plan.batch, tokens=plan.tokens, **sizes)] * n
    elif plan.mode == "tensor":
        found = [v.tensor_volume(**step, layers=p.depth, ranks=n)] * n
    elif plan.mode == "looped":
        found = [v.looped_volume(**step, loops=p.depth, ranks=n)] * n
    elif plan.mode == "pipeline":
        found = [v.pipeline_volume(**step, stage=stage, stages=n) for stage in range(n)]
    else:
        return [round(sum(kinds.values())) for kinds in simulate(plan, profile, pool).payload]
    return [sum(volume.values()) for volume in found]
