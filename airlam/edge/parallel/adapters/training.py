"""Training of adapters: the gradients of the adapters alone are summed; a cache may make the backbone unnecessary.

With a cache, batches are those of the first epoch, in a new order in each: so a link is always of the same rank, with
the same noise. In mode ``pipeline`` the layers are shared out while hidden states are computed; the adapter itself
trains in data parallel, with links shared out as the layers are.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from airlam.data.recipe import load_dataset_recipe
from airlam.edge.parallel.adapters.cache import ActivationCache
from airlam.edge.parallel.adapters.states import PipelinedStates
from airlam.edge.parallel.engine.building import Part, build, checkpoint_folder
from airlam.edge.parallel.engine.pieces import Piece
from airlam.edge.parallel.engine.spmd import SPMDStep
from airlam.edge.parallel.engine.training import StepRecord, Training
from airlam.edge.parallel.launching.watchdog import waiting
from airlam.edge.parallel.layout import Layout, Mesh
from airlam.edge.parallel.recipe import ParallelTraining
from airlam.io import file_hash, recipe_hash
from airlam.models import AdaptedModel, add_lora, add_parallel_adapter, save_lora, save_parallel_adapter
from airlam.seeds import noise_seed
from airlam.tasks.objectives import Target

ORDER, START = 7, 8  # keys of seeds: of the batches' order, of the adapters' start
UNSEEN = ("num_workers", "batches_per_epoch", "num_val", "num_test")  # of a data set: no say in training batches
FORMAT = 1  # of the cache


def adapted_part(run: ParallelTraining, stages: Layout) -> Part:
    """This rank's part of the frozen model, with new adapters."""
    assert run.adapter is not None
    part = build(run, stages)
    base: Any = part.model
    base.requires_grad_(False)
    base.config._name_or_path = str(checkpoint_folder(run))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(noise_seed(run.seed, START))
        made: Any
        if run.adapter.kind == "lora":
            made = add_lora(base, run.adapter.rank)
            for name, value in made.named_parameters():
                if ".pooler." in name:  # nothing reads it
                    value.requires_grad_(False)
        else:
            made = add_parallel_adapter(base, run.adapter.rank, run.adapter.form)
    made.to(stages.device)
    if run.precision == "64-true":
        for value in made.parameters():
            if value.requires_grad:
                value.data = value.data.double()
    part.task.model = made.train()
    named = {**dict(made.named_parameters()), **dict(made.named_buffers())}
    part.pieces = {name: Piece.whole(value.shape) for name, value in named.items()}
    part.replicas = dict.fromkeys(named, stages.world)
    part.stored = frozenset(name for name, value in made.named_parameters() if value.requires_grad)
    return part


