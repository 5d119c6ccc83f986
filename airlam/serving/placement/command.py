"""``airlam plan serving``: the plan, what it is compared with, and how to run it."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

from airlam.errors import RecipeError
from airlam.io import write_text
from airlam.recipes import find_recipe, read_yaml
from airlam.serving.config import LIGHT, STAGES
from airlam.serving.placement.problem import Plan, Problem
from airlam.serving.placement.recipe import read_problem
from airlam.serving.placement.solvers import SOLVERS, best_plan


def serving_fields(plan: Plan) -> dict[str, Any]:
    """Fields of :class:`airlam.serving.ServingConfig` that carry out a plan on Ray: each group is a deployment, whose
    replicas ask for a resource that its nodes offer, and for one of the cores, of which a node offers one a replica.

    Raises:
        RecipeError: groups that are no consecutive stages, or light services before the tokenizer.

    Example:
        >>> serving_fields(Plan({"a": (("backbone", "heads", "tokenizer"), 2)}))["replicas"]
        2
    """
    order = (*STAGES, *LIGHT)
    groups = sorted((tuple(s for s in order if s in group) for group in plan.groups), key=lambda g: order.index(g[0]))
    if tuple(service for group in groups for service in group if service in STAGES) != STAGES:
        raise RecipeError(f"the plan has the groups {groups}, but Serve runs consecutive stages of {', '.join(STAGES)}")
    count = {
        str(k): sum(r for members, r in plan.nodes.values() if set(members) == set(group))
        for k, group in enumerate(groups)
    }
    return {
        "groups": [list(group) for group in groups],
        "node": {str(k): resource(k) for k in range(len(groups))},
        "replicas": count["0"],
        "num_cpus": 1.0,
        "stage_replicas": {k: n for k, n in count.items() if k != "0"},
    }


def resource(group: int) -> str:
    """Name of the Ray resource that the nodes of a group offer."""
    return f"airlam-group-{group}"


def start_lines(plan: Plan, fields: dict[str, Any]) -> list[str]:
    """How to start Ray on each node."""
    lines = []
    for name, (members, count) in sorted(plan.nodes.items()):
        number = next(k for k, group in enumerate(fields["groups"]) if set(group) == set(members))
        offered = json.dumps({resource(number): count})
        lines.append(f"{name}: ray start --address HEAD:6379 --num-cpus {count} --resources '{offered}'")
    return lines


def run(nodes: str, config: str, out: str | None = None) -> None:
    """Print the plan of a recipe, beside other ways to place; write the server's recipe with it."""
    from rich.console import Console
    from rich.table import Table

    problem = read_problem(nodes)
    console = Console(width=None if Console().is_terminal else 140)
    table = Table(title="services on this machine")
    for column in ("service", "ms a request", "memory [MB]", "hands on [kB]", "kind"):
        table.add_column(column)
    for service in problem.services:
        kind = "core" if service.core else "light"
        numbers = (1e3 * service.seconds, service.memory_mb, service.out_bytes / 1e3)
        table.add_row(service.name, *(f"{value:.2f}" for value in numbers), kind)
    console.print(table)
    plan = best_plan(problem)
    console.print(compared(problem, plan))
    fields = serving_fields(plan)
    for line in start_lines(plan, fields):
        console.print(line, soft_wrap=True, highlight=False)
    if out is not None:
        import yaml

        recipe = read_yaml(find_recipe(config))
        recipe["init_args"] = {**(recipe.get("init_args") or {}), **fields}
        write_text(Path(out), yaml.safe_dump(recipe, sort_keys=False))
        print(f"written: {out}; run it with: airlam serve --config {out} --ray-address auto")


def compared(problem: Problem, plan: Plan) -> Any:
    """The plan beside those of other solvers."""
    from rich.table import Table

    table = Table(title="mean latency of a request (modelled)")
    for column in ("way", "ms", "what runs where"):
        table.add_column(column)
    for name, solver in SOLVERS.items():
        try:
            found = plan if name == "local search" else solver(problem)
        except RecipeError as error:
            table.add_row(name, "-", str(error))
            continue
        value = problem.latency(found)
        table.add_row(name, f"{1e3 * value:.2f}" if math.isfinite(value) else "carries too little", described(found))
    return table


def described(plan: Plan) -> str:
    """A plan in one line."""
    parts = [f"{name}: {count} x ({', '.join(group)})" for name, (group, count) in sorted(plan.nodes.items())]
    return "; ".join(parts) or "nothing"
