"""Mean of the predictions from several histories, of the classic ``paths`` and of airlam-paths: gain and time.

    python -P benchmarks/path_views.py [--links 64]

The eight conditions of the headline, links of their test drops, ``paths`` tuned in each with one history. Prints a
table and writes runs/path_views.json.
"""

from __future__ import annotations

import argparse
import time
from collections import defaultdict
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table

import airlam
from airlam.baselines.path_memory import remembered
from airlam.evaluation.engine.contenders import context_of, tuned
from airlam.evaluation.engine.statistics import db_of_linear_mean, difference, mean_of_cells_db, over_cells
from airlam.evaluation.runner import load_runner, read_benchmark
from airlam.io import write_json
from airlam.metrics import nmse
from airlam.recipes import find_recipe

VIEWS = (1, 2)
TIMED = 16  # links of each condition that are predicted once more, for the time


def seconds(predictor, past, horizon: int, shape) -> float:
    """Of a prediction of some links, each link's."""
    start = time.perf_counter()
    predictor.predict(past[:TIMED], horizon, port_shape=shape)
    return (time.perf_counter() - start) / len(past[:TIMED])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--links", type=int, default=64, help="of each condition")
    count = parser.parse_args().links
    torch.set_num_threads(1)
    learned = airlam.load_predictor("airlam-paths")
    errors, times, drops, where = defaultdict(list), defaultdict(float), [], []
    recipe = find_recipe("tasks/channel_prediction/benchmark.yaml")
    cells = [cell for cell in load_runner(*read_benchmark(recipe)).all_cells() if cell.headline]
    for cell in cells:
        links, tune = cell.links("test", count), cell.links("tune", cell.num_tune)
        past, _ = cell.observe(links.h, "test")
        known, _ = cell.observe(tune.h, "tune")
        with remembered():
            classic, _ = tuned(
                "paths", known, tune.h[:, cell.history :], port_shape=links.port_shape, context=context_of(links)
            )
        drops.append(links.drop)
        where.append(f"{cell.data} {cell.speed_kmh:g} km/h")
        for views in VIEWS:
            classic.views = learned.views = views
            for predictor in (classic, learned):
                spent = seconds(predictor, past, cell.num_future, links.port_shape)
                times[predictor.name, views] += 1e3 * spent / len(cells)
                with remembered():  # of two histories one was searched before
                    predicted = predictor.predict(past, cell.num_future, port_shape=links.port_shape)
                errors[predictor.name, views].append(nmse(predicted, links.h[:, cell.history :], reduction="none"))

    table = Table(title=f"{count} links of each of {len(cells)} conditions")
    for title in ("", "histories", "mean of dB", "gain (95 %)", "linear mean", "gain (95 %)", "ms a link"):
        table.add_column(title)
    rows = []
    for (name, views), values in errors.items():
        row = {"method": name, "views": views, "ms": times[name, views], "cells": {}}
        for label, statistic in (("cells_db", mean_of_cells_db), ("linear_db", db_of_linear_mean)):
            row[label] = over_cells(statistic, [[value] for value in values], drops, "dB").number
            pairs = [list(pair) for pair in zip(errors[name, 1], values, strict=True)]
            gain = over_cells(difference(statistic), pairs, drops, "dB")
            row[f"{label}_gain"] = [gain.number, *(gain.interval or ())]
        row["cells"] = {cell: 10 * float(value.mean().log10()) for cell, value in zip(where, values, strict=True)}
        rows.append(row)
        gains = ["{:+.2f} ({:+.2f} to {:+.2f})".format(*row[f"{key}_gain"]) for key in ("cells_db", "linear_db")]
        table.add_row(
            name,
            str(views),
            f"{row['cells_db']:.2f}",
            gains[0],
            f"{row['linear_db']:.2f}",
            gains[1],
            f"{row['ms']:.0f}",
        )
    Console(width=120).print(table)
    out = Path("runs/path_views.json")
    out.parent.mkdir(exist_ok=True)
    write_json(out, {"links": count, "rows": rows})
    print(f"written to {out}")


if __name__ == "__main__":
    main()
