"""The parts of the benchmark that are run once and kept: trainings, and the steps of real processes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airlam.edge.parallel.benchmark import plans
from airlam.edge.parallel.benchmark.config import Mechanism
from airlam.edge.parallel.benchmark.proof import Case, run_cases
from airlam.edge.parallel.benchmark.training import Job, Trainer, job_of
from airlam.edge.parallel.benchmark.workload import Workload
from airlam.edge.parallel.cost_model.plan import Plan
from airlam.edge.parallel.cost_model.pool import Pool, make_pool, read_pool
from airlam.edge.parallel.cost_model.profiling import ModelProfile, count_profile
from airlam.edge.parallel.recipe import Shares
from airlam.io import read_finished, recipe_hash, write_json
from airlam.models import load_checkpoint
from airlam.recipes import find_checkpoint

if TYPE_CHECKING:
    from airlam.edge.parallel.benchmark.benchmark import ParallelBenchmark

START = Job("start")


class Study:
    """Records of a benchmark in a folder.

    Attributes:
        pool: of the owners. whole: with the server. jobs: mechanism -> the model that it trains.
    """

    def __init__(self, benchmark: ParallelBenchmark, out: Path) -> None:
        self.benchmark, self.out = benchmark, out
        self.workload = Workload(benchmark.federation)
        self.trainer = Trainer(self.workload, out / "start", benchmark.warmup)
        given = benchmark.devices
        pool = read_pool(given) if isinstance(given, str) else make_pool(given)
        self.pool: Pool = plans.owners_pool(pool, self.workload.owners)
        self.whole = plans.with_server(self.pool, benchmark.server)
        self.batch = benchmark.federation.batch_size
        best = self.pool.names[self.best]
        rate = benchmark.federation.learning_rate
        self._plans: dict[str, Plan] = {}
        self.jobs = {name: job_of(one, best, rate) for name, one in benchmark.kinds.items()}

    # -- plans -----------------------------------------------------------------------------------------------------

    @cached_property
    def profile(self) -> ModelProfile:
        """Of the workload's model, counted: this host may be busy, and the pool's devices are not it."""
        return self.profile_of(None, None)

    def profile_of(self, layers: int | None, loops: int | None) -> ModelProfile:
        """Of the workload's model with fewer layers, looped."""
        from airlam.tasks.objectives import forecast_target

        model = load_checkpoint(find_checkpoint(str(self.benchmark.federation.model)))
        batch = self.workload.batch(0, seed=0)
        one = {key: value[:1] for key, value in batch.items() if key != "port_shape"}
        tokens = forecast_target(model, one["h_past"], one["h_future"], batch["port_shape"]).tokens.features.shape[1]
        config = model.config
        if layers is not None:
            assert isinstance(config.backbone, dict)
            config.backbone = {**config.backbone, "num_hidden_layers": layers}
        config.loops = loops or config.loops
        return count_profile(config, tokens=tokens)

    @cached_property
    def frozen(self) -> list[list[int]]:
        """Shapes of the weights that are not trained, but for the phase tracker's, which no rank shares out."""
        model = load_checkpoint(find_checkpoint(str(self.benchmark.federation.model)))
        return [
            list(p.shape) for n, p in model.named_parameters() if not p.requires_grad and not n.startswith("tracker.")
        ]

    @cached_property
    def best(self) -> int:
        """Number of the device that trains alone."""
        return plans.fastest(self.profile, self.pool, self.batch)

    def plan(self, name: str) -> Plan | None:
        """Of a mechanism in which several devices compute a step; None: it is none."""
        mechanism = self.benchmark.kinds[name]
        if mechanism.together and name not in self._plans:
            self._plans[name] = plans.plan_of(mechanism, self.profile_for(mechanism), self.pool, self.batch)
        return self._plans.get(name)

    def profile_for(self, mechanism: Mechanism) -> ModelProfile:
        """Of the model that a mechanism trains."""
        if mechanism.layers is None and mechanism.loops is None:
            return self.profile
        return self.profile_of(mechanism.layers, mechanism.loops)

    # -- trainings -------------------------------------------------------------------------------------------------

    def trainings(self) -> list[tuple[Job, int]]:
        """What the chosen mechanisms need, every training once; all of the first seed come first."""
        chosen = self.benchmark.only or list(self.jobs)
        jobs = list(dict.fromkeys([START, *(self.jobs[name] for name in chosen)]))
        seeds = list(self.benchmark.seeds)
        return [(job, seed) for seed in seeds for job in jobs if job != START or seed == seeds[0]]

    def label(self, job: Job) -> str:
        """The first mechanism that trains a model."""
        return next((name for name, one in self.jobs.items() if one == job), "before training")

    def path(self, job: Job, seed: int) -> Path:
        """The record of a training; its name depends on everything that decides it but the code."""
        config = {k: v for k, v in self.benchmark.federation.config.items() if k not in ("threads", "learning_rate")}
        spec = [config, list(config["sites"]), asdict(job), seed, self.benchmark.warmup]
        return self.out / "runs" / f"{job.kind}-{seed}-{recipe_hash(spec)}.json"

    def train(self, job: Job, seed: int, watch: Callable[[int, int], None]) -> None:
        """Do a training, unless its record is there."""
        path = self.path(job, seed)
        if read_finished(path) is None:
            write_json(path, self.trainer.run(job, seed, watch) | {"seed": seed})

    def records(self, job: Job) -> list[dict[str, Any]]:
        """Of all seeds that have been run."""
        seeds = self.benchmark.seeds[:1] if job == START else self.benchmark.seeds
        found = [read_finished(self.path(job, seed)) for seed in seeds]
        return [record for record in found if record is not None]

    # -- real processes --------------------------------------------------------------------------------------------

    def case(self, name: str) -> Case | None:
        """The run of a mechanism's real processes; None where a single device computes."""
        plan = self.plan(name)
        if plan is None or len(plan.devices) < 2:
            return None
        job, seed = self.jobs[name], self.benchmark.seeds[0]
        arguments = plan.arguments(self.pool)
        arguments["shares"] = Shares(**arguments["shares"])
        if "mesh" in arguments:
            from airlam.edge.parallel.layout import Mesh

            arguments["mesh"] = Mesh(**arguments["mesh"])
        run = replace(self.trainer.alone(job, seed), **arguments)
        config = {k: v for k, v in self.benchmark.federation.config.items() if k not in ("threads", "learning_rate")}
        spec = [config, list(config["sites"]), run.hash, run.devices, self.benchmark.proof.steps]
        return Case(name, run, self.out / "processes" / f"{run.mode}-{run.nproc}-{recipe_hash(spec)}.json")

    def prove(self, watch: Callable[[str], None]) -> None:
        """Run the real processes whose records are missing."""
        chosen = self.benchmark.only or list(self.jobs)
        cases = [case for name in chosen if (case := self.case(name)) is not None]
        missing = list({case.record: case for case in cases if read_finished(case.record) is None}.values())
        if missing:
            seed, proof = self.benchmark.seeds[0], self.benchmark.proof
            steps = min(proof.steps, self.workload.steps)
            batches = [self.workload.batch(step, seed) for step in range(steps)]
            run_cases(missing, batches, proof.timeout, watch)

    def proof(self, name: str) -> dict[str, Any] | None:
        """The record of a mechanism's real processes; None: there is none."""
        case = self.case(name)
        return None if case is None else read_finished(case.record)
