"""``fit``, ``validate``, ``test``, ``predict``: LightningCLI, with our recipes, folders and errors."""

from __future__ import annotations

import argparse
import importlib
import inspect
import logging
import re
import shlex
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lightning.pytorch import LightningModule
from lightning.pytorch.callbacks import BasePredictionWriter
from lightning.pytorch.cli import LightningCLI
from lightning.pytorch.loggers import TensorBoardLogger
from lightning.pytorch.utilities.model_helpers import is_overridden

import airlam.tasks
from airlam.cli import UsageError
from airlam.cli.fit_callbacks import (
    OPTIMISER_FIELDS,
    FreezePoolerAdapters,
    LastIsNewest,
    OptionsWin,
    ProgressInLines,
    SaveExperiment,
    SaveOnInterrupt,
    check_pair,
)
from airlam.cli.outputs import add_options, check_place, make_room, moved, next_steps, recipe_root_dir, values_of
from airlam.cli.parsing import names_data_class, refuse_option
from airlam.data import CSIDataModule
from airlam.errors import CheckpointError, RecipeError
from airlam.recipes import allow_imports_from, find_class, find_recipe, nearest, read_yaml
from airlam.tasks import ExportCheckpoint, WritePredictions

RUNS = "runs"

# Advice that is not about the user's work: other products, and a deprecation inside Lightning.
logging.getLogger("lightning.pytorch.utilities.rank_zero").addFilter(lambda record: "Tip:" not in record.getMessage())
warnings.filterwarnings("ignore", message=r".*isinstance\(treespec, LeafSpec\).*")


def fit(arguments: Sequence[str]) -> None:
    """Trains or adapts a model."""
    AirlamCLI("fit", arguments)


def validate(arguments: Sequence[str]) -> None:
    """Evaluates a model on the validation split."""
    AirlamCLI("validate", arguments)


def test(arguments: Sequence[str]) -> None:
    """Evaluates a model on the test split."""
    AirlamCLI("test", arguments)


def predict(arguments: Sequence[str]) -> None:
    """Runs a model over the test split."""
    AirlamCLI("predict", arguments)


