"""``airlam serve``: what the command line calls."""

from __future__ import annotations

import signal
import threading
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
    if plain:
        _serve_plain(recipe)
        return
    print("starting Ray and loading the models ...", flush=True)
    ends = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: ends.set())
    with start_cluster(recipe, ray_address) as cluster:
        print(f"serving {_names(recipe)} at {cluster.address}", flush=True)
        print(f"replicas: {', '.join(cluster.replicas())}; OpenAPI: {cluster.address}/openapi.json", flush=True)
        ends.wait()
    print("ended", flush=True)


def _serve_plain(recipe: ServingConfig) -> None:
    from airlam.serving.plain import PlainServer

    check_port(recipe.listen)
    server = PlainServer(recipe)
    print(f"serving {_names(recipe)} at {server.address}; OpenAPI: {server.address}/openapi.json", flush=True)
    try:
        server.run()
    finally:
        server.close()


def _names(recipe: ServingConfig) -> str:
    return ", ".join([*recipe.predictors, *recipe.precoders, *recipe.beams])
