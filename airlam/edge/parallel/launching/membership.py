"""How a worker meets the others: who is here, do all run the same thing, and what failed when one cannot be reached.

Everything is said through the store before a process group exists, so a rank that never comes is named by the device it
runs on, and ranks with different recipes or versions are found before the first collective.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

import airlam
from airlam.edge.parallel.launching import processes as p
from airlam.edge.parallel.launching.store import connect
from airlam.edge.parallel.recipe import RECIPE
from airlam.errors import RecipeError
from airlam.io import file_hash

POLL = 0.1  # s
TIMEOUT = 300.0  # s
SIGNS = ("gloo/", "NCCL", "onnection closed by peer", "onnection reset", "roken pipe", "connectFullMesh")
TIMED_OUT = ("imed out", "imeout")


class PeerLostError(Exception):
    """Another rank ended, or does not come; ``stalled`` says that the time was up."""

    def __init__(self, text: str, stalled: bool = False) -> None:
        super().__init__(text)
        self.stalled = stalled


class StopRequested(Exception):
    """The user asked the run to stop before it trained."""


@dataclass(frozen=True)
class Place:
    """Where a worker stands in this round.

    Attributes:
        folder: of the run. rank, world_size: of this worker. devices: names by rank. away: names of devices that the
        run began with and that are not here. number: of this round, or a name for it where torchrun counts none.
        timeout: seconds that a collective may take. start_timeout: seconds within which all ranks must have started.
    """

    folder: Path
    rank: int
    world_size: int
    devices: tuple[str, ...]
    away: tuple[str, ...]
    number: str
    timeout: float
    start_timeout: float

    @property
    def device(self) -> str:
        """Name of this worker's device."""
        return self.devices[self.rank]

    def name(self, rank: int) -> str:
        """A rank with its device, for messages."""
        return f"rank {rank} ({self.devices[rank]})"

    @classmethod
    def from_environment(cls, folder: str | Path) -> Place:
        """The place that torchrun, or an agent, gave to this process; alone where nobody did."""
        get = os.environ.get
        rank, world_size = int(get("RANK", "0")), int(get("WORLD_SIZE", "1"))
        devices = (
            tuple(get(p.DEVICES, "").split(",")) if get(p.DEVICES) else tuple(f"rank-{i}" for i in range(world_size))
        )
        pool = tuple(get(p.POOL, "").split(",")) if get(p.POOL) else devices
        timeout = float(get(p.TIMEOUT, str(TIMEOUT)))
        return cls(
            Path(folder),
            rank,
            world_size,
            devices,
            tuple(name for name in pool if name not in devices),
            get(p.ROUND) or f"{get('MASTER_ADDR', 'here')}:{get('MASTER_PORT', '0')}",
            timeout,
            float(get(p.START_TIMEOUT, str(max(timeout, TIMEOUT)))),
        )


def open_store(place: Place) -> dist.Store:
    """The store of the run: the process of its own where there is one, else the one that torchrun gives, else none."""
    from_torchrun = "TORCHELASTIC_RUN_ID" in os.environ or "MASTER_ADDR" in os.environ
    shared = os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True"
    if os.environ.get(p.STORE) and not shared:
        return connect(os.environ[p.STORE], place.start_timeout)
    if from_torchrun:
        return next(dist.rendezvous("env://", timeout=timedelta(seconds=place.start_timeout)))[0]
    return dist.HashStore()


