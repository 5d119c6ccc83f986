"""Where ``airlam fit`` writes: ``--out``, no silent replacement of an earlier run, and what to do next."""

from __future__ import annotations

import os
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from airlam.errors import RecipeError
from airlam.models.comparators import trained_comparator
from airlam.recipes import is_class_path, read_yaml

# what can be done with a task's result, where that is not `airlam validate`
BENCHMARKS = {
    "ChannelPrediction": "tasks/channel_prediction/benchmark.yaml",
    "Pretraining": "tasks/channel_prediction/benchmark.yaml",
    "ComparatorTraining": "tasks/channel_prediction/benchmark.yaml",
}


def recipe_root_dir(arguments: Sequence[str]) -> str | None:
    """``trainer.default_root_dir`` of the last recipe that has one, before options change it."""
    found = None
    for option, value in zip(arguments, arguments[1:], strict=False):
        if option in ("--config", "-c"):
            trainer = read_yaml(value).get("trainer")
            found = (trainer.get("default_root_dir") if isinstance(trainer, dict) else None) or found
    return found


def moved(config: Any, old: str, new: str) -> Any:
    """Callbacks or loggers with every path under the folder ``old`` moved under ``new``.

    Example:
        >>> moved([{"dirpath": "runs/a/adapter", "monitor": "runs"}], "runs/a", "there")
        [{'dirpath': 'there/adapter', 'monitor': 'runs'}]
    """
    if isinstance(config, list):
        return [moved(item, old, new) for item in config]
    if isinstance(config, str):
        path = Path(config)
        return str(Path(new) / path.relative_to(old)) if path.is_relative_to(old) else config
    if hasattr(config, "items"):
        for key, value in list(config.items()):
            if isinstance(value, (str, list)) or hasattr(value, "items"):
                config[key] = moved(value, old, new)
    return config


def values_of(config: Any, key: str) -> list[Any]:
    """All values of a key, however deep."""
    if isinstance(config, list):
        return [value for item in config for value in values_of(item, key)]
    if not hasattr(config, "items"):
        return []
    found = []
    for name, value in config.items():  # jsonargparse's are flat: "init_args.dirpath"
        found += [value] if name.rpartition(".")[2] == key else values_of(value, key)
    return found


def earlier_results(callbacks: Any) -> list[Path]:
    """Checkpoints and exported folders of an earlier run, where the callbacks would write."""
    files = [file for folder in values_of(callbacks, "dirpath") if folder for file in Path(folder).glob("*.ckpt")]
    exported = [Path(folder) for folder in values_of(callbacks, "folder") if folder]
    named = ("config.json", "adapter_config.json")
    return [*sorted(files), *(folder for folder in exported if any((folder / name).is_file() for name in named))]


def check_place(out: str) -> None:
    """Raises RecipeError where the folder ``out`` cannot be made or written to; makes nothing."""
    if not out:
        raise RecipeError("--out is empty; name a folder")
    folder = Path(out)
    place = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    if not place.is_dir() or not os.access(place, os.W_OK):
        why = "is read-only" if place.is_dir() else "is a file"
        raise RecipeError(f"cannot write to the folder {folder}: {place} {why}; name another one with --out")


def make_room(callbacks: Any, overwrite: bool, resumed: str | None) -> None:
    """Raises RecipeError where a new run would replace an earlier one; with ``overwrite`` its ``.ckpt`` files go.

    Args:
        resumed: checkpoint that is gone on from; one of the same folder means the same run.
    """
    found = earlier_results(callbacks)
    folders = {path.parent.resolve() for path in found}
    if not found or (resumed and Path(resumed).resolve().parent in folders):
        return
    if not overwrite:
        raise RecipeError(
            f"{found[-1].parent} holds an earlier run ({', '.join(path.name for path in found[-3:])}); choose another "
            "folder with --out FOLDER, go on with --ckpt_path last, or replace it with --overwrite"
        )
    for path in found:
        if path.suffix == ".ckpt":
            path.unlink()


def next_steps(
    task: Any,
    folder: str | None,
    checkpoint: str | None,
    arguments: Sequence[str],
    usable: Sequence[str] = ("validate",),
) -> list[str]:
    """The two closing lines: where the result lies, and a command to try.

    Args:
        task: that was trained. folder: exported by it. arguments: of this call.
        usable: the other commands that the task has steps for.
    """
    name = type(task).__name__
    if not folder and not checkpoint:
        return ["nothing written: this recipe has neither ModelCheckpoint nor ExportCheckpoint"]
    lines = [f"written to {folder or checkpoint}"]
    shipped = type(task).__module__.startswith("airlam.")
    if shipped and name in BENCHMARKS and (folder or name == "ChannelPrediction"):
        model = shlex.quote(_own_comparator(task, str(folder)) or str(folder or checkpoint))
        return [*lines, f"try next: airlam evaluate --config {BENCHMARKS[name]} --model {model}"]
    last = shlex.quote(checkpoint or "last")
    if not usable:
        return [
            *lines,
            f"{name} has no validation_step, so 'airlam validate' cannot judge it; a predictor of your own can read "
            f"its weights: torch.load({checkpoint or 'last.ckpt'!r}, weights_only=True)['state_dict'], see "
            "docs/extending.md",
        ]
    kept = [shlex.quote(word) for word in what_was_trained(arguments)]
    return [*lines, f"try next: {' '.join(['airlam', usable[0], *kept])} --ckpt_path {last}"]


def what_was_trained(arguments: Sequence[str]) -> list[str]:
    """Those of the arguments that say which model and which data: recipes, ``--data...`` and ``--model...``.

    Example:
        >>> what_was_trained(["--model", "my.Task", "--model.width=8", "--trainer.max_epochs", "1", "--data", "tiny"])
        ['--model', 'my.Task', '--model.width=8', '--data', 'tiny']
    """
    kept, pending = [], list(arguments)
    while pending:
        option = pending.pop(0)
        words = [option] if "=" in option or not pending or not option.startswith("-") else [option, pending.pop(0)]
        if option.partition("=")[0].partition(".")[0] in ("--config", "-c", "--data", "--model"):
            kept += words
    return kept


def _own_comparator(task: Any, folder: str) -> str:
    """What ``--model`` takes for a comparator of the user's own, whose class the folder does not name; else nothing."""
    settings = dict(getattr(task, "hparams", {}))
    kinds = settings.get("kind"), (settings.get("model") or {}).get("network") if settings.get("kind") else None
    own = next((kind for kind in kinds if is_class_path(kind)), None)
    return trained_comparator(folder, own) if own else ""


def add_options(parser: Any, subcommand: str) -> None:
    """Options of airlam's own, for one subcommand of LightningCLI: where output goes."""
    parser.add_argument(
        "--out",
        type=str,
        default=None,
        help="folder for everything that is written, in the place of the recipe's trainer.default_root_dir",
    )
    if subcommand == "fit":
        parser.add_argument(
            "--overwrite",
            type=bool,
            default=False,
            nargs="?",
            const=True,
            help="replace an earlier run in the same folder",
        )
