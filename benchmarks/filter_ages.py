"""What a stream's filters are worth when they are old: NMSE and sum-SE by their age in slots.

    python -P benchmarks/filter_ages.py [--channel uma_nlos] [--model airlam-paths] [--speeds 30 100] [--ages 0 32 160]

Filters are found from a window that ends ``age`` slots before the newest one, and applied to the newest 16 slots; slots
1 to 4 after it are judged, 4 users, RZF at 20 dB. Rows ``followed`` are of filters renewed every so many slots, each
from those before, which matters for paths. Ray-traced channels (``rt_munich``) need the extra ``rt``. Prints a table,
writes runs/filter_ages.json.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch
from rich.console import Console
from rich.table import Table

import airlam
from airlam.channels import load_channel
from airlam.csi import measure
from airlam.evaluation.engine.spectral_efficiency import group_rates, group_users
from airlam.io import write_json
from airlam.metrics import nmse
from airlam.realtime import engine_for

HISTORY, HORIZON = 16, 4


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--channel", default="uma_nlos")
    parser.add_argument("--model", default="airlam-paths")
    parser.add_argument("--speeds", type=float, nargs="+", default=[30, 100], help="[km/h]")
    parser.add_argument("--ages", type=int, nargs="+", default=[0, 32, 160, 320, 640], help="[slots]")
    parser.add_argument("--followed", type=int, nargs="*", default=[32, 160, 320], help="[slots] between two refreshes")
    parser.add_argument("--links", type=int, default=16)
    parser.add_argument("--out", type=Path, default=Path("runs/filter_ages.json"))
    chosen = parser.parse_args()
    slots = HISTORY + max(*chosen.ages, *(2 * n for n in chosen.followed))
    torch.set_num_threads(1)
    table = Table("km/h", "filters", "NMSE [dB]", "sum-SE", title=f"{chosen.model} on {chosen.channel}")
    rows = []
    for speed in chosen.speeds:
        recipe = {**load_channel(chosen.channel).recipe, "speed_kmh": speed, "links_per_drop": 4}
        batch = load_channel(recipe).sample(chosen.links, slots + HORIZON, seed=7)
        seen = measure(batch.h[:, :slots], 20.0, torch.Generator().manual_seed(1)).numpy()
        true, groups = batch.h[:, slots:], group_users(batch.drop, 4)
        engine = engine_for(
            airlam.load_predictor(chosen.model), tuple(seen.shape[2:]), HORIZON, port_shape=batch.port_shape
        )

        def predicted(ends: list[int], seen: np.ndarray = seen, engine=engine) -> torch.Tensor:
            """With filters of refreshes on windows that end there, one after another."""
            out = np.empty((len(seen), HORIZON, *engine.shape), np.complex64)
            for h, future in zip(seen, out, strict=True):
                memory = None
                for end in ends:
                    memory = engine.refresh(np.ascontiguousarray(h[end - HISTORY : end]), memory)
                engine.advance(memory, np.ascontiguousarray(h[-HISTORY:]), HISTORY, future)
            return torch.from_numpy(out)

        cases = {f"{age} slots old": [slots - age] for age in chosen.ages}
        cases |= {
            f"followed every {n} slots, {n} old": list(range(HISTORY, slots - n + 1, n))[:-1] + [slots - n]
            for n in chosen.followed
        }
        found = {label: predicted(ends) for label, ends in cases.items()} | {"perfect CSI": true}
        for label, future in found.items():
            error = float(nmse(future, true)) if label != "perfect CSI" else 0.0
            rate = float(group_rates(future, true, groups, 20.0, tone_step=4).sum(1).mean())
            rows.append({"speed_kmh": speed, "filters": label, "nmse": error, "sum_se": rate})
            table.add_row(
                f"{speed:g}", label, f"{10 * np.log10(max(error, 1e-12)):.2f}" if error else "-", f"{rate:.2f}"
            )
    Console().print(table)
    write_json(chosen.out, {"channel": chosen.channel, "model": chosen.model, "links": chosen.links, "rows": rows})
    print(f"written: {chosen.out}")


if __name__ == "__main__":
    main()
