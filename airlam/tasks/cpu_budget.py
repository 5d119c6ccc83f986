"""Equal CPU time for every model: a callback that counts it, drives the learning rate, and stops."""

from __future__ import annotations

import math
import time
from typing import Any

import lightning as L


class CPUBudget(L.Callback):
    """Train for a budget of CPU time instead of a number of steps, with any task.

    Counted is the CPU time of this process (all its threads) in forward pass, backward pass and optimiser, from
    ``on_train_batch_start`` to ``on_train_batch_end``: what differs between models. Making batches (the same for all),
    validation, and writing checkpoints are not. So two models see equal CPU minutes, whatever else the machine does. On
    an accelerator this clock means nothing.

    The learning rate rises linearly over the first ``warmup`` of the budget and falls on a cosine to ``floor`` of its
    peak, the optimiser's own; it takes the place of any schedule of the task. Spent time is part of Lightning's
    checkpoints: a resumed run goes on where it stopped, and one that is finished stays finished.

    Args:
        budget_minutes: CPU minutes of model work.
        warmup: share of the budget. floor: share of the peak at the end.

    Logs ``cpu_minutes`` (model work) and ``cpu_minutes_between`` (between steps without validation: making batches,
    and the callbacks listed before this one). Set ``max_epochs: -1`` and no ``max_steps``.

    Example:
        >>> CPUBudget(30.0).factor(1.0)
        0.01
    """

    def __init__(self, budget_minutes: float, warmup: float = 0.05, floor: float = 0.01):
        if not 0 < budget_minutes < math.inf:
            raise ValueError(f"budget_minutes must be positive and finite, got {budget_minutes}")
        if not 0 <= warmup < 1 or not 0 <= floor <= 1:
            raise ValueError(f"warmup must lie in [0, 1) and floor in [0, 1], got {warmup} and {floor}")
        self.budget_minutes, self.warmup, self.floor = budget_minutes, warmup, floor
        self.spent = self.between = 0.0  # seconds
        self._mark = self._begin = self._validation = 0.0

    def factor(self, progress: float) -> float:
        """Learning rate, relative to its peak, when the share ``progress`` of the budget is spent."""
        # the first step of all must not be lost
        warm = min(1.0, max(progress, 0.02 * self.warmup) / self.warmup) if self.warmup else 1.0
        return warm * (self.floor + (1 - self.floor) * 0.5 * (1 + math.cos(math.pi * min(1.0, progress))))

    @property
    def progress(self) -> float:
        """Share of the budget that is spent."""
        return self.spent / (60 * self.budget_minutes)

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Nothing is left to do when the budget of a resumed run is spent."""
        self._mark = time.process_time()
        if self.progress >= 1:
            trainer.should_stop = True

    def on_train_batch_start(
        self, trainer: L.Trainer, pl_module: L.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Set the learning rate, start the clock."""
        for optimizer in trainer.optimizers:
            for group in optimizer.param_groups:
                # torch's schedules leave the peak there; without one it is the rate itself
                group["lr"] = group.setdefault("initial_lr", group["lr"]) * self.factor(self.progress)
        self._begin = time.process_time()
        self.between += self._begin - self._mark

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Stop the clock, and training when the budget is spent."""
        self._mark = time.process_time()
        self.spent += self._mark - self._begin
        pl_module.log("cpu_minutes", self.spent / 60, prog_bar=True)
        pl_module.log("cpu_minutes_between", self.between / 60)
        if self.progress >= 1:
            trainer.should_stop = True

    def on_validation_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Validation counts nowhere."""
        self._validation = time.process_time()

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """See above."""
        self._mark += time.process_time() - self._validation

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Say what was spent."""
        steps = trainer.global_step
        print(
            f"{self.spent / 60:.1f} of {self.budget_minutes:g} CPU minutes of model work in {steps} steps "
            f"({self.spent / max(1, steps):.2f} s a step); {self.between / 60:.1f} minutes of batches"
        )

    def state_dict(self) -> dict[str, float]:
        """Seconds spent."""
        return {"spent": self.spent, "between": self.between}

    def load_state_dict(self, state_dict: dict[str, float]) -> None:
        """See :meth:`state_dict`."""
        self.spent, self.between = float(state_dict["spent"]), float(state_dict["between"])