class AirlamCLI(LightningCLI):
    """LightningCLI for one subcommand (the other three parsers would only cost time).

    Besides what Lightning does: recipes are found by name; ``--data FILE`` takes a ``datasets/*.yaml``, the arguments
    of :class:`airlam.data.CSIDataModule`, or ``class_path`` and ``init_args`` of another DataModule; runs go to
    ``runs/<recipe>/version_N``, or where ``--out`` says; ``--ckpt_path last`` goes on with the newest checkpoint of
    that recipe; options of the command line win over those of a checkpoint; checkpoints are read without running
    code from them; Ctrl-C saves; mistakes are one line with the nearest valid name.
    """

    def __init__(self, subcommand: str, arguments: Sequence[str]) -> None:
        allow_imports_from()  # class paths of files in the current folder: --model my_task.MyTask
        self._version: str | None = None
        self._name, arguments = subcommand, find_recipes(arguments)
        self.run_name = run_name(arguments)
        self._arguments = arguments
        self._recipe_root = recipe_root_dir(arguments)
        self._options = model_options(arguments)
        self._keeper = SaveOnInterrupt()
        self._out: str | None = None
        strict = {"exit_on_error": False}
        try:
            super().__init__(
                model_class=None,  # any task; those of airlam by their bare names too
                datamodule_class=None if names_data_class(arguments) else CSIDataModule,
                args=[subcommand, *arguments],
                seed_everything_default=0,
                trainer_defaults={"default_root_dir": RUNS},
                save_config_callback=SaveExperiment,
                save_config_kwargs={"overwrite": True},
                auto_configure_optimizers=False,  # tasks bring their own
                parser_kwargs={"prog": "airlam", **strict, subcommand: {"prog": f"airlam {subcommand}", **strict}},
            )
        except argparse.ArgumentError as error:
            raise RecipeError(explain(str(error), self)) from error

    def subcommands(self) -> dict[str, set[str]]:  # type: ignore[override]
        return {self._name: LightningCLI.subcommands()[self._name]}

    def parse_arguments(self, parser: Any, args: Any) -> None:
        options = [name for action in self.options() for name in action.option_strings if name.startswith("--")]
        for argument in args[1:]:
            name = argument.partition("=")[0].rstrip("+")
            # argparse would take the beginning of an option for the option
            if name.startswith("--") and name not in options and any(o.startswith(name) for o in options):
                refuse_option(name, options)
        # Not args: LightningCLI warns about those whenever sys.argv has some.
        self.config = parser.parse_args(args)

    def options(self) -> list[argparse.Action]:
        """The options of the subcommand."""
        return self._subcommand_parsers[self._name]._actions

    def add_arguments_to_parser(self, parser: Any) -> None:
        """Options of airlam's own."""
        add_options(parser, self._name)

    def _place_output(self) -> None:
        """Everything that the recipe writes under its ``default_root_dir`` goes to the folder that was asked for."""
        config = self.config[self._name]
        trainer = config["trainer"]
        self._out, config["out"] = config.get("out"), None  # what is saved names the places themselves
        if self._out is not None:
            check_place(self._out)
            trainer["default_root_dir"] = self._out
        old, new = self._recipe_root, trainer.get("default_root_dir")
        if old and new and Path(old) != Path(new):
            for key in ("callbacks", "logger"):
                trainer[key] = moved(trainer.get(key), old, str(new))

    def _parse_ckpt_path(self) -> None:
        """Hyperparameters of the checkpoint, but for those that the command line gives."""
        self._place_output()
        config = self.config[self._name]
        if config.get("ckpt_path") == "last":
            config["ckpt_path"] = self._last_checkpoint(config)
        path = config.get("ckpt_path")
        if path and path not in ("best", "hpc", "registry") and "://" not in str(path):
            if not Path(path).is_file():
                raise CheckpointError(f"no checkpoint file {path}; --ckpt_path takes a .ckpt file, or last")
            self._take_hyperparameters(check_checkpoint(path))
        if self._name == "fit" and not config["trainer"].get("fast_dev_run"):
            make_room(config["trainer"].get("callbacks"), bool(config.get("overwrite")), path)
        if self._name == "fit":
            config["overwrite"] = False  # belongs to this call, not to the saved experiment

    def _take_hyperparameters(self, saved: dict[str, Any]) -> None:
        hparams = {key: value for key, value in saved["hyper_parameters"].items() if key != "_instantiator"}
        class_path = hparams.pop("_class_path", None)
        hparams = {key: value for key, value in hparams.items() if key not in self._options}
        if hparams:
            model = {"class_path": class_path, "dict_kwargs": hparams} if class_path else hparams
            self.config = self.parser.parse_object({self._name: {"model": model}}, self.config)

    def _last_checkpoint(self, config: Any) -> str | None:
        root = Path(config["trainer"].get("default_root_dir") or RUNS)
        root = root if self._out else root / self.run_name
        folders = [root, *(Path(p) for p in values_of(config["trainer"].get("callbacks"), "dirpath") if p)]
        found = [path for folder in folders for path in folder.rglob("*.ckpt")]
        if not found:
            root = " or ".join(dict.fromkeys(str(folder) for folder in reversed(folders)))
            if self._name == "fit":
                print(f"no checkpoint under {root} yet: starting from the beginning")
                return None
            raise CheckpointError(f"--ckpt_path last: no checkpoint under {root}; train one with 'airlam fit' first")
        newest = max(found, key=lambda path: path.stat().st_mtime_ns)
        print(f"going on from {newest}")
        # runs/<recipe>/version_N/checkpoints: the same run, not a new one
        if self._name == "fit" and newest.parent.parent.parent == root:
            self._version = newest.parent.parent.name
        return str(newest)

    def instantiate_classes(self) -> None:
        """Lightning's; what a constructor objects to is one line."""
        try:
            super().instantiate_classes()
        except ValueError as error:
            raise RecipeError(explain(str(error), self)) from error
        check_pair(self.model, self.datamodule)

    def before_instantiate_classes(self) -> None:
        trainer = self.config[self._name]["trainer"]
        if trainer.get("logger") in (None, True):
            root = trainer.get("default_root_dir") or RUNS
            trainer["logger"] = None  # made below: a logger is an object, not a setting
            name = "" if self._out else self.run_name
            self._logger: TensorBoardLogger | None = TensorBoardLogger(
                root, name=name, version=self._version, default_hp_metric=False
            )
        else:
            self._logger = None

    def instantiate_trainer(self, **kwargs: Any) -> Any:
        if self._logger is not None:
            kwargs["logger"] = self._logger
        trainer = super().instantiate_trainer(**kwargs)
        self._add_callbacks(trainer)
        if self._name == "predict" and not any(isinstance(c, BasePredictionWriter) for c in trainer.callbacks):
            root = Path(trainer.default_root_dir)
            folder = root if root.name != RUNS else root / self.run_name
            trainer.callbacks.append(WritePredictions(str(folder / "predictions.safetensors")))
        return trainer

    def _add_callbacks(self, trainer: Any) -> None:
        if trainer.progress_bar_callback is not None and not sys.stdout.isatty():
            trainer.callbacks = [c for c in trainer.callbacks if c is not trainer.progress_bar_callback]
            trainer.callbacks.append(ProgressInLines())
        if self._name == "fit":
            trainer.callbacks[:0] = [self._keeper, FreezePoolerAdapters()]
            trainer.callbacks.append(LastIsNewest())
            given = [name for name in OPTIMISER_FIELDS if name in self._options]
            if given and self.config[self._name].get("ckpt_path"):
                trainer.callbacks.insert(0, OptionsWin(given))

    def _run_subcommand(self, subcommand: str) -> None:
        """Lightning's; what an interruption leaves, what does not fit, and where the results lie are said."""
        try:
            super()._run_subcommand(subcommand)
        except SystemExit as error:
            if not self.trainer.interrupted or type(error).__name__ == "SIGTERMException":
                raise
            raise KeyboardInterrupt(self._interrupted(error)) from None
        except RuntimeError as error:
            if "loading state_dict" not in str(error):
                raise
            lines = [line.strip() for line in str(error).splitlines() if line.strip()]
            raise CheckpointError(
                f"{self.config[self._name].get('ckpt_path')} does not fit this model ({' '.join(lines[1:2])}); name "
                "the recipe and the options that it was trained with"
            ) from error
        if self._name == "fit" and self.trainer.is_global_zero and not self.trainer.fast_dev_run:
            for line in self._closing_lines():
                print(line, flush=True)

    def _interrupted(self, error: BaseException) -> str:
        if self._keeper.saved is None:
            return str(error.__context__ or "") or "interrupted"
        saved = self._keeper.saved
        saved = saved.relative_to(Path.cwd()) if saved.is_relative_to(Path.cwd()) else saved
        again = " ".join(shlex.quote(x) for x in without_checkpoint(self._arguments))
        return (
            f"interrupted after step {self.trainer.global_step}; saved {saved}; go on with: airlam fit {again} "
            f"--ckpt_path {saved}"
        )

    def _closing_lines(self) -> list[str]:
        trainer = self.trainer
        folder = next((c.folder for c in trainer.callbacks if isinstance(c, ExportCheckpoint)), None)
        keeper = trainer.checkpoint_callback
        files = [getattr(keeper, key, "") for key in ("best_model_path", "last_model_path")]
        checkpoint = next((file for file in files if file and Path(file).is_file()), None)
        commands = {"validate": "validation_step", "test": "test_step"}
        usable = [name for name, step in commands.items() if is_overridden(step, self.model, LightningModule)]
        return next_steps(self.model, folder, checkpoint, self._arguments, usable)

    def _prepare_subcommand_kwargs(self, subcommand: str) -> dict[str, Any]:
        kwargs = super()._prepare_subcommand_kwargs(subcommand)
        if "weights_only" in kwargs and kwargs["weights_only"] is None:
            kwargs["weights_only"] = True  # a checkpoint is data: it must not run code
        return kwargs


