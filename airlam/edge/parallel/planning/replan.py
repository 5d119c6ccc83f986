"""A run that lost a device is planned anew, for the devices that are left, in the middle of training.

States load in any mode and on any number of ranks, so the new plan is free to choose both, and the order of ranks. All
devices that are left take part: whoever is too slow to help was left out of the first plan.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from airlam.data.recipe import load_dataset_recipe
from airlam.edge.parallel.cost_model.pool import Pool, make_pool
from airlam.edge.parallel.cost_model.profiling import count_profile
from airlam.edge.parallel.engine.building import check_mode, model_config
from airlam.edge.parallel.layout import Mesh
from airlam.edge.parallel.planning.decide import MODES, decide
from airlam.edge.parallel.planning.goals import Goal
from airlam.edge.parallel.recipe import ParallelTraining, Shares
from airlam.errors import RecipeError
from airlam.recipes import find_recipe, nearest, read_yaml


def resolved(run: ParallelTraining) -> ParallelTraining:
    """The run, which names a pool, with that written out, so that it is planned alike on every host.

    Raises:
        RecipeError: a mistake in the pool, or a device of the run that is none of the pool.
    """
    assert run.replanning is not None
    pool = run.replanning.pool
    if isinstance(pool, str):
        run = replace(run, replanning=replace(run.replanning, pool=read_yaml(find_recipe(pool))))
    names = _pool(run).names
    if run.devices is None:
        raise RecipeError("replanning needs devices, the names in its pool by rank; 'airlam plan parallel' writes them")
    for name in run.devices:
        if name not in names:
            hint = nearest(name, names) or f"; devices: {', '.join(names)}"
            raise RecipeError(f"{name!r} of devices is no device of the pool in replanning{hint}")
    return run


def _pool(run: ParallelTraining) -> Pool:
    assert run.replanning is not None and isinstance(run.replanning.pool, Mapping)
    return make_pool(run.replanning.pool, "replanning: pool")


def replan(run: ParallelTraining, devices: Sequence[str]) -> dict[str, Any] | None:
    """The arguments of the run that change for the devices that are left, ``devices`` in the new order among them.

    Returns:
        None where the run has no pool, trains adapters, the pool does not have these devices, or no plan is within
        their memory.
    """
    if run.replanning is None or run.adapter is not None:  # caches of adapters belong to shares
        return None
    pool = _pool(run)
    if not set(devices) <= set(pool.names):
        return None
    left = pool.part([pool.names.index(name) for name in devices])
    config = model_config(run)
    try:
        found = decide(
            count_profile(config),
            left,
            load_dataset_recipe(run.data).batch_size,
            Goal(run.replanning.goal, run.replanning.weight),
            modes=("data",) if config.context else MODES,
            ranks=len(left),
            solver="large",
            looped=run.mode == "looped",
            explain=False,
        )
        made = found.plan.arguments(left)
        check_mode(planned(run, made))
    except RecipeError:
        return None
    return made


def planned(run: ParallelTraining, made: Mapping[str, Any]) -> ParallelTraining:
    """The run with the arguments of :func:`replan`."""
    mesh = made.get("mesh")
    given = {**made, "shares": Shares(**made["shares"]), "mesh": None if mesh is None else Mesh(**mesh)}
    return replace(run, **given)
