"""Memory limits set by the kernel: one process alone is killed for memory, several together train the model.

    python -P benchmarks/parallel_memory.py [--steps 6] [--batch 8] [--out runs/parallel_memory.json]

Needs root on Linux. Measured first: the memory of an idle worker (everything imported, process group up, data open,
no model); the most memory of one worker that trains airlam-base (26 M parameters) alone; the increment is
the difference. Counted is anonymous memory, as the kernel charges it to the process's control group: files that many
processes share, such as torch's libraries, are not in it, so the limits are stricter than resident memory would allow.
Then every process gets a limit of idle memory + a part of the increment, swap excluded, and runs what ``airlam
parallel`` starts, from reading the data to writing the checkpoint.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import shutil
import sys
import tempfile
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from airlam.edge.parallel.engine.reporting import read_log
from airlam.edge.parallel.engine.training import data_module
from airlam.edge.parallel.launching.watchdog import Watchdog
from airlam.edge.parallel.launching.watchdog import run as run_worker
from airlam.edge.parallel.recipe import RECIPE, ParallelTraining, run_from_dict
from airlam.edge.parallel.shaped.limits import Limits
from airlam.edge.parallel.shaped.processes import Ended, missing, run_together
from airlam.io import read_json, write_json

BASE = {
    "error_variance": True,
    "backbone": {
        "model_type": "roberta-prelayernorm",
        "hidden_size": 512,
        "num_hidden_layers": 8,
        "num_attention_heads": 8,
        "intermediate_size": 2048,
        "hidden_dropout_prob": 0.0,
        "attention_probs_dropout_prob": 0.0,
        "max_position_embeddings": 514,
        "vocab_size": 2,
        "pad_token_id": 1,
        "bos_token_id": 0,
        "eos_token_id": 1,
    },
}  # as tasks/pretraining/airlam_base.yaml
TWO = [
    {"mode": "pipeline", "micro_batches": 4},
    {"mode": "data", "shard": True},
    {"mode": "tensor"},
    {"mode": "pipeline", "checkpoint": "of the first run"},
    {"mode": "data", "shard": True, "checkpoint": "of the first run"},
]
FOUR = [
    {"mode": "pipeline", "micro_batches": 8},
    {"mode": "data", "shard": True},
    {"mode": "tensor"},
    {"mode": "hybrid", "mesh": {"data": 1, "pipeline": 2, "sequence": 1, "tensor": 2}, "micro_batches": 4},
]
MB = 1e6


def recipe(batch: int, steps: int, nproc: int, **changes: Any) -> ParallelTraining:
    """Pretraining of airlam-base, from random weights or from a checkpoint."""
    model = {} if changes.get("checkpoint") else {"model": BASE}
    task = {"class_path": "airlam.tasks.Pretraining", "init_args": model | {"warmup_steps": 2}}
    data = {
        "channel": "uma_nlos",
        "channel_overrides": {"num_subcarriers": 48, "chunk": 16},
        "num_train": 64,
        "num_val": 16,
        "num_test": 16,
        "history": 16,
        "horizon": 4,
        "csi_snr_db": 20.0,
        "batch_size": batch,
        "seed": 0,
        "block_size": 16,
    }
    plain = asdict(ParallelTraining(task, data, nproc=2)) | {"nproc": nproc, "steps": steps, "log_every": 1}
    return run_from_dict(plain | {"checkpoint_every": steps, "timeout": 120.0} | changes)


def idle(folder: Path) -> int:
    """A worker that has everything but a model."""

    def wait(watch: Watchdog) -> None:
        import torch.distributed.checkpoint  # noqa: F401
        import torch.distributed.fsdp  # noqa: F401
        import torch.distributed.pipelining  # noqa: F401
        from torch.utils.tensorboard import SummaryWriter  # noqa: F401

        import airlam.edge.parallel.worker  # noqa: F401

        data = data_module(run_from_dict(read_json(folder / RECIPE)))
        data.prepare_data()
        assert data.train_dataloader().source is not None
        time.sleep(1.0)
        status = (line.split() for line in Path("/proc/self/status").read_text().splitlines())
        resident = {line[0][:-1]: 1024 * int(line[1]) for line in status if line[0] in ("VmRSS:", "RssAnon:")}
        write_json(folder / f"idle-{watch.rank}.json", resident)
        time.sleep(1.0)

    return run_worker(folder, wait)


def start(
    run: ParallelTraining, limit: int | None, *, idling: bool = False, keep: Path | None = None
) -> tuple[list[Ended], list[dict[str, Any]]]:
    """Run it; how the processes ended, and the log (for idle ones: their resident memory).

    Args:
        keep: where to copy the checkpoint that it writes.
    """
    with tempfile.TemporaryDirectory(prefix="airlam-memory-") as name:
        folder = Path(name)
        write_json(folder / RECIPE, run.to_dict())
        command = [sys.executable, "-m", "airlam.edge.parallel.worker", name]
        if idling:
            command = [sys.executable, "-P", __file__, "--idle", name]
        limits = [Limits(memory=limit)] * run.nproc
        ended = run_together([command] * run.nproc, limits, folder, timeout=900, failing=limit is not None)
        if idling:
            return ended, [read_json(folder / f"idle-{rank}.json") for rank in range(run.nproc)]
        if keep is not None:
            shutil.copytree(folder / "checkpoint", keep)
        log = folder / "log.jsonl"
        return ended, read_log(folder) if log.is_file() else []


def row_of(name: str, limit: float, ended: list[Ended], log: list[dict[str, Any]], steps: int) -> dict[str, Any]:
    """For the table."""
    killed = [rank for rank, one in enumerate(ended) if one.kills or one.code == -9]
    last = f"{log[-1]['nmse_db']:.1f} dB after step {log[-1]['step']}" if log else "no step"
    good = all(one.code == 0 for one in ended) and bool(log) and log[-1]["step"] == steps
    how = "trained" if good else "killed for memory" if killed else f"failed: {ended[0].text}"
    memory = [one.memory for one in ended]
    return {"name": name, "limit": limit, "memory": memory, "end": how, "log": last, "good": good}


def main() -> int:
    """Measure, limit, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=6, help="of each run")
    parser.add_argument("--batch", type=int, default=8, help="links of a step")
    parser.add_argument("--two", type=float, default=0.6, help="part of the increment that two processes get each")
    parser.add_argument("--four", type=float, default=0.4, help="the same of four")
    parser.add_argument("--only", default="", help="modes whose name has this text")
    parser.add_argument("--out", type=Path, default=Path("runs/parallel_memory.json"))
    parser.add_argument("--idle", type=Path, help=argparse.SUPPRESS)
    known = parser.parse_args()
    if known.idle:
        return idle(known.idle)
    console = Console()
    if (reason := missing(links=False)) is not None:
        console.print(f"skipped: {reason}")
        return 0
    with contextlib.ExitStack() as stack:
        return measure(known, console, stack)


