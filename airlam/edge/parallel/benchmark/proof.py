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


def difference(record: dict[str, Any], reference: dict[str, Any]) -> float:
    """Largest relative difference of losses and of the gradients' norms, step by step.

    Example:
        >>> difference({"losses": [2.0], "norms": [1.0]}, {"losses": [2.0, 1.0], "norms": [1.1, 1.0]})
        0.09090909090909098
    """
    worst = 0.0
    for key in ("losses", "norms"):
        for mine, theirs in zip(record[key], reference[key], strict=False):
            worst = max(worst, abs(mine - theirs) / max(abs(theirs), 1e-12))
    return worst
