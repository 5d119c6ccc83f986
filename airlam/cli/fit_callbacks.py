"""What ``airlam fit`` adds to a trainer: a data set that fits the task, saving on Ctrl-C, a last checkpoint that is the
newest, options that win over a checkpoint, lines without a terminal."""

from __future__ import annotations

import signal
import time
from pathlib import Path
from types import FrameType
from typing import Any

import lightning as L
from lightning.pytorch.callbacks import Checkpoint, ModelCheckpoint, ProgressBar
from lightning.pytorch.cli import SaveConfigCallback

from airlam.data import CityDataModule, CSIDataModule, SiteDataModule
from airlam.errors import RecipeError
from airlam.progress import clock

OPTIMISER_FIELDS = ("learning_rate", "weight_decay", "warmup_steps")


# what tasks read that do not read a CSIDataModule, and an example
READ = {
    "Positioning": (SiteDataModule, "datasets/positions.yaml"),
    "RadioMapping": (CityDataModule, "datasets/city_regions.yaml"),
}


def check_pair(task: L.LightningModule, data: L.LightningDataModule | None) -> None:
    """Refuse a task of airlam with a data set of airlam whose batches it cannot read; of others nothing is known."""
    if not all(type(part).__module__.startswith("airlam.") for part in (task, data)):
        return
    wanted, example = READ.get(type(task).__name__, (CSIDataModule, "datasets/uma_nlos.yaml"))
    if not isinstance(data, wanted):
        raise RecipeError(
            f"{type(task).__name__} reads batches of {wanted.__name__}, but the data set is a {type(data).__name__}; "
            f"give one as {example}"
        )


class SaveExperiment(SaveConfigCallback):
    """Lightning's, also for loggers without a folder, such as MLflow's with a database.

    ``config.yaml`` then goes to ``default_root_dir``; Lightning fails on an assertion there.
    """

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Choose the folder."""
        self.save_to_log_dir = trainer.log_dir is not None
        super().setup(trainer, pl_module, stage)

    def save_config(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Called by the first process alone."""
        if not self.save_to_log_dir:
            folder = Path(trainer.default_root_dir)
            folder.mkdir(parents=True, exist_ok=True)
            self.parser.save(
                self.config, str(folder / self.config_filename), skip_none=False, overwrite=True, multifile=False
            )


class SaveOnInterrupt(L.Callback):
    """Ctrl-C ends training after the running step and leaves ``last.ckpt``; a second Ctrl-C ends it at once.

    A step is not cut in two: weights and the optimiser's state in the file belong together. Only for one process: with
    several, each would stop after another step.

    Attributes:
        saved: the file that was written; None: none.
    """

    def __init__(self) -> None:
        self.saved: Path | None = None
        self._asked = False
        self._before: Any = None

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Take over the signal."""
        if trainer.world_size == 1:
            self._before = signal.signal(signal.SIGINT, self._ask)

    def _ask(self, number: int, frame: FrameType | None) -> None:
        if self._asked:
            raise KeyboardInterrupt
        self._asked = True
        print("\nstopping after this step; press Ctrl-C again to stop at once without saving", flush=True)

    def _stop(self, trainer: L.Trainer) -> None:
        if not self._asked:
            return
        self.saved = save_last(trainer)
        raise KeyboardInterrupt

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx) -> None:
        """Save and stop, where asked to."""
        self._stop(trainer)

    def on_validation_batch_end(self, trainer, pl_module, outputs, batch, batch_idx, dataloader_idx=0) -> None:
        """As after a step of training."""
        if trainer.state.fn == "fit" and not trainer.sanity_checking:
            self._stop(trainer)

    def teardown(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Give the signal back."""
        if self._before is not None:
            signal.signal(signal.SIGINT, self._before)
            self._before = None


class LastIsNewest(Checkpoint):
    """Keeps ``last.ckpt`` the newest state where a validation was no better than an earlier one.

    Lightning (2.6) writes the last checkpoint only together with one of the best. A checkpoint callback, for these run
    after all others: whether the recipe's has saved is known then.
    """

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Save where the recipe's ModelCheckpoint has not."""
        keeper = trainer.checkpoint_callback
        if trainer.state.fn != "fit" or trainer.sanity_checking or trainer.fast_dev_run:
            return
        if isinstance(keeper, ModelCheckpoint) and keeper.save_last:
            if getattr(keeper, "_last_global_step_saved", None) != trainer.global_step:
                save_last(trainer)


def save_last(trainer: L.Trainer) -> Path:
    """Write ``last.ckpt`` in the folder of the checkpoints."""
    keeper = trainer.checkpoint_callback
    keeper = keeper if isinstance(keeper, ModelCheckpoint) else None
    path = Path((keeper.dirpath if keeper else None) or trainer.default_root_dir) / "last.ckpt"
    if keeper is not None:
        keeper.last_model_path = str(path)  # the next save then replaces this file, not a last-v1.ckpt beside it
    trainer.save_checkpoint(path)
    return path


