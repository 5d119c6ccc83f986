"""Who makes the blocks: this process, several processes, or a Ray cluster. All give the same bits.

Each of the three yields (number of the block, its arrays), in any order, a few blocks ahead of the one who writes.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import sys
import threading
import types
from collections.abc import Generator, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import resource_tracker
from multiprocessing.connection import wait as wait_for_sentinel
from typing import Any

import numpy as np
import torch

from airlam.data.layout import TRUTH, versions
from airlam.data.recipe import Block, load_channel
from airlam.errors import AirlamError

Arrays = dict[str, np.ndarray]
MadeBlocks = Generator[tuple[int, Arrays], None, None]


def make_block(channel: Any, block: Block, num_slots: int) -> Arrays:
    """One block as it lies in the store, made on one thread: sums in another order would give other last bits."""
    per_drop = int(channel.recipe.get("links_per_drop", 1))
    whole = -(-block.count // per_drop) * per_drop  # the last block of a split may end within a drop
    with one_thread():
        links = channel.sample(whole, num_slots, seed=block.seed)
    pairs = torch.view_as_real(links.h[: block.count].contiguous())
    arrays = {"h": pairs.to(torch.float16).numpy().astype("<f2", copy=False)}
    for name, field in TRUTH.items():
        arrays[name] = getattr(links, name)[: block.count].numpy().astype(field.dtype)
    # Drops get ids that are unique in the data set: that of the first link they can belong to.
    arrays["drop"] = block.start + np.unique(arrays["drop"], return_inverse=True)[1].reshape(-1).astype("<i8")
    if not np.isfinite(arrays["h"]).all():
        raise AirlamError(f"the channel model gave NaN or infinite CSI for seed {block.seed}: {channel.recipe}")
    return arrays


@contextlib.contextmanager
def one_thread() -> Iterator[None]:
    """Runs torch on one thread, leaving its global generator and thread count as they were."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with torch.random.fork_rng(devices=[]):
            yield
    finally:
        torch.set_num_threads(threads)


def make_here(content: dict[str, Any], todo: dict[int, Block]) -> MadeBlocks:
    """In this process, one after the other."""
    channel = load_channel(content["channel"]) if todo else None
    for number, block in todo.items():
        yield number, make_block(channel, block, content["num_slots"])


def make_in_processes(content: dict[str, Any], todo: dict[int, Block], workers: int) -> MadeBlocks:
    """Spawned processes (a fork would inherit CUDA and thread pools), a few blocks ahead of the writer."""
    executor = ProcessPoolExecutor(
        workers, multiprocessing.get_context("spawn"), initializer=_start_worker, initargs=(content,)
    )
    waiting = list(todo.items())[::-1]
    running: dict[Future, int] = {}
    try:
        while waiting or running:
            with _spawning():
                while waiting and len(running) < 2 * workers:
                    number, block = waiting.pop()
                    running[executor.submit(_work, block)] = number
            ready, _ = wait(running, return_when=FIRST_COMPLETED)
            for future in ready:
                yield running.pop(future), future.result()
    except BrokenProcessPool as error:
        raise AirlamError(
            "a worker died (out of memory?); finished blocks are kept: run the same command again with fewer --workers"
        ) from error
    finally:
        executor.shutdown(wait=True, cancel_futures=True)


@contextlib.contextmanager
def _spawning() -> Iterator[None]:
    """Context in which processes are started: they use one thread, ignore Ctrl-C, and do not run the user's script.

    A spawned process imports the parent's main module. Without this a script that generates data outside
    ``if __name__ == "__main__"`` would start itself over and over.
    """
    main, threads = sys.modules["__main__"], os.environ.get("OMP_NUM_THREADS")
    resource_tracker.ensure_running()  # its start would unblock the signal
    signals = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    sys.modules["__main__"] = types.ModuleType("__main__")
    os.environ["OMP_NUM_THREADS"] = "1"
    try:
        yield
    finally:
        sys.modules["__main__"] = main
        if threads is None:
            del os.environ["OMP_NUM_THREADS"]
        else:
            os.environ["OMP_NUM_THREADS"] = threads
        signal.pthread_sigmask(signal.SIG_SETMASK, signals)


_worker: dict[str, Any] = {}


def _start_worker(content: dict[str, Any]) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # also where the mask was not inherited: the parent decides
    threading.Thread(target=_die_with_parent, daemon=True).start()
    torch.set_num_threads(1)
    _worker.update(channel=load_channel(content["channel"]), num_slots=content["num_slots"])


def _die_with_parent() -> None:
    """A worker whose parent was killed would wait for work for ever."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        wait_for_sentinel([parent.sentinel])
        os._exit(1)


def _work(block: Block) -> Arrays:
    return make_block(_worker["channel"], block, _worker["num_slots"])


def make_on_ray(content: dict[str, Any], todo: dict[int, Block], address: str) -> MadeBlocks:
    """One Ray task per block; one CPU each. The cluster's nodes need airlam installed in the same versions."""
    try:
        import ray
    except ImportError:
        raise AirlamError("--ray-address needs Ray, which is not installed: pip install 'airlam[ray]'") from None

    @ray.remote(num_cpus=1)
    def work(block: Block) -> tuple[dict[str, str], Arrays]:
        if _worker.get("content") != content:
            torch.set_num_threads(1)
            _worker.update(content=content, channel=load_channel(content["channel"]))
        return versions(), make_block(_worker["channel"], block, content["num_slots"])

    ours = not ray.is_initialized()
    if ours:
        ray.init(address=address, log_to_driver=False)
    try:
        ahead = 2 * max(1, int(ray.cluster_resources().get("CPU", 1)))
        waiting = list(todo.items())[::-1]
        running: dict[Any, int] = {}
        while waiting or running:
            while waiting and len(running) < ahead:
                number, block = waiting.pop()
                running[work.remote(block)] = number
            ready, _ = ray.wait(list(running))
            for reference in ready:
                theirs, arrays = ray.get(reference)
                if theirs != versions():
                    raise AirlamError(f"a Ray node has other versions ({theirs}) than this machine ({versions()})")
                yield running.pop(reference), arrays
    finally:
        if ours:
            ray.shutdown()
