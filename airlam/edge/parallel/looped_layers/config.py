"""Arguments of the benchmark of looped layers: dataclasses that check their own values."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from airlam.errors import RecipeError
from airlam.evaluation.engine.config import Arguments, at_least, not_empty
from airlam.models.config import BOUNDS


@dataclass(frozen=True)
class Variant:
    """A backbone: a row of ``layers``, run through ``loops`` times with the same parameters.

    Example:
        >>> Variant(layers=4, loops=2).depth
        8
    """

    layers: int
    loops: int = 1

    @classmethod
    def of(cls, name: str, data: Any) -> Variant:
        """From a recipe: ``{layers: 4, loops: 2}``."""
        if not isinstance(data, dict) or not set(data) <= {"layers", "loops"} or "layers" not in data:
            raise RecipeError(f"variants.{name} is {data!r}, but must hold layers and, if wanted, loops")
        variant = cls(**data)
        at_least(f"variants.{name}.layers", variant.layers, 1)
        low, high = BOUNDS["loops"]
        at_least(f"variants.{name}.loops", variant.loops, low)
        if variant.loops > high:
            raise RecipeError(f"variants.{name}.loops is {variant.loops}, but must be at most {high}")
        return variant

    @property
    def depth(self) -> int:
        """Layers that a token passes through."""
        return self.layers * self.loops


@dataclass(frozen=True)
class LoopedTraining:
    """How every variant is trained.

    Attributes:
        minutes: CPU time of forward pass, backward pass and optimiser, the same for all variants.
        batch_size: links in a batch.
        learning_rate: peak of the schedule, which follows the share of the CPU time that is spent.
        points: looks at a few validation links while training, evenly over the CPU time.
        num_val: those links.
    """

    minutes: float = 3.0
    batch_size: int = 16
    learning_rate: float = 1e-3
    points: int = 6
    num_val: int = 128

    def __post_init__(self) -> None:
        for name in ("batch_size", "points", "num_val"):
            at_least(f"training.{name}", getattr(self, name), 1)
        if not 0 < self.minutes < math.inf:
            raise RecipeError(f"training.minutes is {self.minutes}, but must be positive and finite")
        if not 0 < self.learning_rate < 1:
            raise RecipeError(f"training.learning_rate is {self.learning_rate}, but must lie between 0 and 1")


@dataclass(frozen=True)
class LoopedLinks:
    """The links that variants are judged on.

    Attributes:
        num_links: test links, the same for all variants and seeds.
        links_per_draw: links that share one draw of scenario, carrier, band and array; intervals resample the draws.
        history: slots that are seen.
        horizon: slots that are predicted.
    """

    num_links: int = 768
    links_per_draw: int = 8
    history: int = 16
    horizon: int = 4

    def __post_init__(self) -> None:
        for name in ("num_links", "links_per_draw", "history", "horizon"):
            at_least(f"sizes.{name}", getattr(self, name), 1)
        if self.num_links % self.links_per_draw:
            raise RecipeError(
                f"sizes.num_links is {self.num_links}, but must be a multiple of sizes.links_per_draw "
                f"({self.links_per_draw})"
            )


def usual_variants() -> dict[str, Any]:
    """One row of four layers, looped 1, 2, 4 and 8 times; eight layers of their own; one layer,
    looped four times."""
    return {
        "4 layers": {"layers": 4},
        "4 layers x 2": {"layers": 4, "loops": 2},
        "4 layers x 4": {"layers": 4, "loops": 4},
        "4 layers x 8": {"layers": 4, "loops": 8},
        "8 layers": {"layers": 8},
        "1 layer x 4": {"layers": 1, "loops": 4},
    }


@dataclass(frozen=True)
class LoopedLayersArguments(Arguments):
    """Arguments of the benchmark of looped layers.

    Attributes:
        task: recipe of a pretraining, whose model and objective every variant shares.
        data: data set recipe; its links are made on the fly.
        variants: name -> ``{layers: 4, loops: 2}``.
        reference: the variant that others are compared with.
        seeds: of training: initial weights, and links. All variants see the same links for the same seed.
        training: CPU time, batches, learning rate.
        sizes: links of the test.
        devices: sizes of the pool that costs are stated for.
        threads: CPU threads.
        report_only: train nothing; the report is of the runs that are finished.
        quick: a small version, for tests.
        title: of the report.

    Raises:
        RecipeError: values that do not fit each other.
    """

    task: str = "tasks/pretraining/airlam_tiny.yaml"
    data: str = "datasets/foundation.yaml"
    variants: dict[str, Any] = field(default_factory=usual_variants)
    reference: str = "4 layers"
    seeds: Sequence[int] = (1, 2, 3)
    training: LoopedTraining = LoopedTraining()
    sizes: LoopedLinks = LoopedLinks()
    devices: Sequence[int] = (1, 2, 4)
    threads: int = 1
    report_only: bool = False
    quick: bool = False
    title: str = "Looped layers: depth without parameters"

    def __post_init__(self) -> None:
        super().__post_init__()
        at_least("threads", self.threads, 1)
        for name in ("variants", "seeds", "devices"):
            not_empty(name, getattr(self, name))
        for count in self.devices:
            at_least("devices", count, 1)
        for seed in self.seeds:
            at_least("seeds", seed, 0)
        if not isinstance(self.variants, dict):
            raise RecipeError(f"variants is {self.variants!r}, but must be a mapping of names to layers and loops")
        for name, data in self.variants.items():
            Variant.of(name, data)
        if self.reference not in self.variants:
            raise RecipeError(f"reference is {self.reference!r}, but the variants are {', '.join(self.variants)}")

    def reduced(self) -> dict[str, Any]:
        """Sections for a quick run: seconds of training, few links, one seed."""
        return dict(
            seeds=self.seeds[:1],
            training=replace(self.training, minutes=0.01, batch_size=2, points=1, num_val=4),
            sizes=replace(self.sizes, num_links=32, links_per_draw=2),
        )
