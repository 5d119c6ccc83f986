"""What the formats of ``airlam export`` cost: parity, NMSE, size, latency, in one run.

    python -P benchmarks/exports.py --litert my-phone my-phone-int8 [--saved-model my-network] [--links 64]

ONNX graphs are made here. LiteRT graphs are made before, where the converter is (docs/export.md, LiteRT), and need the
extra ``litert`` here; a SavedModel needs TensorFlow. 32 ports x 48 tones, 16 -> 4 slots, UMa NLOS, 20 dB CSI SNR, mean
over 3, 30, 60 and 100 km/h. Latency is of the network alone, one link of 80 tokens, one thread, formats in turn, the
median of the rounds. Parity is the largest error of a prediction over its largest value.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
from functools import partial
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor

from airlam import load_predictor
from airlam.channels import LinkBatch, load_channel
from airlam.csi import measure
from airlam.export import export_onnx
from airlam.metrics import measure_latency, nmse
from airlam.models.exported import INPUTS, OUTPUTS
from airlam.models.spectral_model import Spectra

MODEL, SPEEDS_KMH, SHAPE, TOKENS = "airlam-tiny", (3, 30, 60, 100), (2, 4, 4), 80


def with_saved_model(folder: Path) -> Any:
    """The predictor with TensorFlow in place of its network."""
    import tensorflow as tf

    tf.config.threading.set_intra_op_parallelism_threads(1)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    saved = tf.saved_model.load(str(folder))
    predictor: Any = load_predictor(MODEL)

    def network(*inputs: Tensor, **_: Any) -> Spectra:
        out = saved.serve({name: x.numpy() for name, x in zip(INPUTS, inputs[:3], strict=True)})
        return Spectra(*(torch.tensor(out[name].numpy()) for name in OUTPUTS))

    predictor.model.network = network
    return predictor


def size_mb(folder: Path) -> float:
    files = [x for x in folder.rglob("*") if x.is_file() and x.name not in ("config.json", "tracker.safetensors")]
    return sum(x.stat().st_size for x in files) / 1e6


def links_at(speed: float, count: int) -> LinkBatch:
    recipe = {"speed_kmh": speed, "num_subcarriers": 48, "subcarrier_spacing": 180e3}
    return load_channel({**load_channel("uma_nlos").recipe, **recipe}).sample(count, 20, seed=7)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--litert", type=Path, nargs="*", default=[])
    parser.add_argument("--saved-model", type=Path)
    parser.add_argument("--links", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=7)
    known = parser.parse_args()
    torch.set_num_threads(1)
    plain: Any = load_predictor(MODEL)
    parameters = [x for name, x in plain.model.named_parameters() if not name.startswith("tracker")]
    rows: dict[str, tuple[Any, float]]
    rows = {"torch": (plain, sum(4 * x.numel() for x in parameters) / 1e6)}
    with tempfile.TemporaryDirectory() as work:
        for int8 in (False, True):
            folder = export_onnx(plain.model, Path(work) / f"{int8}", int8=int8)
            rows["ONNX, int8" if int8 else "ONNX"] = load_predictor(folder, threads=1), size_mb(folder)
        for folder in known.litert:
            rows[f"LiteRT, {folder.name}"] = load_predictor(folder, threads=1), size_mb(folder)
        if known.saved_model:
            rows["TensorFlow"] = with_saved_model(known.saved_model), size_mb(known.saved_model)
        errors: dict[str, list[float]] = {name: [] for name in rows}
        worst = dict.fromkeys(rows, 0.0)
        for speed in SPEEDS_KMH:
            links = links_at(speed, known.links)
            past = measure(links.h[:, :16], 20.0, torch.Generator().manual_seed(7))
            wanted = plain.predict(past, 4, port_shape=SHAPE)
            for name, (predictor, _) in rows.items():
                out = predictor.predict(past, 4, port_shape=SHAPE)
                errors[name].append(float(10 * nmse(out, links.h[:, 16:]).mean().log10()))
                worst[name] = max(worst[name], float((out - wanted).abs().max() / wanted.abs().max()))
        g, grid = torch.Generator().manual_seed(0), plain.model.config.doppler_grid
        inputs = (
            torch.randn(1, TOKENS, plain.model.num_features, generator=g),
            torch.randn(1, TOKENS, grid),
            torch.rand(1, TOKENS),
        )
        times: dict[str, list[float]] = {name: [] for name in rows}
        with torch.no_grad():
            for _ in range(known.rounds):
                for name, (predictor, _) in rows.items():
                    run = partial(predictor.model.network, *inputs)
                    found = measure_latency(run, warmup=5, repeats=50)
                    times[name].append(1e3 * found.p50)
    table = Table("format", "largest error", "NMSE [dB]", "size [MB]", "network, p50 [ms]")
    for name, (_, size) in rows.items():
        mean = statistics.mean(errors[name])
        latency = statistics.median(times[name])
        table.add_row(name, f"{worst[name]:.1e}", f"{mean:.3f}", f"{size:.2f}", f"{latency:.2f}")
    Console(width=120).print(table)


if __name__ == "__main__":
    main()
