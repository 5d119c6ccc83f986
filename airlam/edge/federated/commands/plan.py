"""``airlam plan federated``: what each device can do, measured on its site's data, and who should do what."""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import yaml
from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from airlam.edge.federated.commands.needs import site_options
from airlam.edge.federated.recipe.federation import Federation
from airlam.edge.federated.recipe.read import federated_recipe
from airlam.edge.planner import GOALS, Option, choose_options, together, uniform_choice
from airlam.errors import RecipeError, StoreError
from airlam.io import write_text
from airlam.recipes import check_choice

RANKS = (1, 2, 4, 8, 16)


def plan(
    config: str | Path,
    out: str | Path | None = None,
    *,
    goal: str = "accuracy",
    ranks: Sequence[int] = RANKS,
    slack: float = 0.1,
    min_rank: int = 1,
    **changes: Any,
) -> dict[str, Option]:
    """Choose mode, split and rank for every site of a run; see :mod:`airlam.edge.planner`.

    Args:
        config: of the run. changes: its arguments that are to be replaced.
        out: where the run with its plan is written, as YAML for ``airlam federate``; None: nowhere.
        goal, slack, min_rank: see :func:`airlam.edge.planner.choose_options`. ranks: to choose from.

    Raises:
        RecipeError: a device cannot hold any option; or all weights are trained, so that there is nothing to plan.
    """
    federation, arguments = federated_recipe(config, changes)
    if federation.lora_rank is None:
        raise RecipeError("lora_rank is null: all weights travel, and there is neither rank nor split to choose")
    check_choice("goal", goal, GOALS)
    if (
        not isinstance(ranks, Sequence)
        or not ranks
        or any(isinstance(r, bool) or not isinstance(r, int) or not 1 <= r <= 512 for r in ranks)
    ):
        raise RecipeError(f"ranks is {ranks!r}, but must be a list of whole numbers between 1 and 512")
    if federation.server_strategy.compares_entries and len(set(ranks)) > 1:
        raise RecipeError(
            f"strategy {federation.strategy} needs one rank everywhere, and ranks is {list(ranks)}; choose one: "
            f"--ranks '[{federation.lora_rank}]'"
        )
    if not 0 <= slack < 100 or not 1 <= min_rank <= max(ranks):
        raise RecipeError(
            f"slack is {slack}, min_rank {min_rank}: at least 0, and between 1 and {max(ranks)}, are wanted"
        )
    if out is not None and Path(out).exists():
        if Path(out).is_dir() or "Planned by: airlam plan" not in Path(out).read_text(errors="replace"):
            raise StoreError(f"{out} exists and is no plan; name another file")
    torch.set_num_threads(federation.threads)
    options = site_options(federation, ranks)
    devices = {site.label: site.device for site in federation.site_specs}
    chosen = choose_options(options, devices, goal=goal, slack=slack, min_rank=min_rank)
    uniform = uniform_choice(options, devices)
    _print(federation, chosen, uniform, goal)
    if out is not None:
        write_plan(federation, arguments, chosen, Path(out))
        Console().print(f"{out} written; run it with: airlam federate --config {out}", highlight=False, markup=False)
    return chosen


def write_plan(federation: Federation, arguments: dict[str, Any], chosen: dict[str, Option], path: Path) -> Path:
    """The run's recipe with mode, split and rank of every site."""
    made = copy.deepcopy(arguments)
    given, made["sites"] = made["sites"], {}
    for spec in federation.site_specs:  # copies one by one: their places, and so their options, differ
        alone = spec.label in given and given[spec.label].get("copies", 1) == 1
        kind = given[spec.label if alone else spec.label.rpartition("-")[0]]
        option, site = chosen[spec.label], {key: value for key, value in kind.items() if key != "copies"}
        site |= {"seed": spec.seed, "mode": option.mode, "lora_rank": option.rank}
        if option.mode == "split":
            site["split_layers"] = option.layers
        made["sites"][spec.label] = site
    made["lora_rank"] = max(option.rank for option in chosen.values())
    text = yaml.safe_dump({"class_path": "airlam.edge.federated.Federation", "init_args": made}, sort_keys=False)
    Federation(**made)  # refuses what would not run
    return write_text(path, f"# Planned by: airlam plan federated\n{text}")


def _print(federation: Federation, chosen: dict[str, Option], uniform: dict[str, Option] | None, goal: str) -> None:
    console = Console()
    table = Table(title=f"Plan for {goal}", title_justify="left", box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for name in ("site", "device", "choice"):
        table.add_column(name, no_wrap=True)
    for name in ("MB", "of", "MB sent", "s", "J"):
        table.add_column(name, justify="right", no_wrap=True)
    for site in federation.site_specs:
        o = chosen[site.label]
        table.add_row(
            escape(site.label),
            escape(site.device.name),
            str(o),
            f"{o.memory / 1e6:.1f}",
            f"{site.device.memory_bytes / 1e6:.0f}",
            f"{(o.up_bytes + o.down_bytes) / 1e6:.2f}",
            f"{o.seconds:.2f}",
            f"{o.joules:.2f}",
        )
    console.print(table)
    console.print(
        "MB: memory that training needs, of what the device has; MB sent: up and down, s and J: of a round. Memory is "
        "counted from tensors, the rest is modelled.",
        style="dim",
    )
    lines = [("planned", together(chosen))]
    if uniform is None:
        console.print("There is no single choice that every device could hold.")
    else:
        lines.append((f"the same for everyone ({next(iter(uniform.values()))})", together(uniform)))
    for name, cost in lines:
        if math.isfinite(cost["seconds"]):
            console.print(
                f"{name}: {cost['seconds']:.2f} s a round, {cost['joules']:.1f} J, {cost['megabytes']:.1f} MB, mean "
                f"rank {cost['mean_rank']:.1f}",
                highlight=False,
            )
