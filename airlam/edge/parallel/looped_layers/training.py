"""One variant, trained for its share of CPU time and judged."""

from __future__ import annotations

import contextlib
import copy
import io
import time
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import lightning as L
import torch

from airlam.data import CSIDataModule
from airlam.edge.parallel.looped_layers.config import LoopedTraining, Variant
from airlam.evaluation.engine.quiet import quiet
from airlam.seeds import stream_seed
from airlam.tasks.cpu_budget import CPUBudget
from airlam.tasks.objectives import ForecastError, forecast_error
from airlam.tasks.pretraining import Pretraining


def task_arguments(recipe: dict[str, Any], variant: Variant, training: LoopedTraining) -> dict[str, Any]:
    """Arguments of :class:`~airlam.tasks.Pretraining` for a variant of the pretraining that ``recipe`` describes."""
    from airlam.models.config import DEFAULT_BACKBONE

    arguments = copy.deepcopy(recipe["model"]["init_args"])
    model = arguments.get("model") or {}
    backbone = {**(model.get("backbone") or DEFAULT_BACKBONE), "num_hidden_layers": variant.layers}
    arguments["model"] = {**model, "backbone": backbone, "loops": variant.loops}
    return {**arguments, "learning_rate": training.learning_rate}


@dataclass
class Looks(L.Callback):
    """Looks at validation links at even shares of the CPU time, and notes their mean NMSE in dB.

    Attributes:
        budget: the callback that counts the CPU time; it stands before this one, so that looking costs nothing.
        batches: validation batches. points: how many looks. precision: of the trainer.
        found: CPU minutes and mean of dB of each look.
    """

    budget: CPUBudget
    batches: list[dict[str, Any]]
    points: int
    precision: str
    found: list[tuple[float, float]]

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """A look, where the next share of the CPU time is spent."""
        if self.budget.progress >= (len(self.found) + 1) / self.points:
            error = judge(pl_module.model, self.batches, self.precision)  # type: ignore[arg-type]
            self.found.append((self.budget.spent / 60, float(10 * error.nmse.log10().mean())))


@torch.no_grad()
def judge(model: Any, batches: Iterable[dict[str, Any]], precision: str) -> ForecastError:
    """Errors of all links of ``batches``, computed as in training."""
    training = model.training
    model.eval()
    errors = []
    with torch.autocast("cpu", torch.bfloat16, enabled=precision.startswith("bf16")):
        for batch in batches:
            errors.append(forecast_error(model, batch["h_past"], batch["h_future"], batch["port_shape"]))
    model.train(training)
    return ForecastError(torch.cat([e.nmse for e in errors]).double(), torch.cat([e.start for e in errors]).double())


def train(
    variant: Variant,
    seed: int,
    training: LoopedTraining,
    recipe: dict[str, Any],
    data: CSIDataModule,
    looks: list[dict[str, Any]],
    test: list[dict[str, Any]],
) -> dict[str, Any]:
    """Train a variant from random weights; what it reached on ``test`` and what it spent, as plain data.

    Args:
        recipe: of the pretraining.
        data: of the mixture; its seed is replaced by one that depends on ``seed`` alone.
        looks: validation batches, for the curve over CPU time.
    """
    began, clock = time.perf_counter(), time.process_time()
    precision = recipe["trainer"]["precision"]
    with torch.random.fork_rng(devices=[]), quiet(), contextlib.redirect_stdout(io.StringIO()):
        torch.manual_seed(seed)
        task = Pretraining(**task_arguments(recipe, variant, training))
        budget = CPUBudget(training.minutes)
        curve = Looks(budget, looks, training.points, precision, [])
        trainer = L.Trainer(
            accelerator="cpu",
            devices=1,
            precision=precision,
            max_epochs=-1,
            gradient_clip_val=recipe["trainer"].get("gradient_clip_val"),
            callbacks=[budget, curve],
            logger=False,
            limit_val_batches=0,
            num_sanity_val_steps=0,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
        )
        fresh = data.with_changes(
            batch_size=training.batch_size, seed=stream_seed(data.recipe.seed, "looped layers", seed)
        )
        trainer.fit(task, fresh.train_dataloader())
    error = judge(task.model, test, precision)
    return {
        "layers": variant.layers,
        "loops": variant.loops,
        "seed": seed,
        "parameters": sum(p.numel() for p in task.model.parameters()),
        "layer_parameters": sum(p.numel() for p in task.model.backbone.parameters() if p.requires_grad),
        "steps": trainer.global_step,
        "links": trainer.global_step * training.batch_size,
        "cpu_minutes": budget.spent / 60,
        "cpu_minutes_between": budget.between / 60,
        "curve": curve.found,
        "nmse": error.nmse.tolist(),
        "start": error.start.tolist(),
        "process_minutes": (time.process_time() - clock) / 60,
        "minutes": (time.perf_counter() - began) / 60,
    }
