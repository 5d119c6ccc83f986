"""Inputs and objectives: the modules that `airlam plan parallel --objective prediction` trains, against all weights.

    python -P benchmarks/parallel_modalities.py [--history 16 4] [--links 384] [--steps 168] [--seeds 3] \
        [--out runs/parallel_modalities]

airlam-tiny is adapted to InF-SH NLOS (32 ports x 48 tones, 20 dB CSI SNR, 4 slots ahead), which pretraining never saw,
with true velocities and positions as further tokens. Aware: the roles of the objective (embedding frozen, layers with
LoRA, head and encoders of the sensors trained). Blind: all weights train. Every row has the same links, noise, batches
and steps, and is judged on the same 192 held-out links; seeds are of new weights and of batches. The learning rates of
aware and blind, with sensors, are chosen with seed 0 on 96 validation links. Beside it what a step of the plan costs on
``tasks/pretraining/devices.yaml``, modelled. One thread, twenty minutes; an interrupted run goes on. Prints a table and
writes results.json.
"""

from __future__ import annotations

import argparse
import math
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table

from airlam.data import CSIDataModule
from airlam.edge.parallel.cost_model.pool import read_pool
from airlam.edge.parallel.cost_model.profiling import count_profile
from airlam.edge.parallel.planning.decide import decide
from airlam.edge.parallel.planning.modalities import plan_modalities
from airlam.edge.parallel.planning.objectives import LORA_RANK, OBJECTIVES, with_roles
from airlam.io import read_json, write_json
from airlam.metrics import bootstrap_interval
from airlam.models import AirlamModel, add_lora, load_checkpoint
from airlam.recipes import find_checkpoint
from airlam.tasks.objectives import Target, forecast_target, predicted_error
from airlam.tasks.optimisation import adamw_with_warmup

MODEL, OBJECTIVE, POOL, BATCH = "airlam-tiny", "prediction", "tasks/pretraining/devices.yaml", 16
SENSORS = ["velocity", "position"]
ROWS = {  # name -> division, which links have readings
    "aware": ("aware", "all"),
    "aware, one of two owners without sensors": ("aware", "half"),
    "aware, no sensors": ("aware", "none"),
    "blind": ("blind", "all"),
    "blind, no sensors": ("blind", "none"),
}
RATES = {"aware": (2e-3, 4e-3, 8e-3, 1.6e-2), "blind": (1e-3, 2e-3, 4e-3, 8e-3)}
PREFIXES = {  # of parameters -> part of the model; the backbone's last norm belongs to the head
    "embedding.": "embedding",
    "backbone.embeddings.": "embedding",
    "backbone.encoder.layer.": "layer",
    "backbone.LayerNorm.": "head",
    "norm.": "head",
    "head.": "head",
}


def made(division: str, seed: int) -> AirlamModel:
    """The model with new encoders of the sensors, in which what the division trains requires a gradient."""
    model = load_checkpoint(find_checkpoint(MODEL))
    torch.manual_seed(seed)
    model.add_context(SENSORS)
    if division == "aware":
        goal = OBJECTIVES[OBJECTIVE]
        roles = {prefix: goal.roles[part] for prefix, part in PREFIXES.items()}
        roles |= {f"context.embeddings.{sensor}.": goal.encoders[sensor] for sensor in SENSORS}
        add_lora(model, LORA_RANK)  # in place; adapters of other parts than the layers stay at zero
        for name, value in model.named_parameters():
            role = next((role for prefix, role in roles.items() if name.startswith(prefix)), "frozen")
            value.requires_grad_(role == ("adapted" if ".lora_" in name else "trained"))
    return model


def target_of(model: AirlamModel, batch: dict[str, Any], sensed: str) -> Target:
    """A batch as tokens, and the readings of those links whose owner has sensors."""
    target = forecast_target(model, batch["h_past"], batch["h_future"], batch["port_shape"])
    blank = {"all": 0, "half": batch["index"] % 2, "none": 1}[sensed] * torch.ones(len(batch["index"]))
    context = batch | {name: torch.where(blank[:, None] == 1, math.nan, batch[name]) for name in SENSORS}
    target.tokens.readings = model.readings(context, len(blank))
    return target


def judged(model: AirlamModel, batches: list[dict[str, Any]], sensed: str) -> list[float]:
    """NMSE of each link in dB."""
    with torch.no_grad():
        errors = [predicted_error(model.eval(), target_of(model, batch, sensed)) for batch in batches]
    return (10 * torch.cat(errors).log10()).tolist()


def train(data: CSIDataModule, division: str, sensed: str, rate: float, seed: int, steps: int) -> dict[str, Any]:
    """One run: errors of validation and held-out links, weights trained, CPU time of a step."""
    model, source = made(division, seed), data.train_dataloader().source
    if sensed == "none":
        model.context.requires_grad_(False)  # type: ignore[union-attr]
    parts = adamw_with_warmup(
        model.train(), learning_rate=rate, weight_decay=0.0, warmup_steps=steps // 10, total_steps=steps
    )
    optimizer, schedule = parts["optimizer"], parts["lr_scheduler"]["scheduler"]
    began = time.process_time()
    for step in range(steps):
        error = predicted_error(model, target_of(model, source.batch(seed * steps + step), sensed))
        optimizer.zero_grad()
        error.log().mean().backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
    return {
        "cpu_s_a_step": (time.process_time() - began) / steps,
        "trained": sum(p.numel() for p in model.parameters() if p.grad is not None),
        "val_db": judged(model, list(data.val_dataloader()), sensed),
        "test_db": judged(model, list(data.test_dataloader()), sensed),
    }


