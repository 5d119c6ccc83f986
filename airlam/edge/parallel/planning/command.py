"""``airlam plan parallel``: who of a pool takes part in training a model together, in which mode, with which share."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from rich import box
from rich.console import Console
from rich.markup import escape
from rich.progress import Progress, SpinnerColumn, TextColumn
from rich.table import Table

from airlam.data.recipe import load_dataset_recipe
from airlam.edge.parallel.cost_model.measuring import measure_profile
from airlam.edge.parallel.cost_model.pool import Pool, read_pool
from airlam.edge.parallel.cost_model.profiling import ModelProfile, count_profile
from airlam.edge.parallel.planning.decide import MODES, Decision, decide
from airlam.edge.parallel.planning.goals import Goal
from airlam.edge.parallel.planning.modalities import ModalityPlan, plan_modalities
from airlam.edge.parallel.planning.objectives import OBJECTIVES, with_roles
from airlam.errors import CheckpointError, RecipeError, StoreError
from airlam.io import write_text
from airlam.models import AirlamConfig
from airlam.recipes import check_choice, check_number, find_checkpoint, find_recipe, read_class, read_yaml

CLASS_PATH = "airlam.edge.parallel.ParallelTraining"
MARK = "Planned by: airlam plan parallel"
MOST_LINKS = 4096  # of a batch: a step's events are simulated one by one


def plan_parallel(
    devices: str | Path,
    config: str | Path,
    out: str | Path | None = None,
    *,
    goal: str = "time",
    weight: float | None = None,
    mode: str | None = None,
    ranks: int | None = None,
    solver: str = "auto",
    objective: str | None = None,
    profile: str | Path | None = None,
    measure: bool = False,
    batch_size: int | None = None,
) -> Decision:
    """Choose participants, mode, order, shares, cuts and micro-batches; print them beside simpler plans.

    Args:
        devices: YAML of the pool (:mod:`airlam.edge.parallel.cost_model.pool`). config: of the run.
        out: where the run with its plan is written, as YAML for ``airlam parallel``; None: nowhere.
        goal, weight: see :class:`~.goals.Goal`; a weight for ``mix`` alone. mode: the only one to use. ranks: how many
            devices take part.
        solver: see :func:`~.decide.decide`.
        objective: plan inputs and modules too, for one of :data:`~.objectives.OBJECTIVES`; its frozen and adapted
            modules cost less.
        profile: JSON of :meth:`~airlam.edge.parallel.cost_model.profiling.ModelProfile.save`; measured and written
            where there is no such file. measure: measure on this host without keeping it; else operations are counted.
        batch_size: links of a step; None: the data's.

    Raises:
        RecipeError: a mistake in one of the files, or a pool that cannot train the model.
    """
    if weight is not None and goal != "mix":
        raise RecipeError(f"weight belongs to goal mix, but goal is {goal}; leave it out")
    goal_ = Goal(goal) if weight is None else Goal(goal, weight)
    if mode is not None:
        check_choice("mode", mode, (*MODES, "looped"))
    if objective is not None:
        check_choice("objective", objective, OBJECTIVES)
        if out is not None and set(OBJECTIVES[objective].roles.values()) != {"trained"}:
            raise RecipeError(
                f"--objective {objective} freezes or adapts modules, but the run of --out trains all weights; leave "
                "one of them out"
            )
    path = find_recipe(config)
    arguments = _arguments(path)
    pool = read_pool(devices)
    if out is not None and Path(out).exists() and (Path(out).is_dir() or MARK not in Path(out).read_text("utf-8")):
        raise StoreError(f"{out} exists and is no plan; name another file")
    given = _batch_size(arguments, path) if batch_size is None else batch_size
    batch = int(check_number("batch_size", given, 1, MOST_LINKS, integer=True))
    whole = _profile(_model(arguments, path), arguments, profile, measure)
    aware = whole if objective is None else with_roles(whole, OBJECTIVES[objective].roles)
    modes = MODES if mode in (None, "looped") else (mode,)
    looped = (mode or arguments.get("mode")) == "looped"
    decision = decide(aware, pool, batch, goal_, modes=modes, ranks=ranks, solver=solver, looped=looped)
    console = Console()
    print_decision(console, decision, pool, whole, batch)
    if objective is not None:
        print_modalities(console, plan_modalities(decision.plan, aware, whole, pool, objective))
    if out is not None:
        write_plan(arguments, decision, pool, read_yaml(find_recipe(devices)), Path(out))
        console.print(f"{out} written; run it with: airlam parallel --config {out}", highlight=False, markup=False)
    return decision


def write_plan(
    arguments: dict[str, Any], decision: Decision, pool: Pool, source: Mapping[str, Any], path: Path
) -> Path:
    """The run's recipe with mode, shares, devices in the order of ranks, and the pool for when one of them is lost."""
    made = {
        key: value for key, value in arguments.items() if key not in ("mesh", "shares", "micro_batches", "schedule")
    }
    made |= decision.plan.arguments(pool)
    goal = decision.goal
    made["replanning"] = {"pool": dict(source), "goal": goal.name, "weight": goal.weight}
    text = yaml.safe_dump({"class_path": CLASS_PATH, "init_args": made}, sort_keys=False)
    return write_text(path, f"# {MARK}\n# {decision.plan.describe()}: {_summary(decision, pool)}\n{text}")