def facts_of(place: Place, more: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """What must be the same everywhere: the recipe in the run folder, the versions, and ``more``."""
    recipe = place.folder / RECIPE
    return {
        "recipe": file_hash(recipe)[:12] if recipe.is_file() else "none",
        "airlam": airlam.__version__,
        "torch": torch.__version__,
        **(more or {}),
    }


def meet(place: Place, base: dist.Store, facts: Mapping[str, Any]) -> tuple[Place, dist.Store]:
    """Wait for all ranks, compare what they run, and return the place with all names, and the store of this round.

    Raises:
        PeerLostError: a rank does not come; the message names it. RecipeError: ranks differ; the message says who and
            in what. StopRequested: the user asked for it meanwhile.
    """
    store = dist.PrefixStore(f"round/{place.number}", base)
    store.set(f"here/{place.rank}", json.dumps({"device": os.environ.get(p.DEVICE), "facts": facts}))
    end = time.monotonic() + place.start_timeout
    missing = [rank for rank in range(place.world_size) if rank != place.rank]
    while missing:
        missing = [rank for rank in missing if not store.check([f"here/{rank}"])]
        if base.check(["stop"]):
            raise StopRequested
        gone = [rank for rank in missing if base.check([f"lost/{place.devices[rank]}"])]
        if gone:
            raise PeerLostError(f"{place.name(gone[0])} was lost before it started")
        if missing and time.monotonic() > end:
            names = ", ".join(place.name(rank) for rank in missing)
            raise PeerLostError(f"{names} did not start within {place.start_timeout:g} s", stalled=True)
        if missing:
            time.sleep(POLL)
    here = [json.loads(store.get(f"here/{rank}")) for rank in range(place.world_size)]
    if not os.environ.get(p.DEVICES):  # under torchrun each rank knows its own name alone
        given = os.environ.get(p.POOL)
        devices = tuple(one["device"] or name for one, name in zip(here, place.devices, strict=True))
        away = tuple(name for name in given.split(",") if name not in devices) if given else ()
        place = replace(place, devices=devices, away=away)
    twice = sorted({name for name in place.devices if place.devices.count(name) > 1})
    if twice:
        raise RecipeError(f"{', '.join(twice)} is the name of several devices; give each launcher a name of its own")
    compare(place, [one["facts"] for one in here])
    return place, store


def compare(place: Place, facts: list[dict[str, Any]]) -> None:
    """Check that every rank runs what rank 0 runs.

    Raises:
        RecipeError: one does not.
    """
    for rank, other in enumerate(facts):
        for key, value in facts[0].items():
            if other.get(key) != value:
                raise RecipeError(
                    f"{place.name(rank)} has {key} {other.get(key)}, but {place.name(0)} has {value}; give "
                    "all devices the same recipe, checkpoints and versions"
                )


def reordered(place: Place, order: Sequence[str]) -> Place:
    """The place where ranks follow ``order``. Devices that it does not name, all or none, keep the order they came in.

    Raises:
        RecipeError: it names some of the devices that are here, but not all.
    """
    found = tuple(name for name in order if name in place.devices)
    if not found:
        return place
    if len(found) != len(place.devices):
        strange = ", ".join(name for name in place.devices if name not in found)
        raise RecipeError(
            f"{strange} is none of the run's devices ({', '.join(order)}); give each launcher one of them"
        )
    return replace(place, rank=found.index(place.device), devices=found)


def join(place: Place, store: dist.Store, backend: str) -> None:
    """Make the process group of all ranks, and check that all can be reached.

    Raises:
        PeerLostError: some cannot; the message names them.
    """
    # NCCL aborts the process when the time is up: the heartbeat is to name the missing rank before
    limit = timedelta(seconds=place.timeout * (4 if "nccl" in backend else 1))
    # groups that DeviceMesh and FSDP make take torch's default, 30 minutes, which no argument changes
    dist.distributed_c10d.default_pg_timeout = limit
    try:
        dist.init_process_group(
            backend,
            store=dist.PrefixStore("group", store),
            rank=place.rank,
            world_size=place.world_size,
            timeout=limit,
        )
        if dist.get_backend() == "gloo":
            dist.monitored_barrier(timeout=limit, wait_all_ranks=True)
    except (RuntimeError, ValueError) as error:
        lost = lost_peer(error)
        raise (lost or PeerLostError(first_line(error), stalled=True)) from error


def lost_peer(error: BaseException | None) -> PeerLostError | None:
    """The error as the loss of a peer, if that is what it, or what caused it, says; None for an error of its own.

    Example:
        >>> text = "[../third_party/gloo/gloo/transport/tcp/pair.cc:553] Connection closed by peer [127.0.0.1]:5"
        >>> lost_peer(RuntimeError(text)).stalled
        False
        >>> lost_peer(RuntimeError("shapes differ")) is None
        True
    """
    while error is not None:
        if isinstance(error, PeerLostError):
            return error
        text = str(error)
        if isinstance(error, dist.DistError) or (isinstance(error, RuntimeError) and any(s in text for s in SIGNS)):
            return PeerLostError(first_line(error), stalled=any(sign in text for sign in TIMED_OUT))
        error = within(error) or error.__cause__ or error.__context__
    return None


def within(error: BaseException) -> BaseException | None:
    """The first error that torch's distributed checkpoints collected from the ranks, where this is their sum."""
    failures = getattr(error, "failures", None)
    found = next(iter(failures.values()), None) if isinstance(failures, dict) else None
    return found[0] if isinstance(found, tuple) and isinstance(found[0], BaseException) else None


def first_line(error: BaseException) -> str:
    """The first line of an error's text; of errors of several ranks, that of the first."""
    error = within(error) or error
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
