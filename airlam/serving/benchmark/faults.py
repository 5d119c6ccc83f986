"""Many users' sessions while a replica, a node and the proxy are killed: what was lost, and which values differ."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

import airlam
from airlam.channels import load_channel
from airlam.realtime import Stream, engine_for
from airlam.serving import AsyncClient
from airlam.serving.benchmark.parts import Bench
from airlam.serving.cluster.emulated import EmulatedNodes, kill, processes
from airlam.serving.cluster.start import start_cluster

PUSHES = 9  # slots of a user behind the history
AT_ONCE = 32  # users that wait for an answer at the same time
TOLERANCE = 1e-5
NODES = ("north", "south", "east")


@dataclass
class User:
    """One session: the slots at which it began anew, its answers, and what was not answered."""

    number: int
    answers: list[NDArray] = field(default_factory=list)
    rebuilt: list[int] = field(default_factory=list)
    lost: int = 0
    replayed: int = 0


class Histories:
    """Measured slots of any number of users: few links, a noise of his own for each user."""

    def __init__(self, bench: Bench) -> None:
        self.window = bench.load.history
        links = load_channel(bench.load.channel).sample(8, self.window + PUSHES, seed=bench.arguments.seed)
        self._h = links.h.numpy()

    def of(self, user: int) -> NDArray:
        random = np.random.default_rng(user)
        h = self._h[user % len(self._h)]
        scale = np.sqrt(np.mean(np.abs(h) ** 2) / 200)  # 20 dB
        return (h + scale * (random.normal(size=h.shape) + 1j * random.normal(size=h.shape))).astype(np.complex64)


def sessions(bench: Bench) -> dict[str, Any]:
    """Requests of all users, three kills, and the comparison with the streams in process."""
    bench.close()
    histories, users = Histories(bench), [User(number) for number in range(bench.arguments.users)]
    config = replace(bench.config, replicas=len(NODES), num_cpus=0.5, node={"0": "edge"})
    total = len(users) * (PUSHES + 1)
    with EmulatedNodes(dict.fromkeys(NODES, 1), config.listen, dict.fromkeys(NODES, {"edge": 1})) as nodes:
        with start_cluster(config, nodes.address) as cluster:
            kills: list[tuple[str, Callable[[], None]]] = [
                ("replica", lambda: kill(processes("ServeReplica:airlam:ingress")[0])),
                ("node", lambda: nodes.kill(NODES[0])),
                ("proxy", lambda: kill(processes("ProxyActor")[0])),
            ]
            begin = time.perf_counter()
            happened, retries = asyncio.run(_all(bench, cluster.address, histories, users, kills))
            wall = time.perf_counter() - begin
    wrong = sum(_differing(bench, histories, user) for user in users)
    return {
        "users": len(users),
        "requests": total,
        "answered": sum(len(user.answers) for user in users),
        "lost": sum(user.lost for user in users),
        "differing": wrong,
        "rebuilt": sum(len(user.rebuilt) for user in users),
        "replayed": sum(user.replayed for user in users),
        "retries": retries,
        "wall_s": wall,
        "kills": happened,
    }


async def _all(
    bench: Bench,
    address: str,
    histories: Histories,
    users: list[User],
    kills: list[tuple[str, Callable[[], None]]],
) -> tuple[list[dict[str, Any]], int]:
    """All users begin, then push slot by slot, so that every session lives while things are killed."""
    happened: list[dict[str, Any]] = []
    done, total = 0, len(users) * (PUSHES + 1)
    slots = asyncio.Semaphore(AT_ONCE)
    async with AsyncClient(address, model=bench.load.model, patience_s=90.0, timeout_s=20.0) as client:
        talks = {}

        async def step(user: User, number: int) -> None:
            nonlocal done
            async with slots:
                h = histories.of(user.number)
                session = talks.setdefault(
                    user.number,
                    client.session(f"user-{user.number}", bench.load.num_future, port_shape=bench.port_shape),
                )
                try:
                    if number < histories.window:
                        found = await session.start(h[: histories.window])
                    else:
                        found = await session.push(h[number])
                    user.answers.append(found.numpy())
                except Exception:  # it counts as lost, whatever it was
                    user.lost += 1
                done += 1
                if len(happened) < len(kills) and done >= total * (len(happened) + 1) / (len(kills) + 1):
                    name, act = kills[len(happened)]
                    happened.append({"what": name, "after": done})
                    await asyncio.to_thread(act)

        for number in range(histories.window - 1, histories.window + PUSHES):
            await asyncio.gather(*(step(user, number) for user in users))
        for user in users:
            user.rebuilt = talks[user.number].talks.rebuilt
            user.replayed = talks[user.number].talks.replayed
        return happened, client.directory.retries


def _differing(bench: Bench, histories: Histories, user: User) -> int:
    """Answers that differ from those of the stream in process, begun anew where the session said that it was."""
    h, window = histories.of(user.number), histories.window
    stream, wrong = Stream(_engine(bench, h.shape[1:])), 0
    stream.refresh_every = bench.config.sessions.refresh_every
    for number, answer in enumerate(user.answers, window - 1):
        begins = number == window - 1 or number in user.rebuilt
        with torch.inference_mode():
            expected = stream.start(h[number + 1 - window : number + 1], number) if begins else stream.push(h[number])
        wrong += not np.allclose(answer, expected, atol=TOLERANCE * float(np.abs(expected).max()))
    return wrong


_engines: dict[tuple, Any] = {}


def _engine(bench: Bench, shape: tuple) -> Any:
    key = (bench.load.model, shape, bench.load.num_future, bench.port_shape)
    if key not in _engines:
        predictor = airlam.load_predictor(bench.load.model)
        _engines[key] = engine_for(predictor, shape, bench.load.num_future, port_shape=bench.port_shape)
    return _engines[key]
