"""The model of a pool held against real processes: predicted and measured time of a training step.

    python -P benchmarks/parallel_model.py [--core 1] [--steps 8] [--only TEXT] [--out runs/parallel_model.json]

Needs root on Linux: processes get CPU quotas (together at most 90 % of one core) and links of chosen rates in name
spaces of the network. Before any combination is judged, three things are measured on the same host: the profile of each
model, one process without a quota; the speed of a process under each set of quotas, from training steps without
parallelism; times of gloo's collectives on two processes: latency, the rate of links that are not shaped, and the part
of a shaped link's rate that payload gets (at 20 Mbit/s, for all rates). Nothing is fitted to the steps that are judged.
Batches are such that pieces of work last longer than the 10 to 20 ms in which the kernel keeps account of quotas.
"""

from __future__ import annotations

import argparse
import os
import platform
import statistics
import sys
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import track
from rich.table import Table

from airlam.edge.parallel.cost_model.cost import Cost, simulate
from airlam.edge.parallel.cost_model.plan import plan_from
from airlam.edge.parallel.cost_model.pool import Member, Pool
from airlam.edge.parallel.cost_model.profiling import ModelProfile, Part
from airlam.edge.parallel.recipe import ParallelTraining, run_from_dict
from airlam.edge.parallel.shaped.experiment import Node, measure_steps, run_job
from airlam.edge.parallel.shaped.processes import missing
from airlam.io import write_json

TOKENS = {"error_variance": True, "num_tokens": 64, "num_groups": 16}
MODELS: dict[str, dict[str, Any]] = {
    "tiny": TOKENS,
    "small": TOKENS
    | {
        "backbone": {
            "model_type": "roberta-prelayernorm",
            "hidden_size": 256,
            "num_hidden_layers": 6,
            "num_attention_heads": 8,
            "intermediate_size": 1024,
            "hidden_dropout_prob": 0.0,
            "attention_probs_dropout_prob": 0.0,
            "max_position_embeddings": 514,
            "vocab_size": 2,
            "pad_token_id": 1,
            "bos_token_id": 0,
            "eos_token_id": 1,
        }
    },
}
BATCH = {"history": 16, "horizon": 4, "subcarriers": 48, "ports": [2, 4, 4]}
MBIT = 1e6
SHARE = 0.9  # of the core that all processes get together
BOUND, MEDIAN = 0.25, 0.10


@dataclass(frozen=True)
class Case:
    """A combination.

    Attributes:
        model: of :data:`MODELS`. weights: of the processes' quotas. rate: Mbit/s of every link; None: not shaped.
        run: arguments of ParallelTraining. links: of a batch.
    """

    model: str
    weights: tuple[int, ...]
    rate: float | None
    run: dict[str, Any]
    links: int = 16

    @property
    def name(self) -> str:
        """For tables."""
        rate = "not shaped" if self.rate is None else f"{self.rate:g} Mbit/s"
        shares = self.run.get("shares")
        kind = " x ".join(self.run["mesh"]) if "mesh" in self.run else self.run["mode"]
        kind += ", sharded" if self.run.get("shard") else ""
        shared = "" if not shares else " shares " + ":".join(map(str, next(iter(shares.values()))))
        return f"{self.model} {kind}{shared}, speeds {':'.join(map(str, self.weights))}, {rate}"

    @property
    def nodes(self) -> list[Node]:
        """The processes."""
        return [Node(quota, None if self.rate is None else self.rate * MBIT) for quota in quotas(self.weights)]

    def training(self) -> ParallelTraining:
        """The run."""
        task = {"class_path": "airlam.tasks.ChannelPrediction", "init_args": {"model": MODELS[self.model]}}
        given = {"task": task, "data": "tiny", "nproc": len(self.weights), "steps": 1000} | self.run
        return run_from_dict(asdict(ParallelTraining(task, "tiny")) | given)


def quotas(weights: tuple[int, ...]) -> list[float]:
    """Shares of the core."""
    return [SHARE * weight / sum(weights) for weight in weights]


