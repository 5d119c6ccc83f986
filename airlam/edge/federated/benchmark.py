"""``airlam evaluate --config tasks/channel_prediction/federated_benchmark.yaml``: what federated fine-tuning reaches,
against everything in one place, everyone alone, and other models; what it costs; what it withstands."""

from __future__ import annotations

import copy
import resource
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from airlam.edge.federated.adapters import Arrays
from airlam.edge.federated.distillation import distil, make_student
from airlam.edge.federated.engines import run_rounds
from airlam.edge.federated.federation import Federation
from airlam.edge.federated.learner import Learner
from airlam.edge.federated.planning import federated_recipe
from airlam.edge.federated.references import train_alone, train_centrally
from airlam.edge.federated.report import build_results
from airlam.edge.federated.rounds import RoundRecord
from airlam.edge.federated.sites import TEST, make_site
from airlam.evaluation.contenders import tuned
from airlam.evaluation.report import publish
from airlam.interfaces import RecipeError
from airlam.io import read_finished, recipe_hash, write_json
from airlam.metrics import cpu_threads
from airlam.models import AirlamModel, load_checkpoint, save_checkpoint

KINDS = ("federated", "central", "alone", "zero-shot", "classic", "distilled")
OWN = ("kind", "clients", "seeds", "teacher", "weight", "steps", "predictor", "links", "ranks")


