"""What a run says while it trains: a bar, ``log.jsonl``, ``validation.jsonl``, TensorBoard. Rank 0 writes all of it."""

from __future__ import annotations

import json
import math
import resource
from dataclasses import asdict
from pathlib import Path
from typing import IO, Any

import torch.distributed as dist
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn

from airlam.edge.parallel.engine.training import StepRecord
from airlam.edge.parallel.launching.watchdog import Watchdog, waiting
from airlam.edge.parallel.recipe import ParallelTraining
from airlam.progress import ProgressLines

LOG, VALIDATION = "log.jsonl", "validation.jsonl"
DECIBELS = 10 / math.log(10)  # of a natural logarithm


class Reporter:
    """Of one rank; all ranks call :meth:`step` and :meth:`validated` together.

    Args:
        step: that training begins behind.
    """

    def __init__(self, watch: Watchdog, run: ParallelTraining, step: int) -> None:
        self.watch, self.run, self.begin = watch, run, step
        self.bar: ProgressLines | None = None
        self.board: Any = None
        self.task: Any = None

    def __enter__(self) -> Reporter:
        if self.watch.rank == 0:
            from torch.utils.tensorboard import SummaryWriter

            columns = (
                TextColumn("step"),
                MofNCompleteColumn(),
                BarColumn(),
                TextColumn("{task.description}"),
                TextColumn("left"),
                TimeRemainingColumn(),
            )
            self.board = SummaryWriter(str(self.watch.folder / "tensorboard"), purge_step=self.begin)
            self.bar = ProgressLines(*columns, console=Console())
            self.bar.start()
            self.task = self.bar.add_task("", total=self.run.steps, completed=self.begin)
        return self

    def __exit__(self, *_: Any) -> None:
        if self.bar is not None:
            self.bar.stop()
            self.board.close()

    def step(self, record: StepRecord) -> None:
        """The bar; every ``log_every`` steps a line of the log, with what every rank did. Its bytes are not counted."""
        if self.bar is not None:
            self.bar.update(self.task, completed=record.step, description=f"NMSE {DECIBELS * record.loss:.2f} dB")
        if record.step % self.run.log_every and record.step != self.run.steps:
            return
        mine = {
            "rank": dist.get_rank(),
            **{key: value for key, value in asdict(record).items() if key in ("links", "bytes", "seconds")},
            "peak_memory_bytes": peak_memory(),
        }
        ranks: list[Any] = [None] * dist.get_world_size()
        with waiting("the log"):
            dist.all_gather_object(ranks, mine)
        entry = {"step": record.step, "nmse_db": DECIBELS * record.loss, "norm": record.norm, "rate": record.rate}
        self._write(LOG, entry | {"ranks": ranks}, "train", entry)
        if self.board is not None:
            for one in ranks:
                self.board.add_scalar(f"memory_mb/rank_{one['rank']}", one["peak_memory_bytes"] / 1e6, record.step)

    def validated(self, step: int, figures: dict[str, float]) -> None:
        """A line of ``validation.jsonl``."""
        self._write(VALIDATION, {"step": step, **figures}, "validation", figures)

    def _write(self, name: str, line: dict[str, Any], group: str, scalars: dict[str, float]) -> None:
        if self.bar is None:
            return
        file: IO[str]
        with open(self.watch.folder / name, "a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")
        for key, value in scalars.items():
            self.board.add_scalar(f"{group}/{key}", value, line["step"])


def peak_memory() -> int:
    """Most bytes that this process ever had in memory."""
    return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def read_log(folder: str | Path, name: str = LOG) -> list[dict[str, Any]]:
    """The lines of a run's log; of a step that was done again after a fault the last one."""
    lines = (json.loads(line) for line in (Path(folder) / name).read_text(encoding="utf-8").splitlines() if line)
    return list({line["step"]: line for line in lines}.values())
