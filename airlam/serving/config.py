"""What a server serves, and its bounds: the recipe of ``airlam serve``."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, is_dataclass
from pathlib import Path
from typing import Any, Self

from airlam.errors import RecipeError
from airlam.recipes import check_choice, check_keys, check_number, check_switch, find_recipe, merged, nearest, read_yaml
from airlam.recipes.build import read_class
from airlam.serving.listening import Listen

RUNTIMES = ("torch", "kernels")


@dataclass(frozen=True)
class Served:
    """One predictor or precoder.

    Attributes:
        source: what ``airlam.load_predictor`` or ``load_precoder`` takes; empty: the name it is served under.
        adapters: name -> folder of LoRA adapters; all are loaded once and share the weights of the backbone.
        options: arguments of the method's class.
        runtime: ``"torch"``; ``"kernels"``: predictions alone, without an adapter, come link by link from
            :class:`airlam.realtime.FastPredictor`, whose values are those of torch to rounding; all else as with torch.
    """

    source: str = ""
    adapters: Mapping[str, str] = field(default_factory=dict)
    options: Mapping[str, Any] = field(default_factory=dict)
    runtime: str = "torch"

    def __post_init__(self) -> None:
        check_choice("runtime", self.runtime, RUNTIMES)
        for name, value in (("adapters", self.adapters), ("options", self.options)):
            if not isinstance(value, Mapping):
                raise RecipeError(f"{name} is {value!r}, but must be a mapping")


@dataclass(frozen=True)
class Batching:
    """How requests are collected into one pass.

    Attributes:
        largest: requests of one pass. wait_ms: how long the first waits for others. links: of one pass, at most.
    """

    largest: int = 16
    wait_ms: float = 0.0
    links: int = 64

    def __post_init__(self) -> None:
        check_number("batching.largest", self.largest, 1, 1024, integer=True)
        check_number("batching.wait_ms", self.wait_ms, 0, 1000)
        check_number("batching.links", self.links, 1, 4096, integer=True)


@dataclass(frozen=True)
class Sessions:
    """Streams of users.

    Attributes:
        most: on one replica. idle_s: seconds without a slot after which a session is forgotten. refresh_every: slots
            between two refreshes of a stream's filters. engines: shapes of streams that one replica holds.
        background: filters are renewed in a thread beside the pushes; values then depend on when they are ready.
    """

    most: int = 2000
    idle_s: float = 600.0
    refresh_every: int = 32
    engines: int = 16
    background: bool = False

    def __post_init__(self) -> None:
        for name, low in (("most", 1), ("refresh_every", 1), ("engines", 1)):
            check_number(f"sessions.{name}", getattr(self, name), low, 10**6, integer=True)
        check_number("sessions.idle_s", self.idle_s, 1, 1e6)
        check_switch("sessions.background", self.background)


@dataclass(frozen=True)
class Autoscale:
    """Copies of the ingress that follow the load, as Ray Serve counts it: requests that wait or run.

    Attributes:
        most: copies under load; ``replicas`` is then the least. 0: always ``replicas`` of them.
        requests: wanted on each copy, in the mean. up_s, down_s: how long it must be more, or less, before copies are
            added or ended.
    """

    most: int = 0
    requests: float = 4.0
    up_s: float = 5.0
    down_s: float = 120.0

    def __post_init__(self) -> None:
        check_number("autoscale.most", self.most, 0, 1000, integer=True)
        check_number("autoscale.requests", self.requests, 0.1, 1e4)
        for name in ("up_s", "down_s"):
            check_number(f"autoscale.{name}", getattr(self, name), 0, 1e5)


@dataclass(frozen=True)
class Limits:
    """Bounds of a request.

    Attributes:
        body_mb: megabytes of a body, looked at before it is read. links: of one request. entries: complex numbers of
            one array. num_future: slots to predict. waiting: requests that wait on one replica; more are answered with
            503. body_s: seconds within which a body must arrive. json_entries: complex numbers of a JSON body.
        answer_mb: megabytes of an answer.
    """

    body_mb: float = 64.0
    links: int = 64
    entries: int = 8_000_000
    num_future: int = 64
    waiting: int = 64
    body_s: float = 10.0
    json_entries: int = 20_000
    answer_mb: float = 512.0

    def __post_init__(self) -> None:
        for each in fields(self):
            check_number(f"limits.{each.name}", getattr(self, each.name), 1e-6, 1e12)

    @property
    def body_bytes(self) -> int:
        return math.floor(self.body_mb * 1e6)


@dataclass(frozen=True)
class Warm:
    """What every predictor runs before the first request: the sizes that are expected.

    Attributes:
        slots, subcarriers, rx_ants, tx_ants: of a history; no slots: nothing is run. num_future: slots to predict.
        port_shape: (polarisations, columns, rows); empty: one line.
    """

    slots: int = 16
    subcarriers: int = 48
    rx_ants: int = 1
    tx_ants: int = 32
    num_future: int = 4
    port_shape: tuple[int, ...] = (2, 4, 4)

    def __post_init__(self) -> None:
        for name, low in (("slots", 0), ("subcarriers", 1), ("rx_ants", 1), ("tx_ants", 1), ("num_future", 1)):
            check_number(f"warm.{name}", getattr(self, name), low, 4096, integer=True)
        object.__setattr__(self, "port_shape", tuple(self.port_shape))
        if self.port_shape and (len(self.port_shape) != 3 or math.prod(self.port_shape) != self.tx_ants):
            raise RecipeError(
                f"warm.port_shape is {self.port_shape}, but must be three numbers of product {self.tx_ants}"
            )


SECTIONS = {
    "batching": Batching,
    "sessions": Sessions,
    "autoscale": Autoscale,
    "limits": Limits,
    "warm": Warm,
    "listen": Listen,
}


@dataclass(frozen=True)
class ServingConfig:
    """The recipe of a server. Nothing that is not named here can be asked for.

    Attributes:
        predictors: name -> :class:`Served` or its fields; methods and checkpoints for ``/v1/predict`` and sessions.
        precoders: the same for ``/v1/precode``.
        beams: name -> checkpoint of a beam predictor, for ``/v1/beams``.
        classic: the predictor that answers where a deadline would be missed; empty: none.
        batching, sessions, autoscale, limits, warm, listen: see their classes.
        replicas: copies of the ingress.
        groups: names of the services that share a replica: ``tokenizer``, ``backbone``, ``heads`` in this order, and
            where wanted ``classics`` (predictors without stages) and ``precoding`` (precoders, beams). The last two run
            with the tokenizer, where requests arrive, if no group names them. See :mod:`airlam.serving.placement`.
        stage_replicas: copies of the further groups, by group number as text; those that are not named: 1.
        node: resource that the replicas of each group ask for, by group number as text; empty: any node.
        num_cpus: processor cores that a replica asks Ray for.

    Example:
        >>> ServingConfig(predictors={"ar": {"options": {"order": 4}}}, classic="ar").predictors["ar"].options
        {'order': 4}
    """

    predictors: Mapping[str, Any] = field(default_factory=lambda: {"airlam-tiny": {}, "eigen-ar": {}, "hold": {}})
    precoders: Mapping[str, Any] = field(default_factory=dict)
    beams: Mapping[str, Any] = field(default_factory=dict)
    classic: str = "eigen-ar"
    batching: Batching = field(default_factory=Batching)
    sessions: Sessions = field(default_factory=Sessions)
    autoscale: Autoscale = field(default_factory=Autoscale)
    limits: Limits = field(default_factory=Limits)
    warm: Warm = field(default_factory=Warm)
    listen: Listen = field(default_factory=Listen)
    replicas: int = 1
    groups: Any = (("tokenizer", "backbone", "heads"),)
    stage_replicas: Mapping[str, int] = field(default_factory=dict)
    node: Mapping[str, str] = field(default_factory=dict)
    num_cpus: float = 1.0

    def __post_init__(self) -> None:
        for name in ("predictors", "precoders", "beams"):
            object.__setattr__(self, name, _served(name, getattr(self, name)))
        for name, kind in SECTIONS.items():
            object.__setattr__(self, name, _section(name, kind, getattr(self, name)))
        if self.classic and self.classic not in self.predictors:
            hint = nearest(self.classic, self.predictors) or ";"
            raise RecipeError(
                f"classic is {self.classic!r}, but must be one of the predictors{hint} {', '.join(self.predictors)}"
            )
        check_number("replicas", self.replicas, 1, 1000, integer=True)
        if 0 < self.autoscale.most < self.replicas:
            raise RecipeError(
                f"autoscale.most is {self.autoscale.most}, but must be at least replicas, {self.replicas}, or 0"
            )
        check_number("num_cpus", self.num_cpus, 0, 1024)
        object.__setattr__(self, "groups", _groups(self.groups))
        for name in ("node", "stage_replicas"):
            check_keys(name, getattr(self, name), [str(k) for k in range(len(self.groups))])
        for name, count in self.stage_replicas.items():
            check_number(f"stage_replicas.{name}", count, 1, 1000, integer=True)

    @classmethod
    def read(cls, path: str | Path, changes: Mapping[str, Any] | None = None) -> Self:
        """From a YAML: a path, or the name of a shipped recipe.

        Raises:
            RecipeError: no such file, or a key or value that means nothing.
        """
        found = find_recipe(path)
        class_path, init_args = read_class(read_yaml(found), str(found))
        if class_path.rpartition(".")[2] != cls.__name__:
            raise RecipeError(f"{found} describes {class_path}, but must describe airlam.serving.{cls.__name__}")
        given = merged(cls, init_args, changes or {})
        check_keys(str(found), given, [each.name for each in fields(cls)])
        return cls(**given)

    def plain(self) -> dict[str, Any]:
        """Everything but secrets, for reports; ``ServingConfig(**plain)`` is the same again."""
        return {each.name: _plain(getattr(self, each.name)) for each in fields(self)}


def _plain(value: Any) -> Any:
    if is_dataclass(value) and not isinstance(value, type):
        return asdict(value)
    if isinstance(value, Mapping):
        return {key: _plain(each) for key, each in value.items()}
    return [_plain(each) for each in value] if isinstance(value, (list, tuple)) else value


def _served(name: str, given: Any) -> dict[str, Served]:
    if not isinstance(given, Mapping):
        raise RecipeError(f"{name} is {given!r}, but must be a mapping from names to what is served")
    out = {}
    for key, value in given.items():
        if not isinstance(key, str) or not key or not all(c.isalnum() or c in "-_." for c in key):
            raise RecipeError(f"{name} has the name {key!r}, but names are letters, digits, '-', '_' and '.'")
        out[key] = _section(f"{name}.{key}", Served, value or {})
    return out


def _section(name: str, kind: type, value: Any) -> Any:
    if isinstance(value, kind):
        return value
    if not isinstance(value, Mapping):
        raise RecipeError(f"{name} is {value!r}, but must be a mapping")
    check_keys(name, value, [each.name for each in fields(kind)])  # type: ignore[arg-type]
    return kind(**value)


STAGES = ("tokenizer", "backbone", "heads")
LIGHT = ("classics", "precoding")  # further services that a group may name


def _groups(groups: Any) -> tuple[tuple[str, ...], ...]:
    out = tuple(tuple(group) for group in groups)
    named = [service for group in out for service in group]
    stages, light = [s for s in named if s not in LIGHT], [s for s in named if s in LIGHT]
    if tuple(stages) != STAGES or not all(out) or "tokenizer" not in out[0] or len(light) != len(set(light)):
        raise RecipeError(
            f"groups is {groups!r}, but must cut {', '.join(STAGES)} into consecutive groups, the tokenizer's first; "
            f"{' and '.join(LIGHT)} may stand in any of them, or in one of their own, once"
        )
    return out
