"""Trains cases of a JSON file on ranks, and writes what one process would see: ``python ranks.py SPEC``.

The specification has ``batches`` (a file), ``out`` (a folder), and ``launches``: each a number of ranks, ``world``, and
the ``cases`` that they train one after the other. Ranks are forks of this process, which imports everything once.

Of each case ``NAME.pt`` holds losses, norms, bytes and links of every rank and step, gradients of the first steps, and
weights after the first and the last step, all assembled from the ranks' parts; or ``NAME.error`` what rank 0 raised.
"""

from __future__ import annotations

import datetime
import itertools
import json
import os
import sys
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch.multiprocessing.spawn import ProcessExitedException, start_processes
from torch.profiler import ProfilerActivity, profile

from airlam.edge.parallel.engine import checkpoint
from airlam.edge.parallel.engine.building import local
from airlam.edge.parallel.engine.training import Training
from airlam.edge.parallel.recipe import run_from_dict

torch.set_num_threads(1)


def assemble(named: dict[str, torch.Tensor], pieces: dict[str, Any]) -> dict[str, torch.Tensor]:
    """Whole tensors, on every rank; fails where copies of the same block differ."""
    mine = {name: (pieces[name], local(value).detach().clone()) for name, value in named.items()}
    everyone: list[Any] = [None] * dist.get_world_size()
    dist.all_gather_object(everyone, mine)
    whole: dict[str, torch.Tensor] = {}
    for held in everyone:
        for name, (piece, value) in held.items():
            if name not in whole:
                whole[name] = torch.full(piece.shape, torch.nan, dtype=value.dtype)
            block = whole[name][piece.slices]
            if block.numel() and not block.isnan().all():
                torch.testing.assert_close(block, value, rtol=1e-5, atol=1e-6, msg=f"copies of {name} differ")
            whole[name][piece.slices] = value
    assert all(not value.isnan().any() for value in whole.values()), "a block is missing"
    return whole


def measured(made: Callable[[], Training]) -> tuple[int, Training]:
    """(most bytes that tensors took at once, result)."""
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as watch:
        training = made()
    events = watch.profiler.kineto_results.events()  # type: ignore[union-attr]
    sizes = sorted((event.start_ns(), event.nbytes()) for event in events if event.name() == "[memory]")
    return max(itertools.accumulate(size for _, size in sizes)), training


def run_case(case: dict[str, Any], batches: list[dict[str, Any]], out: Path) -> None:
    """One case; see the tests for its keys."""
    run = run_from_dict(case["run"])
    state = Path(case["state"]) if case.get("state") else None
    peak, training = measured(lambda: Training(run, state)) if case.get("measure") else (0, Training(run, state))
    model, pieces = training.part.model, training.part.pieces
    grads: list[dict[str, torch.Tensor]] = []
    update = training._update

    def kept(norm: float) -> None:
        if len(grads) < case.get("grads", 2):
            found = {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}
            grads.append(assemble(found, pieces))
        update(norm)

    training._update = kept  # type: ignore[method-assign]
    records, after_one = [], None
    for _ in range(case["steps"]):
        record = training.train_step(batches[training.step % len(batches)])
        records.append({key: getattr(record, key) for key in ("step", "loss", "norm", "rate", "bytes", "links")})
        if after_one is None:
            after_one = assemble(dict(model.named_parameters()), pieces)
    saved = {**dict(model.named_parameters()), **{n: b for n, b in model.named_buffers() if n in model.state_dict()}}
    weights = assemble(saved, pieces)
    if case.get("kill"):
        die_while_saving(case["kill"])
    if case.get("save"):
        training.save(Path(case["save"]))
    if case.get("export"):
        checkpoint.write_checkpoint(Path(case["export"]), training.part)
    facts = {
        "records": records,
        "numel": sum(local(p).numel() for p in model.parameters() if p.requires_grad),
        "layers": training.part.layers,
        "bytes": sum(local(x).nbytes for x in (*model.parameters(), *model.buffers())),
        "peak": peak,
    }
    every: list[Any] = [None] * dist.get_world_size()
    dist.all_gather_object(every, facts)
    if dist.get_rank() == 0:
        torch.save({"grads": grads, "after_one": after_one, "weights": weights, "ranks": every}, out)


def die_while_saving(moment: str) -> None:
    """Let this process be killed in the middle of writing a state: ``files`` (after its own), or ``name``."""
    if moment == "files" and dist.get_rank() == dist.get_world_size() - 1:
        checkpoint.dcp.save = lambda *args, **kwargs: os.kill(os.getpid(), 9)  # type: ignore[assignment]
    if moment == "name" and dist.get_rank() == 0:
        rename = os.replace

        def renamed(source: Any, target: Any) -> None:
            if Path(source).is_dir():
                os.kill(os.getpid(), 9)
            rename(source, target)

        os.replace = renamed


def run_cases(rank: int, world: int, store: str, spec: dict[str, Any], cases: list[dict[str, Any]]) -> None:
    """One rank."""
    warnings.simplefilter("ignore")
    limit = datetime.timedelta(seconds=300)
    dist.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=world, timeout=limit)
    batches = torch.load(spec["batches"], weights_only=True)
    for case in cases:
        out = Path(spec["out"]) / f"{case['name']}.pt"
        try:
            run_case(case, batches, out)
        except Exception as error:
            if not case.get("fails"):
                raise RuntimeError(f"case {case['name']}") from error
            if rank == 0:
                out.with_suffix(".error").write_text(f"{type(error).__name__}: {error}")
        dist.barrier()
    dist.destroy_process_group()


def main() -> None:
    spec = json.loads(Path(sys.argv[1]).read_text())
    for launch in spec["launches"]:
        with tempfile.TemporaryDirectory() as folder:
            given = (launch["world"], f"{folder}/store", spec, launch["cases"])
            try:
                start_processes(run_cases, given, nprocs=launch["world"], start_method="fork")
            except ProcessExitedException:
                if not any(case.get("kill") for case in launch["cases"]):
                    raise


if __name__ == "__main__":
    main()