CASES = [
    Case("tiny", (1, 1), None, {"mode": "data"}),
    Case("tiny", (1, 1), 20, {"mode": "data"}),
    Case("tiny", (2, 1), 100, {"mode": "data", "shares": {"data": [2, 1]}}, links=12),
    Case("tiny", (3, 1), 10, {"mode": "data", "shares": {"data": [3, 1]}}),
    Case("tiny", (1, 1), 50, {"mode": "data", "shard": True}),
    Case("tiny", (1, 1), 100, {"mode": "sequence"}),
    Case("tiny", (2, 1), 50, {"mode": "sequence", "shares": {"sequence": [2, 1]}}),
    Case("tiny", (1, 1), 100, {"mode": "tensor"}),
    Case("tiny", (3, 1), None, {"mode": "tensor", "shares": {"tensor": [3, 1]}}, links=32),
    Case("tiny", (1, 1), 20, {"mode": "pipeline"}, links=32),
    Case("tiny", (3, 1), 50, {"mode": "pipeline", "shares": {"pipeline": [3, 1]}}, links=32),
    Case("tiny", (1, 1), 100, {"mode": "looped"}),
    Case("tiny", (1, 1, 1), 50, {"mode": "looped", "shares": {"tensor": [2, 1, 1]}}),
    Case("tiny", (1, 1, 1, 1), 50, {"mode": "hybrid", "mesh": {"data": 2, "tensor": 2}}),
    Case("tiny", (1, 1, 1, 1), 20, {"mode": "hybrid", "mesh": {"data": 2, "pipeline": 2}}),
    Case("small", (1, 1), 100, {"mode": "data"}),
    Case("small", (1, 1), None, {"mode": "tensor"}, links=32),
    Case("small", (1, 1, 1), 20, {"mode": "pipeline"}, links=32),
    Case("small", (3, 1, 1, 1), 50, {"mode": "pipeline", "shares": {"pipeline": [3, 1, 1, 1]}}, links=32),
]


def calibrate(cases: list[Case], core: int, console: Console) -> dict[str, Any]:
    """Profiles, speeds and links of this host."""
    found: dict[str, Any] = {"profiles": {}, "speeds": {}, "links": {}}
    for model in sorted({case.model for case in cases}):
        console.print(f"profile of {model}")
        (profile,) = run_job({"kind": "profile", "model": MODELS[model], "links": 16}, [Node(None)], core=core)
        found["profiles"][model] = profile
    job = {"kind": "speed", "model": MODELS["tiny"], "batch": BATCH | {"links": 4}, "seconds": 4}
    (alone,) = run_job(job, [Node(None)], core=core)
    for weights in sorted({case.weights for case in cases}):
        console.print(f"speed of quotas {weights}")
        results = run_job(job, [Node(quota) for quota in quotas(weights)], core=core)
        found["speeds"][str(weights)] = [alone["seconds"] / one["seconds"] for one in results]
    for rate in (20 * MBIT, None):
        console.print(f"collectives at {rate or 'any'} bit/s")
        job = {"kind": "collectives", "kinds": KINDS, "sizes": [16, 1_000_000], "repeats": 3}
        results = run_job(job, [Node(quota, rate) for quota in quotas((1, 1))], core=core)
        found["links"][str(rate)] = results[0]
    return found


KINDS = ["all_reduce", "all_gather", "reduce_scatter", "reduce", "broadcast", "send"]


def profile_of(data: dict[str, Any]) -> ModelProfile:
    """From a job's result."""
    return ModelProfile(**{**data, "parts": {name: Part(**part) for name, part in data["parts"].items()}})


def pool_of(case: Case, facts: dict[str, Any]) -> Pool:
    """The pool of a case, as it was measured."""
    here = profile_of(facts["profiles"][case.model]).this_host()
    members = [
        Member(f"rank-{number}", replace(here, flops_per_second=here.flops_per_second * factor))
        for number, factor in enumerate(facts["speeds"][str(case.weights)])
    ]
    links = facts["links"]
    if case.rate is None:  # what sums reach
        rate, efficiency = 8e6 / links["None"]["all_reduce"]["1000000"], 1.0
    else:
        rate, efficiency = case.rate * MBIT, 8 / 20 / links[str(20 * MBIT)]["all_reduce"]["1000000"]
    return Pool.of(members, rate=rate, latency=links["None"]["send"]["16"], efficiency=efficiency)


