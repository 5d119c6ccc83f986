"""``airlam serve``: what the command line calls."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from airlam.serving.cluster.start import check_port, need_ray, start_cluster
from airlam.serving.config import ServingConfig


def serve(config: str, *, plain: bool = False, ray_address: str | None = None, **changes: Any) -> None:
    """Serve until interrupted.

    Args:
        config: recipe. plain: in one process without Ray. ray_address: of a cluster. changes: to the recipe.
    """
    need_ray()
    recipe = ServingConfig.read(config, changes)
    with interrupts() as ends:
        if plain:
            _serve_plain(recipe, ends)
        else:
            _serve_on_ray(recipe, ray_address, ends)
    print("ended", flush=True)


@contextmanager
def interrupts() -> Iterator[threading.Event]:
    """What SIGINT and SIGTERM set, until the block ends."""
    ends = threading.Event()
    before = {number: signal.signal(number, lambda *_: ends.set()) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield ends
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _serve_on_ray(recipe: ServingConfig, ray_address: str | None, ends: threading.Event) -> None:
    print("starting Ray and loading the models ...", flush=True)
    with start_cluster(recipe, ray_address) as cluster:
        print(f"serving {_names(recipe)} at {cluster.address}", flush=True)
        print(f"replicas: {', '.join(cluster.replicas())}; OpenAPI: {cluster.address}/openapi.json", flush=True)
        ends.wait()


def _serve_plain(recipe: ServingConfig, ends: threading.Event) -> None:
    from threadpoolctl import threadpool_limits

    from airlam.serving.plain import PlainServer

    check_port(recipe.listen)
    # one thread computes at a time, on products so small that two BLAS threads would wait for each other
    with threadpool_limits(1, "blas"), PlainServer(recipe) as server:  # answers when it is entered
        print(f"serving {_names(recipe)} at {server.address}; OpenAPI: {server.address}/openapi.json", flush=True)
        ends.wait()


def _names(recipe: ServingConfig) -> str:
    return ", ".join([*recipe.predictors, *recipe.precoders, *recipe.beams])
