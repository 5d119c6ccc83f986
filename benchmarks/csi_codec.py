"""The context codec against the searched enhanced Type II at equal bits, in the cells of the benchmark of compression.

    python -P benchmarks/csi_codec.py [--combinations 1 4 6] [--links 256]

Each combination's counted payload, rounded down, is the codec's. SGCS and sum-SE of both, the gain, and its 95 %
interval, bootstrapped over drops. One thread, half a minute for each combination and scenario. Prints a line for each.
"""

from __future__ import annotations

import argparse
from dataclasses import asdict

import numpy as np
import torch
import yaml
from numpy.typing import NDArray

from airlam.baselines import EnhancedType2
from airlam.evaluation import CompressionBenchmark
from airlam.evaluation.benchmarks.csi_compression.cell import Scene, _judge, coded, plan
from airlam.evaluation.engine.cell import Cell
from airlam.evaluation.engine.spectral_efficiency import group_users
from airlam.evaluation.results import LINK, CellRecord, group_of
from airlam.models.csi_codec import ContextCodec
from airlam.recipes import find_recipe

KNOWN = 64  # links of other drops that tell how good reports are


def gain(before: NDArray, after: NDArray, drop: NDArray) -> str:
    """Means, and the gain with its interval over drops."""
    change = after - before
    means = np.array([change[drop == one].mean() for one in np.unique(drop)])
    drawn = means[np.random.default_rng(0).integers(0, len(means), (2000, len(means)))].mean(1)
    low, high = np.percentile(drawn, [2.5, 97.5])
    return f"{before.mean():.3f} -> {after.mean():.3f} ({change.mean():+.3f}, {low:+.3f} to {high:+.3f})"


def compare(cell: Cell, combinations: list[int]) -> None:
    test, tune = Scene(cell, "test", cell.num_links), Scene(cell, "tune", KNOWN)
    users = cell.users[0]
    groups = group_users(test.drop, users)
    subbands = test.seen.shape[1]
    record = CellRecord(asdict(cell), {LINK: test.drop.tolist(), group_of(users): groups.drop.tolist()})
    for number in combinations:
        standard = EnhancedType2(number, test.port_shape, subbands)
        told, bits = coded(standard, test.seen)
        _judge(record, f"standard-{number}", told, tune.quality(coded(standard, tune.seen)[0]), test, groups)
        codec = ContextCodec(int(bits.mean())).for_array(test.port_shape, subbands)
        told, _ = coded(codec, test.seen)
        _judge(record, f"codec-{number}", told, tune.quality(coded(codec, tune.seen)[0]), test, groups)
        words, names = [], (f"standard-{number}", f"codec-{number}")
        for metric, per in (("sgcs", LINK), ("sum_se", group_of(users))):
            pair = [np.asarray(record.find(name, metric, per).values, float) for name in names]
            words.append(f"{metric} {gain(*pair, np.asarray(record.drop(per)))}")
        print(f"{cell.data}, combination {number}, {codec.bits} bits: {'; '.join(words)}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--combinations", type=int, nargs="+", default=list(range(1, 9)))
    parser.add_argument("--links", type=int, default=256)
    options = parser.parse_args()
    torch.set_num_threads(1)
    arguments = yaml.safe_load(find_recipe("tasks/csi_compression/benchmark.yaml").read_text())["init_args"]
    arguments["sizes"] |= {"num_links": options.links, "num_tune": KNOWN}
    for cell in plan(CompressionBenchmark(**arguments)):
        if cell.headline:
            compare(cell, options.combinations)


if __name__ == "__main__":
    main()
