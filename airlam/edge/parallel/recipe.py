"""What a run of collaborative training is: task, data, mode, shares, and how long. A YAML describes one."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from airlam.edge.parallel.adapters.recipe import Adapter
from airlam.edge.parallel.layout import DIMS, Mesh
from airlam.errors import RecipeError
from airlam.io import recipe_hash
from airlam.recipes import (
    check_choice,
    check_number,
    check_positive,
    find_class,
    find_recipe,
    instantiate,
    merged,
    read_class,
    read_yaml,
)

RECIPE = "parallel.json"
"""The resolved recipe, in the run folder."""
MODES = ("data", "sequence", "tensor", "pipeline", "looped", "hybrid")
SCHEDULES = ("1f1b", "gpipe")
PRECISIONS = ("32-true", "bf16-mixed", "64-true")
OPTIMISERS = ("adamw", "sgd")
GOALS = ("time", "energy", "mix")
UNITS = {"data": "links", "pipeline": "layers", "sequence": "tokens", "tensor": "heads"}
"""What each dimension shares out."""
MOST_SHARE = 1_000_000  # shares are proportions
TASKS = ("airlam.tasks.Pretraining", "airlam.tasks.ChannelPrediction")


@dataclass(frozen=True)
class Shares:
    """What each rank of a dimension gets, in proportion: a list of whole numbers, one per rank; None: equal parts.

    Attributes:
        data: links of a batch. pipeline: layers. sequence: tokens. tensor: attention heads and hidden units.
    """

    data: list[int] | None = None
    pipeline: list[int] | None = None
    sequence: list[int] | None = None
    tensor: list[int] | None = None


@dataclass(frozen=True)
class Replanning:
    """How a run is shared out anew when it loses a device: as ``airlam plan parallel`` shares out.

    Attributes:
        pool: devices and links, as in the YAML of a pool, or its path. goal, weight: see
        :class:`~airlam.edge.parallel.planning.goals.Goal`.
    """

    pool: dict[str, Any] | str
    goal: str = "time"
    weight: float = 0.5

    def __post_init__(self) -> None:
        check_choice("replanning.goal", self.goal, GOALS)
        check_number("replanning.weight", self.weight, 0, 1)


@dataclass(frozen=True)
class ParallelTraining:
    """Several processes, on one machine or many, train all weights of one model together.

    Args:
        task: ``class_path`` and ``init_args`` of :class:`airlam.tasks.Pretraining` or
            :class:`airlam.tasks.ChannelPrediction`: model, learning rate, objective.
        data: a recipe of ``datasets/``, by name or as a mapping.
        mode: what is shared out: ``data`` (links of a batch), ``sequence`` (tokens), ``tensor`` (heads and hidden
            units), ``pipeline`` (layers), ``looped`` (as tensor, with inputs too, and sums at a server), ``hybrid``
            (two of them: ``mesh``).
        nproc: processes.
        checkpoint: folder or shipped name of weights to start from; None: random ones, by ``seed``.
        mesh: of a hybrid: how many ranks share out what; their product is ``nproc``.
        shares: of unequal devices, see :class:`Shares`.
        adapter: train adapters of the checkpoint instead of all weights, in mode ``data`` or ``pipeline``, see
            :class:`~airlam.edge.parallel.adapters.recipe.Adapter`; None: all weights.
        shard: in mode data, share out weights, gradients and moments as well (FSDP2): less memory, more bytes.
        micro_batches: of a pipeline; must divide the links that go through it.
        schedule: of a pipeline: ``1f1b`` or ``gpipe``.
        loops: how often the row of layers is run through; None: as the model's own ``loops`` says.
        steps: optimiser steps.
        optimiser: ``adamw`` with the task's warm-up and cosine, or ``sgd`` with its constant learning rate.
        clip: largest norm of the gradient; None: not clipped.
        precision: ``32-true``, ``bf16-mixed``, or ``64-true`` from the tokens on (for comparisons).
        seed: of random weights, and of dropout.
        threads: of each process.
        checkpoint_every: steps between two durable states. keep: how many of them stay.
        log_every: steps between two lines of the log.
        validate_every: steps between two validations on the data's own split; 0: none.
        timeout: seconds after which a rank that does not answer is given up.
        devices: names of the devices in the order of ranks, for logs and plans; None: ``rank 0``, ``rank 1`` ...
        replanning: the pool, for a new plan when a device is lost; None: those that are left keep their proportions.
        title: of the run.

    Raises:
        RecipeError: a value that does not exist or is out of bounds, or values that do not go together.
    """

    task: dict[str, Any]
    data: str | dict[str, Any]
    mode: str = "data"
    nproc: int = 2
    checkpoint: str | None = None
    mesh: Mesh | None = None
    shares: Shares = field(default_factory=Shares)
    adapter: Adapter | None = None
    shard: bool = False
    micro_batches: int = 4
    schedule: str = "1f1b"
    loops: int | None = None
    steps: int = 1000
    optimiser: str = "adamw"
    clip: float | None = 1.0
    precision: str = "32-true"
    seed: int = 1
    threads: int = 1
    checkpoint_every: int = 100
    keep: int = 2
    log_every: int = 10
    validate_every: int = 0
    timeout: float = 60.0
    devices: list[str] | None = None
    replanning: Replanning | None = None
    title: str = "Collaborative training"

    def __post_init__(self) -> None:
        check_choice("mode", self.mode, MODES)
        check_choice("schedule", self.schedule, SCHEDULES)
        check_choice("precision", self.precision, PRECISIONS)
        check_choice("optimiser", self.optimiser, OPTIMISERS)
        for name in ("nproc", "micro_batches", "threads"):
            check_number(name, getattr(self, name), 1, 4096, integer=True)
        for name in ("steps", "checkpoint_every", "keep", "log_every"):
            check_number(name, getattr(self, name), 1, math.inf, integer=True)
        check_number("validate_every", self.validate_every, 0, math.inf, integer=True)
        check_positive("timeout", self.timeout)
        if self.clip is not None:
            check_positive("clip", self.clip)
        if self.loops is not None:
            check_number("loops", self.loops, 1, 64, integer=True)
        class_path, _ = read_class(self.task, "task")
        if class_path not in TASKS:
            raise RecipeError(f"task is {class_path}, but must be one of {', '.join(TASKS)}")
        if (self.mesh is not None) != (self.mode == "hybrid"):
            raise RecipeError(
                "mode hybrid needs mesh: {data: 2, tensor: 2}, say"
                if self.mesh is None
                else f"mesh belongs to mode hybrid, but mode is {self.mode}; leave mesh out, or take hybrid"
            )
        if self.ranks.ranks != self.nproc:
            sizes = " x ".join(str(size) for size in self.ranks.sizes.values() if size > 1)
            raise RecipeError(
                f"mesh has {sizes} = {self.ranks.ranks} ranks, but nproc is {self.nproc}; change one of them"
            )
        if self.shard and self.mode != "data":
            raise RecipeError(f"shard belongs to mode data, but mode is {self.mode}; leave it out, or take data")
        for name in DIMS:
            given, size = getattr(self.shares, name), self.ranks.sizes[name]
            if given is None:
                continue
            if size == 1 and self.nproc > 1:
                raise RecipeError(
                    f"shares.{name} is given, but mode {self.mode} does not share out {UNITS[name]}; leave it out"
                )
            if len(given) != size:
                raise RecipeError(f"shares.{name} is {given}, but needs one number for each of {size} ranks")
            for rank, share in enumerate(given):
                check_number(f"shares.{name}[{rank}]", share, 1, MOST_SHARE, integer=True)
        self._check_adapter(class_path)
        if self.devices is not None and len(self.devices) != self.nproc:
            raise RecipeError(f"devices has {len(self.devices)} names, but nproc is {self.nproc}")

    def _check_adapter(self, task: str) -> None:
        if self.adapter is None:
            return
        allowed = ("data",) if self.adapter.kind == "lora" else ("data", "pipeline")
        if self.mode not in allowed:
            raise RecipeError(
                f"mode is {self.mode}, but adapters of kind {self.adapter.kind} train in mode {' or '.join(allowed)}"
            )
        if self.shard or self.precision == "bf16-mixed":
            raise RecipeError("adapters train without shard, in 32-true or 64-true: their weights take little memory")
        if self.validate_every and self.mode == "pipeline":
            raise RecipeError("validate_every is for adapters in mode data: in a pipeline no rank holds the backbone")
        if task != TASKS[1]:
            raise RecipeError(f"task is {task}, but adapters learn channel prediction: {TASKS[1]}")

    @property
    def ranks(self) -> Mesh:
        """The mesh of ranks that mode, nproc and mesh describe."""
        if self.mesh is not None:
            return self.mesh
        if self.mode == "hybrid":
            half = 2 if self.nproc % 2 == 0 else 1
            return Mesh(data=half, tensor=self.nproc // half)
        return Mesh(**{"tensor" if self.mode == "looped" else self.mode: self.nproc})

    @property
    def device_names(self) -> tuple[str, ...]:
        """Names of the devices by rank: the recipe's, or ``device-0`` and so on."""
        return tuple(self.devices or (f"device-{rank}" for rank in range(self.nproc)))

    def name_of(self, rank: int) -> str:
        """What a rank is called in messages."""
        return f"rank {rank}" if self.devices is None else f"rank {rank} ({self.devices[rank]})"

    def to_dict(self) -> dict[str, Any]:
        """Plain data, which makes the same run again."""
        return asdict(self)

    @property
    def hash(self) -> str:
        """Hash of everything that decides the result."""
        free = ("title", "timeout", "keep", "log_every", "validate_every", "devices", "replanning")
        return recipe_hash({k: v for k, v in self.to_dict().items() if k not in free})


