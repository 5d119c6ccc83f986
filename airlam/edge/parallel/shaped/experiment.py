"""Jobs on a shaped pool, and what was measured."""

from __future__ import annotations

import statistics
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from airlam.edge.parallel.shaped.limits import Limits
from airlam.edge.parallel.shaped.processes import run_together
from airlam.io import read_json, write_json

WARM_UP = 2  # steps that do not count


@dataclass(frozen=True)
class Node:
    """One device of a shaped pool.

    Attributes:
        quota: share of a core; None: all of it. rate: of its link, bit/s, both ways; None: not shaped.
    """

    quota: float | None
    rate: float | None = None


@dataclass(frozen=True)
class Steps:
    """Measured training steps.

    Attributes:
        seconds: of a step, median: from the end of one on the last rank to the end of the next on the last rank.
        every: seconds of each counted step. bytes: of a step, by kind, of each rank. phases: median seconds of each
            rank by phase. losses: of the steps, the same on all ranks.
    """

    seconds: float
    every: list[float]
    bytes: list[dict[str, int]]
    phases: list[dict[str, float]]
    losses: list[float]


def run_job(
    job: dict[str, Any], nodes: Sequence[Node], *, core: int | None = None, timeout: float = 600.0
) -> list[Any]:
    """Run a job of :mod:`airlam.edge.parallel.shaped.worker` on every node; the results by rank.

    Args:
        core: that all share; None: each takes what the kernel gives it.
    """
    limits = [Limits(quota=node.quota, core=core) for node in nodes]
    with tempfile.TemporaryDirectory(prefix="airlam-shaped-") as name:
        folder = Path(name)
        path = write_json(folder / "job.json", job)
        command = [sys.executable, "-m", "airlam.edge.parallel.shaped.worker", str(path)]
        rates = [node.rate for node in nodes]
        run_together([command] * len(nodes), limits, folder, rates=rates, timeout=timeout, full_speed_start=True)
        return [read_json(folder / f"result-{rank}.json") for rank in range(len(nodes))]


def measure_steps(
    run: dict[str, Any],
    batch: dict[str, Any],
    nodes: Sequence[Node],
    *,
    steps: int = 10,
    core: int | None = None,
    timeout: float = 600.0,
) -> Steps:
    """Train for some steps.

    Args:
        run: :meth:`airlam.edge.parallel.recipe.ParallelTraining.to_dict`.
        batch: ``links``, ``history``, ``horizon``, ``subcarriers``, ``ports`` of the random links.
        steps: that count.
    """
    job = {"kind": "train", "run": run, "batch": batch, "steps": steps + WARM_UP}
    return steps_of(run_job(job, nodes, core=core, timeout=timeout))


def steps_of(results: Sequence[dict[str, Any]]) -> Steps:
    """What the ranks of a training measured.

    Example:
        >>> record = {"bytes": {"send": 8}, "seconds": {"tokens": 0.1}, "loss": 1.0}
        >>> one, other = ({"ends": ends, "records": [record] * 4} for ends in ([1, 2, 3, 5], [1, 2, 4, 4]))
        >>> steps_of([one, other]).every
        [2, 1]
    """
    ends = [max(times) for times in zip(*(one["ends"] for one in results), strict=True)]
    every = [after - before for before, after in zip(ends[WARM_UP - 1 :], ends[WARM_UP:], strict=False)]
    kept = [one["records"][WARM_UP:] for one in results]
    phases = [
        {name: statistics.median(r["seconds"][name] for r in records) for name in records[0]["seconds"]}
        for records in kept
    ]
    return Steps(
        statistics.median(every),
        every,
        [records[-1]["bytes"] for records in kept],
        phases,
        [record["loss"] for record in kept[0]],
    )
