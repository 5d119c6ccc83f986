"""The parts of the benchmark: each measures one thing, and returns plain data that is kept."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import httpx
import numpy as np
import torch
from threadpoolctl import threadpool_limits
from torch import Tensor

from airlam.channels import load_channel
from airlam.csi import measure
from airlam.metrics import cpu_threads
from airlam.serving.benchmark.config import ServingArguments
from airlam.serving.benchmark.load import Outcome, Request, closed_loop, one_by_one, open_loop
from airlam.serving.catalogue import Catalogue
from airlam.serving.cluster.emulated import processes
from airlam.serving.cluster.start import Cluster, start_cluster
from airlam.serving.config import ServingConfig
from airlam.serving.wire import NPY, encode

POINTS = ("p50", "p95", "p99", "p99.9")
CSI_SNR_DB = 20.0
SAMPLES = 20  # of the memory, while it soaks


class Bench:
    """One server and what is asked of it."""

    def __init__(self, arguments: ServingArguments) -> None:
        self.arguments, self.load = arguments, arguments.load
        self.config = ServingConfig.read(arguments.server, arguments.changes)
        channel = load_channel(self.load.channel)
        links = channel.sample(self.load.links, self.load.history, seed=arguments.seed)
        noise = torch.Generator().manual_seed(arguments.seed)
        self.h_past, self.port_shape = measure(links.h, CSI_SNR_DB, noise), links.port_shape
        self._cluster: Cluster | None = None

    def requests(self, query: str = "", model: str = "") -> list[Request]:
        ports = ",".join(map(str, self.port_shape))
        path = f"/v1/predict/{model or self.load.model}?num_future={self.load.num_future}&port_shape={ports}{query}"
        return [Request(path, encode({"h": h}, NPY), NPY) for h in self.h_past.numpy()]

    @property
    def cluster(self) -> Cluster:
        """Started with the first part that needs it."""
        if self._cluster is None:
            self._cluster = start_cluster(self.config)
        return self._cluster

    def deployed(self, **changes: Any) -> str:
        """The address of a replica with this configuration."""
        config = replace(self.config, **changes)
        if self.cluster.config != config:
            self.cluster.deploy(config)
            self._settled(config)
        return self.cluster.replicas()[0]

    def _settled(self, config: ServingConfig) -> None:
        """Wait until those of the last configuration have ended: they would compute beside."""
        replicas = config.replicas + len(config.groups) - 1
        deadline = time.monotonic() + 60
        while len(processes("ServeReplica:airlam")) > replicas and time.monotonic() < deadline:
            time.sleep(0.5)

    def close(self) -> None:
        if self._cluster is not None:
            self._cluster.close()
            self._cluster = None

    def in_process(self, model: str) -> Callable[[Tensor], Tensor]:
        method = Catalogue(self.config).method(model)
        predictor = method.fast or method.predictor
        return lambda h: predictor.predict(h, self.load.num_future, port_shape=self.port_shape)


def summary(outcome: Outcome, deadline_ms: float) -> dict[str, Any]:
    """Plain data of a load."""
    return {
        **dict(zip(POINTS, outcome.percentiles_ms(), strict=True)),
        "per_second": outcome.per_second,
        "on_time": outcome.on_time(deadline_ms),
        "requests": outcome.count,
        "late": outcome.late,
        "refused": outcome.refused,
        "failed": outcome.failed,
    }


def cold(bench: Bench) -> dict[str, Any]:
    """From nothing to the first answer, and the answers after it."""
    bench.close()
    begin = time.perf_counter()
    address = bench.cluster.replicas()[0]
    started = time.perf_counter() - begin
    requests = bench.requests()
    first = asyncio.run(one_by_one(address, requests, 1))
    warm = asyncio.run(one_by_one(address, requests, bench.load.calls))
    return {
        "start_s": started,
        "first_ms": 1e3 * first.seconds[0],
        "warm": summary(warm, bench.load.deadline_ms),
    }


def path(bench: Bench) -> dict[str, Any]:
    """One request after another: the model in process, in a plain server, on Serve in one replica, in three."""
    from airlam.serving.plain import PlainServer

    requests, deadline = bench.requests(), bench.load.deadline_ms
    out = {"in process": timed_calls(bench, bench.load.model)}
    with PlainServer(bench.config, port=0) as plain:
        asyncio.run(one_by_one(plain.address, requests, 10))
        out["one process"] = summary(asyncio.run(one_by_one(plain.address, requests, bench.load.calls)), deadline)
    stages = (("tokenizer",), ("backbone",), ("heads",))
    for name, changes in (("Serve, fused", {}), ("Serve, three replicas", {"groups": stages, "num_cpus": 0.3})):
        address = bench.deployed(**changes)
        asyncio.run(one_by_one(address, requests, 10))
        out[name] = summary(asyncio.run(one_by_one(address, requests, bench.load.calls)), deadline)
        if name == "Serve, fused":
            proxied = bench.cluster.address
            asyncio.run(one_by_one(proxied, requests, 10))
            through = asyncio.run(one_by_one(proxied, requests, bench.load.calls))
            out["Serve, through its proxy"] = summary(through, deadline)
    return out


def timed_calls(bench: Bench, model: str) -> dict[str, Any]:
    """Latency of a model in process, in the runtime that the server has it in."""
    predict, outcome, threads = bench.in_process(model), Outcome(), bench.arguments.threads
    with cpu_threads(threads), threadpool_limits(threads, "blas"):
        for h in bench.h_past[:2]:
            predict(h)
        begin = time.perf_counter()
        for number in range(bench.load.calls):
            start = time.perf_counter()
            predict(bench.h_past[number % len(bench.h_past)])
            outcome.seconds.append(time.perf_counter() - start)
        outcome.wall_s = time.perf_counter() - begin
    return summary(outcome, bench.load.deadline_ms)


def batching(bench: Bench) -> dict[str, Any]:
    """The rate at saturation, with passes of one request and of many."""
    out = {}
    for largest in (1, bench.config.batching.largest):
        address = bench.deployed(batching=replace(bench.config.batching, largest=largest))
        asyncio.run(closed_loop(address, bench.requests(), bench.load.clients, 1.0))
        found = asyncio.run(closed_loop(address, bench.requests(), bench.load.clients, bench.load.seconds))
        out[str(largest)] = summary(found, bench.load.deadline_ms)
    return out


def load(bench: Bench) -> dict[str, Any]:
    """By model: Poisson arrivals at shares of the rate at saturation, and how busy the replica's threads are."""
    return {model: _under_load(bench, model) for model in (bench.load.model, *bench.load.beside)}


