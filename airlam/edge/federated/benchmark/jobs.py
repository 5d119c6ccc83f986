"""What a job of the federated benchmark trains, by its kind, and how its result is tested."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from airlam.edge.federated.adapters import Arrays
from airlam.edge.federated.benchmark.config import Job
from airlam.edge.federated.benchmark.distillation import distil, make_student
from airlam.edge.federated.benchmark.references import train_alone, train_centrally
from airlam.edge.federated.engines.run import run_rounds
from airlam.edge.federated.learning.learner import Learner
from airlam.edge.federated.learning.sites import TEST, Places
from airlam.edge.federated.recipe.federation import Federation
from airlam.edge.federated.server.record import RoundRecord
from airlam.errors import RecipeError
from airlam.evaluation.engine.contenders import tuned
from airlam.models import load_checkpoint, save_checkpoint

Errors = dict[str, list[float]]  # label of a site -> NMSE in dB of each held-out user


@dataclass
class Done:
    """A job's result.

    Attributes:
        errors: of the held-out users. learner: with the trained model; None: a classical predictor.
        rounds: records of federated rounds. curve: mean validation figure before training and after each round.
    """

    errors: Errors
    learner: Learner | None
    rounds: list[dict[str, Any]] = field(default_factory=list)
    curve: list[float] | None = None


class JobTrainer:
    """Runs jobs. It keeps the users of all places that it has drawn, since most jobs have the same sites.

    Args:
        base: the run that all jobs vary; the held-out users of its sites test every result.
    """

    def __init__(self, base: Federation):
        self.base, self.places = base, Places()

    def run(self, job: Job, federation: Federation, *, teacher: Path | None, student: Path) -> Done:
        """Train what the job says and test it.

        Args:
            teacher: folder of the adapted model that a student learns from. student: where the student goes.
        """
        f = federation
        if job.kind == "federated":
            return self.federated(f)
        if job.kind == "classic":
            return Done(self.classic(f, job.options["predictor"]), None)
        if job.kind == "distilled":
            return self.distilled(f, job, teacher, student)
        if job.kind == "alone":
            return self.alone(f)
        return self.central(f, train=job.kind == "central")

    def test(self, learner: Learner, arrays: Arrays) -> Errors:
        """NMSE in dB of every held-out user of the base sites."""
        learner.load(arrays, learner.federation.rounds + 1)
        learner.model.eval()
        found = {}
        for number, spec in enumerate(self.base.site_specs):
            site = self.places.site(self.base, number)
            found[spec.label] = learner.objective.score(site, site.test, TEST, self.base.seed).tolist()
        return found

    def federated(self, f: Federation) -> Done:
        """Federated training in this process."""
        rounds: list[RoundRecord] = []
        state = run_rounds(f, None, watch=rounds.append, places=self.places)
        learner = Learner(f, None if f.lora_rank is None else f.largest_rank)
        return Done(self.test(learner, state.arrays), learner, [r.to_dict() for r in rounds])

    def alone(self, f: Federation) -> Done:
        """Every site trains by itself and is tested on its own held-out users."""
        errors, learner = {}, Learner(f, f.lora_rank)
        for number, site in enumerate(f.site_specs):
            learner.load(learner.start(), 1)
            arrays = train_alone(f, learner, number, self.places)
            errors[site.label] = self.test(learner, arrays)[site.label]
        return Done(errors, learner)

    def central(self, f: Federation, *, train: bool) -> Done:
        """All data in one place; without training: the model as it is."""
        learner = Learner(f, f.lora_rank)
        learner.load(learner.start(), 1)
        curve: list[float] = []

        def validate(number: int, arrays: Arrays) -> None:
            figures = [learner.validate(self.places.site(f, n)) for n in range(len(f.site_specs))]
            curve.append(float(np.mean(figures)))

        validate(0, {})
        arrays = train_centrally(f, learner, self.places, validate) if train else learner.start()
        return Done(self.test(learner, arrays), learner, curve=curve)

    def classic(self, f: Federation, name: str) -> Errors:
        """A classical predictor, tuned at each site on its training users; it sees the same histories as the others."""
        found = {}
        for number, spec in enumerate(self.base.site_specs):
            site = self.places.site(self.base, number)
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
            seen = site.measured(links, torch.arange(len(links)), TEST, self.base.seed)
            said = predictor.predict(seen, f.horizon, port_shape=links.port_shape, context=context)
            truth = links.h[:, f.history : f.history + f.horizon]
            wrong = (said - truth).abs().square().flatten(1).sum(1) / truth.abs().square().flatten(1).sum(1)
            found[spec.label] = (10 * wrong.log10()).tolist()
        return found

    def distilled(self, f: Federation, job: Job, folder: Path | None, kept: Path) -> Done:
        """A student that the server trains, all of whose weights the sites then train together; see
        :mod:`airlam.edge.federated.benchmark.distillation`.

        Raises:
            RecipeError: the teacher has not been trained.
        """
        options = job.options
        if folder is None or not folder.is_dir():
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
        adapted = Federation(**{**f.config, "model": str(save_checkpoint(student, kept)), "lora_rank": None})
        state = run_rounds(adapted, None, places=self.places)
        learner = Learner(adapted, None)
        return Done(self.test(learner, state.arrays), learner)