class AdapterTraining(Training):
    """See :class:`airlam.edge.parallel.engine.training.Training`.

    Args:
        run: with ``adapter``. source: of training batches. folder: of the run. state: to go on from.
    """

    def __init__(self, run: ParallelTraining, source: Any, folder: Path, state: Path | None = None) -> None:
        assert run.adapter is not None
        self.adapter, self.source = run.adapter, source
        self.pipelined: PipelinedStates | None = None
        super().__init__(run, state)
        self.cache: ActivationCache | None = None
        self.known: set[int] = set()
        if self.adapter.cache:
            folder = Path(self.adapter.cache_folder) if self.adapter.cache_folder else folder / "cache"
            self.cache = ActivationCache(folder, self._facts())
            self.known = self._agreed(self.cache.places(self.own))
        self._forget_backbone()

    def _lay_out(self) -> Layout:
        run = self.run
        self.stages = Layout(run.ranks, asdict(run.shares))
        if run.mode == "data":
            return self.stages
        return Layout(Mesh(data=run.nproc), {"data": self.stages.shares["pipeline"]})

    def _build(self) -> Part:
        part = adapted_part(self.run, self.stages)
        if self.run.mode == "pipeline":
            base = part.model.get_base_model()  # type: ignore[operator]
            self.pipelined = PipelinedStates(base, part.layers, self.stages, self.run.micro_batches)
        return part

    def _engine(self) -> SPMDStep:
        return SPMDStep(self.run, self.part, self.layout)

    def _facts(self) -> dict[str, Any]:
        """What the cached numbers depend on."""
        run, folder = self.run, checkpoint_folder(self.run)
        assert folder is not None
        data = {key: value for key, value in asdict(load_dataset_recipe(run.data)).items() if key not in UNSEEN}
        return {
            "format": FORMAT,
            "model": file_hash(folder / "model.safetensors"),
            "data": recipe_hash(data),
            "content": "hidden states" if self.adapter.kind == "parallel" else "features",
            "precision": run.precision,
        }

    @property
    def links(self) -> int:
        """Of a batch."""
        stored = getattr(self.source, "links", None)
        return self.source.batch_size if stored is None else min(self.source.batch_size, len(stored))

    @property
    def own(self) -> tuple[int, int]:
        """(first, stop) of this rank's links of a batch."""
        return self.layout.own("data", self.links)

    @property
    def place(self) -> int:
        """Number of the next step's batch: with a cache one of the first epoch's, in this epoch's order."""
        if self.cache is None:
            return self.step
        epoch, position = divmod(self.step, len(self.source))
        if epoch == 0:
            return position
        generator = torch.Generator().manual_seed(noise_seed(self.run.seed, ORDER, epoch))
        return int(torch.randperm(len(self.source), generator=generator)[position])

    def batch(self, source: Any) -> dict[str, Any] | None:
        """None where all ranks have kept what they need of it."""
        return None if self.place in self.known else source.batch(self.place)

    def _agreed(self, mine: set[int]) -> set[int]:
        """The batches that all ranks have."""
        every: list[Any] = [None] * dist.get_world_size()
        with waiting("what the others have cached"):
            dist.all_gather_object(every, sorted(mine))
        return set.intersection(*map(set, every))

    def links_of(self, batch: dict[str, Any] | None) -> int:
        """Links of the whole batch."""
        return self.links if batch is None else len(batch["h_past"])

    def target(self, batch: dict[str, Any] | None) -> Target | None:
        """This rank's links: read from the cache, or made, and kept."""
        self._spent: dict[str, float] = {}
        if batch is None:
            assert self.cache is not None
            with self._timed("cache"):
                return self.cache.read(self.place, self.own, self.layout.device)
        target, features = self._tokens(batch)
        if self.adapter.kind == "parallel":
            with self._timed("backbone"):
                target.tokens.hidden = self._states(features, target.tokens.features)
        if self.cache is not None:
            with self._timed("cache"):
                self.cache.write(self.place, self.own, target)
            self.known.add(self.place)
        return target

    def _tokens(self, batch: dict[str, Any]) -> tuple[Target, Tensor | None]:
        """This rank's links, and the features that its part of the backbone reads: those of all links, if it is a
        pipeline's first stage."""
        if self.pipelined is None or self.stages.place["pipeline"]:
            target = super().target(batch)
            assert target is not None
            return target, None if self.pipelined else target.tokens.features
        there = {k: v.to(self.layout.device) if isinstance(v, Tensor) else v for k, v in batch.items()}
        whole: Target = self.part.task.target(there, self.step)[0]  # type: ignore[operator]
        whole = whole.double() if self.run.precision == "64-true" else whole
        return whole.part(slice(*self.own)), whole.tokens.features

    def _states(self, features: Tensor | None, mine: Tensor) -> Tensor:
        """Hidden states of this rank's links, whose features are ``mine``."""
        if self.pipelined is None:
            assert isinstance(self.part.model, AdaptedModel)
            return self.part.model.states(mine)
        return self.pipelined(features, self.layout.split("data", self.links), mine.shape[1], mine.dtype)

    def train_step(self, batch: dict[str, Any] | None) -> StepRecord:
        """As in :meth:`airlam.edge.parallel.engine.training.Training.train_step`; None for a cached batch.

        ``seconds`` also has ``backbone`` and ``cache``, which are parts of ``tokens``.
        """
        record = super().train_step(batch)
        record.seconds |= self._spent
        self._forget_backbone()
        return record

    @contextlib.contextmanager
    def _timed(self, name: str) -> Iterator[None]:
        began = time.perf_counter()
        yield
        self._spent[name] = time.perf_counter() - began

    def _forget_backbone(self) -> None:
        """Give its memory back once every batch is kept."""
        if self.adapter.kind == "lora" or self.cache is None or len(self.known) < len(self.source):
            return
        if self.run.validate_every:  # links that are not in the cache
            return
        base: Any = self.part.model.get_base_model()  # type: ignore[operator]
        base.backbone = base.embedding = self.pipelined = None

    def write(self, folder: Path) -> Path:
        """The adapters as a folder that :func:`airlam.load_predictor` takes, ``checkpoint`` in the run's folder."""
        model: Any = self.part.model
        out = folder / "checkpoint"
        if dist.get_rank() == 0:
            (save_lora if self.adapter.kind == "lora" else save_parallel_adapter)(model, out)
        with waiting("the writing of the adapters"):
            dist.barrier()
        return out
