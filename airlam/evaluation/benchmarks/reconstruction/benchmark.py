"""The benchmark of reconstruction: all subcarriers or antennas from pilots on some, against classical methods."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from airlam.channels import LinkBatch, load_channel
from airlam.csi import measure, series_along
from airlam.errors import RecipeError
from airlam.evaluation.benchmarks.reconstruction.config import ReconstructionArguments, Task
from airlam.evaluation.benchmarks.reconstruction.estimators import GENIE, genie_context, tuned_classic
from airlam.evaluation.benchmarks.reconstruction.few_shot import Estimators, adapted
from airlam.evaluation.benchmarks.reconstruction.tables import NOTES, compared, few_shot_tables, pattern_tables, rows_of
from airlam.evaluation.engine.contenders import trainable
from airlam.evaluation.report.html import publish
from airlam.evaluation.report.sentences import details, headline
from airlam.evaluation.results import LINK, CellRecord, MethodFacts, Series
from airlam.evaluation.rows import Results
from airlam.evaluation.runner import narrator
from airlam.methods import names
from airlam.metrics import cpu_threads, nmse
from airlam.recipes import check_choice
from airlam.seeds import stream_seed


class ReconstructionBenchmark(ReconstructionArguments):
    """Estimation of what was not measured, against tuned classical methods; zero-shot and after few-shot adaptation.

    A cell is one task, pattern, scenario and CSI SNR. Classical methods are tuned in every cell on links of other
    drops, and know the covariance of that scenario's training links where they need one. The model comes as shipped;
    adapted rows train on links of all scenarios together, at SNRs from the lowest to the highest. The arguments stand
    in :class:`~airlam.evaluation.benchmarks.reconstruction.config.ReconstructionArguments`.

    Attributes:
        config: the arguments as they were given, for ``results.json``.
        label: the name of the model's rows.

    Raises:
        RecipeError: an unknown method, or sizes that do not fit.

    Example:
        >>> ReconstructionBenchmark(quick=True).sizes.num_links
        8
    """

    def __post_init__(self) -> None:
        super().__post_init__()
        self.config = self.plain()
        self.label = Path(self.model).name
        given = self.tasks or {"comb pilots": {"axis": "subcarrier", "patterns": ["comb:4"]}}
        tasks = {label: Task.of(label, task) for label, task in given.items()}
        self._set(tasks=tasks, **(self.reduced() if self.quick else {}))
        valid = [*names("estimator", "classical", built=True), GENIE, self.label]
        for label, task in tasks.items():
            methods = self.methods(task)
            for name in methods:
                check_choice(f"a method of task {label!r}", name, valid)
            if self.bar not in methods or self.label not in methods:
                raise RecipeError(f"task {label!r}: methods must hold the baseline (bar) {self.bar!r} and '{{model}}'")

    def methods(self, task: Task) -> list[str]:
        """Names of a task's methods, without adapted rows."""
        return [str(name).replace("{model}", self.label) for name in task.methods]

    def run(self, out: str | Path) -> Path:
        """Run all cells; write ``results.json``, ``report.html``, ``leaderboard.md``.

        Returns:
            The path of ``report.html``.
        """
        from rich.console import Console

        out, say = Path(out), narrator(Console())
        with cpu_threads(self.threads):
            records = []
            for label in self.tasks or {}:
                records += self.records(label, say)
        say("done")
        return publish(self.results(records), out, threads=self.threads)

    def links(self, task: Task, scenario: str, purpose: str, num_links: int, rays: bool = False) -> LinkBatch:
        """Links for "train", "tune" or "test": drops of their own each."""
        recipe = {**load_channel(scenario).recipe, "speed_kmh": self.cells.speed_kmh, **task.channel}
        recipe["links_per_drop"] = self.sizes.links_per_drop
        seed = stream_seed(self.seed, recipe, purpose)
        return load_channel(recipe).sample(num_links, self.cells.slots, seed=seed, return_rays=rays)

    def records(self, label: str, say: Callable[[str], None] = lambda text: None) -> list[CellRecord]:
        """One record for each cell of a task: linear NMSE of every link under every method; ``say`` shows progress."""
        from airlam.baselines import axis_covariance
        from airlam.models import AirlamEstimator

        task: Task = (self.tasks or {})[label]  # type: ignore[assignment]
        shipped = trainable(self.model).model  # type: ignore[attr-defined]
        per_drop, scenarios = self.sizes.links_per_drop, self.cells.scenarios
        num_train = -(-self.sizes.num_train // len(scenarios) // per_drop) * per_drop  # of each scenario, whole drops
        train = {s: self.links(task, s, "train", num_train) for s in scenarios}
        tune = {s: self.links(task, s, "tune", self.sizes.num_tune) for s in scenarios}
        learned: Estimators = {self.label: (AirlamEstimator(shipped, self.label), {}, 0)}
        few: Estimators = {}
        if self.few_shot.shots:
            shots = ", ".join(f"{100 * share:g} %" for share in self.few_shot.shots)
            say(f"{label}: adaptation to {shots} of the links")
            few = adapted(self, task, train, tune)
        records = []
        for scenario in scenarios:
            say(f"{label}: {scenario}")
            links = self.links(task, scenario, "test", self.sizes.num_links, rays=True)
            covariance = axis_covariance(train[scenario].h, task.axis, links.port_shape)
            for pattern in task.patterns:
                for snr_db in self.cells.csi_snr_db:
                    cell = dict(
                        task=label,
                        axis=task.axis,
                        pattern=pattern,
                        data=scenario,
                        csi_snr_db=snr_db,
                        seed=self.seed,
                        recipe={k: v for k, v in links.recipe.items() if k != "seed"},
                        history=self.cells.slots,
                    )
                    known = learned | (few if snr_db == self.few_shot.csi_snr_db else {})
                    records.append(self._cell(cell, links, tune[scenario], covariance, self.methods(task), known))
        return records

    def _cell(
        self,
        cell: dict[str, Any],
        links: LinkBatch,
        tune: LinkBatch,
        covariance: Tensor,
        methods: list[str],
        learned: Estimators,
    ) -> CellRecord:
        """NMSE of every link, settings and parameters of each method."""
        from airlam.baselines import LMMSEInterpolator
        from airlam.tasks import sampling_pattern

        axis, shape = cell["axis"], links.port_shape
        length = series_along(links.h[:1], axis, shape)[0].shape[1]
        observed, wanted = sampling_pattern(cell["pattern"], length)
        seed = stream_seed(self.seed, cell["recipe"], "noise")
        y = measure(links.h, cell["csi_snr_db"], torch.Generator().manual_seed(seed))
        y_tune = measure(tune.h, cell["csi_snr_db"], torch.Generator().manual_seed(seed + 1))
        truth = series_along(links.h, axis, shape)[0][:, wanted]
        record = CellRecord(cell, {LINK: links.drop.tolist()})
        for name in [*methods, *(name for name in learned if name not in methods)]:
            settings, parameters, context = {}, (0, 0), None
            if name in learned:
                estimator, settings, trained = learned[name]
                parameters = (sum(p.numel() for p in estimator.model.parameters()), trained)
            elif name == GENIE:
                estimator = LMMSEInterpolator(None, 10 ** (-cell["csi_snr_db"] / 10))
                context = genie_context(links, axis)
            else:
                estimator, settings = tuned_classic(
                    name, covariance, y_tune, tune.h, observed, wanted, axis=axis, port_shape=shape
                )
            h = estimator.estimate(y, observed, axis=axis, port_shape=shape, context=context)
            error = nmse(series_along(h, axis, shape)[0][:, wanted], truth, reduction="none")
            record.add(Series(name, "nmse", "1", error))
            record.methods[name] = MethodFacts(settings, *parameters)
        return record

    def results(self, records: list[CellRecord]) -> Results:
        """Rows, tables, headline and notes from the cells' records."""
        results = Results(self.title, "reconstruction", config=dict(self.config))
        results.rows = rows_of(records, self.bar)
        results.recipes = {r.cell["data"]: r.cell["recipe"] for r in records}
        results.headline = headline(results, self.label, self.bar)
        results.extras = {
            "focus": self.label,
            "bar": self.bar,
            "details": details(results, self.label, self.bar),
            "compared": compared(self.cells.slots, self.bar),
            "tables": [*pattern_tables(records), *few_shot_tables(results)],
        }
        results.notes = list(NOTES)
        return results
