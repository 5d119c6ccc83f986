"""The pool: devices that train one model together, and the links between them.

A pool is a YAML (``tasks/pretraining/devices.yaml`` ships)::

    devices:
      desk: small-cell                                  # a profile of airlam.resources
      phone-1: {profile: phone, memory_bytes: 1.0e9, inputs: [csi, position]}
    links:
      rate: 100.0e6                                     # bit/s, of every pair that is not named below
      latency: 0.002                                    # s, one way
      between:
        - {devices: [desk, phone-1], rate: 20.0e6}
    grid_intensity: 400                                 # gCO2e/kWh
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

import numpy as np

from airlam.errors import RecipeError
from airlam.recipes import check_keys, check_number, find_recipe, nearest, read_yaml
from airlam.resources import Device, device

INPUTS = ("csi", "pilots", "position", "velocity", "occupancy", "depth")
EFFICIENCY = 0.8
"""Part of a link's rate that payload gets: gloo over shaped TCP links reached 0.78 to 0.86 (*measured*)."""
FIELDS = ("profile", "inputs", *(one.name for one in fields(Device)))
GRID_INTENSITY = 400.0
"""gCO2e of a kWh of electricity: close to the world's mean of the last years (Ember, 480 in 2023, falling)."""


@dataclass(frozen=True)
class Member:
    """A device of a pool.

    Attributes:
        name: in the pool. device: what it can do. inputs: which inputs of the model it holds, out of :data:`INPUTS`.
    """

    name: str
    device: Device
    inputs: tuple[str, ...] = ()


@dataclass(frozen=True)
class Pool:
    """Devices and the links between them.

    Attributes:
        members: the devices.
        rate: ``[device, device]`` in bit/s, what the link from row to column is rated at. latency: likewise in s.
        efficiency: part of the rate that payload gets. grid_intensity: gCO2e/kWh.

    Example:
        >>> pool = Pool.of(["phone", "gateway"], rate=8e6, latency=0.01, efficiency=1.0)
        >>> pool.seconds(0, 1, 1e6)
        1.01
    """

    members: tuple[Member, ...]
    rate: np.ndarray = field(repr=False)
    latency: np.ndarray = field(repr=False)
    efficiency: float = EFFICIENCY
    grid_intensity: float = GRID_INTENSITY

    @classmethod
    def of(
        cls,
        devices: Iterable[str | Device | Member],
        *,
        rate: float | np.ndarray,
        latency: float | np.ndarray = 0.0,
        efficiency: float = EFFICIENCY,
        grid_intensity: float = GRID_INTENSITY,
    ) -> Pool:
        """A pool from devices (or names of profiles) and one rate [bit/s] and latency [s], or a matrix of them."""
        members = []
        for number, one in enumerate(devices):
            if not isinstance(one, Member):
                found = device(one) if isinstance(one, str) else one
                one = Member(f"{found.name}-{number}", found)
            members.append(one)
        n = len(members)
        return cls(
            tuple(members),
            np.broadcast_to(np.asarray(rate, float), (n, n)).copy(),
            np.broadcast_to(np.asarray(latency, float), (n, n)).copy(),
            efficiency,
            grid_intensity,
        )

    def __len__(self) -> int:
        return len(self.members)

    @property
    def names(self) -> list[str]:
        """Of the devices."""
        return [member.name for member in self.members]

    def device(self, number: int) -> Device:
        """By its number."""
        return self.members[number].device

    def seconds(self, source: int, target: int, payload: float) -> float:
        """Time of one message of so many bytes."""
        return float(self.latency[source, target] + 8 * payload / self.payload_rate(source, target))

    def payload_rate(self, source: int, target: int) -> float:
        """Bits of payload a second."""
        return float(self.rate[source, target] * self.efficiency)

    def part(self, numbers: Sequence[int]) -> Pool:
        """The pool of some of the devices, in this order."""
        at = np.ix_(list(numbers), list(numbers))
        members = tuple(self.members[n] for n in numbers)
        return replace(self, members=members, rate=self.rate[at], latency=self.latency[at])


