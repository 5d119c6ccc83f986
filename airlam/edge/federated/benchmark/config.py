"""The studies of the federated benchmark: variants of one run, and the jobs that they make."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from airlam.edge.federated.recipe.federation import Federation
from airlam.errors import RecipeError

KINDS = ("federated", "central", "alone", "zero-shot", "classic", "distilled")
OWN = ("kind", "clients", "seeds", "teacher", "weight", "steps", "predictor", "links", "ranks")


@dataclass
class Job:
    """One variant with one training seed: what is trained (or not) and then tested.

    Attributes:
        group: the study. name: of the variant. seed: of training. kind: one of ``KINDS``, see
            :class:`airlam.edge.federated.benchmark.benchmark.FederatedBenchmark`.
        changes: arguments of the run that differ. options: the benchmark's own keys.
    """

    group: str
    name: str
    seed: int
    kind: str
    changes: dict[str, Any] = field(default_factory=dict)
    options: dict[str, Any] = field(default_factory=dict)

    @property
    def label(self) -> str:
        """For progress and file names."""
        return f"{self.group}-{self.name}-{self.seed}".replace(" ", "-").replace("%", "")


def read_jobs(group: str, variants: dict[str, Any], arguments: dict[str, Any], seeds: Sequence[int]) -> list[Job]:
    """The jobs of one study, a job for each variant and seed.

    Args:
        variants: name -> what differs from the run. arguments: of the run. seeds: of variants that have none of their
            own.

    Raises:
        RecipeError: a key or value that does not exist, named by its variant.
    """
    jobs = []
    for name, given in variants.items():
        given = dict(given or {})
        options = {key: given.pop(key) for key in OWN if key in given}
        kind = options.pop("kind", "federated")
        if kind not in KINDS:
            raise RecipeError(f"studies.{group}.{name}.kind is {kind!r}, but must be one of {', '.join(KINDS)}")
        for seed in options.pop("seeds", seeds):
            job = Job(group, name, int(seed), kind, given, options)
            try:
                federation_of(job, arguments)
            except (RecipeError, TypeError) as error:
                raise RecipeError(f"studies.{group}.{name}: {error}") from None
            jobs.append(job)
    return jobs


def federation_of(job: Job, run: dict[str, Any]) -> Federation:
    """The federated run of a job, from the arguments of the run that it varies."""
    arguments = copy.deepcopy({**run, **job.changes, "seed": job.seed})
    count, links, ranks = (job.options.get(key) for key in ("clients", "links", "ranks"))
    if count is not None:
        kinds = list(arguments["sites"].items())
        sites = {}
        for number in range(count):
            label, site = kinds[number % len(kinds)]
            turn = number // len(kinds)
            base = site.get("seed", 1000 * (number % len(kinds) + 1))
            sites[label if turn == 0 else f"{label}-{turn + 1}"] = {**site, "seed": base + turn}
        arguments["sites"] = sites
    if ranks is not None:
        for number, site in enumerate(arguments["sites"].values()):
            site["lora_rank"] = ranks[number % len(ranks)]
        arguments["lora_rank"] = max(ranks)
    if links is not None:
        for site in arguments["sites"].values():
            site["links"] = links
    return Federation(**arguments)
