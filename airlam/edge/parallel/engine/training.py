"""One rank's training: its part of the model, its part of every batch, the optimiser, durable states."""

from __future__ import annotations

import importlib.metadata
import math
import time
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from airlam.data import CSIDataModule
from airlam.data.recipe import load_dataset_recipe
from airlam.edge.parallel.engine.building import Part, build
from airlam.edge.parallel.engine.checkpoint import load_state, save_state, total_norm, write_checkpoint
from airlam.edge.parallel.engine.collectives import TRAFFIC, all_reduce
from airlam.edge.parallel.engine.spmd import SPMDStep
from airlam.edge.parallel.engine.stages import PipelineStep
from airlam.edge.parallel.launching.watchdog import waiting
from airlam.edge.parallel.layout import Layout
from airlam.edge.parallel.recipe import ParallelTraining
from airlam.errors import AirlamError
from airlam.seeds import noise_seed
from airlam.tasks.objectives import Target, forecast_target
from airlam.tasks.optimisation import adamw_with_warmup


@dataclass
class StepRecord:
    """What one step did on this rank.

    Attributes:
        step: number of the step, from 1. loss: of the whole batch, mean over links of ``log NMSE``. norm: of the whole
            gradient, before clipping. rate: learning rate. links: of this rank.
        bytes: handed to collectives by this rank, by kind. seconds: of this rank, by phase.
    """

    step: int
    loss: float
    norm: float
    rate: float
    links: int
    bytes: dict[str, int]
    seconds: dict[str, float] = field(default_factory=dict)


def data_module(run: ParallelTraining) -> CSIDataModule:
    """The run's data."""
    recipe = load_dataset_recipe(run.data)
    return CSIDataModule(**{name: getattr(recipe, name) for name in recipe.__dataclass_fields__})


