"""How many users one core serves in time, by the period of their CSI, with refreshes beside the pushes on that core.

    python -P benchmarks/realtime_users.py [--models airlam-paths airlam-tiny] [--periods 5 10 20 50 100 200]

32 ports x 48 tones, 16 -> 4 slots, UMa NLOS at 20 dB. Slots of all users arrive at fixed times, evenly spread. A
prediction is in time if it is there before the user's next slot. A number of users is served if 99.9 % of their
predictions are in time, and if refreshes, which get what the pushes leave, are so many that each user has one within
640 slots: the age up to which filters were judged (docs/realtime.md). Numbers of users are doubled until one is not
served, then halved in between. Prints a table. Rows are added to runs/realtime_users.json, where they replace those of
the same model, period and number: a curve may be measured piece by piece.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.table import Table

import airlam
from airlam.channels import load_channel
from airlam.csi import measure
from airlam.evaluation.latency.timing import on_one_core
from airlam.io import write_json
from airlam.realtime import Engine, Stream, StreamPool, engine_for
from airlam.realtime.window import WORSE

IN_TIME, OLDEST, HISTORY, HORIZON, MOST = 0.999, 640, 16, 4, 4096
LINKS, SLOTS = 8, 1640  # of the channel; users share links


def serve(engine: Engine, histories: np.ndarray, users: int, period_s: float, seconds: float) -> dict[str, Any]:
    """``users`` users for ``seconds``, or as long as the channel lasts, after all of them have filters.

    Args:
        histories: ``complex64 [link, slot, subcarrier, rx_ant, tx_ant]``; users share them.
    """
    arrived: dict[tuple[Any, int], float] = {}
    late: list[float] = []
    beginning = [Stream(engine) for _ in range(min(users, len(histories)))]
    for stream, slots in zip(beginning, histories, strict=False):
        stream.start(slots[:HISTORY], HISTORY - 1)
    prepared = [stream.state for stream in beginning]
    beginning[0].push(histories[0, HISTORY])  # loads what only pushes need: compiled functions

    def deliver(user: Any, slot: int, found: Any) -> None:
        late.append(time.perf_counter() - arrived.pop((user, slot)))

    links, slots = histories.shape[:2]
    seconds = min(seconds, (slots - HISTORY) * period_s)
    with StreamPool(engine, deliver) as pool:
        for user in range(users):
            pool.streams[user] = stream = Stream(engine, pool.refresher)
            state = prepared[user % links]
            state.age = user * stream.refresh_every // users  # filters fall due evenly, from the first slot on
            stream.state = state
        begin, total = time.perf_counter() + 0.1, int(users * seconds / period_s)
        for turn in range(total):
            due = begin + turn * period_s / users
            if (left := due - time.perf_counter()) > 0:
                time.sleep(left)
            user, slot = turn % users, HISTORY + turn // users
            arrived[user, slot] = due
            pool.offer(user, histories[user % links, slot], slot=slot)
        time.sleep(period_s)
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024  # before states are copied
        states = [stream.state for stream in pool.streams.values()]
        refreshed, dropped = pool.refresher.refreshed, pool.load.dropped
        bytes_a_user = int(np.mean([state.nbytes for state in states]))
    every = np.array(late)
    in_time = float((every <= period_s).sum()) / total
    # in the long run, if every user is renewed as often as here
    between = users * seconds / period_s / max(refreshed, 1)
    quantiles = np.quantile(every, [0.5, 0.99, 0.999]) * 1e3 if len(every) else [np.inf] * 3
    return {
        "users": users,
        "period_ms": 1e3 * period_s,
        "served": in_time >= IN_TIME and between <= OLDEST,
        "in_time": in_time,
        **dict(zip(("p50_ms", "p99_ms", "p999_ms"), map(float, quantiles), strict=True)),
        "refreshes_per_s": refreshed / seconds,
        "slots_between_refreshes": between,
        "mean_age_slots": float(np.mean([state.age for state in states])),
        "holding": float(np.mean([state.worse >= WORSE for state in states])),
        "dropped": dropped,
        "bytes_a_user": bytes_a_user,
        "peak_rss_mb": peak,
    }


def most_users(
    engine: Engine, histories: np.ndarray, period_s: float, seconds: float, first: int, say
) -> list[dict[str, Any]]:
    """Every number of users that was tried, from ``first`` on; the largest that was served is marked."""
    tried: dict[int, dict[str, Any]] = {}

    def served(users: int) -> bool:
        tried[users] = serve(engine, histories, users, period_s, max(seconds, 20 * period_s))
        share, between = 100 * tried[users]["in_time"], tried[users]["slots_between_refreshes"]
        what = f"{engine.name}, {1e3 * period_s:g} ms, {users} users"
        say(f"{what}: {share:.2f} % in time, a refresh in {between:.0f} slots")
        return tried[users]["served"]

    low, high = 0, first
    while high <= MOST and served(high):
        low, high = high, 2 * high
    while high - low > max(1, low // 8):
        middle = (low + high) // 2
        low, high = (middle, high) if served(middle) else (low, middle)
    return [each | {"most": users == low} for users, each in sorted(tried.items())]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", nargs="+", default=["airlam-paths", "airlam-tiny"])
    parser.add_argument("--periods", type=float, nargs="+", default=[5, 10, 20, 50, 100, 200], help="[ms]")
    parser.add_argument("--users", type=int, nargs="+", help="try these numbers instead of searching")
    parser.add_argument("--first", type=int, default=4, help="number of users that is tried first")
    parser.add_argument("--seconds", type=float, default=8.0, help="of each trial")
    parser.add_argument("--out", type=Path, default=Path("runs/realtime_users.json"))
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    console = Console()
    batch = load_channel({"scenario": "uma", "state": "nlos", "speed_kmh": 30}).sample(LINKS, SLOTS, seed=3)
    histories = measure(batch.h, 20.0, torch.Generator().manual_seed(3)).numpy()
    rows = json.loads(chosen.out.read_text())["rows"] if chosen.out.exists() else []
    with on_one_core() as core:
        for model in chosen.models:
            engine = engine_for(airlam.load_predictor(model), histories.shape[2:], HORIZON, port_shape=batch.port_shape)
            for period in chosen.periods:
                if chosen.users:
                    found = [
                        serve(engine, histories, n, 1e-3 * period, max(chosen.seconds, 0.02 * period)) | {"most": True}
                        for n in chosen.users
                    ]
                else:
                    found = most_users(engine, histories, 1e-3 * period, chosen.seconds, chosen.first, console.print)
                tried = {(model, each["period_ms"], each["users"]) for each in found}
                rows = [row for row in rows if (row["model"], row["period_ms"], row["users"]) not in tried]
                rows += [{"model": model, **each} for each in found]
                rows.sort(key=lambda row: (row["model"], row["period_ms"], row["users"]))
                write_json(chosen.out, {"core": core, "cores": os.cpu_count(), "rows": rows})
    columns = (
        "users",
        "in time",
        "p50 [ms]",
        "p99 [ms]",
        "p99.9 [ms]",
        "refreshes a second",
        "slots between refreshes",
        "MB a user",
    )
    console = Console() if console.is_terminal else Console(width=160)  # a pipe has no width: cut nothing
    table = Table("model", "period [ms]", *columns, title="users that one core serves")
    for row in (row for row in rows if row["most"]):
        values = (
            f"{row['users']}",
            f"{100 * row['in_time']:.2f} %",
            *(f"{row[key]:.2f}" for key in ("p50_ms", "p99_ms", "p999_ms")),
            f"{row['refreshes_per_s']:.1f}",
            f"{row['slots_between_refreshes']:.0f}",
            f"{row['bytes_a_user'] / 2**20:.2f}",
        )
        table.add_row(row["model"], f"{row['period_ms']:g}", *values)
    console.print(table)
    console.print(f"written: {chosen.out}")


if __name__ == "__main__":
    main()