def parallel_recipe(config: str | Path, changes: dict[str, Any] | None = None) -> ParallelTraining:
    """The run that a YAML describes.

    Args:
        config: path or shipped name of a mapping with ``class_path: airlam.edge.parallel.ParallelTraining`` and its
            ``init_args``. changes: arguments that replace those of the YAML; ``shares.data`` changes one of a section,
            ``task.init_args.learning_rate`` one of the task's.

    Raises:
        RecipeError: the YAML is of something else, or has a key or value that does not exist.
    """
    path = find_recipe(config)
    class_path, init_args = read_class(read_yaml(path), str(path))
    if find_class(class_path, str(path)) is not ParallelTraining:
        raise RecipeError(f"{path} is not for 'airlam parallel': its class_path is {class_path}")
    changes = dict(changes or {})
    inner = {name: changes.pop(name) for name in list(changes) if name.startswith(("task.", "data."))}
    arguments = merged(ParallelTraining, init_args, changes)
    for name, value in inner.items():  # --task.init_args.learning_rate 1e-3
        place, *rest = name.split(".")
        arguments[place] = _with(arguments.get(place), rest, value, name)
    return instantiate(ParallelTraining, arguments, str(path))


def _with(mapping: Any, keys: list[str], value: Any, name: str) -> dict[str, Any]:
    """A copy of nested mappings with one value changed.

    Raises:
        RecipeError: something on the way is no mapping.
    """
    if not isinstance(mapping, dict):
        raise RecipeError(f"{name} changes a key of {mapping!r}, which is no mapping")
    key, *rest = keys
    return {**mapping, key: _with(mapping.get(key, {}), rest, value, name) if rest else value}


def run_from_dict(data: dict[str, Any]) -> ParallelTraining:
    """The inverse of :meth:`ParallelTraining.to_dict`."""
    return instantiate(ParallelTraining, {f.name: data[f.name] for f in fields(ParallelTraining)}, "the run")
