"""How good the plans of the large-pool solver are: against exhaustive search, and against an equal split.

    python benchmarks/parallel_plans.py --out outputs/parallel_plans.json

20 random pools of 3 to 6 devices, airlam-small, 16 links a step. Half of the pools have speeds spread 4:1 (a fastest, a
slowest, the others between, log-uniform), the others are drawn from the profiles of airlam.resources. Everything is
modelled (operations counted); the same pools, to the bit, whenever it runs. An equal split is the best of data,
sequence, tensor and pipeline in equal parts over all devices; memory does not count where it would exclude all of them.
Prints a line a pool, and the figures: pools within 5 % of exhaustive search, median gain over the equal split on the
4:1 pools.
"""

from __future__ import annotations

import argparse
import statistics
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

from airlam.edge.parallel.cost_model.pool import Pool
from airlam.edge.parallel.cost_model.profiling import ModelProfile, count_profile
from airlam.edge.parallel.planning.candidates import Candidates
from airlam.edge.parallel.planning.decide import MODES, beside
from airlam.edge.parallel.planning.exhaustive import exhaustive
from airlam.edge.parallel.planning.goals import Goal
from airlam.edge.parallel.planning.large import large
from airlam.io import write_json
from airlam.models import AirlamConfig
from airlam.resources import DEVICES, Device

SMALL = {
    "model_type": "roberta-prelayernorm",
    "hidden_size": 256,
    "num_hidden_layers": 6,
    "num_attention_heads": 8,
    "intermediate_size": 1024,
    "max_position_embeddings": 514,
    "vocab_size": 2,
    "pad_token_id": 1,
    "bos_token_id": 0,
    "eos_token_id": 1,
}
BATCH = 16


def draw_pool(number: int) -> tuple[Pool, bool]:
    """A pool by its number, and whether its speeds are spread 4:1."""
    rng = np.random.default_rng([16, number])
    n, spread = int(rng.integers(3, 7)), number % 2 == 0
    devices: list[Device] = []
    for k in range(n):
        if spread:
            factor = {0: 4.0, 1: 1.0}.get(k, float(4 ** rng.uniform(0, 1)))
            one = replace(DEVICES["phone"], flops_per_second=2e10 * factor)
        else:
            base = DEVICES[str(rng.choice(["phone", "vehicle", "small-cell", "gateway"]))]
            one = replace(base, flops_per_second=base.flops_per_second * float(2 ** rng.uniform(-1, 1)))
        devices.append(replace(one, memory_bytes=float(10 ** rng.uniform(8.0, 9.0))))
    # a site's wired network, or its radio
    low, high = (8.3, 9.3) if spread else (7.5, 9.0)
    rate = 10 ** rng.uniform(low, high, (n, n))
    order = rng.permutation(n)
    pool = Pool.of(devices, rate=np.minimum(rate, rate.T), latency=float(10 ** rng.uniform(-3.5, -2.5)))
    return pool.part(order.tolist()), spread


def judged(profile: ModelProfile, pool: Pool, goal: str) -> dict:
    """Both solvers on one pool."""
    made = {}
    for name, solve in (("exhaustive", exhaustive), ("large", large)):
        candidates = Candidates(profile, pool, BATCH, Goal(goal))
        start = time.process_time()
        solve(candidates, MODES)
        seconds = time.process_time() - start
        best = candidates.best
        made[name] = None if best is None else best.score
        made[f"{name}_plan"] = None if best is None else best.plan.describe()
        made[f"{name}_cpu_seconds"] = seconds
        made[f"{name}_plans"] = candidates.estimate.calls
    roomy = Pool(
        tuple(replace(m, device=replace(m.device, memory_bytes=1e15)) for m in pool.members), pool.rate, pool.latency
    )
    for here in (pool, roomy):
        equal = beside(Candidates(profile, here, BATCH, Goal(goal)))[0]
        if equal.cost is not None and equal.plan is not None:
            made |= {
                "equal": Goal(goal).of(equal.cost),
                "equal_plan": equal.plan.describe(),
                "equal_fits": here is pool,
            }
            break
    return made


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pools", type=int, default=20)
    parser.add_argument("--goal", default="time")
    parser.add_argument("--out", type=Path)
    known = parser.parse_args()
    profile = count_profile(AirlamConfig(error_variance=True, backbone=SMALL))
    table = Table("pool", "devices", "4:1", "exhaustive", "large", "ratio", "equal split", "gain", "plan")
    rows = []
    for number in range(known.pools):
        pool, spread = draw_pool(number)
        row = {"pool": number, "devices": len(pool), "spread": spread, **judged(profile, pool, known.goal)}
        rows.append(row)
        if row["exhaustive"] is None:
            table.add_row(str(number), str(len(pool)), "yes" if spread else "", "no plan fits")
            continue
        row["ratio"] = row["large"] / row["exhaustive"]
        row["gain"] = row["equal"] / row["large"]
        shown = [f"{row[key]:.3f}" for key in ("exhaustive", "large", "ratio", "equal", "gain")]
        table.add_row(str(number), str(len(pool)), "yes" if spread else "", *shown, row["large_plan"])
    able = [row for row in rows if "ratio" in row]
    close = sum(row["ratio"] <= 1.05 for row in able)
    gains = [row["gain"] for row in able if row["spread"]]
    figures = {
        "pools": len(rows),
        "with_a_plan": len(able),
        "within_5_percent": close,
        "worst_ratio": max(row["ratio"] for row in able),
        "median_gain_on_4_to_1": statistics.median(gains),
        "least_gain_on_4_to_1": min(gains),
        "exhaustive_cpu_seconds": sum(row["exhaustive_cpu_seconds"] for row in rows),
        "large_cpu_seconds": sum(row["large_cpu_seconds"] for row in rows),
    }
    console = Console(width=150)
    console.print(table)
    console.print(figures)
    if known.out:
        write_json(known.out, {"goal": known.goal, "batch": BATCH, "figures": figures, "pools": rows})


if __name__ == "__main__":
    main()