class Training:
    """Needs the default process group. All ranks make one, and call its methods together.

    Args:
        run: what to train. state: folder of a state to go on from; None: the start.

    Attributes:
        step: steps done. position: batches of the data that were used, in order.
    """

    def __init__(self, run: ParallelTraining, state: Path | None = None) -> None:
        self.run, self.step, self.position = run, 0, 0
        self.layout: Layout = self._lay_out()
        self.part: Part = self._build()
        self.engine: SPMDStep | PipelineStep = self._engine()
        self.optimizer, self.schedule = self._optimiser()
        if state is not None:
            facts = load_state(state, self.part, self.optimizer)
            self.step, self.position = int(facts["step"]), int(facts["data_position"])
            self._set_rate()

    def _lay_out(self) -> Layout:
        return Layout(self.run.ranks, asdict(self.run.shares), star=self.run.mode == "looped")

    def _build(self) -> Part:
        return build(self.run, self.layout)

    def _engine(self) -> SPMDStep | PipelineStep:
        made = PipelineStep if self.layout.size("pipeline") > 1 else SPMDStep
        return made(self.run, self.part, self.layout)

    def _optimiser(self) -> tuple[torch.optim.Optimizer, Any]:
        h, trained = self.part.task.hparams, [p for p in self.part.model.parameters() if p.requires_grad]
        if self.run.optimiser == "sgd":
            return torch.optim.SGD(trained, lr=h["learning_rate"]), None
        made = adamw_with_warmup(
            self.part.model,
            learning_rate=h["learning_rate"],
            weight_decay=h["weight_decay"],
            warmup_steps=h["warmup_steps"],
            total_steps=self.run.steps,
        )
        return made["optimizer"], made["lr_scheduler"]["scheduler"]

    def _set_rate(self) -> None:
        """The learning rate of the next step, a function of the steps done."""
        if self.schedule is not None:
            for group, peak, factor in zip(
                self.optimizer.param_groups, self.schedule.base_lrs, self.schedule.lr_lambdas, strict=True
            ):
                group["lr"] = peak * factor(self.step)

    def batch(self, source: Any) -> dict[str, Any] | None:
        """What the next step needs of a source of batches; None: nothing."""
        return source.batch(self.position) if self.engine.needs_tokens else None

    def links_of(self, batch: dict[str, Any] | None) -> int:
        """Links of the whole batch; 1 where this rank need not know."""
        return 1 if batch is None else len(batch["h_past"])

    def target(self, batch: dict[str, Any] | None) -> Target | None:
        """This rank's links of a batch as tokens; None where it needs none."""
        if batch is None or not self.engine.needs_tokens:
            return None
        # all links first: in double precision tokens are to be the same in every mode, to the bit; and which readings
        # of sensors are missing is drawn for the whole batch
        wide = self.run.precision == "64-true"
        if wide or self.part.task.hparams.get("context"):
            own, device = slice(*self.layout.own("data", len(batch["h_past"]))), self.layout.device
            whole = {k: v.to(device) if isinstance(v, Tensor) else v for k, v in batch.items()}
            target = self.part.task.target(whole, self.step)[0].part(own)  # type: ignore[operator]
            return target.double() if wide else target
        return self.part.task.target(self._own(batch), self.step)[0]  # type: ignore[operator]

    def _own(self, batch: dict[str, Any]) -> dict[str, Any]:
        """This rank's links of a batch."""
        links, device = len(batch["h_past"]), self.layout.device
        own = slice(*self.layout.own("data", links))
        return {k: v[own].to(device) if isinstance(v, Tensor) and len(v) == links else v for k, v in batch.items()}

    def train_step(self, batch: dict[str, Any] | None) -> StepRecord:
        """One optimiser step on a batch. Ranks that need tokens have it whole; the others, stages between the first
        and the last one, may give None.

        Raises:
            AirlamError: the loss or gradient is not finite.
        """
        run, marks = self.run, [time.perf_counter()]
        # dropout: the same after a resume; the same on ranks that hold parts of one hidden state, and on no others
        place = self.layout.place
        torch.manual_seed(noise_seed(run.seed, self.step, *(place[n] for n in ("data", "pipeline", "sequence"))))
        TRAFFIC.take()
        target = self.target(batch)
        marks.append(time.perf_counter())
        loss = self.engine(target, self.links_of(batch))
        marks.append(time.perf_counter())
        both = torch.tensor([loss, total_norm(self.part)], dtype=torch.float64, device=self.layout.device)
        with waiting("the sum of loss and norm"):
            all_reduce(both, None, kind="control")
        marks.append(time.perf_counter())
        loss, norm = float(both[0]), float(both[1]) ** 0.5
        if not both.isfinite().all():
            raise AirlamError(
                f"step {self.step + 1}: loss {loss}, norm of the gradient {norm}; lower the learning rate"
            )
        rate = float(self.optimizer.param_groups[0]["lr"])
        self._update(norm)
        marks.append(time.perf_counter())
        self.step += 1
        self.position += 1
        self._set_rate()
        names = ("tokens", "forward_backward", "control", "optimiser")
        seconds = {name: b - a for name, a, b in zip(names, marks[:-1], marks[1:], strict=True)}
        own = 0 if target is None else len(target.total)
        return StepRecord(self.step, loss, norm, rate, own, TRAFFIC.take(), seconds)

    def _update(self, norm: float) -> None:
        clip = self.run.clip
        if clip is not None and norm > clip:
            for parameter in self.part.model.parameters():
                if parameter.grad is not None:
                    parameter.grad.mul_(clip / (norm + 1e-6))
        self.optimizer.step()
        self.optimizer.zero_grad()

    def validate(self, batches: Iterable[dict[str, Any]]) -> dict[str, float]:
        """``val_nmse_db`` of the linear mean over links, and ``val_gain_db`` over the classical start, on all ranks.

        Args:
            batches: the same on every rank.
        """
        sums = torch.zeros(3, dtype=torch.float64, device=self.layout.device)
        for batch in batches:
            target = None
            few = len(batch["h_past"]) < self.layout.size("data")  # the last one: all have it whole, one counts it
            if self.engine.needs_tokens:
                mine = batch if few else self._own(batch)
                past, future = mine["h_past"], mine["h_future"]
                target = forecast_target(self.part.model, past, future, batch["port_shape"])
                target = target.double() if self.run.precision == "64-true" else target
            with waiting("the others in validation"):
                error = self.engine.errors(target)
            if error is not None and target is not None and not (few and self.layout.place["data"]):
                gain = 10 * (torch.log10(target.start_error()) - torch.log10(error))
                sums += torch.stack([error.sum(), gain.sum(), error.new_tensor(float(len(error)))])
        with waiting("the sums of validation"):
            dist.all_reduce(sums)
        return {"val_nmse_db": 10 * math.log10(sums[0] / sums[2]), "val_gain_db": float(sums[1] / sums[2])}

    def save(self, folder: Path) -> Path:
        """A durable state in the run's folder."""
        facts = {
            "run": self.run.to_dict(),
            "data_position": self.position,
            "seed": self.run.seed,
            "versions": {name: importlib.metadata.version(name) for name in ("airlam", "torch")},
            "world": dist.get_world_size(),
        }
        return save_state(folder, self.step, self.part, self.optimizer, facts)

    def write(self, folder: Path) -> Path:
        """The model as a folder that :func:`airlam.load_predictor` takes; all ranks call it together."""
        return write_checkpoint(folder, self.part)
