"""Where collaboration pays: a step of larger models and batches on the same pool, modelled."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from airlam.edge.parallel.benchmark import plans
from airlam.edge.parallel.benchmark.config import Mechanism
from airlam.edge.parallel.benchmark.sentences import REACH
from airlam.edge.parallel.benchmark.study import Study
from airlam.edge.parallel.cost_model.cost import simulate
from airlam.edge.parallel.cost_model.estimate import Estimator
from airlam.edge.parallel.cost_model.plan import Plan
from airlam.edge.parallel.cost_model.profiling import ModelProfile, count_profile
from airlam.errors import RecipeError
from airlam.evaluation.rows import Figure, Results, Row
from airlam.models import AirlamConfig
from airlam.recipes import find_recipe, read_yaml

ALONE = "best device alone"
MODES = {
    "data": Mechanism("collaborative"),
    "data, sharded": Mechanism("collaborative", shard=True),
    "sequence": Mechanism("collaborative", mode="sequence"),
    "tensor": Mechanism("collaborative", mode="tensor"),
    "pipeline": Mechanism("collaborative", mode="pipeline", micro_batches=8),
}


def reach_rows(study: Study) -> list[Row]:
    """A row for each model, batch and mode that can be: seconds, joules and memory of a step."""
    rows = []
    for recipe in study.benchmark.reach.models:
        profile = count_profile(AirlamConfig(**read_yaml(find_recipe(recipe))["model"]["init_args"]["model"]))
        for batch in study.benchmark.reach.batches:
            place = f"{Path(recipe).stem.replace('_', '-')}, {batch} links"
            rows += [
                reach_row(name, place, plan, profile, study) for name, plan in tried(profile, study, batch).items()
            ]
    return rows


def tried(profile: ModelProfile, study: Study, batch: int) -> dict[str, Plan]:
    """The plans of one model and batch."""
    estimate = Estimator(profile, study.pool)
    ones = [plans.alone(profile, number, batch) for number in range(len(study.pool))]
    able = [plan for plan in ones if estimate(plan).fits] or ones
    found = {ALONE: min(able, key=lambda plan: estimate(plan).seconds)}
    for name, mechanism in MODES.items():
        try:
            found[name] = plans.plan_of(mechanism, profile, study.pool, batch)
        except RecipeError:  # more devices than there is to share out
            continue
    return found


def reach_row(name: str, place: str, plan: Plan, profile: ModelProfile, study: Study) -> Row:
    """One plan."""
    cost = simulate(plan, profile, study.pool)
    row = Row(name, place, parameters_total=profile.parameters, settings={"plan": plan.describe()}, group=REACH)
    row.figures["step_seconds"] = Figure(cost.seconds, "s", "modelled")
    row.figures["joules_per_link"] = Figure(cost.joules_per_sample, "J", "modelled")
    row.figures["memory_mb"] = Figure(max(cost.memory) / 1e6, "MB", "modelled")
    if not cost.fits:
        row.note = f"lacks {cost.missing / 1e6:.0f} MB"
    return row


def reach_table(results: Results) -> dict[str, Any]:
    """Seconds and joules of a step, a line for each model and batch."""
    rows = results.select(group=REACH)
    lines = []
    for place in dict.fromkeys(row.data for row in rows):
        here = {row.method: row for row in rows if row.data == place}
        first = next(iter(here.values()))
        lines.append([place, f"{first.parameters_total / 1e6:.1f} M", *(said(here.get(n)) for n in (ALONE, *MODES))])
    words = (
        "Modelled: seconds of a step of pretraining (all tokens of its model), in brackets J a link; by speed over all "
        "owners, raw data not counted. Where a device cannot hold its part, the memory that it lacks."
    )
    columns = ["model and batch", "weights", ALONE, *MODES]
    return {"title": "Where collaboration pays", "columns": columns, "lines": lines, "text": words}


def said(row: Row | None) -> str:
    """One cell."""
    if row is None:
        return ""
    if row.note:
        return f"({row.note})"
    return f"{row.figures['step_seconds'].number:.2f} ({row.figures['joules_per_link'].number:.2f})"
