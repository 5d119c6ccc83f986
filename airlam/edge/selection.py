"""Who takes part in a round, and which share of the band each gets.

The delay of a round is that of its slowest device: download, compute, upload. For a given set of devices the best
shares of the band give all of them the same delay; :func:`allocate` finds it by bisection. Which set to take is a
small integer programme at every delay that bisection asks about (:func:`fastest`), solved by HiGHS through SciPy.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.optimize import Bounds, LinearConstraint, milp

from airlam.errors import RecipeError
from airlam.resources import Device, RadioLink

TOLERANCE = 1e-4  # of delays, relative


@dataclass(frozen=True)
class Candidate:
    """A device that could take part.

    Attributes:
        device, link: its profile, and its radio link in this round.
        flops: that it would compute. down_bytes, up_bytes: that it would receive and send.
        samples: training links it has.
        must: whether it has to take part.
    """

    device: Device
    link: RadioLink
    flops: float
    down_bytes: float
    up_bytes: float
    samples: int = 1
    must: bool = False

    def seconds(self, bandwidth: float) -> tuple[float, float, float]:
        """Download, computation, upload, with a share of the band [Hz]."""
        down, up = self.link.rate("down", bandwidth), self.link.rate("up", bandwidth)
        return (
            8 * self.down_bytes / float(down) if down > 0 else math.inf,
            self.device.compute_seconds(self.flops),
            8 * self.up_bytes / float(up) if up > 0 else math.inf,
        )

    def joules(self, bandwidth: float) -> float:
        """Energy of the device over the round."""
        down, _, up = self.seconds(bandwidth)
        computed = self.device.compute_joules(self.flops)
        return computed + self.device.receive_joules(down) + self.device.transmit_joules(up)


@dataclass(frozen=True)
class Allocation:
    """Shares of the band [Hz] of the chosen candidates (their indices), and the round's delay [s]."""

    chosen: tuple[int, ...]
    bandwidth: tuple[float, ...]
    seconds: float


def least_bandwidth(candidate: Candidate, seconds: float) -> float:
    """The smallest share of the band [Hz] with which a candidate is done in time; infinite if there is none.

    Found on a grid, then refined: a wider share is faster only until the device's power is spread so thin that the
    link breaks.
    """
    band = candidate.link.cell.bandwidth
    shares = band * np.geomspace(1e-5, 1, 400)
    down, up = candidate.link.rate("down", shares), candidate.link.rate("up", shares)
    with np.errstate(divide="ignore"):
        needed = 8 * (candidate.down_bytes / down + candidate.up_bytes / up)
    in_time = np.asarray(needed + candidate.device.compute_seconds(candidate.flops) <= seconds)
    if not in_time.any():
        return math.inf
    first = int(in_time.argmax())
    low, high = (0.0 if first == 0 else shares[first - 1]), shares[first]
    for _ in range(30):
        middle = (low + high) / 2
        if middle > 0 and sum(candidate.seconds(middle)) <= seconds:
            high = middle
        else:
            low = middle
    return float(high)


def allocate(candidates: list[Candidate], chosen: tuple[int, ...]) -> Allocation:
    """The shares of the band with which all of ``chosen`` are done at the same, earliest time.

    A device in outage makes the delay infinite; all shares are then equal.
    """
    band = candidates[chosen[0]].link.cell.bandwidth

    def shares(seconds: float) -> list[float]:
        return [least_bandwidth(candidates[n], seconds) for n in chosen]

    best = _bisect(lambda seconds: sum(shares(seconds)) <= band)
    if best is None:
        return Allocation(chosen, (band / len(chosen),) * len(chosen), math.inf)
    found = shares(best)
    return Allocation(chosen, tuple(found), best)


def equal_shares(candidates: list[Candidate], chosen: tuple[int, ...]) -> Allocation:
    """The same share of the band for everyone."""
    share = candidates[chosen[0]].link.cell.bandwidth / len(chosen)
    return Allocation(chosen, (share,) * len(chosen), max(sum(candidates[n].seconds(share)) for n in chosen))