def read_pool(path: str | Path) -> Pool:
    """The pool of a YAML; see the module's docstring.

    Raises:
        RecipeError: no such file, a key, profile or device that does not exist (with the nearest one), or a value out
            of bounds.
    """
    found = find_recipe(path)
    return make_pool(read_yaml(found), str(found))


def make_pool(data: Mapping[str, Any], source: str = "devices") -> Pool:
    """A pool from the content of its YAML.

    Args:
        source: the file, the beginning of every error.
    """
    check_keys(source, data, ("devices", "links", "grid_intensity"))
    given = data.get("devices")
    if not isinstance(given, Mapping) or not given:
        raise RecipeError(f"{source}: devices is {given!r}, but must be a mapping from names to devices")
    members = tuple(_member(str(name), spec, f"{source}: devices: {name}") for name, spec in given.items())
    rate, latency, efficiency = _links(data.get("links"), [m.name for m in members], f"{source}: links")
    intensity = check_number(f"{source}: grid_intensity", data.get("grid_intensity", GRID_INTENSITY), 0, 5000)
    return Pool(members, rate, latency, efficiency, intensity)


def _member(name: str, spec: Any, source: str) -> Member:
    given, inputs = spec, ()
    if isinstance(spec, Mapping):
        check_keys(f"{source}: a device", spec, FIELDS)
        given, inputs = {key: value for key, value in spec.items() if key != "inputs"}, spec.get("inputs", ())
    if not isinstance(inputs, (list, tuple)):
        raise RecipeError(f"{source}: inputs is {inputs!r}, but must be a list out of {', '.join(INPUTS)}")
    for one in inputs:
        if one not in INPUTS:
            hint = nearest(str(one), INPUTS) or f"; inputs: {', '.join(INPUTS)}"
            raise RecipeError(f"{source}: there is no input {one!r}{hint}")
    try:
        found = device(given)
    except RecipeError as error:
        raise RecipeError(f"{source}: {error}") from None
    return Member(name, found, tuple(dict.fromkeys(inputs)))


def _links(given: Any, names: list[str], source: str) -> tuple[np.ndarray, np.ndarray, float]:
    """Rates and latencies of all pairs, and the efficiency."""
    if not isinstance(given, Mapping) or "rate" not in given:
        raise RecipeError(f"{source} is {given!r}, but must be a mapping with a rate [bit/s] for all pairs")
    check_keys(source, given, ("rate", "latency", "efficiency", "between"))
    n = len(names)
    rate = np.full((n, n), _rate(given["rate"], source))
    latency = np.full((n, n), _latency(given.get("latency", 0.0), source))
    between = given.get("between") or []
    if not isinstance(between, list):
        raise RecipeError(f"{source}: between is {between!r}, but must be a list of links")
    for number, link in enumerate(between):
        where = f"{source}: between[{number}]"
        if not isinstance(link, Mapping):
            raise RecipeError(f"{where} is {link!r}, but must be a mapping such as {{devices: [a, b], rate: 20.0e6}}")
        check_keys(where, link, ("devices", "rate", "latency"))
        ends = link.get("devices")
        if not isinstance(ends, list) or len(ends) != 2 or ends[0] == ends[1]:
            raise RecipeError(f"{where}: devices is {ends!r}, but must be the names of two devices")
        for end in ends:
            if end not in names:
                hint = nearest(str(end), names) or f"; devices: {', '.join(names)}"
                raise RecipeError(f"{where} leads to {end!r}, which is no device of this pool{hint}")
        a, b = (names.index(end) for end in ends)
        if "rate" in link:
            rate[a, b] = rate[b, a] = _rate(link["rate"], where)
        if "latency" in link:
            latency[a, b] = latency[b, a] = _latency(link["latency"], where)
    return rate, latency, check_number(f"{source}: efficiency", given.get("efficiency", EFFICIENCY), 0.01, 1)


def _rate(value: Any, source: str) -> float:
    return check_number(f"{source}: rate", value, 1, 1e15, unit="bit/s")


def _latency(value: Any, source: str) -> float:
    return check_number(f"{source}: latency", value, 0, 3600, unit="s")
