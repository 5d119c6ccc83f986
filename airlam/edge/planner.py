"""Adaptive decomposition: for each device, whether its model is split and where, and the rank of its adapters.

Every option of a device (the whole model, or 0, 1, ... layers beside the embedding and the head; each rank) has a need
of memory, a modelled delay and a modelled energy, measured on the site's own data: a small array makes fewer tokens,
and so less to compute, to keep and to send. Options that exceed the device's memory are out. Then, by goal:

- ``delay``: the shortest round. It ends with its slowest device, and the edge server computes for one split device
  after the other, so each split one makes the round longer for all.
- ``accuracy``: the shortest round's delay, times ``1 + slack``, is the deadline; device by device, the largest rank
  that keeps it.
- ``energy``: every device takes the option with least energy.

Ties go to the whole model on the device, then to less energy.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from airlam.edge.selection import Candidate
from airlam.errors import RecipeError
from airlam.recipes import check_choice
from airlam.resources import Device

GOALS = ("accuracy", "delay", "energy")


@dataclass(frozen=True)
class Option:
    """One way for a device to take part.

    Attributes:
        mode: ``local`` or ``split``. layers: of the backbone on the device (split). rank: of the adapters.
        memory: bytes that training needs on the device. seconds, joules: modelled, of a round.
        up_bytes, down_bytes: of a round. server_seconds: of ``seconds``, what the edge server computes for it.
    """

    mode: str
    layers: int
    rank: int
    memory: float
    seconds: float
    joules: float
    up_bytes: float
    down_bytes: float
    server_seconds: float = 0.0

    @property
    def own_seconds(self) -> float:
        """What the device and its link take."""
        return self.seconds - self.server_seconds

    def __str__(self) -> str:
        return f"local, rank {self.rank}" if self.mode == "local" else f"split at {self.layers}, rank {self.rank}"


@dataclass(frozen=True)
class Need:
    """What an option costs a device, before its radio is known; see :class:`Option`. ``flops``, ``server_flops`` of a
    round."""

    mode: str
    layers: int
    rank: int
    memory: float
    flops: float
    up_bytes: float
    down_bytes: float
    server_flops: float = 0.0


def priced(need: Need, candidate: Candidate, bandwidth: float, server: Device) -> Option:
    """An option with its delay and energy, from the device and link of ``candidate`` in a share of the band [Hz], and
    the edge server that computes the other part."""
    c = replace(candidate, flops=need.flops, up_bytes=need.up_bytes, down_bytes=need.down_bytes)
    waits = server.compute_seconds(need.server_flops)
    return Option(
        need.mode,
        need.layers,
        need.rank,
        need.memory,
        sum(c.seconds(bandwidth)) + waits,
        c.joules(bandwidth),
        need.up_bytes,
        need.down_bytes,
        waits,
    )


def choose_options(
    options: Mapping[str, Sequence[Option]],
    devices: dict[str, Device],
    *,
    goal: str = "accuracy",
    slack: float = 0.1,
    min_rank: int = 1,
) -> dict[str, Option]:
    """An option for every site; see the module's docstring.

    Raises:
        RecipeError: a device cannot hold any option.
    """
    check_choice("goal", goal, GOALS)
    able: dict[str, list[Option]] = {}
    for label, every in options.items():
        limit = devices[label].memory_bytes
        able[label] = [o for o in every if o.memory <= limit and o.rank >= min_rank and math.isfinite(o.seconds)]
        if not able[label]:
            least = min(every, key=lambda o: o.memory)
            raise RecipeError(
                f"{label}: {devices[label].name} has {limit / 1e6:.1f} MB and its smallest option ({least}) needs "
                f"{least.memory / 1e6:.1f} MB, or its radio is in outage: take a smaller batch_size, a student, or "
                "another device"
            )
    if goal == "energy":
        return {label: min(every, key=lambda o: (o.joules, o.mode)) for label, every in able.items()}
    chosen = shortest_round(able)
    if goal == "delay":
        return chosen
    deadline = (1 + slack) * together(chosen)["seconds"]
    for label, every in able.items():
        for option in sorted(every, key=lambda o: (-o.rank, o.mode, o.joules)):
            if together({**chosen, label: option})["seconds"] <= deadline:
                chosen[label] = option
                break
    return chosen


def shortest_round(able: Mapping[str, Sequence[Option]]) -> dict[str, Option]:
    """The options with the shortest round.

    For every bound on the devices' own time: each takes, of its options within, the one with least work for the server,
    of like ones the fastest. The shortest round is among these.
    """

    def within(bound: float) -> dict[str, Option]:
        inside = {label: [o for o in every if o.own_seconds <= bound] for label, every in able.items()}
        return {
            label: min(every, key=lambda o: (o.server_seconds, o.seconds, o.mode)) for label, every in inside.items()
        }

    least = max(min(o.own_seconds for o in every) for every in able.values())
    most = together(within(least))["seconds"]  # a device that takes longer by itself helps nobody
    bounds = sorted({o.own_seconds for every in able.values() for o in every if least <= o.own_seconds <= most})
    return min((within(bound) for bound in bounds), key=lambda chosen: together(chosen)["seconds"])


def uniform_choice(options: Mapping[str, Sequence[Option]], devices: dict[str, Device]) -> dict[str, Option] | None:
    """The same option for everyone: of those that every device can hold, the one with the shortest round, and of like
    ones (within a tenth) the largest rank. None if there is none."""
    table = {label: {(o.mode, o.layers, o.rank): o for o in every} for label, every in options.items()}
    shared = set.intersection(*(set(every) for every in table.values()))
    held = [k for k in shared if all(table[label][k].memory <= devices[label].memory_bytes for label in table)]
    if not held:
        return None
    rounds = {key: together({label: table[label][key] for label in table})["seconds"] for key in held}
    shortest = min(rounds.values())
    best = max((key for key in held if rounds[key] <= 1.1 * shortest), key=lambda key: (key[2], -rounds[key]))
    return {label: table[label][best] for label in table}


def together(chosen: dict[str, Option]) -> dict[str, float]:
    """What a round costs: its delay [s], everyone's energy [J] and bytes, and the mean rank.

    The edge server computes for one device after the other: each split device waits for all of them.
    """
    options = list(chosen.values())
    return {
        "seconds": max(o.own_seconds for o in options) + sum(o.server_seconds for o in options),
        "joules": sum(o.joules for o in options),
        "megabytes": sum(o.up_bytes + o.down_bytes for o in options) / 1e6,
        "mean_rank": sum(o.rank for o in options) / len(options),
    }
