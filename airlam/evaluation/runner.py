"""``airlam evaluate``: from a benchmark YAML to a report."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airlam.errors import RecipeError
from airlam.io import results_folder
from airlam.recipes import find_class, find_recipe, instantiate, merged, read_class, read_yaml

if TYPE_CHECKING:
    from rich.console import Console


def run(config: str | Path, out: str | Path | None = None, **overrides: Any) -> Path:
    """Run the benchmark that a YAML describes.

    Args:
        config: path, or name of a shipped recipe (``tasks/channel_prediction/benchmark.yaml``): a mapping with
            ``class_path``, the dotted name of a class with ``run(out) -> Path``, and its ``init_args``.
        out: folder for ``results.json``, ``plots/``, ``report.html`` and finished cells; the default is
            ``outputs/<name of the task>``.
        overrides: init_args that replace those of the YAML; of an argument that is a dataclass only the named keys:
            ``sizes={"num_links": 16}`` or ``**{"sizes.num_links": 16}``.

    Returns:
        The path of ``report.html``.

    Raises:
        RecipeError: no such file, a key or argument that does not exist (with the nearest one that does), or a class
            that cannot be found, or whose ``run`` returns no path.
    """
    path = find_recipe(config)
    class_path, init_args = read_benchmark(path)
    runner = load_runner(class_path, init_args, overrides, source=str(path))
    with results_folder(out if out is not None else Path("outputs") / path.parent.name) as folder:
        report = runner.run(folder)
    if not isinstance(report, (str, Path)):
        raise RecipeError(
            f"{path}: run of {class_path} returned {type(report).__name__}, but must return the path of its report; "
            "end it with: return publish(results, out, threads=1)"
        )
    return Path(report)


def narrator(console: Console) -> Callable[[str], None]:
    """What prints a line with the seconds since now: for work whose length nobody knows beforehand."""
    from rich.markup import escape

    start = time.perf_counter()

    def say(text: str) -> None:
        console.print(f"[dim]{time.perf_counter() - start:5.0f} s[/dim]  {escape(text)}", highlight=False)

    return say


def read_benchmark(path: str | Path) -> tuple[str, dict[str, Any]]:
    """``class_path`` and ``init_args`` of a benchmark YAML."""
    data = read_yaml(path)
    if not isinstance(data.get("class_path"), str):
        raise RecipeError(f"{path} must be a mapping with class_path (the runner's dotted name) and init_args")
    return read_class(data, str(path))


def load_runner(
    class_path: str,
    init_args: Mapping[str, Any],
    changes: Mapping[str, Any] | None = None,
    *,
    source: str = "the benchmark",
) -> Any:
    """The runner itself, its arguments checked by name. ``changes`` replace some of ``init_args``."""
    runner = find_class(class_path, source)
    if not callable(getattr(runner, "run", None)):
        raise RecipeError(f"{source}: {class_path} has no method run(out), so it is no benchmark")
    return instantiate(runner, merged(runner, init_args, changes or {}), source)
