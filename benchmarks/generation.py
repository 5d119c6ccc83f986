"""Links per second and core: airlam's evaluation of rays beside Sionna's own, in one run on one random stream.

    python benchmarks/generation.py [--links 64] [--rounds 7] [--out runs/generation.json]

32 x 2 antennas, 48 tones, 24 slots. Both ways draw the same rays in the same chunks of 32 links; ``fast: stock`` is
``model()`` followed by Sionna's ``cir_to_ofdm_channel``. One thread, CPU time. Rounds alternate the two ways; medians
are printed, the ratio is the median of the rounds' ratios. Peak memory: growth of the resident set over the imported,
idle process while one chunk is made, each way in a process of its own.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import subprocess
import sys
import time
from pathlib import Path

import torch

from airlam.channels import load_channel

_ARRAYS = {
    "bs_panel": {"rows": 4, "columns": 4, "polarisation": "dual", "pattern": "38.901"},
    "ut_panel": {"rows": 1, "columns": 1, "polarisation": "dual", "pattern": "omni"},
    "num_subcarriers": 48,
    "subcarrier_spacing": 180e3,
    "slot_duration": 0.5e-3,
    "carrier_frequency": 2.4e9,
}
CASES = {
    "UMa NLOS": {"scenario": "uma", "state": "nlos", **_ARRAYS},
    "UMi random": {"scenario": "umi", "state": "random", **_ARRAYS},
    "CDL-C": {"scenario": "cdl_c", **_ARRAYS},
}
NUM_SLOTS = 24


def measure(case: str, links: int, rounds: int) -> dict:
    """Time both ways in turn, compare their values, ask two child processes for their peak memory."""
    models = {way: load_channel({**CASES[case], "fast": way}) for way in ("auto", "stock")}
    batches = {way: model.sample(links, NUM_SLOTS, seed=0) for way, model in models.items()}  # also warms up
    stock, fast = batches["stock"], batches["auto"]
    error = torch.linalg.vector_norm(fast.h - stock.h, dim=(1, 2, 3, 4)) / torch.linalg.vector_norm(
        stock.h, dim=(1, 2, 3, 4)
    )
    del batches
    seconds: dict[str, list[float]] = {"auto": [], "stock": []}
    for number in range(rounds):
        for way, model in models.items():
            start = time.process_time()
            model.sample(links, NUM_SLOTS, seed=number)
            seconds[way].append(time.process_time() - start)
    memory = {way: _peak_memory(case, way) for way in models}
    return {
        "case": case,
        "fast_links_per_s": links / statistics.median(seconds["auto"]),
        "stock_links_per_s": links / statistics.median(seconds["stock"]),
        "speed_ratio": statistics.median(s / f for f, s in zip(seconds["auto"], seconds["stock"], strict=True)),
        "relative_error": float(error.max()),
        "gain_error_db": float((fast.gain_db - stock.gain_db).abs().max()),
        "fast_peak_mb": memory["auto"],
        "stock_peak_mb": memory["stock"],
        "memory_ratio": memory["stock"] / memory["auto"],
        "seconds": seconds,
    }


def _peak_memory(case: str, way: str) -> float:
    """MB by which a fresh process grows while it makes one chunk of 32 links."""
    command = [sys.executable, "-P", __file__, "--child", case, way]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()[-1])


def _child(case: str, way: str) -> None:
    model = load_channel({**CASES[case], "fast": way, "num_subcarriers": 1, "chunk": 1})
    model.sample(1, 1, seed=0)  # imports Sionna and builds what stays
    model = load_channel({**CASES[case], "fast": way})
    before = _status("VmRSS")
    if _status("VmHWM") > 1.05 * before:
        print("warning: start-up had a higher peak; the growth is a lower bound", file=sys.stderr)
    model.sample(32, NUM_SLOTS, seed=0)
    print(_status("VmHWM") - before)


def _status(key: str) -> float:
    """Resident memory [MB]: VmRSS now, VmHWM at its peak. (ru_maxrss would begin with the parent's.)"""
    with open("/proc/self/status", encoding="ascii") as file:
        return next(int(line.split()[1]) * 1024 / 1e6 for line in file if line.startswith(key))


def _hardware() -> str:
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            names = [line.split(":")[1].strip() for line in file if line.startswith("model name")]
        return f"{names[0]}, {len(names)} cores seen"
    except (OSError, IndexError):
        return platform.processor() or platform.machine()


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--links", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--out", default="runs/generation.json", help="where the JSON goes")
    parser.add_argument("--child", nargs=2, metavar=("CASE", "WAY"), help=argparse.SUPPRESS)
    args = parser.parse_args()
    torch.set_num_threads(1)  # MKL and OpenMP follow
    if args.child:
        return _child(*args.child)
    import sionna

    rows = []
    print("| case | fast, links/s | stock, links/s | ratio | relative error | fast, MB | stock, MB | ratio |")
    print("|---|---|---|---|---|---|---|---|")
    for case in CASES:
        row = measure(case, args.links, args.rounds)
        rows.append(row)
        print(
            f"| {case} | {row['fast_links_per_s']:.0f} | {row['stock_links_per_s']:.0f} | {row['speed_ratio']:.1f} "
            f"| {row['relative_error']:.1e} | {row['fast_peak_mb']:.0f} | {row['stock_peak_mb']:.0f} "
            f"| {row['memory_ratio']:.1f} |",
            flush=True,
        )
    result = {
        "what": "generation of CSI, 32 x 2 antennas, 48 tones, 24 slots, one thread, chunks of 32 links",
        "links": args.links,
        "rounds": args.rounds,
        "hardware": _hardware(),
        "versions": {"python": platform.python_version(), "torch": torch.__version__, "sionna": sionna.__version__},
        "rows": rows,
    }
    path = Path(args.out)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    print(f"written to {path}")


if __name__ == "__main__":
    main()