def find_recipes(arguments: Sequence[str]) -> list[str]:
    """The arguments with the values of ``--config`` and ``--data`` replaced by the files that they name."""
    kinds = {"--config": None, "-c": None, "--data": "datasets"}
    out, pending = [], list(arguments)
    while pending:
        argument = pending.pop(0)
        name, equals, value = argument.partition("=")
        if name not in kinds or argument in ("-c=", "--config=", "--data="):
            out.append(argument)
            continue
        if not equals:
            if not pending:
                raise UsageError(f"option {name} needs a recipe")
            value = pending.pop(0)
        # --data also takes YAML itself, as any option of LightningCLI
        out += [name, value if value.lstrip().startswith("{") else str(_readable(find_recipe(value, kinds[name])))]
    return out


def _readable(path: Path) -> Path:
    """The path, if there is YAML in it: the parsers would not say which file is broken."""
    read_yaml(path)
    return path


def run_name(arguments: Sequence[str]) -> str:
    """What a run is called: the last recipe given with ``--config``."""
    names = [Path(arguments[i + 1]).stem for i, a in enumerate(arguments[:-1]) if a in ("--config", "-c")]
    return names[-1] if names else "run"


def model_options(arguments: Sequence[str]) -> set[str]:
    """Hyperparameters of the model that the command line itself gives.

    Example:
        >>> sorted(model_options(["--model.learning_rate", "1e-6", "--model.init_args.model.num_tokens=8"]))
        ['learning_rate', 'model']
    """
    names = [a.partition("=")[0].removeprefix("--model.") for a in arguments if a.startswith("--model.")]
    return {name.removeprefix("init_args.").split(".")[0].rstrip("+") for name in names}


