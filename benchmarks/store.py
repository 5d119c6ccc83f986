"""Reading random links from a store, and generating one: links per second.

    python -P benchmarks/store.py            # in a folder with about 1 GB of free space

Links of the headline set-up (32 ports x 48 tones x 20 slots, float16). Reads give complex64 tensors, in batches of 32,
medians of repeated runs, one thread; the store was just written, so it comes from the page cache: the cost measured is
that of the store, not of the disk. Beside it, on the same file in the same run: h5py's ``read_direct`` link by link,
and h5py's fancy indexing.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import torch

from airlam.data import CSIStore, generate
from airlam.data.recipe import load_dataset_recipe

NUM_LINKS, BATCH, REPEATS = 4096, 32, 7
RECIPE = {"channel": "uma_nlos", "num_train": NUM_LINKS, "num_val": 0, "num_test": 0}


def links_per_second(read: Callable[[list[int]], torch.Tensor], num_links: int, generator: np.random.Generator) -> str:
    """Median and range over repeats of reading ``num_links`` random links."""
    rates = []
    for _ in range(REPEATS):
        order = generator.integers(0, NUM_LINKS, num_links).tolist()
        start = time.perf_counter()
        for first in range(0, num_links, BATCH):
            read(order[first : first + BATCH])
        rates.append(num_links / (time.perf_counter() - start))
    return f"{statistics.median(rates):8,.0f} links/s  ({min(rates):,.0f} to {max(rates):,.0f})"


def main() -> None:
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        for workers in (1, 2):
            start = time.perf_counter()
            path = generate(RECIPE, Path(folder) / f"{workers}.h5", workers=workers, progress=False)
            seconds = time.perf_counter() - start
            print(f"generate, {workers} worker(s), start included: {NUM_LINKS / seconds:6,.0f} links/s")
        with CSIStore(path) as store:
            start = time.perf_counter()
            store.verify()
            size, seconds = path.stat().st_size / 1e6, time.perf_counter() - start
            print(f"verify: {size / seconds:,.0f} MB/s ({size:,.0f} MB)")
            print(f"CSIStore.read           {links_per_second(store.read, 4096, np.random.default_rng(0))}")
        with h5py.File(path, "r") as file:
            data = file["h"]

            def read_direct(links: list[int]) -> torch.Tensor:
                pairs = np.empty((len(links), *data.shape[1:]), data.dtype)
                for row, link in enumerate(links):
                    data.read_direct(pairs, np.s_[link], np.s_[row])
                return torch.view_as_complex(torch.from_numpy(pairs).float())

            def fancy(links: list[int]) -> torch.Tensor:
                return torch.view_as_complex(torch.from_numpy(data[sorted(set(links))]).float())

            print(f"h5py read_direct        {links_per_second(read_direct, 4096, np.random.default_rng(0))}")
            print(f"h5py fancy indexing     {links_per_second(fancy, 256, np.random.default_rng(0))}")
    print(f"recipe {load_dataset_recipe(RECIPE).hash}, torch {torch.__version__}, h5py {h5py.__version__}")


if __name__ == "__main__":
    main()