def _arguments(path: Path) -> dict[str, Any]:
    """The arguments of a run of collaborative training."""
    class_path, arguments = read_class(read_yaml(path), str(path))
    if not class_path.endswith(".ParallelTraining"):
        raise RecipeError(f"{path} is no run of collaborative training: its class_path is {class_path}")
    if "task" not in arguments:
        raise RecipeError(f"{path}: ParallelTraining needs task; give it under init_args")
    return arguments


def _model(arguments: dict[str, Any], path: Path) -> AirlamConfig:
    """The configuration of the run's model."""
    _, task = read_class(arguments["task"], f"{path}: task")
    checkpoint = arguments.get("checkpoint") or task.get("checkpoint")
    try:
        if checkpoint is not None:
            fields = AirlamConfig.from_pretrained(find_checkpoint(checkpoint)).to_dict()
            known = ("backbone", "num_tokens", "num_groups", "doppler_grid", "max_history", "error_variance", "loops")
            fields = {key: value for key, value in fields.items() if key in known}
        else:
            fields = dict(task.get("model") or {})
        if arguments.get("loops") is not None:
            fields["loops"] = arguments["loops"]
        return AirlamConfig(**fields)
    except (ValueError, CheckpointError) as error:
        raise RecipeError(f"{path}: {error}") from None


def _batch_size(arguments: dict[str, Any], path: Path) -> int:
    if "data" not in arguments:
        raise RecipeError(f"{path}: ParallelTraining needs data; give it under init_args, or --batch_size")
    return load_dataset_recipe(arguments["data"]).batch_size


def _profile(config: AirlamConfig, arguments: dict[str, Any], kept: str | Path | None, measure: bool) -> ModelProfile:
    """Read, measured, or counted."""
    if kept is not None and Path(kept).is_file():
        return ModelProfile.load(kept)
    if kept is None and not measure:
        return count_profile(config)
    task = arguments["task"].get("init_args") or {}
    with Progress(SpinnerColumn(), TextColumn("measuring {task.description}"), transient=True) as bar:
        shown = bar.add_task("")
        made = measure_profile(
            config, attention=task.get("attention"), progress=lambda part: bar.update(shown, description=part)
        )
    if kept is not None:
        made.save(kept)
    return made


def _summary(decision: Decision, pool: Pool) -> str:
    cost = decision.cost
    milligrams = 1e3 * cost.grams(pool.grid_intensity)
    return (
        f"{cost.seconds:.3g} s and {cost.joules:.3g} J a step ({milligrams:.3g} mg CO2e), {cost.sent / 1e6:.2f} MB sent"
    )