def fastest(
    candidates: list[Candidate], devices: int, *, min_samples: int = 0, max_joules: float | None = None
) -> Allocation:
    """At least ``devices`` candidates, with at least ``min_samples`` training links, whose round is shortest.

    Args:
        max_joules: of a device in its share of the band; the greediest is left out until all stay below. Not of those
            that must take part.

    Raises:
        RecipeError: no set satisfies the constraints.

    Example:
        >>> from airlam.resources import Cell, device, draw_link
        >>> links = [draw_link(Cell(), 80.0 + 60 * n, 23.0, place_seed=n, round_seed=0) for n in range(4)]
        >>> found = fastest([Candidate(device("phone"), link, 1e10, 2e5, 2e5) for link in links], 2)
        >>> len(found.chosen)
        2
    """
    left_out: set[int] = set()
    while True:
        found = _fastest_of(candidates, devices, min_samples, left_out, max_joules)
        spent = {n: candidates[n].joules(b) for n, b in zip(found.chosen, found.bandwidth, strict=True)}
        over = {n: joules for n, joules in spent.items() if not candidates[n].must}
        worst = max(over, key=over.__getitem__, default=None)
        if max_joules is None or worst is None or over[worst] <= max_joules:
            return found
        left_out.add(worst)


def _fastest_of(
    candidates: list[Candidate], devices: int, min_samples: int, left_out: set[int], max_joules: float | None
) -> Allocation:
    """:func:`fastest` of the candidates that are not left out, whatever energy they need."""
    band = candidates[0].link.cell.bandwidth
    able = [n for n in range(len(candidates)) if n not in left_out]
    samples = np.array([candidates[n].samples for n in able], dtype=float)
    must = np.array([candidates[n].must for n in able], dtype=float)
    if len(able) < devices or samples.sum() < min_samples:
        raise RecipeError(
            f"{len(able)} of {len(candidates)} devices stay within {max_joules} J, with {samples.sum():g} training "
            f"links; but {devices} devices with {min_samples} links are wanted: raise max_joules or ask for fewer"
        )

    def best_set(seconds: float) -> tuple[int, ...] | None:
        """The set that needs least bandwidth to be done in time; None if no set is."""
        cost = np.array([least_bandwidth(candidates[n], seconds) for n in able]) / band
        possible = np.isfinite(cost)
        if (must > possible).any() or possible.sum() < devices:
            return None
        found = milp(
            np.where(possible, cost, 0.0),
            constraints=[
                LinearConstraint(np.ones(len(able)), lb=devices),
                LinearConstraint(samples, lb=min_samples),
                LinearConstraint(np.where(possible, cost, 0.0), ub=1.0),
            ],
            integrality=np.ones(len(able)),
            bounds=Bounds(must, possible.astype(float)),
        )
        return tuple(able[n] for n in np.flatnonzero(found.x > 0.5)) if found.success else None

    best = _bisect(lambda seconds: best_set(seconds) is not None)
    if best is None:
        raise RecipeError(
            f"no {devices} devices with {min_samples} training links can finish a round: too many are in outage"
        )
    chosen = best_set(best)
    assert chosen is not None
    return allocate(candidates, chosen)


def _bisect(in_time: Any, longest: float = 1e7) -> float | None:
    """The smallest delay [s] that can be kept; None if there is none."""
    if not in_time(longest):
        return None
    low, high = 1e-6, longest
    while high / low > 1 + TOLERANCE:
        middle = math.sqrt(low * high)
        low, high = (low, middle) if in_time(middle) else (middle, high)
    return high


def choose(
    policy: str,
    candidates: list[Candidate],
    devices: int,
    *,
    server_round: int,
    seed: int,
    max_joules: float | None = None,
) -> Allocation:
    """The devices of a round by ``policy``: ``all``, ``random``, ``round_robin`` (equal shares of the band), or
    ``fastest`` (shares and set chosen together)."""
    return POLICIES[policy](candidates, devices, server_round, seed, max_joules)


def _all(
    candidates: list[Candidate], devices: int, server_round: int, seed: int, max_joules: float | None
) -> Allocation:
    return equal_shares(candidates, tuple(range(len(candidates))))


def _random(
    candidates: list[Candidate], devices: int, server_round: int, seed: int, max_joules: float | None
) -> Allocation:
    drawn = np.random.default_rng([seed, server_round]).choice(len(candidates), devices, replace=False)
    return equal_shares(candidates, tuple(sorted(int(n) for n in drawn)))


def _round_robin(
    candidates: list[Candidate], devices: int, server_round: int, seed: int, max_joules: float | None
) -> Allocation:
    first = (server_round - 1) * devices
    return equal_shares(candidates, tuple(sorted({(first + n) % len(candidates) for n in range(devices)})))


def _fastest(
    candidates: list[Candidate], devices: int, server_round: int, seed: int, max_joules: float | None
) -> Allocation:
    for count in range(devices, 0, -1):  # fewer, if so many cannot keep to their energy in this round
        try:
            return fastest(candidates, count, max_joules=max_joules)
        except RecipeError:
            continue
    return Allocation((), (), 0.0)


POLICIES = {"all": _all, "random": _random, "round_robin": _round_robin, "fastest": _fastest}
