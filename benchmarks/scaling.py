"""Scaling of pretraining: validation gain over the classical start by training links, for every run that left a log.

    python -P benchmarks/scaling.py [--runs runs/pretraining/airlam-tiny runs/pretraining/airlam-small]
                                    [--out runs/scaling]

Reads the TensorBoard logs of ``airlam fit --config tasks/pretraining/*.yaml`` (restarted runs: all versions in turn,
the later one where they overlap), writes ``scaling.json`` and ``scaling.png``. All runs must share the validation set,
which is so where they share the dataset recipe; the gain is in dB, mean over its links, averaged weights (EMA).
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from rich.console import Console
from rich.table import Table


def validation_gain(run: Path) -> dict[int, float]:
    """Steps -> ``val_gain_db``, over all versions of a run's log."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    curve: dict[int, float] = {}
    for version in sorted(run.glob("tensorboard/version_*"), key=lambda path: int(path.name.rpartition("_")[2])):
        log = EventAccumulator(str(version), size_guidance={"scalars": 0})
        log.Reload()
        if "val_gain_db" in log.Tags()["scalars"]:
            curve |= {event.step + 1: event.value for event in log.Scalars("val_gain_db")}
    return dict(sorted(curve.items()))


def plot(curves: dict[str, dict[int, float]], path: Path) -> None:
    """Gain by links, links on a logarithmic axis."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(6, 3.6), layout="constrained")
    for name, curve in curves.items():
        axes.plot(list(curve), list(curve.values()), marker=".", label=name)
    axes.set(xscale="log", xlabel="training links", ylabel="gain over the classical start [dB]", ylim=(0, None))
    axes.grid(alpha=0.3)
    axes.legend()
    figure.savefig(path, dpi=110)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    runs = [Path("runs/pretraining/airlam-tiny"), Path("runs/pretraining/airlam-small")]
    parser.add_argument("--runs", type=Path, nargs="+", default=runs)
    parser.add_argument("--batch-size", type=int, default=32, help="links a step")
    parser.add_argument("--out", type=Path, default=Path("runs/scaling"))
    arguments = parser.parse_args()
    curves = {}
    for run in arguments.runs:
        curve = {step * arguments.batch_size: gain for step, gain in validation_gain(run).items()}
        if not curve:
            parser.error(f"{run} holds no log with val_gain_db; train with tasks/pretraining/*.yaml")
        curves[run.name] = curve
    arguments.out.mkdir(parents=True, exist_ok=True)
    (arguments.out / "scaling.json").write_text(json.dumps(curves, indent=2))
    plot(curves, arguments.out / "scaling.png")
    table = Table("links", *curves, title="gain over the classical start in dB, validation links of the mixture")
    shown = (32_000, 64_000, 96_000, 128_000, 160_000, 232_000, 288_000, 368_000)
    for links in shown:
        table.add_row(f"{links:,}", *(f"{c[links]:.2f}" if links in c else "-" for c in curves.values()))
    Console().print(table)


if __name__ == "__main__":
    main()