class OptionsWin(L.Callback):
    """Learning rate, weight decay and warm-up of the command line replace those in a checkpoint's optimiser.

    Lightning restores the optimiser before training starts, with the rates of the interrupted run.

    Args:
        names: which of :data:`OPTIMISER_FIELDS` were given.
    """

    def __init__(self, names: list[str]) -> None:
        self.names = names

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Take the values of a fresh optimiser; moments and the number of steps stay."""
        listed = ", ".join(f"{name} {pl_module.hparams.get(name)}" for name in self.names)
        fresh = pl_module.configure_optimizers()
        if not isinstance(fresh, dict) or len(trainer.optimizers) != 1:
            print(f"{listed}: the optimiser's state in the checkpoint rules, because this task has several optimisers")
            return
        groups, wanted = trainer.optimizers[0].param_groups, fresh["optimizer"].param_groups
        for group, new in zip(groups, wanted, strict=True):
            group["weight_decay"] = new["weight_decay"]
            group["initial_lr"] = new.get("initial_lr", new["lr"])
            group["lr"] = group["initial_lr"]
        for entry in trainer.lr_scheduler_configs:
            schedule = entry.scheduler
            schedule.base_lrs = [group["initial_lr"] for group in groups]
            for group, factor in zip(groups, getattr(schedule, "lr_lambdas", ()), strict=False):
                group["lr"] = group["initial_lr"] * factor(schedule.last_epoch)
            schedule._last_lr = [group["lr"] for group in groups]
        print(f"{listed}: from the command line, in the place of the checkpoint's")


class FreezePoolerAdapters(L.Callback):
    """Freeze the adapters of the pooler where several devices train together.

    Adapters lie on every linear layer of a backbone, on its pooler too, which nothing reads. They get no gradient, and
    distributed training stops where a trainable parameter has none.
    """

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Before the strategy looks at the parameters."""
        if trainer.world_size == 1:
            return
        for name, parameter in pl_module.named_parameters():
            if ".pooler." in name:
                parameter.requires_grad_(False)


class ProgressInLines(ProgressBar):
    """A plain line every ``seconds`` where the output is no terminal.

    Args:
        seconds: between two lines, at least.
    """

    def __init__(self, seconds: float = 15.0) -> None:
        super().__init__()
        self.seconds = seconds
        self._enabled, self._begin, self._next = True, 0.0, 0.0

    def disable(self) -> None:
        """No lines from now on: Lightning calls it in all processes but the first."""
        self._enabled = False

    def enable(self) -> None:
        """See :meth:`disable`."""
        self._enabled = True

    def _say(self, text: str, always: bool = False) -> None:
        now = time.monotonic()
        if self._enabled and (always or now >= self._next):
            self._next = now + self.seconds
            print(f"{text}, {clock(now - self._begin)} elapsed", flush=True)

    def _values(self, trainer: L.Trainer, pl_module: L.LightningModule) -> str:
        found = self.get_metrics(trainer, pl_module)
        return "".join(f", {name} {value:.4g}" for name, value in found.items() if isinstance(value, (int, float)))

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """The clock starts."""
        self._begin = time.monotonic()
        self._next = self._begin + self.seconds

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx) -> None:
        """One line where one is due."""
        steps, epochs = trainer.estimated_stepping_batches, trainer.max_epochs
        of = f" of {steps:.0f}" if steps != float("inf") else ""
        epoch = f"epoch {trainer.current_epoch + 1}" + (f" of {epochs}" if epochs and epochs > 0 else "")
        self._say(f"training: {epoch}, step {trainer.global_step}{of}{self._values(trainer, pl_module)}")

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """One line for each validation of a fit."""
        if trainer.state.fn == "fit" and not trainer.sanity_checking:
            self._say(f"validation after step {trainer.global_step}{self._values(trainer, pl_module)}", always=True)

    def _start_clock(self) -> None:
        self._begin = time.monotonic()
        self._next = self._begin + self.seconds

    def on_validation_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """The clock of ``airlam validate``."""
        if trainer.state.fn != "fit":
            self._start_clock()

    def on_test_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """The clock of ``airlam test``."""
        self._start_clock()

    def on_predict_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """The clock of ``airlam predict``."""
        self._start_clock()

    def on_validation_batch_end(self, trainer, pl_module, outputs, batch, batch_idx, dataloader_idx=0) -> None:
        """One line where one is due."""
        self._say(f"validation: batch {batch_idx + 1}")

    def on_test_batch_end(self, trainer, pl_module, outputs, batch, batch_idx, dataloader_idx=0) -> None:
        """One line where one is due."""
        self._say(f"test: batch {batch_idx + 1}")

    def on_predict_batch_end(self, trainer, pl_module, outputs, batch, batch_idx, dataloader_idx=0) -> None:
        """One line where one is due."""
        self._say(f"prediction: batch {batch_idx + 1}")