def without_checkpoint(arguments: Sequence[str]) -> list[str]:
    """The arguments less ``--ckpt_path`` and ``--overwrite``.

    Example:
        >>> without_checkpoint(["--config", "a.yaml", "--ckpt_path", "last", "--overwrite"])
        ['--config', 'a.yaml']
    """
    out, pending = [], list(arguments)
    while pending:
        argument = pending.pop(0)
        if argument == "--ckpt_path":
            pending = pending[1:]
        elif argument.partition("=")[0] not in ("--ckpt_path", "--overwrite"):
            out.append(argument)
        elif argument == "--overwrite" and pending and pending[0] in ("true", "false"):
            pending.pop(0)
    return out


def check_checkpoint(path: str) -> dict[str, Any]:
    """A Lightning checkpoint as data; raises if it cannot be read, or not without running code."""
    from airlam.tasks.lightning_files import read_lightning

    saved = read_lightning(path, described=False)
    if "pytorch-lightning_version" not in saved:
        raise CheckpointError(f"{path} was not written by Lightning; --ckpt_path takes a .ckpt file of 'airlam fit'")
    return saved


# --- jsonargparse explains itself in many lines; these are the one that matters ---


def explain(message: str, cli: AirlamCLI) -> str:
    """One line from an error of jsonargparse, with the nearest valid name."""
    options = [a.dest for a in cli.options() if a.dest not in ("help", argparse.SUPPRESS)]
    if found := re.search(r"unrecognized arguments: (\S+)", message):
        refuse_option(found[1], [f"--{name}" for name in options])
    if found := re.search(r"does not accept option '([^']+)'", message):
        return f"unknown key '{found[1]}'{nearest(found[1], options) or '; --print_config shows all keys'}"
    if found := re.search(r"Problem with given class_path '([^']+)':\s+Option '([^']+)' is not accepted", message):
        known = _parameters(found[1])
        hint = nearest(found[2], known) or f"; it has {', '.join(known)}"
        return f"{found[1]} has no argument '{found[2]}'{hint}"
    if found := re.search(r"Problem with given class_path '([^']+)'|Expected a dot import path string: (\S+)", message):
        name = found[1] or found[2]
        known = _class_names()
        hint = nearest(name.rpartition(".")[2], known)
        # the nearest class itself may be what was written, with something wrong inside
        if f"'{name.rpartition('.')[2]}'" not in hint or "has no attribute" in message:
            if not hint and "." in name:
                find_class(name, "class_path")  # says why there is none
            return f"there is no class '{name}'{hint or '; write its full dotted path'}"
    # what the constructor of a task or callback said stands first among the reasons
    if found := re.search(r"Union subtypes.*?Errors:\s+- (.*?)\s+(?:- (?:Expected|Not a)|Given value)", message, re.S):
        if not found[1].startswith(("Expected", "Not a valid", "Problem with", "Does not validate")):
            return " ".join(found[1].split())
    if found := re.search(r"required: (?:\w+\.)?(\S+)", message):
        return f"'{found[1]}' is missing: name a recipe with --config (airlam list shows them)"
    if found := re.search(r'Parser key "([^"]+)":\s+(?:Does not validate|Expected).*', message, re.S):
        key = re.findall(r'Parser key "([^"]+)"', message)[-1]
        kinds = [k for k in dict.fromkeys(re.findall(r"Expected an? <class '(\w+)'>", message))]
        given = re.search(r"(?:Given value|Got value): (.*)", message)
        wanted = " or ".join("null" if kind == "NoneType" else kind for kind in kinds)
        if given and wanted:
            return f"{key} is {given[1]!r}, but must be {wanted}"
    return " ".join(message.split())


def _parameters(class_path: str) -> list[str]:
    module, _, name = class_path.rpartition(".")
    try:
        found = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError, ValueError):
        return []
    return list(inspect.signature(found).parameters)


def _class_names() -> list[str]:
    import lightning.pytorch.callbacks
    import lightning.pytorch.loggers

    modules = (airlam.tasks, lightning.pytorch.callbacks, lightning.pytorch.loggers)
    return [name for module in modules for name in module.__all__] + [LightningModule.__name__]
