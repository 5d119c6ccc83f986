"""The precoder of a stream: its time, and what its short cuts cost in sum-SE. One core.

    python -P benchmarks/realtime_precoding.py

Perfect CSI, so that nothing but the precoder counts; UMa NLOS at 30 km/h, 32 ports, 48 tones, four slots. ``tones``:
that share beams; ``rounds``: of warm WMMSE, after forty slots; 0: regularised zero forcing. ``covariance``: rows are
multiplied by a matrix, as robust precoding takes it (here the identity). ``slow``: airlam's own functions.
"""

from __future__ import annotations

import argparse
import functools
import time

import numpy as np
import torch

from airlam.baselines import rzf, wmmse
from airlam.channels import load_channel
from airlam.evaluation.engine.spectral_efficiency import group_users
from airlam.evaluation.latency.timing import on_one_core, time_in_turn
from airlam.metrics import sum_rate
from airlam.realtime import FastPrecoder

NO, SLOTS, WARM = 0.01, 4, 40
SETTINGS = [(tones, 0) for tones in (1, 2, 4, 8)] + [(1, rounds) for rounds in (1, 2, 3)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--links", type=int, default=32)
    arguments = parser.parse_args()
    start = time.perf_counter()
    batch = load_channel({**load_channel("uma_nlos").recipe, "speed_kmh": 30.0, "links_per_drop": 8}).sample(
        arguments.links, WARM + SLOTS, seed=3
    )
    print(
        "| users | tones | rounds | p50 / p99 [ms] | with covariance | sum-SE [bit/s/Hz] |\n|---|---|---|---|---|---|"
    )
    for users in (4, 8):
        groups = [batch.h[members].contiguous().numpy() for members in group_users(batch.drop, users).users]
        calls, worth, out = {}, {}, np.empty((SLOTS, 48, 32, users), np.complex64)
        h = np.ascontiguousarray(groups[0][:, :SLOTS].swapaxes(0, 1)).swapaxes(0, 1)  # as a group keeps them
        eye, rows = np.tile(np.eye(32, dtype=np.complex64), (SLOTS, 1, 1)), torch.from_numpy(h[..., 0, :].copy())
        rows = rows.permute(1, 2, 0, 3).contiguous()
        for tones, rounds in SETTINGS:
            made = [FastPrecoder(no=NO, rounds=rounds, tones_per_weight=tones) for _ in groups]
            rates = []
            for precoder, group in zip(made, groups, strict=True):
                for first in range(0 if rounds else WARM, WARM + 1):
                    part = np.ascontiguousarray(group[:, first : first + SLOTS])
                    w = precoder.precode(part)
                truth = torch.from_numpy(part[..., 0, :]).permute(1, 2, 0, 3)
                rates.append(float(sum_rate(truth, torch.from_numpy(w), NO).mean()))
            worth[tones, rounds] = float(np.mean(rates))
            for whitening in (None, eye):
                one = FastPrecoder(no=NO, rounds=rounds, tones_per_weight=tones)
                key = f"{tones} {rounds} {'covariance' if whitening is not None else 'white'}"
                calls[key] = functools.partial(one.precode, h, whitening=whitening, out=out)
        calls["slow rzf"] = functools.partial(rzf, rows, 1.0, NO)
        calls["slow wmmse"] = functools.partial(wmmse, rows, 1.0, NO, num_iterations=10)
        with on_one_core():
            timings = time_in_turn(calls, "slow rzf", rounds=10, seconds=0.03)
        for tones, rounds in SETTINGS:
            white, other = (timings[f"{tones} {rounds} {way}"] for way in ("white", "covariance"))
            print(
                f"| {users} | {tones} | {rounds} | {white.p50_ms:.2f} / {white.p99_ms:.2f} | {other.p50_ms:.2f} / "
                f"{other.p99_ms:.2f} | {worth[tones, rounds]:.2f} |"
            )
        for name in ("slow rzf", "slow wmmse"):
            print(f"| {users} | 1 | {name} | {timings[name].p50_ms:.2f} / {timings[name].p99_ms:.2f} | | |")
    print(f"{time.perf_counter() - start:.0f} s")


if __name__ == "__main__":
    main()
