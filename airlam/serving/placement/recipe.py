"""The recipe of ``airlam plan serving``: nodes, links, load."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from airlam.errors import RecipeError
from airlam.recipes import check_keys, check_number, find_recipe, read_yaml
from airlam.serving.config import LIGHT, STAGES, Warm
from airlam.serving.placement.costs import PROCESS_MB, measured_light, measured_services
from airlam.serving.placement.problem import CLIENT, Chain, Link, Node, Problem, Service

KEYS = (
    *("model", "per_second", "also", "nodes", "links", "services"),
    *("hop_ms", "process_mb", "replicas_per_node", "sizes"),
)
NODE, LINK, SERVICE = ("cores", "memory_mb", "speed"), ("between", "latency_ms", "mbit_per_s"), ("ms", "memory_mb")
ALSO, USUAL = ("method", "per_second", "users"), {"classics": "eigen-ar", "precoding": "rzf"}


def read_problem(path: str | Path) -> Problem:
    """The problem that a YAML describes. Services without figures of their own are measured on this machine.

    Raises:
        RecipeError: no such file, or a key or value that means nothing.
    """
    found = find_recipe(path)
    data = read_yaml(found)
    check_keys(str(found), data, KEYS)
    nodes = _mapping(data, "nodes", found)
    made = [_node(name, values) for name, values in nodes.items()]
    links = {}
    for number, each in enumerate(data.get("links") or []):
        a, b, link = _link(f"links[{number}]", each, [*nodes, "clients"])
        links[a, b] = link
    warm = Warm(**(data.get("sizes") or {}))
    services, in_bytes = measured_services(str(data.get("model", "airlam-tiny")), warm)
    rate = check_number("per_second", data.get("per_second", 50), 1e-6, 1e9)
    chains = [Chain(STAGES, rate, in_bytes)]
    for service, chain in _also(data.get("also") or {}, warm):
        services.append(service)
        chains.append(chain)
    given = data.get("services") or {}
    check_keys("services", given, [service.name for service in services])
    services = [_service(service, given.get(service.name)) for service in services]
    return Problem(
        services,
        made,
        chains,
        links,
        hop_s=1e-3 * check_number("hop_ms", data.get("hop_ms", 6.0), 0, 1e6),
        process_mb=check_number("process_mb", data.get("process_mb", PROCESS_MB), 0, 1e9),
        most=check_number("replicas_per_node", data.get("replicas_per_node", 4), 1, 64, integer=True),
        order=STAGES,
    )


def _also(given: Any, warm: Warm) -> Iterator[tuple[Service, Chain]]:
    """Services without stages, and their requests, which arrive where the tokenizer is."""
    if not isinstance(given, Mapping):
        raise RecipeError(f"also is {given!r}, but must be a mapping; keys: {', '.join(LIGHT)}")
    check_keys("also", given, LIGHT)
    for name, values in given.items():
        values = values or {}
        if not isinstance(values, Mapping):
            raise RecipeError(f"also.{name} is {values!r}, but must hold {', '.join(ALSO)}")
        check_keys(f"also.{name}", values, ALSO)
        users = check_number(f"also.{name}.users", values.get("users", 4), 1, 1024, integer=True)
        rate = check_number(f"also.{name}.per_second", values.get("per_second", 10), 1e-6, 1e9)
        service, in_bytes = measured_light(name, str(values.get("method", USUAL[name])), warm, users)
        yield service, Chain((STAGES[0], name), rate, in_bytes, frozenset(STAGES[:1]))


def _mapping(data: Mapping[str, Any], name: str, source: Path) -> Mapping[str, Any]:
    value = data.get(name)
    if not isinstance(value, Mapping) or not value:
        raise RecipeError(f"{source}: {name} is {value!r}, but must be a mapping of names to what they are")
    return value


def _node(name: str, values: Any) -> Node:
    values = values or {}
    if not isinstance(values, Mapping):
        raise RecipeError(f"nodes.{name} is {values!r}, but must hold {', '.join(NODE)}")
    check_keys(f"nodes.{name}", values, NODE)
    return Node(
        str(name),
        check_number(f"nodes.{name}.cores", values.get("cores", 1), 1, 1024, integer=True),
        check_number(f"nodes.{name}.memory_mb", values.get("memory_mb", 4000), 1, 1e9),
        check_number(f"nodes.{name}.speed", values.get("speed", 1.0), 1e-3, 1e3),
    )


def _link(name: str, values: Any, known: list[str]) -> tuple[str, str, Link]:
    if not isinstance(values, Mapping):
        raise RecipeError(f"{name} is {values!r}, but must hold {', '.join(LINK)}")
    check_keys(name, values, LINK)
    ends = values.get("between")
    if not isinstance(ends, list) or len(ends) != 2 or not set(ends) <= set(known):
        raise RecipeError(f"{name}.between is {ends!r}, but must be two of {', '.join(known)}")
    a, b = (CLIENT if end == "clients" else end for end in ends)
    latency = check_number(f"{name}.latency_ms", values.get("latency_ms", 0.0), 0, 1e6)
    rate = check_number(f"{name}.mbit_per_s", values.get("mbit_per_s", 1000), 1e-6, 1e9)
    return a, b, Link(1e-3 * latency, 1e6 * rate / 8)


def _service(measured: Service, values: Any) -> Service:
    """A service with the figures of the recipe in the place of the measured ones."""
    if values is None:
        return measured
    if not isinstance(values, Mapping):
        raise RecipeError(f"services.{measured.name} is {values!r}, but must hold {', '.join(SERVICE)}")
    check_keys(f"services.{measured.name}", values, SERVICE)
    seconds = 1e-3 * check_number(f"services.{measured.name}.ms", values.get("ms", 1e3 * measured.seconds), 1e-6, 1e6)
    memory = check_number(f"services.{measured.name}.memory_mb", values.get("memory_mb", measured.memory_mb), 0, 1e9)
    return Service(measured.name, seconds, memory, measured.out_bytes, measured.core)
