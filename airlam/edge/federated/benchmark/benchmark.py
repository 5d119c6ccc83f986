"""``airlam evaluate --config tasks/channel_prediction/federated_benchmark.yaml``: what federated fine-tuning reaches,
against all data in one place, every site by itself, and other models; what it costs; what it withstands."""

from __future__ import annotations

import copy
import resource
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from airlam.edge.federated.benchmark.config import Job, federation_of, read_jobs
from airlam.edge.federated.benchmark.figures import build_results
from airlam.edge.federated.benchmark.jobs import JobTrainer
from airlam.edge.federated.benchmark.plots import SECTIONS
from airlam.edge.federated.recipe.read import federated_recipe
from airlam.errors import RecipeError
from airlam.evaluation.report.html import publish
from airlam.io import read_finished, recipe_hash, write_json
from airlam.metrics import cpu_threads
from airlam.models import AirlamModel, save_checkpoint


class FederatedBenchmark:
    """Variations of one federated run, each tested on the held-out users of the run's own sites.

    Args:
        run: the federated run that everything is a variation of (a YAML of ``airlam federate``).
        studies: name -> variant -> what differs. Keys are arguments of the run, or: ``kind`` (``federated``;
            ``central``: all data in one place; ``alone``: everyone trains by itself; ``zero-shot``; ``classic``: a
            tuned classical ``predictor``; ``distilled``: a student, of ``teacher``, a variant's name, with ``weight``
            and ``steps``), ``clients`` (so many, the run's kinds of site in turn, at new places after the first of
            each), ``links`` (training users of each), ``ranks`` (of the sites' adapters, in turn), ``seeds``.
        seeds: of training, where a variant has none of its own; figures are means over them.
        only: studies to run now; the report is of all that have been run so far.
        changes: arguments that replace those of the run everywhere (smaller sizes for a quick look).
        threads: CPU threads. title: of the report.

    Raises:
        RecipeError: a key or value that does not exist, named by its variant.
    """

    def __init__(
        self,
        run: str = "tasks/channel_prediction/federated.yaml",
        studies: dict[str, dict[str, Any]] | None = None,
        seeds: Sequence[int] = (1,),
        only: Sequence[str] = (),
        changes: dict[str, Any] | None = None,
        threads: int = 1,
        title: str = "Federated fine-tuning",
    ):
        self.config = {
            "run": run,
            "studies": studies,
            "seeds": seeds,
            "changes": changes,
            "threads": threads,
            "title": title,
        }
        self.studies: dict[str, dict[str, Any]] = studies or {"methods": {"zero-shot": {"kind": "zero-shot"}}}
        self.seeds, self.threads, self.title = [int(s) for s in seeds], threads, title
        self.federation, self.arguments = federated_recipe(run, {**(changes or {}), "threads": threads})
        if not self.seeds:
            raise RecipeError("seeds is empty; give at least one")
        for name in only:
            if name not in self.studies:
                raise RecipeError(f"only names {name!r}, but the studies are {', '.join(self.studies)}")
        self.trainer = JobTrainer(self.federation)
        self.only = list(only) or list(self.studies)
        self.jobs: list[Job] = [
            job for name in self.studies for job in read_jobs(name, self.studies[name], self.arguments, self.seeds)
        ]
        for job in self.jobs:
            if job.kind == "distilled" and (job.options.get("teacher"), job.seed) not in self.teachers():
                raise RecipeError(
                    f"studies.{job.group}.{job.name}.teacher is {job.options.get('teacher')!r}, but must be a variant "
                    "of the study methods, with the same seeds"
                )

    def run(self, out: str | Path) -> Path:
        """Run what has not been run; write ``results.json``, ``report.html``, ``leaderboard.md`` and plots."""
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

        out = Path(out)
        records = []
        columns = (TextColumn("{task.description:40}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
        with cpu_threads(self.threads), Progress(*columns) as progress:
            task = progress.add_task("", total=len(self.jobs))
            for job in self.jobs:
                progress.update(task, description=job.label)
                # by what was run: variants of several studies that are the same run share it
                path = out / "runs" / f"{job.kind}_{self.hash_of(job)}.json"
                record = read_finished(path)
                if record is None and job.group in self.only:
                    record = self.record(job, out)
                    write_json(path, record)
                if record is not None:
                    records.append(record | {"group": job.group, "name": job.name, "options": job.options})
                progress.advance(task)
        results = build_results(self.title, self.config, self.federation, records)
        return publish(results, out, threads=self.threads, sections=SECTIONS)

    def hash_of(self, job: Job) -> str:
        """Of everything that a job's record depends on but the code."""
        f = federation_of(job, self.arguments)
        config = {key: value for key, value in f.config.items() if key != "threads"}
        own = {key: value for key, value in job.options.items() if key in ("predictor", "weight", "steps")}
        if "teacher" in job.options:
            own["teacher"] = self.teachers()[job.options["teacher"], job.seed]
        return recipe_hash([config, job.kind, own, self.arguments.get("sites"), self.federation.seed])

    def teachers(self) -> dict[tuple[str, int], str]:
        """(variant, seed) -> hash, of the adapted models that students learn from."""
        wanted = {job.options["teacher"] for job in self.jobs if "teacher" in job.options}
        found = [job for job in self.jobs if job.group == "methods" and job.name in wanted]
        return {(job.name, job.seed): self.hash_of(job) for job in found}

    def record(self, job: Job, out: Path) -> dict[str, Any]:
        """Run a job: the NMSE of every held-out user of the run's own sites, and what the training cost."""
        f, began, mine = federation_of(job, self.arguments), time.perf_counter(), self.hash_of(job)
        teachers = self.teachers()
        kept = out / "teachers"
        teacher = kept / teachers[job.options["teacher"], job.seed] if job.kind == "distilled" else None
        done = self.trainer.run(job, f, teacher=teacher, student=kept / f"student-{mine}")
        if job.kind == "federated" and mine in teachers.values():
            model = copy.deepcopy(done.learner.model)  # type: ignore[union-attr]
            save_checkpoint(model if isinstance(model, AirlamModel) else model.merge_and_unload(), kept / mine)
        record = {"seed": job.seed, "kind": job.kind, "changes": job.changes, "rounds": done.rounds}
        if done.curve is not None:
            record["curve"] = done.curve
        record["errors"] = done.errors
        record["seconds"] = time.perf_counter() - began
        record["peak_memory_bytes"] = 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        weights = [] if done.learner is None else list(done.learner.model.parameters())
        record["trained"] = 0 if job.kind == "zero-shot" else sum(p.numel() for p in weights if p.requires_grad)
        record["total"] = sum(p.numel() for p in weights)
        return record
