"""Arguments of the benchmark of mechanisms: dataclasses that check their own values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any

from airlam.edge.parallel.recipe import MODES
from airlam.errors import RecipeError
from airlam.evaluation.engine.config import Arguments, at_least, not_empty
from airlam.recipes import check_choice, check_keys, check_number, check_positive
from airlam.resources import device

KINDS = ("cloud", "one device", "federated", "split", "collaborative", "planned")
SHARES = ("owners", "speed", "equal")
GOALS = ("time", "energy")


@dataclass(frozen=True)
class Mechanism:
    """One way to train the workload.

    Attributes:
        kind: ``cloud`` (all raw data goes up to the server, which trains), ``one device`` (the fastest one), federated
            (weights or adapters travel), ``split`` (backbone on the server), ``collaborative`` (all owners in one
            step, see ``mode``), ``planned`` (mode, devices and shares by the planner).
        data: of ``one device``: ``own``, or ``all``: the others send it theirs.
        mode, shard, mesh, micro_batches: of ``collaborative``, as :class:`airlam.edge.parallel.ParallelTraining` has
            them. devices: owners that take part, in the order of ranks; None: all.
        shares: ``speed``: by the devices' speed; ``equal``; ``owners`` (mode data): every device its own links, so that
            none moves.
        layers, loops: a model with the first so many layers of the workload's, run through so often; None: as it is.
        lora_rank: of adapters, ``federated`` and ``split``; None: all weights.
        learning_rate: None: the workload's.
        goal: of ``planned``: ``time`` or ``energy``.

    Example:
        >>> Mechanism.of("pipeline", {"mode": "pipeline"}).kind
        'collaborative'
    """

    kind: str
    data: str = "all"
    mode: str = "data"
    shares: str = "speed"
    devices: tuple[str, ...] | None = None
    shard: bool = False
    mesh: Mapping[str, int] | None = None
    micro_batches: int = 4
    layers: int | None = None
    loops: int | None = None
    lora_rank: int | None = None
    learning_rate: float | None = None
    goal: str = "time"

    @classmethod
    def of(cls, name: str, data: Any) -> Mechanism:
        """From a recipe. A ``mode`` alone means collaborative training.

        Raises:
            RecipeError: a key or value that does not exist, named by its mechanism.
        """
        where = f"mechanisms.{name}"
        if not isinstance(data, Mapping):
            raise RecipeError(f"{where} is {data!r}, but must be a mapping with a kind or a mode")
        check_keys(where, data, tuple(one.name for one in fields(cls)))
        given = {"kind": "collaborative", **data} if "mode" in data else dict(data)
        if "kind" not in given:
            raise RecipeError(f"{where} has no kind; kinds: {', '.join(KINDS)}")
        if isinstance(given.get("devices"), list):
            given["devices"] = tuple(given["devices"])
        made = cls(**given)
        check_choice(f"{where}.kind", made.kind, KINDS)
        check_choice(f"{where}.mode", made.mode, MODES)
        check_choice(f"{where}.data", made.data, ("own", "all"))
        check_choice(f"{where}.shares", made.shares, SHARES)
        check_choice(f"{where}.goal", made.goal, GOALS)
        for key in ("layers", "loops", "lora_rank", "micro_batches"):
            if getattr(made, key) is not None:
                at_least(f"{where}.{key}", getattr(made, key), 1)
        if made.learning_rate is not None:
            check_positive(f"{where}.learning_rate", made.learning_rate)
        if made.kind == "split" and made.lora_rank is None:
            raise RecipeError(f"{where} has no lora_rank, but split training is of adapters; give one")
        if made.shares == "owners" and (made.kind, made.mode) != ("collaborative", "data"):
            raise RecipeError(f"{where}.shares is owners, but only mode data shares links out; take speed or equal")
        return made

    @property
    def together(self) -> bool:
        """Whether several devices compute one step, by real processes in this benchmark."""
        return self.kind in ("collaborative", "planned")


@dataclass(frozen=True)
class Server:
    """The server behind the devices' uplinks.

    Attributes:
        device: a profile's name or fields. rate: of each device's link to it, bit/s. latency: s, one way.
    """

    device: str = "edge-server"
    rate: float = 50e6
    latency: float = 0.01

    def __post_init__(self) -> None:
        device(self.device)
        object.__setattr__(self, "rate", check_positive("server.rate", self.rate))
        object.__setattr__(self, "latency", check_number("server.latency", self.latency, 0, 60, unit="s"))


@dataclass(frozen=True)
class Proof:
    """Real processes that take the first steps of every collaborative mechanism.

    Attributes:
        steps: that are compared with one process. tolerance: largest relative difference of losses. timeout:
            seconds until processes that do not answer are ended.
    """

    steps: int = 4
    tolerance: float = 1e-4
    timeout: float = 600.0

    def __post_init__(self) -> None:
        at_least("proof.steps", self.steps, 1)
        for name in ("tolerance", "timeout"):
            object.__setattr__(self, name, check_positive(f"proof.{name}", getattr(self, name)))


@dataclass(frozen=True)
class Reach:
    """Larger models and batches, whose steps are modelled alone.

    Attributes:
        models: recipes of pretraining, whose model is taken. batches: links of a step.
    """

    models: Sequence[str] = (
        "tasks/pretraining/airlam_tiny.yaml",
        "tasks/pretraining/airlam_small.yaml",
        "tasks/pretraining/airlam_base.yaml",
    )
    batches: Sequence[int] = (16, 64, 256)

    def __post_init__(self) -> None:
        for batch in self.batches:
            at_least("reach.batches", batch, 1)


def usual_mechanisms() -> dict[str, Any]:
    """Every mechanism once."""
    return {
        "cloud": {"kind": "cloud"},
        "one device, own data": {"kind": "one device", "data": "own"},
        "one device, all data": {"kind": "one device", "data": "all"},
        "federated": {"kind": "federated", "learning_rate": 2e-3},
        "federated, adapters": {"kind": "federated", "lora_rank": 4, "learning_rate": 1e-2},
        "split, adapters": {"kind": "split", "lora_rank": 4, "learning_rate": 4e-3},
        "data": {"mode": "data", "shares": "owners"},
        "data, by speed": {"mode": "data"},
        "data, sharded": {"mode": "data", "shares": "owners", "shard": True},
        "sequence": {"mode": "sequence"},
        "tensor": {"mode": "tensor"},
        "pipeline": {"mode": "pipeline"},
        "looped": {"mode": "looped"},
        "looped, 1 layer x 4": {"mode": "looped", "layers": 1, "loops": 4},
        "hybrid": {"mode": "hybrid", "mesh": {"data": 2, "pipeline": 2}},
        "planned for time": {"kind": "planned", "goal": "time"},
        "planned for energy": {"kind": "planned", "goal": "energy"},
    }


@dataclass(frozen=True)
class ParallelBenchmarkArguments(Arguments):
    """Arguments of :class:`airlam.edge.parallel.benchmark.benchmark.ParallelBenchmark`.

    Attributes:
        devices: the pool: a YAML, see :mod:`airlam.edge.parallel.cost_model.pool`, or its content.
        owners: name of a device -> the users that it owns, a site of :class:`airlam.edge.federated.Federation`.
        workload: arguments of that federation: model, rounds, local steps, batch size, CSI. All mechanisms see
            ``owners * rounds * local_steps * batch_size`` links; those that train one model in steps of all owners take
            ``batch_size`` links a step.
        server: of mechanisms that need one.
        mechanisms: name -> fields of :class:`Mechanism`.
        proof: how collaborative mechanisms are held against one process.
        reach: larger models and batches, for which steps are modelled.
        warmup: steps of those that train one model in steps of all owners.
        seeds: of training. threads: CPU threads.
        only: mechanisms to run now; the report is of all that have been run.
        quick: a small version, for tests: two owners, one seed, a few links.
        title: of the report.

    Raises:
        RecipeError: a key or value that does not exist, or values that do not fit each other.
    """

    devices: str | dict[str, Any] = "tasks/pretraining/devices.yaml"
    owners: dict[str, Any] = field(default_factory=dict)
    workload: dict[str, Any] = field(default_factory=dict)
    server: Server = Server()
    mechanisms: dict[str, Any] = field(default_factory=usual_mechanisms)
    proof: Proof = Proof()
    reach: Reach = Reach()
    warmup: int = 10
    seeds: Sequence[int] = (1, 2, 3)
    threads: int = 1
    only: Sequence[str] = ()
    quick: bool = False
    title: str = "One workload, five mechanisms"

    def __post_init__(self) -> None:
        super().__post_init__()
        at_least("threads", self.threads, 1)
        at_least("warmup", self.warmup, 1)
        for name in ("seeds", "owners", "mechanisms"):
            not_empty(name, getattr(self, name))
        for seed in self.seeds:
            at_least("seeds", seed, 0)
        for name in self.only:
            if name not in self.mechanisms:
                raise RecipeError(f"only names {name!r}, but the mechanisms are {', '.join(self.mechanisms)}")
        if self.workload.get("batch_size", 16) % len(self.owners):
            raise RecipeError(
                f"workload.batch_size is {self.workload.get('batch_size', 16)}, but must be a multiple of the "
                f"{len(self.owners)} owners, who each bring as many links to a step"
            )
