"""Prediction of measured Wi-Fi channels: tuned classical methods, the same at their defaults, and shipped networks.

    AIRLAM_MEASURED_DIR=folder python -P benchmarks/measured.py [--history 16] [--horizon 4]
        [--model airlam-tiny airlam-paths] [--format my_importer.MyFormat]

The folder holds recordings that :func:`airlam.data.importers.read_recording` reads (``.npz``, ``.csv``), such as
CSIKit's example data; with ``--format`` all its files are read by this importer. Of each recording the first half of
the packets tunes and the second half scores. The target is the *measured* future: the true channel is not known, so the
noise of the target bounds every method. Prints one table with timing offsets removed and one without.
"""

from __future__ import annotations

import argparse
import math
import os
import sys
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor

from airlam import load_predictor
from airlam.data.importers import align, read_recording, windows
from airlam.errors import StoreError
from airlam.evaluation.engine.contenders import tuned, without_correction
from airlam.methods import get
from airlam.metrics import nmse

METHODS = ("hold", "mean", "ar", "eigen-ar", "paths")
BATCH = 256  # windows at once: these channels are small


def nmse_db(predictor, past: Tensor, future: Tensor) -> float:
    """NMSE [dB], mean over windows."""
    parts = [predictor.predict(x, future.shape[1]) for x in past.split(BATCH)]
    return 10 * math.log10(float(nmse(torch.cat(parts), future)))


def scores(csi: Tensor, history: int, horizon: int, models: list[str]) -> dict[str, float]:
    """NMSE of every method on the second half of aligned packets."""
    half = len(csi) // 2
    fit, test = windows(csi[:half], history, horizon), windows(csi[half:], history, horizon)
    out = {}
    for name in METHODS:
        out[name] = nmse_db(load_predictor(name), *test)
        if get(name, "predictor").grid:
            out[f"{name}, tuned"] = nmse_db(tuned(name, *fit, port_shape=None, context={})[0], *test)
    for model in models:
        predictor = load_predictor(model)
        out[f"{model}, correction off"] = nmse_db(without_correction(predictor), *test)
        out[model] = nmse_db(predictor, *test)
    return out


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--history", type=int, default=16, help="packets seen")
    parser.add_argument("--horizon", type=int, default=4, help="packets to predict")
    parser.add_argument("--model", nargs="+", default=["airlam-tiny", "airlam-paths"])
    parser.add_argument("--format", help="an importer's name or class path; without it the files' suffixes decide")
    arguments = parser.parse_args()
    folder = os.environ.get("AIRLAM_MEASURED_DIR")
    found = sorted(p for p in Path(folder).expanduser().glob("*") if p.is_file()) if folder else []
    files = [p for p in found if arguments.format or p.suffix in (".npz", ".csv")]
    if not files:
        sys.exit("AIRLAM_MEASURED_DIR names no folder with recordings (.npz, .csv); see docs/baselines.md")
    console = Console()
    torch.set_grad_enabled(False)
    for timing, said in ((True, "phase, gain and timing offsets removed"), (False, "phase and gain removed")):
        columns: dict[str, dict[str, float]] = {}
        for file in files:
            try:
                recording = read_recording(file, arguments.format)
            except StoreError as error:
                console.print(f"left out: {error}", markup=False)
                continue
            csi = align(recording, timing=timing).csi
            if len(csi) // 2 < arguments.history + arguments.horizon:
                console.print(f"left out: {file.name} has only {len(csi)} packets", markup=False)
                continue
            if timing:
                shape = " x ".join(map(str, csi.shape))
                console.print(f"{file.name}: {recording.receiver}, {shape}. {' '.join(recording.notes)}", markup=False)
            columns[file.stem] = scores(csi, arguments.history, arguments.horizon, arguments.model)
        packets = f"{arguments.history} -> {arguments.horizon} packets"
        table = Table("method", *columns, title=f"NMSE \\[dB], {packets}, {said}")
        for method in next(iter(columns.values()), {}):
            table.add_row(method, *(f"{column[method]:+.2f}" for column in columns.values()))
        console.print(table)


if __name__ == "__main__":
    main()
