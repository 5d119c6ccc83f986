"""Plans held against an equal split, on real processes whose speeds spread by 4 to 1.

    python -P benchmarks/parallel_plan_measured.py [--core 1] [--steps 6] [--out runs/parallel_plan_measured.json]

Needs root on Linux. Of each pool the model's profile, the processes' speeds under their quotas, and the links are
measured (as in parallel_model.py), and ``airlam plan parallel`` decides for least time. No device may hold the model
alone: each has 0.7 of the memory that one would need (as the plan counts it; not enforced here). Then the plan and the
best equal split over all devices train, and their steps are timed.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import statistics
import sys
from dataclasses import asdict, replace
from pathlib import Path
from types import ModuleType
from typing import Any

from rich.console import Console
from rich.table import Table

from airlam.edge.parallel.cost_model.plan import Plan
from airlam.edge.parallel.cost_model.pool import Member, Pool
from airlam.edge.parallel.cost_model.work import Work
from airlam.edge.parallel.planning.decide import decide
from airlam.edge.parallel.recipe import ParallelTraining, run_from_dict
from airlam.edge.parallel.shaped.experiment import measure_steps
from airlam.edge.parallel.shaped.processes import missing
from airlam.io import write_json

POOLS: list[tuple[str, tuple[int, ...], float | None]] = [
    ("small", (4, 1), 100),
    ("small", (4, 1, 1), 50),
    ("small", (4, 4, 1, 1), 100),
]  # model, weights of the quotas, Mbit/s
LINKS = 32
MEMORY = 0.7  # of what one device would need
TARGET = 1.3


def measuring() -> ModuleType:
    """parallel_model.py: ``python -P`` keeps this folder off the path."""
    spec = importlib.util.spec_from_file_location("parallel_model", Path(__file__).with_name("parallel_model.py"))
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["parallel_model"] = module
    spec.loader.exec_module(module)
    return module


def training(model: dict[str, Any], plan: Plan, pool: Pool) -> dict[str, Any]:
    """The run of a plan."""
    task = {"class_path": "airlam.tasks.ChannelPrediction", "init_args": {"model": model}}
    given = plan.arguments(pool) | {"task": task, "data": "tiny", "steps": 1000}
    return run_from_dict(asdict(ParallelTraining(task, "tiny")) | given).to_dict()


def main() -> int:
    """Measure, plan, compare, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--core", type=int, default=(os.cpu_count() or 1) - 1, help="that all processes share")
    parser.add_argument("--steps", type=int, default=6, help="of each plan, after warm-up")
    parser.add_argument("--out", type=Path, default=Path("runs/parallel_plan_measured.json"))
    known = parser.parse_args()
    console = Console()
    if (reason := missing()) is not None:
        console.print(f"skipped: {reason}")
        return 0
    m = measuring()
    cases = [m.Case(model, weights, rate, {"mode": "data"}) for model, weights, rate in POOLS]
    facts = m.calibrate(cases, known.core, console)
    rows = []
    for case in cases:
        profile = m.profile_of(facts["profiles"][case.model])
        pool = m.pool_of(case, facts)
        alone = Plan((0,), (LINKS,), (profile.layers,), (profile.tokens,))
        limit = MEMORY * Work(profile, pool).memory(alone, (0, 0, 0, 0))
        members = [Member(one.name, replace(one.device, memory_bytes=limit)) for one in pool.members]
        pool = replace(pool, members=tuple(members))
        decision = decide(profile, pool, LINKS)
        equal = next(one for one in decision.beside if one.name.startswith("equal"))
        row: dict[str, Any] = {"pool": case.name, "memory": limit}
        for name, plan, cost in (("plan", decision.plan, decision.cost), ("equal", equal.plan, equal.cost)):
            nodes = [case.nodes[number] for number in plan.devices]
            batch = m.BATCH | {"links": LINKS}
            run = training(m.MODELS[case.model], plan, pool)
            steps = measure_steps(run, batch, nodes, steps=known.steps, core=known.core)
            row[name] = {
                "what": plan.describe(),
                "devices": plan.devices,
                "predicted": cost.seconds,
                "measured": steps.seconds,
                "every": steps.every,
            }
            console.print(f"{case.name}: {name}: {plan.describe()}: {cost.seconds:.2f} against {steps.seconds:.2f} s")
        row["gain"] = row["equal"]["measured"] / row["plan"]["measured"]
        row["load"] = os.getloadavg()[0]
        rows.append(row)
        write_json(known.out, {"host": m.host(), "facts": facts, "rows": rows})
    table = Table(title="A plan against an equal split [s a step, measured (predicted)]")
    for title in ("speeds, links", "plan", "time", "equal split", "time", "gain"):
        table.add_column(title)
    for row in rows:
        cells = [row["pool"].split(", ", 1)[1]]
        for name in ("plan", "equal"):
            cells += [row[name]["what"], f"{row[name]['measured']:.2f} ({row[name]['predicted']:.2f})"]
        table.add_row(*cells, f"[{'green' if row['gain'] >= TARGET else 'red'}]{row['gain']:.2f}[/]")
    console.print(table)
    console.print(f"median gain {statistics.median(row['gain'] for row in rows):.2f}, {known.out}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
