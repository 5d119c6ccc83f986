"""``fit``, ``validate``, ``test``, ``predict``: LightningCLI, with our recipes, folders and errors."""

from __future__ import annotations

import argparse
import importlib
import inspect
import logging
import re
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml
from lightning.pytorch import LightningModule
from lightning.pytorch.callbacks import BasePredictionWriter
from lightning.pytorch.cli import LightningCLI
from lightning.pytorch.loggers import TensorBoardLogger

import airlam.tasks
from airlam.cli import UsageError
from airlam.cli.parsing import refuse_option
from airlam.data import CSIDataModule
from airlam.interfaces import CheckpointError, RecipeError
from airlam.recipes import allow_imports_from, find_recipe, nearest
from airlam.tasks import WritePredictions

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

    Besides what Lightning does: recipes are found by name; ``--data FILE`` takes a ``datasets/*.yaml``; runs go to
    ``runs/<recipe>/version_N``; ``--ckpt_path last`` goes on with the newest checkpoint of that recipe; checkpoints are
    read without running code from them; mistakes are one line with the nearest valid name.
    """

    def __init__(self, subcommand: str, arguments: Sequence[str]) -> None:
        allow_imports_from()  # class paths of files in the current folder: --model my_task.MyTask
        self._name = subcommand
        self._version: str | None = None
        arguments = find_recipes(arguments)
        self.run_name = run_name(arguments)
        strict = {"exit_on_error": False}
        try:
            super().__init__(
                model_class=None,  # any task; those of airlam by their bare names too
                datamodule_class=CSIDataModule,
                args=[subcommand, *arguments],
                seed_everything_default=0,
                trainer_defaults={"default_root_dir": RUNS},
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

    def _parse_ckpt_path(self) -> None:
        """Lightning's, which reads the checkpoint's hyperparameters, after ``last`` was found."""
        config = self.config[self._name]
        if config.get("ckpt_path") == "last":
            config["ckpt_path"] = self._last_checkpoint(config)
        path = config.get("ckpt_path")
        if path and path not in ("best", "hpc", "registry") and "://" not in str(path):
            if not Path(path).is_file():
                raise CheckpointError(f"no checkpoint file {path}; --ckpt_path takes a .ckpt file, or last")
            check_checkpoint(path)
        super()._parse_ckpt_path()

    def _last_checkpoint(self, config: Any) -> str | None:
        root = Path(config["trainer"].get("default_root_dir") or RUNS) / self.run_name
        folders = [root, *(Path(p) for p in _values(config["trainer"].get("callbacks"), "dirpath") if p)]
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

    def before_instantiate_classes(self) -> None:
        trainer = self.config[self._name]["trainer"]
        if trainer.get("logger") in (None, True):
            root = trainer.get("default_root_dir") or RUNS
            trainer["logger"] = None  # made below: a logger is an object, not a setting
            self._logger: TensorBoardLogger | None = TensorBoardLogger(
                root, name=self.run_name, version=self._version, default_hp_metric=False
            )
        else:
            self._logger = None

    def instantiate_trainer(self, **kwargs: Any) -> Any:
        if self._logger is not None:
            kwargs["logger"] = self._logger
        trainer = super().instantiate_trainer(**kwargs)
        if self._name == "predict" and not any(isinstance(c, BasePredictionWriter) for c in trainer.callbacks):
            root = Path(trainer.default_root_dir)
            folder = root if root.name != RUNS else root / self.run_name
            trainer.callbacks.append(WritePredictions(str(folder / "predictions.safetensors")))
        return trainer

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
    try:
        data = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise RecipeError(f"{path} is not valid YAML: {' '.join(str(error).split())}") from error
    if not isinstance(data, dict):
        found = "empty" if data is None else f"a {type(data).__name__}"
        raise RecipeError(f"{path} is {found}, but a recipe holds keys and values; airlam list shows the shipped ones")
    return path


def run_name(arguments: Sequence[str]) -> str:
    """What a run is called: the last recipe given with ``--config``."""
    names = [Path(arguments[i + 1]).stem for i, a in enumerate(arguments[:-1]) if a in ("--config", "-c")]
    return names[-1] if names else "run"


def check_checkpoint(path: str) -> None:
    """Raises if a checkpoint cannot be read, or not without running code."""
    from airlam.tasks.channel_prediction import read_lightning

    if "pytorch-lightning_version" not in read_lightning(path):
        raise CheckpointError(f"{path} was not written by Lightning; --ckpt_path takes a .ckpt file of 'airlam fit'")


def _values(config: Any, key: str) -> list[Any]:
    """All values of a key, however deep."""
    if isinstance(config, list):
        return [value for item in config for value in _values(item, key)]
    if not hasattr(config, "items"):
        return []
    found = []
    for name, value in config.items():  # jsonargparse's are flat: "init_args.dirpath"
        found += [value] if name.rpartition(".")[2] == key else _values(value, key)
    return found


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