@dataclass
class Job:
    """One training (or none) and its judgement.

    Attributes:
        group: the study. name: of the variant. seed: of training. kind: see :class:`FederatedBenchmark`.
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


class FederatedBenchmark:
    """Variations of one federated run, each judged by the held-out users of the run's own sites.

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
        self.config = {name: value for name, value in locals().items() if name not in ("self", "only")}
        self.studies: dict[str, dict[str, Any]] = studies or {"methods": {"zero-shot": {"kind": "zero-shot"}}}
        self.seeds, self.threads, self.title = [int(s) for s in seeds], threads, title
        self.federation, self.arguments = federated_recipe(run, {**(changes or {}), "threads": threads})
        if not self.seeds:
            raise RecipeError("seeds is empty; give at least one")
        for name in only:
            if name not in self.studies:
                raise RecipeError(f"only names {name!r}, but the studies are {', '.join(self.studies)}")
        self.only = list(only) or list(self.studies)
        self.jobs: list[Job] = [job for name in self.studies for job in self._jobs(name)]
        for job in self.jobs:
            if job.kind == "distilled" and (job.options.get("teacher"), job.seed) not in self.teachers():
                raise RecipeError(
                    f"studies.{job.group}.{job.name}.teacher is {job.options.get('teacher')!r}, but must be a variant "
                    "of the study methods, with the same seeds"
                )

    def _jobs(self, group: str) -> list[Job]:
        jobs = []
        for name, given in self.studies[group].items():
            given = dict(given or {})
            options = {key: given.pop(key) for key in OWN if key in given}
            kind = options.pop("kind", "federated")
            if kind not in KINDS:
                raise RecipeError(f"studies.{group}.{name}.kind is {kind!r}, but must be one of {', '.join(KINDS)}")
            for seed in options.pop("seeds", self.seeds):
                job = Job(group, name, int(seed), kind, given, options)
                try:
                    self.federation_of(job)
                except (RecipeError, TypeError) as error:
                    raise RecipeError(f"studies.{group}.{name}: {error}") from None
                jobs.append(job)
        return jobs

    def federation_of(self, job: Job) -> Federation:
        """The run of a job."""
        arguments = copy.deepcopy({**self.arguments, **job.changes, "seed": job.seed})
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
        return publish(results, out, threads=self.threads)

    def hash_of(self, job: Job) -> str:
        """Of everything that a job's record depends on but the code."""
        f = self.federation_of(job)
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
        """Run a job: what was reached for every held-out user of the base sites, and what it cost."""
        f, began = self.federation_of(job), time.perf_counter()
        record: dict[str, Any] = {
            "seed": job.seed, "kind": job.kind, "changes": job.changes, "rounds": [],
        }  # fmt: skip
        if job.kind == "federated":
            rounds: list[RoundRecord] = []
            state = run_rounds(f, None, watch=rounds.append)
            record["rounds"] = [r.to_dict() for r in rounds]
            learner = Learner(f, None if f.lora_rank is None else f.largest_rank)
            errors = self.judge(f, learner, state.arrays)
            if self.hash_of(job) in self.teachers().values():
                model = copy.deepcopy(learner.model)
                plain = model if isinstance(model, AirlamModel) else model.merge_and_unload()
                save_checkpoint(plain, out / "teachers" / self.hash_of(job))
        elif job.kind == "classic":
            errors, learner = self.classic(f, job.options["predictor"]), None
        elif job.kind == "distilled":
            errors, learner = self.distilled(f, job, out)
        elif job.kind == "alone":
            errors, learner = {}, Learner(f, f.lora_rank)
            for number, site in enumerate(f.sites):
                learner.load(learner.start(), 1)
                arrays = train_alone(f, learner, number)
                errors[site.label] = self.judge(f, learner, arrays)[site.label]
        else:
            learner = Learner(f, f.lora_rank)
            learner.load(learner.start(), 1)
            curve: list[float] = []

            def look(number: int, arrays: Arrays) -> None:
                figures = [learner.validate(make_site(f, n)) for n in range(len(f.sites))]
                curve.append(float(np.mean(figures)))

            look(0, {})
            arrays = learner.start() if job.kind == "zero-shot" else train_centrally(f, learner, look)
            record["curve"] = curve
            errors = self.judge(f, learner, arrays)
        record["errors"] = errors
        record["seconds"] = time.perf_counter() - began
        record["peak_memory_bytes"] = 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        record["trained"] = 0 if learner is None or job.kind == "zero-shot" else trained_weights(learner)
        record["total"] = 0 if learner is None else sum(p.numel() for p in learner.model.parameters())
        return record

    def judge(self, federation: Federation, learner: Learner, arrays: Arrays) -> dict[str, list[float]]:
        """NMSE in dB of every held-out user of the base sites, site by site."""
        learner.load(arrays, federation.rounds + 1)
        learner.model.eval()
        found = {}
        for number, spec in enumerate(self.federation.sites):
            site = make_site(self.federation, number)
            found[spec.label] = learner.objective.judge(site, site.test, TEST, self.federation.seed).tolist()
        return found

    def classic(self, federation: Federation, name: str) -> dict[str, list[float]]:
        """A classical predictor, tuned at each site on its training users; same histories as everyone."""
        f, found = federation, {}
        for number, spec in enumerate(self.federation.sites):
            site = make_site(self.federation, number)
            users = torch.arange(len(site.train))[:48]
            past = site.measured(site.train, users, TEST, f.seed)
            future = site.train.h[users, f.history : f.history + f.horizon]
            links = site.test
            context = {
                "slot_duration": links.slot_duration,
                "subcarrier_spacing": links.subcarrier_spacing,
                "carrier_frequency": links.carrier_frequency,
            }
            predictor, _ = tuned(name, past, future, port_shape=links.port_shape, context=context)
            seen = site.measured(links, torch.arange(len(links)), TEST, self.federation.seed)
            said = predictor.predict(seen, f.horizon, port_shape=links.port_shape, context=context)
            truth = links.h[:, f.history : f.history + f.horizon]
            wrong = (said - truth).abs().square().flatten(1).sum(1) / truth.abs().square().flatten(1).sum(1)
            found[spec.label] = (10 * wrong.log10()).tolist()
        return found

    def distilled(self, federation: Federation, job: Job, out: Path) -> tuple[dict[str, list[float]], Learner]:
        """A student from the server, then adapted by the sites together, all its weights; see distillation.py."""
        f, options = federation, job.options
        folder = out / "teachers" / self.teachers()[options["teacher"], job.seed]
        if not folder.is_dir():
            raise RecipeError(
                f"studies.{job.group}.{job.name} learns from {options.get('teacher')!r}, which has not been run with "
                f"seed {job.seed}; put it into the study methods, and run that first"
            )
        teacher = load_checkpoint(folder)
        student = make_student(teacher, job.seed)
        steps = int(options.get("steps", 400))
        if steps:
            weight = float(options.get("weight", 0.5))
            distil(f, teacher, student, steps=steps, weight=weight, seed=job.seed)
        kept = save_checkpoint(student, out / "teachers" / f"student-{self.hash_of(job)}")
        adapted = Federation(**{**f.config, "model": str(kept), "lora_rank": None})
        state = run_rounds(adapted, None)
        learner = Learner(adapted, None)
        return self.judge(adapted, learner, state.arrays), learner


def trained_weights(learner: Learner) -> int:
    """Weights that training changes."""
    return sum(p.numel() for p in learner.model.parameters() if p.requires_grad)
