"""How many users one core serves in time, by the period of their CSI, with refreshes beside the pushes on that core.

    python -P benchmarks/realtime_users.py [--models airlam-paths airlam-tiny] [--periods 5 10 20 50 100 200]

32 ports x 48 tones, 16 -> 4 slots, UMa NLOS at 20 dB. Slots of all users arrive at fixed times, evenly spread. A
prediction is in time if it is there before the user's next slot; a number of users is served if 99.9 % are. Numbers of
users are doubled until one is not served, then halved in between. How often filters are renewed then is a column of its
own: a refresh gets what the pushes leave. Prints a table, writes runs/realtime_users.json.
"""

from __future__ import annotations

import argparse
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

IN_TIME, HISTORY, HORIZON, MOST = 0.999, 16, 4, 4096


def serve(engine: Engine, histories: np.ndarray, users: int, period_s: float, seconds: float) -> dict[str, Any]:
    """``users`` users for ``seconds``, after all of them have filters.

    Args:
        histories: ``complex64 [link, slot, subcarrier, rx_ant, tx_ant]``; users share them.
    """
    arrived: dict[tuple[Any, int], float] = {}
    late: list[float] = []
    states = [Stream(engine) for _ in range(min(users, len(histories)))]
    for stream, slots in zip(states, histories, strict=False):
        stream.start(slots[:HISTORY], HISTORY - 1)
    prepared = [stream.state for stream in states]

    def deliver(user: Any, slot: int, found: Any) -> None:
        late.append(time.perf_counter() - arrived.pop((user, slot)))

    links, slots = histories.shape[:2]
    with StreamPool(engine, deliver) as pool:
        for user in range(users):
            pool.streams[user] = Stream(engine, pool.refresher)
            pool.streams[user].state = prepared[user % links]
        begin, total = time.perf_counter() + 0.1, int(users * seconds / period_s)
        for turn in range(total):
            due = begin + turn * period_s / users
            if (left := due - time.perf_counter()) > 0:
                time.sleep(left)
            user, slot = turn % users, HISTORY + turn // users
            arrived[user, slot] = due
            # forth and back, so that no slot is of another channel than the one before
            place = abs((slot + slots - 1) % (2 * slots - 2) - (slots - 1))
            pool.offer(user, histories[user % links, place], slot=slot)
        time.sleep(period_s)
        ages = [stream.state.age for stream in pool.streams.values()]
        refreshed, dropped = pool.refresher.refreshed, pool.load.dropped
        bytes_a_user = int(np.mean([stream.state.nbytes for stream in pool.streams.values()]))
    every = np.array(late)
    quantiles = np.quantile(every, [0.5, 0.99, 0.999]) * 1e3 if len(every) else [np.inf] * 3
    return {
        "users": users,
        "period_ms": 1e3 * period_s,
        "in_time": float((every <= period_s).sum()) / total,
        **dict(zip(("p50_ms", "p99_ms", "p999_ms"), map(float, quantiles), strict=True)),
        "refreshes_per_s": refreshed / seconds,
        # in the long run, if every user is renewed as often as here
        "slots_between_refreshes": users * seconds / period_s / max(refreshed, 1),
        "mean_age_slots": float(np.mean(ages)),
        "dropped": dropped,
        "bytes_a_user": bytes_a_user,
        "peak_rss_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }


def most_users(engine: Engine, histories: np.ndarray, period_s: float, seconds: float, say) -> list[dict[str, Any]]:
    """Every number of users that was tried; the largest that was served is marked."""
    tried: dict[int, dict[str, Any]] = {}

    def served(users: int) -> bool:
        tried[users] = serve(engine, histories, users, period_s, max(seconds, 20 * period_s))
        say(f"{engine.name}, {1e3 * period_s:g} ms, {users} users: {100 * tried[users]['in_time']:.2f} % in time")
        return tried[users]["in_time"] >= IN_TIME

    low, high = 0, 4
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
    parser.add_argument("--seconds", type=float, default=8.0, help="of each trial")
    parser.add_argument("--out", type=Path, default=Path("runs/realtime_users.json"))
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    console = Console()
    batch = load_channel({"scenario": "uma", "state": "nlos", "speed_kmh": 30}).sample(16, 64, seed=3)
    histories = measure(batch.h, 20.0, torch.Generator().manual_seed(3)).numpy()
    rows = []
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
                    found = most_users(engine, histories, 1e-3 * period, chosen.seconds, console.print)
                rows += [{"model": model, **each} for each in found]
    columns = (
        "users",
        "in time",
        "p50 [ms]",
        "p99 [ms]",
        "p99.9 [ms]",
        "refreshes a second",
        "age [slots]",
        "MB a user",
    )
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
    write_json(chosen.out, {"core": core, "cores": os.cpu_count(), "rows": rows})
    console.print(f"written: {chosen.out}")


if __name__ == "__main__":
    main()
