"""What runs in every process of a parallel training: ``python -m airlam.edge.parallel.worker RUNFOLDER``.

``airlam parallel`` starts it through its agents, and torchrun starts it on several hosts (docs/deploy-parallel.md). The
folder holds the resolved recipe, ``parallel.json``.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from airlam.edge.parallel.loop import fewer, train
from airlam.edge.parallel.membership import RECIPE
from airlam.edge.parallel.recipe import ParallelTraining, run_from_dict
from airlam.edge.parallel.watchdog import Watchdog, run
from airlam.errors import RecipeError
from airlam.io import read_json


def recipe_of(folder: Path) -> ParallelTraining:
    """The run that a folder belongs to."""
    return run_from_dict(read_json(folder / RECIPE))


def main(arguments: Sequence[str] | None = None) -> int:
    """Train as one rank; returns the exit code."""
    folder = Path((sys.argv[1:] if arguments is None else arguments)[0])

    def start(watch: Watchdog) -> None:
        recipe = recipe_of(folder)
        if watch.world_size != recipe.nproc:
            names = recipe.devices or [f"rank-{rank}" for rank in range(recipe.nproc)]
            lost = [name for name in watch.devices if name not in names]
            if lost or watch.world_size > recipe.nproc:
                raise RecipeError(
                    f"the run is for {recipe.nproc} ranks ({', '.join(names)}), but {watch.world_size} were started "
                    f"({', '.join(watch.devices)})"
                )
            recipe = fewer(recipe, [names.index(name) for name in watch.devices])
        train(watch, recipe)

    return run(folder, start)


if __name__ == "__main__":
    sys.exit(main())