def predict(case: Case, facts: dict[str, Any]) -> Cost:
    """The model's step."""
    profile, pool = profile_of(facts["profiles"][case.model]), pool_of(case, facts)
    run = asdict(case.training()) | {"devices": None}
    run["mesh"] = case.run.get("mesh")
    run["shares"] = {key: value for key, value in run["shares"].items() if value}
    return simulate(plan_from(run, pool, profile, case.links), profile, pool)


def table_of(rows: list[dict[str, Any]]) -> Table:
    """Predicted and measured."""
    table = Table(title="Time of a training step [s]")
    for title in ("combination", "links", "predicted", "measured", "least to most", "error"):
        table.add_column(title, justify="left" if title == "combination" else "right")
    for row in rows:
        colour = "red" if abs(row["error"]) > BOUND else "yellow" if abs(row["error"]) > MEDIAN else "green"
        table.add_row(
            row["name"],
            str(row["links"]),
            f"{row['predicted']:.3f}",
            f"{row['measured']:.3f}",
            f"{min(row['every']):.2f} to {max(row['every']):.2f}",
            f"[{colour}]{100 * row['error']:+.0f} %[/]",
        )
    return table


def main() -> int:
    """Measure, judge, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--core", type=int, default=(os.cpu_count() or 1) - 1, help="that all processes share")
    parser.add_argument("--steps", type=int, default=8, help="of each combination, after warm-up")
    parser.add_argument("--only", default="", help="combinations whose name has this text")
    parser.add_argument("--out", type=Path, default=Path("runs/parallel_model.json"))
    known = parser.parse_args()
    console = Console()
    if (reason := missing()) is not None:
        console.print(f"skipped: {reason}")
        return 0
    cases = [case for case in CASES if known.only in case.name]
    facts = calibrate(cases, known.core, console)
    rows = []
    for case in track(cases, "steps", console=console):
        cost = predict(case, facts)
        batch = BATCH | {"links": case.links}
        steps = measure_steps(case.training().to_dict(), batch, case.nodes, steps=known.steps, core=known.core)
        row = {
            "name": case.name,
            "links": case.links,
            "predicted": cost.seconds,
            "measured": steps.seconds,
            "error": cost.seconds / steps.seconds - 1,
            "every": steps.every,
            "bytes": steps.bytes,
            "bytes_predicted": cost.payload,
            "phases": steps.phases,
            "computing": [e["compute"] for e in seconds_by_phase(cost)],
            "load": os.getloadavg()[0],
        }
        rows.append(row)
        console.print(f"{case.name}: {cost.seconds:.3f} against {steps.seconds:.3f} s, {100 * row['error']:+.0f} %")
        write_json(known.out, {"host": host(), "facts": facts, "rows": rows})
    console.print(table_of(rows))
    errors = [abs(row["error"]) for row in rows]
    inside = sum(error <= BOUND for error in errors)
    console.print(f"{inside} of {len(errors)} within 25 %, median {100 * statistics.median(errors):.1f} %, {known.out}")
    return 0


def seconds_by_phase(cost: Cost) -> list[dict[str, float]]:
    """Of each rank, from the trace."""
    found = [{"compute": 0.0, "send": 0.0, "receive": 0.0, "wait": 0.0} for _ in cost.memory]
    for span in cost.trace:
        found[span.rank][span.phase] += span.stop - span.start
    return found


def host() -> dict[str, Any]:
    """What it was measured on."""
    import torch

    return {
        "system": platform.system(),
        "machine": platform.machine(),
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "load": os.getloadavg()[0],
    }


if __name__ == "__main__":
    sys.exit(main())
