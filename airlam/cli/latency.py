"""``airlam bench-latency``."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from pathlib import Path

from airlam.cli import UsageError
from airlam.cli.parsing import Parser


def bench_latency(arguments: Sequence[str]) -> None:
    """Times predictions and streams on this machine."""
    parser = Parser(
        "airlam bench-latency",
        "Time predictors and streams in turn, on one core and one thread, with a warm-up and without the garbage\n"
        "collector: p50, p99, and the ratio to the frozen AR of benchmarks/reference/ar.py in the same rounds.",
        "METHOD: a name or checkpoint that airlam.load_predictor takes (airlam list predictors), or a stream, such as\n"
        "airlam-tiny:push (one new slot). Default: the usual methods and all streams. A row is marked 'busy machine'\n"
        "where other programs had more than a tenth of the core.",
    )
    parser.add_argument("methods", nargs="*", metavar="METHOD", help="what to time, by name")
    parser.add_argument("--out", "-o", metavar="FILE", help="where to write the results as JSON")
    parser.add_argument("--channel", default="uma_nlos", metavar="NAME", help="recipe (default: %(default)s)")
    parser.add_argument("--csi_snr_db", "--csi-snr-db", type=float, default=20.0, metavar="DB", help="default: 20")
    parser.add_argument("--history", type=int, default=16, metavar="N", help="slots of the input (default: 16)")
    parser.add_argument(
        "--num_future", "--num-future", type=int, default=4, metavar="N", help="to predict (default: 4)"
    )
    parser.add_argument("--links", type=int, default=1, metavar="N", help="of one call (default: 1)")
    parser.add_argument("--rounds", type=int, default=20, metavar="N", help="turns of each method (default: 20)")
    parser.add_argument("--seconds", type=float, default=0.1, metavar="S", help="of one turn (default: 0.1)")
    parser.add_argument("--core", type=int, metavar="N", help="the core to run on (default: the last one)")
    known = vars(parser.parse_strictly(arguments))
    methods, out = known.pop("methods"), known.pop("out")
    if out == "":
        raise UsageError("--out is empty; name a file")
    if out is not None and Path(out).is_dir():
        raise UsageError(f"--out {out} is a folder; name a file")

    from rich.console import Console

    from airlam.evaluation.latency.benchmark import METHODS, LatencyBenchmark, busy_line, table, write
    from airlam.evaluation.latency.streams import STREAMS
    from airlam.io import results_folder

    benchmark = LatencyBenchmark(**known)
    console = Console()
    if not console.is_terminal:
        console = Console(width=160)  # a pipe has no width: cut nothing
    kept = contextlib.nullcontext() if out is None else results_folder(Path(out).parent)
    with kept, console.status("loading") as status:
        found = benchmark.run(methods or (*METHODS, *STREAMS), report=lambda label: status.update(f"timing {label}"))
    console.print(table(found))
    if line := busy_line(found):
        console.print(line, style="yellow", soft_wrap=True)
    if out is not None:
        print(f"written: {write(out, found)}")
