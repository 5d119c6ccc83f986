"""``airlam evaluate --config tasks/pretraining/parallel_benchmark.yaml``: one workload, five mechanisms."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airlam.edge.parallel.benchmark.config import Mechanism, ParallelBenchmarkArguments
from airlam.errors import RecipeError
from airlam.metrics import cpu_threads

if TYPE_CHECKING:
    from airlam.edge.parallel.benchmark.study import Study

SMALL = {"num_subcarriers": 12, "bs_panel": {"rows": 1, "columns": 4, "polarisation": "single", "pattern": "omni"}}


class ParallelBenchmark(ParallelBenchmarkArguments):
    """Cloud, one device, federated, split, and collaborative training of one model on the same data.

    Every mechanism sees the same number of links of the same owners. What a model becomes is measured: real training
    on this host, judged on held-out links; mechanisms that differ only in who computes what share a training, and real
    processes show that their steps are the same. Time and energy on the pool are modelled. Finished parts are kept: a
    second call does what is missing. The arguments stand in
    :class:`~airlam.edge.parallel.benchmark.config.ParallelBenchmarkArguments`.

    Attributes:
        config: the arguments as they were given, for ``results.json``.
        kinds: the mechanisms by name. federation: the owners and their users.
    """

    def __post_init__(self) -> None:
        super().__post_init__()
        from airlam.edge.federated.recipe.federation import Federation

        self.config = self.plain()
        kinds = {name: Mechanism.of(name, data) for name, data in self.mechanisms.items()}
        if self.quick:
            self._set(**self.reduced())
            kinds = {name: one for name, one in kinds.items() if one.mesh is None and one.devices is None}
        self.kinds = kinds
        given = {"lora_rank": None, **self.workload, "sites": self.owners, "threads": self.threads}
        try:
            self.federation = Federation(**given)
        except (RecipeError, TypeError) as error:
            raise RecipeError(f"workload and owners: {error}") from None

    def reduced(self) -> dict[str, Any]:
        """Arguments for a quick run: two owners, small arrays, few links and steps."""
        small = {"rounds": 1, "local_steps": 2, "batch_size": 4, "num_train": 8, "num_val": 2, "num_test": 4}
        feedback = {"coefficients": 16, "phase_bits": 3}
        return dict(
            owners=dict(list(self.owners.items())[:2]),
            workload={**self.workload, **small, "channel_overrides": SMALL, "feedback": feedback},
            seeds=self.seeds[:1],
            proof=replace(self.proof, steps=2),
        )

    def run(self, out: str | Path) -> Path:
        """Run what has not been run; write ``results.json``, ``report.html``, ``leaderboard.md`` and plots."""
        import torch

        from airlam.edge.parallel.benchmark.figures import SECTIONS
        from airlam.edge.parallel.benchmark.results import build_results
        from airlam.evaluation.report.html import publish

        with cpu_threads(self.threads), torch.random.fork_rng(devices=[]):
            results = build_results(self.title, dict(self.config), self.study(Path(out)))
        return publish(results, out, threads=self.threads, sections=SECTIONS)

    def study(self, out: Path) -> Study:
        """All records, those that were found and those that are new."""
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

        from airlam.edge.parallel.benchmark.study import Study

        study = Study(self, out)
        columns = (TextColumn("{task.description:56}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
        with Progress(*columns) as progress:
            bar, todo = progress.add_task(""), study.trainings()
            for number, (job, seed) in enumerate(todo):
                if seed != self.seeds[0]:
                    study.prove(lambda line: progress.reset(bar, description=line[:56], total=None))
                text = f"training {number + 1} of {len(todo)}: {study.label(job)}, seed {seed}"
                progress.reset(bar, description=text, total=None)
                study.train(job, seed, lambda done, total: progress.update(bar, completed=done, total=total))
            study.prove(lambda line: progress.reset(bar, description=line[:56], total=None))
            progress.reset(bar, description="done", completed=1, total=1)
        return study
