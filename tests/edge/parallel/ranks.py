"""Run by torchrun: trains cases of a JSON file on these ranks, and writes what one process would see.

For each case: losses, bytes, gradients of the first step, weights after the last one, assembled from all parts.
"""

from __future__ import annotations

import datetime
import json
import sys
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

from airlam.edge.parallel.building import local
from airlam.edge.parallel.recipe import run_from_dict
from airlam.edge.parallel.training import Training

torch.set_num_threads(1)


def assemble(named: dict[str, torch.Tensor], pieces: dict[str, Any]) -> dict[str, torch.Tensor] | None:
    """Whole tensors on rank 0; fails where copies of the same block differ."""
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
                torch.testing.assert_close(block, value, rtol=1e-5, atol=1e-6)
            whole[name][piece.slices] = value
    assert all(not value.isnan().any() for value in whole.values()), "a block is missing"
    return whole


def run_case(case: dict[str, Any], batches: list[dict[str, Any]], out: Path) -> None:
    run = run_from_dict(case["run"])
    state = Path(case["state"]) if case.get("state") else None
    training = Training(run, state)
    grads = {}
    update = training._update

    def kept(norm: float) -> None:
        if not grads:
            grads.update({n: p.grad.clone() for n, p in training.part.model.named_parameters() if p.grad is not None})
        update(norm)

    training._update = kept
    records = []
    for number in range(case["steps"]):
        record = training.train_step(batches[(training.step) % len(batches)])
        records.append({"loss": record.loss, "norm": record.norm, "bytes": record.bytes, "links": record.links})
        if number == 0:
            first = assemble(grads, training.part.pieces)
            after_one = assemble(dict(training.part.model.named_parameters()), training.part.pieces)
    weights = assemble(dict(training.part.model.named_parameters()), training.part.pieces)
    if case.get("save"):
        training.save(Path(case["save"]))
    if case.get("export"):
        from airlam.edge.parallel.checkpoint import write_checkpoint

        write_checkpoint(Path(case["export"]), training.part)
    every: list[Any] = [None] * dist.get_world_size()
    dist.all_gather_object(every, records)
    local_numel = [sum(local(p).numel() for p in training.part.model.parameters() if p.requires_grad)]
    sizes: list[Any] = [None] * dist.get_world_size()
    dist.all_gather_object(sizes, local_numel[0])
    if dist.get_rank() == 0:
        torch.save({"grads": first, "after_one": after_one, "weights": weights, "records": every, "numel": sizes}, out)


def main() -> None:
    spec = json.loads(Path(sys.argv[1]).read_text())
    dist.init_process_group("gloo", timeout=datetime.timedelta(seconds=60))
    batches = torch.load(spec["batches"], weights_only=True)
    for case in spec["cases"]:
        out = Path(spec["out"]) / f"{case['name']}.pt"
        try:
            run_case(case, batches, out)
        except Exception as error:
            if dist.get_world_size() == 1 or case.get("fails"):
                out.with_suffix(".error").write_text(f"{type(error).__name__}: {error}")
            else:
                raise
        dist.barrier()
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
