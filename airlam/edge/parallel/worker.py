"""What runs in every process of a parallel training: ``python -m airlam.edge.parallel.worker RUNFOLDER``.

``airlam parallel`` starts it through its agents, and torchrun starts it on several hosts (docs/deploy-parallel.md). The
folder holds the resolved recipe, ``parallel.json``.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airlam.edge.parallel.launching.processes import MISTAKE, die_with_parent, give_memory_back
from airlam.edge.parallel.recipe import RECIPE, ParallelTraining, run_from_dict
from airlam.errors import AirlamError, RecipeError
from airlam.io import read_json

if TYPE_CHECKING:
    from airlam.edge.parallel.launching.watchdog import Watchdog


def recipe_of(folder: Path) -> ParallelTraining:
    """The run that a folder belongs to."""
    return run_from_dict(read_json(folder / RECIPE))


def left_of(recipe: ParallelTraining, devices: Sequence[str]) -> list[int]:
    """The numbers, in the recipe's order, of the devices that are here.

    Raises:
        RecipeError: more ranks than the recipe has, or a device that it does not name.
    """
    names = recipe.device_names
    strangers = [name for name in devices if name not in names and not name.startswith("rank-")]
    if len(devices) > recipe.nproc or strangers:
        raise RecipeError(
            f"the run is for {recipe.nproc} ranks ({', '.join(names)}), but {len(devices)} were started "
            f"({', '.join(devices)})"
        )
    if set(devices) <= set(names):
        return [names.index(name) for name in devices]
    return list(range(len(devices)))  # torchrun without names of devices


def main(arguments: Sequence[str] | None = None) -> int:
    """Train as one rank; returns the exit code."""
    die_with_parent()  # before torch is loaded, which takes seconds
    given = sys.argv[1:] if arguments is None else list(arguments)
    if len(given) != 1 or not (Path(given[0]) / RECIPE).is_file():
        said = f"{given[0]} holds no run" if len(given) == 1 else "give the folder of a run"
        print(f"airlam worker: {said}; 'airlam parallel --prepare --out RUN' makes one", file=sys.stderr)
        return MISTAKE
    folder = Path(given[0])

    import torch

    from airlam.edge.parallel.engine.loop import fewer, train
    from airlam.edge.parallel.launching.watchdog import run
    from airlam.edge.parallel.planning.replan import planned, replan

    on_gpus = torch.cuda.is_available()  # of the one that the launcher shows to this process

    def start(watch: Watchdog) -> None:
        recipe = recipe_of(folder)
        if watch.shares is not None:
            recipe = planned(recipe, watch.shares)
        elif watch.world_size != recipe.nproc:
            recipe = fewer(recipe, left_of(recipe, watch.devices))
        if recipe.shard:
            give_memory_back()
        train(watch, recipe)

    def anew(devices: Sequence[str]) -> dict[str, Any] | None:
        return replan(recipe_of(folder), devices)

    order: Sequence[str] = ()
    with contextlib.suppress(AirlamError):  # rank 0 and the others compare recipes first, and say what is wrong
        order = recipe_of(folder).device_names
    return run(folder, start, replan=anew, order=order, backend="nccl" if on_gpus else "gloo")


if __name__ == "__main__":
    sys.exit(main())
