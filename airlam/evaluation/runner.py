"""``airlam evaluate``: from a benchmark YAML to a report."""

from __future__ import annotations

import importlib
import inspect
import math
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airlam.interfaces import RecipeError
from airlam.recipes import find_recipe, nearest

if TYPE_CHECKING:
    from rich.console import Console

KEYS = ("class_path", "init_args")


def run(config: str | Path, out: str | Path | None = None, **overrides: Any) -> Path:
    """Run the benchmark that a YAML describes.

    Args:
        config: path, or name of a shipped recipe (``tasks/channel_prediction/benchmark.yaml``): a mapping with
            ``class_path``, the dotted name of a class with ``run(out) -> Path``, and its ``init_args``.
        out: folder for ``results.json``, ``plots/``, ``report.html`` and finished cells; the default is
            ``outputs/<name of the task>``.
        overrides: init_args that replace those of the YAML.

    Returns:
        The path of ``report.html``.

    Raises:
        RecipeError: no such file, a key or argument that does not exist (with the nearest one that does), or a class
            that cannot be found.
    """
    path = find_recipe(config)
    class_path, init_args = read_benchmark(path)
    runner = load_runner(class_path, {**init_args, **overrides}, source=str(path))
    return runner.run(check_folder(out if out is not None else Path("outputs") / path.parent.name))


def check_folder(out: str | Path) -> Path:
    """``out`` as a folder that is there and can be written to, before any work is done for it."""
    out = Path(out)
    try:
        out.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=out):
            pass
    except OSError as error:
        taken = next((p for p in (out, *out.parents) if p.exists() and not p.is_dir()), None)
        why = f"{taken} is a file" if taken else error.strerror or str(error)
        raise RecipeError(f"cannot write results to the folder {out}: {why}; name another one with --out") from None
    return out


def narrator(console: Console) -> Callable[[str], None]:
    """What prints a line with the seconds since now: for work whose length nobody knows beforehand."""
    from rich.markup import escape

    start = time.perf_counter()

    def say(text: str) -> None:
        console.print(f"[dim]{time.perf_counter() - start:5.0f} s[/dim]  {escape(text)}", highlight=False)

    return say


def read_benchmark(path: str | Path) -> tuple[str, dict[str, Any]]:
    """``class_path`` and ``init_args`` of a benchmark YAML."""
    import yaml

    try:
        data = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise RecipeError(f"{path} is not valid YAML: {' '.join(str(error).split())}") from None
    if not isinstance(data, dict) or not isinstance(data.get("class_path"), str):
        raise RecipeError(f"{path} must be a mapping with class_path (the runner's dotted name) and init_args")
    for key in data:
        if key not in KEYS:
            raise RecipeError(f"{path} has no key {key!r}{nearest(str(key), KEYS) or ';'} keys are {', '.join(KEYS)}")
    init_args = data.get("init_args") or {}
    if not isinstance(init_args, dict):
        raise RecipeError(f"{path}: init_args must be a mapping, got {type(init_args).__name__}")
    return data["class_path"], init_args


def load_runner(class_path: str, init_args: dict[str, Any], *, source: str = "the benchmark") -> Any:
    """The runner itself, its arguments checked by name."""
    runner = find_class(class_path, source)
    if not callable(getattr(runner, "run", None)):
        raise RecipeError(f"{source}: {class_path} has no method run(out), so it is no benchmark")
    return instantiate(runner, init_args, source)


def find_class(class_path: str, source: str) -> Any:
    """A class by its dotted name."""
    module, _, name = class_path.rpartition(".")
    try:
        return getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise RecipeError(f"{source}: no class {class_path!r} ({error}); airlam's own is "
                          "airlam.evaluation.ChannelPredictionBenchmark") from None  # fmt: skip


def instantiate(runner: Any, init_args: dict[str, Any], source: str) -> Any:
    """An object of a class from a recipe's arguments, checked by name and type."""
    known = list(inspect.signature(runner).parameters)
    for key in init_args:
        if key not in known:
            raise RecipeError(f"{source}: {runner.__name__} has no argument {key!r}{nearest(str(key), known) or ';'} "
                              f"arguments are {', '.join(known)}")  # fmt: skip
    for key, value in init_args.items():
        check_argument(runner, key, value, source)
    try:
        return runner(**init_args)
    except TypeError as error:
        raise RecipeError(f"{source}: {runner.__name__} cannot be made of these arguments ({error})") from None


WORDS = {
    "int": "a whole number", "float": "a number", "str": "a text", "bool": "true or false",
    "Sequence[float]": "a list of numbers, like [3, 30]", "Sequence[int]": "a list of whole numbers, like [4, 8]",
    "Sequence[str]": "a list of names, like [ar, hold]", "float | None": "a number or null",
}  # fmt: skip


def check_argument(runner: Any, key: str, value: Any, source: str) -> None:
    """An error if ``value`` is not of the type that the runner's signature gives ``key``, or not finite."""
    from jsonargparse import ArgumentParser

    parser = ArgumentParser(exit_on_error=False)
    added = parser.add_class_arguments(runner, fail_untyped=False)
    if key not in added:
        return
    wanted = str(inspect.signature(runner).parameters[key].annotation)
    wrong = isinstance(value, str) and wanted.startswith("Sequence")  # a text is a sequence, but never what is meant
    try:
        parser.parse_object({key: value})
    except Exception:
        wrong = True
    if wrong:
        raise RecipeError(f"{source}: {key} is {value!r}, but must be {WORDS.get(wanted, wanted)}")
    for number in value if isinstance(value, (list, tuple)) else [value]:
        if isinstance(number, float) and not math.isfinite(number):
            raise RecipeError(f"{source}: {key} is {value!r}, but must be finite")