def _under_load(bench: Bench, model: str) -> dict[str, Any]:
    address, requests = bench.deployed(), bench.requests(model=model)
    asyncio.run(closed_loop(address, requests, bench.load.clients, 1.0))
    most = asyncio.run(closed_loop(address, requests, bench.load.clients, bench.load.seconds))
    out: dict[str, Any] = {
        "saturation": summary(most, bench.load.deadline_ms),
        "in process": timed_calls(bench, model),
        "rates": [],
    }
    deadline = f"&deadline_ms={bench.load.deadline_ms:g}"
    for with_deadline in (False, True):
        asked = bench.requests(deadline if with_deadline else "", model)
        for share in bench.load.share:
            before, rate = busy(address), share * most.per_second
            found = asyncio.run(open_loop(address, asked, rate, bench.load.seconds, bench.arguments.seed))
            after = busy(address)
            used = {name: (after[name] - before[name]) / found.wall_s for name in after}
            out["rates"].append(
                {
                    "share": share,
                    "rate": rate,
                    "deadline": with_deadline,
                    "busy": used,
                    **summary(found, bench.load.deadline_ms),
                }
            )
    return out


def busy(address: str) -> dict[str, float]:
    """Seconds that each thread of a replica has computed."""
    out = {}
    for line in httpx.get(address + "/metrics").text.splitlines():
        name, _, value = line.partition(" ")
        if name.endswith("_busy_seconds"):
            out[name.removeprefix("airlam_").removesuffix("_busy_seconds")] = float(value)
    return out


def soak(bench: Bench) -> dict[str, Any]:
    """Memory of the replica while it is saturated."""
    import psutil

    address, requests = bench.deployed(), bench.requests()
    (number,) = processes("ServeReplica:airlam:ingress")[:1]
    each, memory = bench.arguments.soak_s / SAMPLES, []
    total = Outcome()
    for _ in range(SAMPLES):
        found = asyncio.run(closed_loop(address, requests, bench.load.clients, each))
        total.seconds += found.seconds
        total.failed += found.failed
        total.refused += found.refused
        total.wall_s += found.wall_s
        memory.append(psutil.Process(number).memory_info().rss / 1e6)
    settled = memory[len(memory) // 5 :]
    return {
        "memory_mb": memory,
        "seconds": total.wall_s,
        "growth": (float(np.mean(settled[-3:])) - settled[0]) / settled[0],
        **summary(total, bench.load.deadline_ms),
    }