def modelled() -> list[dict[str, Any]]:
    """What a step costs: the aware plan, the same plan blind, and the best blind plan."""
    pool, whole = read_pool(POOL), count_profile(load_checkpoint(find_checkpoint(MODEL)).config)
    aware = with_roles(whole, OBJECTIVES[OBJECTIVE].roles)
    plans = [decide(profile, pool, BATCH, explain=False).plan for profile in (aware, whole)]
    # the messages of the aware plan without its saving in computing
    parts = {
        name: replace(aware.parts[name], forward_link=one.forward_link, backward_link=one.backward_link)
        for name, one in whole.parts.items()
    }
    as_long = plan_modalities(plans[0], replace(aware, parts=parts), whole, pool, OBJECTIVE)
    one, other = (plan_modalities(plan, aware, whole, pool, OBJECTIVE) for plan in plans)
    names = [f"{plan.describe()} on {', '.join(pool.names[k] for k in plan.devices)}" for plan in plans]
    return [
        {"plan": f"aware: {names[0]}", "seconds": one.seconds, "bytes": one.sent},
        {"plan": "the same, computing as long as blind", "seconds": as_long.seconds, "bytes": as_long.sent},
        {"plan": "the same plan, blind", "seconds": one.blind_seconds, "bytes": one.blind_sent},
        {"plan": f"best blind plan: {names[1]}", "seconds": other.blind_seconds, "bytes": other.blind_sent},
    ]


def study(arguments: argparse.Namespace, history: int) -> list[dict[str, Any]]:
    """All rows at one length of history."""
    links, steps, out = arguments.links, arguments.steps, arguments.out
    data = CSIDataModule(
        "inf_nlos", num_train=links, num_val=96, num_test=192, history=history, batch_size=BATCH, seed=3
    )
    data.prepare_data()
    data.setup()

    def run(division: str, sensed: str, rate: float, seed: int) -> dict[str, Any]:
        path = out / f"history{history}-links{links}-steps{steps}-{division}-{sensed}-{rate:g}-seed{seed}.json"
        if not path.is_file():
            write_json(path, train(data, division, sensed, rate, seed, steps))
        found = read_json(path)
        print(f"{path.stem}: {torch.tensor(found['test_db']).mean():.3f} dB", flush=True)
        return found

    chosen = {
        division: min(rates, key=lambda rate: sum(run(division, "all", rate, 0)["val_db"]))  # noqa: B023
        for division, rates in RATES.items()
    }
    found = {
        row: [run(division, sensed, chosen[division], seed) for seed in range(arguments.seeds)]
        for row, (division, sensed) in ROWS.items()
    }
    start = judged(load_checkpoint(find_checkpoint(MODEL)), list(data.test_dataloader()), "none")
    found["not adapted"] = [{"test_db": start, "trained": 0, "cpu_s_a_step": 0.0}]
    errors = {row: torch.tensor([one["test_db"] for one in runs], dtype=torch.float64) for row, runs in found.items()}
    rows = []
    for row, runs in found.items():
        mine, division = errors[row].mean(0), ROWS.get(row, ("blind",))[0]
        rows.append(
            {
                "history": history,
                "row": row,
                "rate": chosen[division] if row in ROWS else None,
                "trained": runs[0]["trained"],
                "cpu_s_a_step": min(one["cpu_s_a_step"] for one in runs),
                "nmse_db": float(mine.mean()),
                "nmse_db_of_seeds": errors[row].mean(1).tolist(),
                "above_blind_db": bootstrap_interval(mine - errors["blind"].mean(0)),
                "above_no_sensors_db": bootstrap_interval(mine - errors[f"{division}, no sensors"].mean(0)),
            }
        )
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--history", type=int, nargs="+", default=[16, 4])
    parser.add_argument("--links", type=int, default=384)
    parser.add_argument("--steps", type=int, default=168)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--out", type=Path, default=Path("runs/parallel_modalities"))
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    rows = [row for history in arguments.history for row in study(arguments, history)]
    plans = modelled()
    write_json(arguments.out / "results.json", {"rows": rows, "modelled": plans, "arguments": vars(arguments)})
    names = ("slots", "", "rate", "trained", "NMSE [dB]", "above blind [dB]", "above no sensors [dB]", "CPU s a step")
    table = Table(*names)
    for one in rows:
        above = [f"{a:+.3f} ({b:+.3f} to {c:+.3f})" for a, b, c in (one["above_blind_db"], one["above_no_sensors_db"])]
        words = (f"{one['trained']:,}", f"{one['nmse_db']:.3f}", *above, f"{one['cpu_s_a_step']:.2f}")
        table.add_row(str(one["history"]), one["row"], str(one["rate"]), *words)
    Console(width=160).print(table)
    for one in plans:
        print(f"{one['plan']}: {one['seconds']:.4f} s, {one['bytes'] / 1e6:.3f} MB a step (modelled)")


if __name__ == "__main__":
    main()