def measure(known: argparse.Namespace, console: Console, stack: contextlib.ExitStack) -> int:
    """All runs."""
    alone = recipe(known.batch, known.steps, 1, mode="data")
    data_module(alone).prepare_data()
    resting, resident = start(recipe(known.batch, known.steps, 2, mode="data"), None, idling=True)
    base = max(one.memory for one in resting)
    kept = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="airlam-memory-"))) / "checkpoint"
    free, log = start(alone, None, keep=kept)
    need = free[0].memory - base
    console.print(
        f"idle worker: {base / MB:.0f} MB anonymous, {max(one['VmRSS'] for one in resident) / MB:.0f} MB resident; "
        f"alone: {free[0].memory / MB:.0f} MB anonymous, {log[-1]['ranks'][0]['peak_memory_bytes'] / MB:.0f} MB "
        f"resident; increment {need / MB:.0f} MB"
    )
    rows = [row_of("one process, no limit", 0, free, log, known.steps)]
    for count, part, modes in ((2, known.two, TWO), (4, known.four, FOUR)):
        limit = int(base + part * need)
        rows.append(row_of(f"one process, limit of {count}", limit, *start(alone, limit), known.steps))
        for changes in modes:
            words = [changes["mode"], *[name for name, size in changes.get("mesh", {}).items() if size > 1]]
            name = f"{count} processes, {' '.join(words)}{', sharded' if changes.get('shard') else ''}"
            if "checkpoint" in changes:
                changes, name = changes | {"checkpoint": str(kept)}, f"{name}, from a checkpoint"
            if known.only not in name:
                continue
            found = start(recipe(known.batch, known.steps, count, **changes), limit)
            rows.append(row_of(name, limit, *found, known.steps))
            console.print(f"{rows[-1]['name']}: {rows[-1]['end']}, {rows[-1]['log']}")
    table = Table(title="airlam-base under memory limits [MB of anonymous memory]")
    for title in ("run", "limit", "most of each process", "end", "NMSE"):
        table.add_column(title)
    for row in rows:
        limit = f"{row['limit'] / MB:.0f}" if row["limit"] else "none"
        most = ", ".join(f"{one / MB:.0f}" for one in row["memory"])
        table.add_row(row["name"], limit, most, f"[{'green' if row['good'] else 'red'}]{row['end']}[/]", row["log"])
    console.print(table)
    facts = {"idle": base, "resident": resident, "increment": need, "load": os.getloadavg()[0]}
    write_json(known.out, facts | {"rows": rows})
    return 0


if __name__ == "__main__":
    sys.exit(main())
