"""Run by torchrun: trains adapters as a JSON file says, and writes what every rank saw."""

from __future__ import annotations

import datetime
import json
import sys
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

from airlam.edge.parallel.engine.loop import begin
from airlam.edge.parallel.recipe import run_from_dict

torch.set_num_threads(1)


class Source:
    """Batches of a file, as of a store with so many links."""

    def __init__(self, batches: list[dict[str, Any]]) -> None:
        self.batches, self.asked = batches, []
        self.batch_size = len(batches[0]["h_past"])
        self.links = range(self.batch_size * len(batches))

    def __len__(self) -> int:
        return len(self.batches)

    def batch(self, number: int) -> dict[str, Any]:
        self.asked.append(number)
        return self.batches[number]


def run_case(case: dict[str, Any], batches: list[dict[str, Any]]) -> dict[str, Any]:
    source, folder = Source(batches), Path(case["folder"])
    training = begin(run_from_dict(case["run"]), source, folder, Path(case["state"]) if case.get("state") else None)
    passes = []
    backbone = training.part.model.get_base_model().backbone
    if backbone is not None:
        for layer in backbone.encoder.layer:
            layer.register_forward_hook(lambda *_: passes.append(training.step))
    records, places = [], []
    for _ in range(case["steps"]):
        places.append(training.place)
        record = training.train_step(training.batch(source))
        records.append({"loss": record.loss, "bytes": record.bytes, "links": record.links})
        if case.get("save") == record.step:
            training.save(folder)
    model = training.part.model
    frozen = [value.grad for value in model.parameters() if not value.requires_grad]
    assert all(grad is None for grad in frozen)
    training.write(folder)
    return {
        "weights": {n: p.detach().clone() for n, p in model.named_parameters() if p.requires_grad},
        "records": records,
        "places": places,
        "asked": source.asked,
        "passes": passes,
        "cached": None if training.cache is None else training.cache.size,
        "held": model.get_base_model().backbone is not None,
    }


def main() -> None:
    spec = json.loads(Path(sys.argv[1]).read_text())
    dist.init_process_group("gloo", timeout=datetime.timedelta(seconds=300))
    batches = torch.load(spec["batches"], weights_only=True)
    for case in spec["cases"]:
        found = run_case(case, batches)
        torch.save(found, Path(spec["out"]) / f"{case['name']}.{dist.get_rank()}.pt")
        dist.barrier()
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
