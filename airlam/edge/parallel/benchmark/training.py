"""What each mechanism's model becomes: real training on this host, judged on held-out links of all owners."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

from airlam.edge.federated.engines.run import run_rounds
from airlam.edge.federated.learning.learner import Learner
from airlam.edge.federated.recipe.federation import Federation
from airlam.edge.federated.server.record import RoundRecord
from airlam.edge.parallel.benchmark.config import Mechanism
from airlam.edge.parallel.benchmark.workload import Workload
from airlam.edge.parallel.engine.training import Training
from airlam.edge.parallel.recipe import ParallelTraining
from airlam.models import load_checkpoint, save_checkpoint
from airlam.models.layers import layer_prefix
from airlam.recipes import find_checkpoint

ALL = "all"  # owners
Watch = Callable[[int, int], None]  # called with steps done and steps in all


@dataclass(frozen=True)
class Job:
    """A model that is trained. Mechanisms that train the same one, up to rounding, share it.

    Attributes:
        kind: ``start`` (not trained at all), ``together`` (one model, steps of links of some owners), ``federated``,
            ``split``. owner: whose links alone; ``all``. layers, loops, lora_rank, learning_rate: as in
            :class:`airlam.edge.parallel.benchmark.config.Mechanism`.
    """

    kind: str
    owner: str = ALL
    layers: int | None = None
    loops: int | None = None
    lora_rank: int | None = None
    learning_rate: float = 1e-3


def job_of(mechanism: Mechanism, best: str, rate: float) -> Job:
    """The model that a mechanism trains.

    Args:
        best: the device that trains alone. rate: the workload's learning rate.

    Example:
        >>> cloud, tensor = Mechanism("cloud"), Mechanism("collaborative", mode="tensor")
        >>> job_of(cloud, "desk", 1e-3) == job_of(tensor, "desk", 1e-3)
        True
    """
    rate = rate if mechanism.learning_rate is None else mechanism.learning_rate
    if mechanism.kind in ("federated", "split"):
        return Job(mechanism.kind, lora_rank=mechanism.lora_rank, learning_rate=rate)
    own = mechanism.kind == "one device" and mechanism.data == "own"
    return Job("together", best if own else ALL, mechanism.layers, mechanism.loops, learning_rate=rate)


class Trainer:
    """Trains jobs on a workload.

    Args:
        folder: where shortened models go. warmup: steps of jobs of one model.
    """

    def __init__(self, workload: Workload, folder: Path, warmup: int) -> None:
        self.workload, self.folder, self.warmup = workload, folder, warmup

    def run(self, job: Job, seed: int, watch: Watch) -> dict[str, Any]:
        """The record of a job: errors of held-out users; losses of its steps, or records of its rounds."""
        if job.kind == "start":
            model = load_checkpoint(find_checkpoint(str(self.workload.federation.model)))
            return {"errors": self.workload.judge(model), **sizes(model, trained=False)}
        return self.together(job, seed, watch) if job.kind == "together" else self.federated(job, seed, watch)

    def together(self, job: Job, seed: int, watch: Watch) -> dict[str, Any]:
        """One model in one process, by the engine that also runs in several."""
        run = self.alone(job, seed)
        owners = None if job.owner == ALL else [self.workload.owners.index(job.owner)]
        records = []
        with one_process():
            training = Training(run)
            for step in range(run.steps):
                records.append(training.train_step(self.workload.batch(step, seed, owners)))
                watch(step + 1, run.steps)
            model = training.part.model
        losses, norms = [r.loss for r in records], [r.norm for r in records]
        return {"errors": self.workload.judge(model), "losses": losses, "norms": norms, **sizes(model)}

    def alone(self, job: Job, seed: int) -> ParallelTraining:
        """A run of one process."""
        return ParallelTraining(
            task={
                "class_path": "airlam.tasks.ChannelPrediction",
                "init_args": {"learning_rate": job.learning_rate, "warmup_steps": self.warmup, "weight_decay": 0.0},
            },
            data={"channel": "umi_nlos", "batch_size": self.workload.federation.batch_size},  # for checks alone
            checkpoint=self.start(job),
            nproc=1,
            loops=job.loops,
            steps=self.workload.steps,
            seed=seed,
        )

    def start(self, job: Job) -> str:
        """The weights that a job starts from: the workload's, or their first layers."""
        name = str(self.workload.federation.model)
        if job.layers is None:
            return name
        folder = self.folder / f"{Path(name).name}-{job.layers}-layers"
        if not folder.is_dir():
            save_checkpoint(shortened(load_checkpoint(find_checkpoint(name)), job.layers), folder)
        return str(folder)

    def federated(self, job: Job, seed: int, watch: Watch) -> dict[str, Any]:
        """Rounds of the federated engine, in this process."""
        f = self.workload.federation
        mode = "split" if job.kind == "split" else "local"
        changes = {"lora_rank": job.lora_rank, "learning_rate": job.learning_rate, "mode": mode, "seed": seed}
        variant = Federation(**{**f.config, **changes, "evaluate_every": f.rounds})
        rounds: list[RoundRecord] = []

        def note(record: RoundRecord) -> None:
            rounds.append(record)
            watch(record.number, f.rounds)

        state = run_rounds(variant, None, watch=note, places=self.workload.places)
        learner = Learner(variant, None if job.lora_rank is None else variant.largest_rank)
        learner.load(state.arrays, variant.rounds + 1)
        errors = {}
        model = learner.model if job.lora_rank is None else learner.model.get_base_model()
        trained = sum(value.size for value in state.arrays.values())
        errors = self.workload.judge(model)
        total = sum(p.numel() for p in model.parameters())
        kept = [r.to_dict() for r in rounds if r.number > 0]
        return {"errors": errors, "rounds": kept, "trained": trained, "total": total}


def sizes(model: Any, trained: bool = True) -> dict[str, int]:
    """Parameters of a model."""
    total = sum(p.numel() for p in model.parameters())
    return {"total": total, "trained": sum(p.numel() for p in model.parameters() if p.requires_grad) if trained else 0}


def shortened(model: Any, layers: int) -> Any:
    """A model with the first so many layers of another one, and all else of it."""
    import copy

    from airlam.models import AirlamModel

    config = copy.deepcopy(model.config)
    config.backbone = {**config.backbone, "num_hidden_layers": layers}
    made = AirlamModel(config)
    if model.tracker is not None:
        made.tracker = copy.deepcopy(model.tracker)
    names = made.state_dict()
    prefix = f"backbone.{layer_prefix(model.backbone)}"
    state = model.state_dict()
    kept = {k: v for k, v in state.items() if not k.startswith(prefix) or int(k[len(prefix) :].split(".")[0]) < layers}
    assert kept.keys() == names.keys()
    made.load_state_dict(kept)
    return made


@contextlib.contextmanager
def one_process() -> Iterator[None]:
    """A process group of this process alone, where there is none."""
    if dist.is_initialized():
        yield
        return
    os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    try:
        yield
    finally:
        dist.destroy_process_group()
        torch.set_grad_enabled(True)