def print_decision(console: Console, decision: Decision, pool: Pool, profile: ModelProfile, batch: int) -> None:
    """A row for each device in the order of ranks; then the plan, those beside it, and who is left out."""
    plan, cost = decision.plan, decision.cost
    table = Table(
        title=escape(f"Plan for {decision.goal.name}: {plan.describe()}"),
        title_justify="left",
        box=box.SIMPLE_HEAD,
        padding=(0, 1, 0, 0),
    )
    for name in ("device", "part"):
        table.add_column(name, no_wrap=True)
    for name in ("MB", "of", "compute", "send", "wait", "J", "MB sent"):
        table.add_column(name, justify="right", no_wrap=True)
    assert cost.energy is not None
    for rank, place in enumerate(plan.places()):
        member = pool.members[plan.devices[rank]]
        busy = {
            phase: sum(s.stop - s.start for s in cost.trace if s.rank == rank and s.phase == phase)
            for phase in ("compute", "send")
        }
        table.add_row(
            escape(member.name),
            _part(plan, place),
            f"{cost.memory[rank] / 1e6:.0f}",
            f"{cost.limits[rank] / 1e6:.0f}",
            f"{busy['compute']:.2f}",
            f"{busy['send']:.2f}",
            f"{max(0.0, cost.seconds - sum(busy.values())):.2f}",
            f"{sum(cost.energy.joules[rank].values()):.2f}",
            f"{sum(cost.payload[rank].values()) / 1e6:.2f}",
        )
    console.print(table)
    how = f"measured on {profile.host}" if profile.measured else "counted operations"
    console.print(
        "In the order of ranks. MB: memory that training needs, of what the device has; seconds of a step in which it "
        f"computes, sends and waits; its joules, idle power included. All modelled, from {how}; {batch} links a step.",
        style="dim",
        markup=False,
    )
    lines: list[tuple[str, Any, Any, str]] = [(f"planned ({decision.solver} search)", plan, cost, "")]
    console.print(f"{_summary(decision, pool)}, at {pool.grid_intensity:g} gCO2e/kWh", highlight=False)
    lines += [(one.name, one.plan, one.cost, one.why) for one in decision.beside]
    for name, one, its, why in lines:
        if its is None or one is None:
            console.print(f"{name}: not possible, {why}", highlight=False, markup=False)
            continue
        ratio = (
            ""
            if its is cost
            else f", {its.seconds / cost.seconds:.2f} x the time, {its.joules / cost.joules:.2f} x the energy"
        )
        console.print(
            f"{name}: {its.seconds:.3f} s a step, {its.joules:.2f} J ({its.joules_per_sample:.3f} a link){ratio}"
            + ("" if its is cost else f" ({one.describe()})").replace(
                "one device", f"all on {pool.members[one.devices[0]].name}"
            ),
            highlight=False,
            markup=False,
        )
    for name, why in decision.left_out.items():
        console.print(f"{name} takes no part: {why}", highlight=False, markup=False)


def _part(plan: Any, place: tuple[int, int, int, int]) -> str:
    """What a rank has of each dimension that is shared out."""
    shares = (("links", plan.links), ("layers", plan.layers), ("tokens", plan.tokens), ("of heads", plan.tensor))
    words = []
    for (name, share), at in zip(shares, place, strict=True):
        if len(share) > 1:
            words.append(f"{share[at]}/{sum(share)} {name}" if name == "of heads" else f"{share[at]} {name}")
    return ", ".join(words) or "all"


def print_modalities(console: Console, made: ModalityPlan) -> None:
    """A row for each input; then modules, and the plan that is blind to both."""
    table = Table(
        title=f"Inputs and modules for {made.objective}",
        title_justify="left",
        box=box.SIMPLE_HEAD,
        padding=(0, 1, 0, 0),
    )
    for name in ("input", "held by", "encoded by", "encoder"):
        table.add_column(name, no_wrap=True)
    table.add_column("sent", justify="right")
    for one in made.encodings:
        sent = {"missing": "left out: nobody holds it", "local": "nothing"}.get(
            one.form, f"{one.form}, {one.sent / 1e3:.1f} kB"
        )
        table.add_row(one.name, escape(one.holder or "-"), escape(one.encoder or "-"), one.role, sent)
    console.print(table)
    roles = {"embedding": "embedding", "layer": "layers", "head": "head"}
    console.print(
        ", ".join(f"{roles[name]} {role}" for name, role in made.roles.items()) + f": {made.why}", style="dim"
    )
    if made.without:
        console.print(
            f"without any of these inputs: {', '.join(made.without)}; they compute on what others encode", markup=False
        )
    console.print(
        f"with the sending and encoding of these inputs, which the plan above does not count: {made.seconds:.3f} s a "
        f"step, {made.sent / 1e6:.1f} MB; the same plan blind to inputs and objective: {made.blind_seconds:.3f} s, "
        f"{made.blind_sent / 1e6:.1f} MB (modelled)",
        highlight=False,
        markup=False,
    )
