"""The benchmark of reconstruction: all subcarriers or antennas from pilots on some, against classical methods."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from airlam.csi import measure, series_along
from airlam.evaluation.engine import statistics
from airlam.evaluation.engine.summarise import add_mean_nmse
from airlam.evaluation.report.html import publish
from airlam.evaluation.report.sentences import details, headline
from airlam.evaluation.report.style import look, order
from airlam.evaluation.rows import Results, Row
from airlam.evaluation.runner import narrator
from airlam.interfaces import RecipeError
from airlam.io import recipe_hash
from airlam.methods import names
from airlam.metrics import cpu_threads, nmse
from airlam.recipes import nearest
from airlam.seeds import stream_seed

INTERPOLATORS = (
    "linear",
    "dft",
    "lmmse",
    "lmmse-sample",
    "eigen-lmmse",
    "eigen-lmmse-sample",
    "{model}",
    "lmmse-genie",
)


class ReconstructionBenchmark:
    """Estimation of what was not measured, against tuned classical methods; zero-shot and after few-shot adaptation.

    A cell is one task, pattern, scenario and CSI SNR. Classical methods are tuned in every cell on links of other
    drops, and know the covariance of that scenario's training links where they need one. The model comes as shipped;
    adapted rows train on links of all scenarios together, at SNRs from the lowest to the highest.

    Args:
        model: a shipped checkpoint's name or a checkpoint folder.
        tasks: label -> ``axis``, ``patterns`` (:func:`airlam.tasks.sampling_pattern`), ``methods`` (``{model}`` is the
            model), and, where it differs, ``channel``: keys that replace those of every channel recipe.
        scenarios: names of channel recipes. speed_kmh: range of user speeds.
        csi_snr_db: SNRs of the measured CSI [dB].
        slots: slots measured, all with the same pattern, and estimated together.
        bar: the method that gains are relative to.
        num_links, num_tune: links of a cell that are judged, and that tune the classics, of other drops.
        links_per_drop: users that share a drop.
        num_train: training links, all scenarios together: they give covariances, and adapt.
        shots: shares of the training links that adapted rows use; empty: no such rows.
        adapted_csi_snr_db: SNR of the cells that adapted rows are judged in.
        lora_rank, steps, batch_size, learning_rate: of adaptation. Adapters of this rank or all weights: whichever is
            better on the tuning links; None: all weights.
        seed: of links, noise and adaptation.
        threads: CPU threads.
        quick: a small version of everything, for tests.
        title: of the report.

    Raises:
        RecipeError: an unknown method, or sizes that do not fit.
    """

    def __init__(
        self,
        model: str = "airlam-tiny",
        tasks: dict[str, dict[str, Any]] | None = None,
        scenarios: Sequence[str] = ("uma_nlos", "umi_nlos", "uma_los", "umi_los"),
        speed_kmh: Sequence[float] = (3.0, 100.0),
        csi_snr_db: Sequence[float] = (0.0, 10.0, 20.0, 30.0),
        slots: int = 4,
        bar: str = "lmmse",
        num_links: int = 32,
        num_tune: int = 16,
        links_per_drop: int = 4,
        num_train: int = 2000,
        shots: Sequence[float] = (0.01, 0.05, 0.1, 1.0),
        adapted_csi_snr_db: float = 20.0,
        lora_rank: int | None = 8,
        steps: int = 40,
        batch_size: int = 8,
        learning_rate: float = 5e-4,
        seed: int = 7,
        threads: int = 1,
        quick: bool = False,
        title: str = "Reconstruction against tuned classical methods",
    ):
        self.config = {name: value for name, value in locals().items() if name != "self"}
        if quick:
            scenarios, csi_snr_db = scenarios[:1], [adapted_csi_snr_db]
            num_links, num_tune, num_train = 2 * links_per_drop, 2 * links_per_drop, 8 * links_per_drop
            shots, steps = shots[-1:], 2
        self.model, self.label = model, Path(model).name
        self.tasks = tasks or {"comb pilots": {"axis": "subcarrier", "patterns": ["comb:4"]}}
        self.scenarios, self.speed_kmh = list(scenarios), [float(v) for v in speed_kmh]
        self.csi_snr_db, self.slots, self.bar = [float(s) for s in csi_snr_db], slots, bar
        self.num_links, self.num_tune, self.num_train = num_links, num_tune, num_train
        self.links_per_drop, self.shots = links_per_drop, [float(s) for s in shots]
        self.adapted_csi_snr_db, self.lora_rank = float(adapted_csi_snr_db), lora_rank
        self.steps, self.batch_size, self.learning_rate = steps, batch_size, learning_rate
        self.seed, self.threads, self.quick, self.title = seed, threads, quick, title
        self._check()

    def _check(self) -> None:
        from airlam.evaluation.benchmarks.reconstruction.estimators import GENIE
        from airlam.tasks import sampling_pattern
        from airlam.tasks.reconstruction import AXES

        if not self.scenarios or not self.csi_snr_db:
            raise RecipeError("scenarios and csi_snr_db must not be empty: they are the cells")
        for name in ("links_per_drop", "steps", "batch_size", "slots", "threads"):
            if getattr(self, name) < 1:
                raise RecipeError(f"{name} is {getattr(self, name)}, but must be at least 1")
        for name in ("num_links", "num_tune", "num_train"):
            if getattr(self, name) < 1 or getattr(self, name) % self.links_per_drop:
                raise RecipeError(
                    f"{name} is {getattr(self, name)}, but must be a positive multiple of links_per_drop "
                    f"({self.links_per_drop}): no drop is ever split"
                )
        if not all(0 < share <= 1 for share in self.shots):
            raise RecipeError(f"shots are shares of num_train in (0, 1], got {self.shots}")
        if self.shots and self.adapted_csi_snr_db not in self.csi_snr_db:
            raise RecipeError(f"adapted_csi_snr_db {self.adapted_csi_snr_db:g} is not among csi_snr_db")
        valid = [*names("estimator", "classical", built=True), GENIE, self.label]
        for label, task in self.tasks.items():
            for key in task:
                if key not in ("axis", "patterns", "methods", "channel"):
                    raise RecipeError(f"task {label!r} has no key {key!r}; keys are axis, patterns, methods, channel")
            if task.get("axis") not in AXES or not task.get("patterns"):
                raise RecipeError(f"task {label!r} needs an axis ({', '.join(AXES)}) and patterns")
            for pattern in task["patterns"]:
                try:
                    sampling_pattern(pattern, 1000)
                except ValueError as error:
                    raise RecipeError(f"task {label!r}: {error}") from None
            methods = self.methods(task)
            for name in methods:
                if name not in valid:
                    raise RecipeError(
                        f"no method {name!r}{nearest(str(name), valid) or ';'} methods are {', '.join(valid)}"
                    )
            if self.bar not in methods or self.label not in methods:
                raise RecipeError(f"task {label!r}: methods must hold the baseline (bar) {self.bar!r} and '{{model}}'")

    def methods(self, task: dict[str, Any]) -> list[str]:
        """Names of a task's methods, without adapted rows."""
        return [str(name).replace("{model}", self.label) for name in task.get("methods", INTERPOLATORS)]

    def run(self, out: str | Path) -> Path:
        """Run all cells; write ``results.json``, ``report.html``, ``leaderboard.md``.

        Returns:
            The path of ``report.html``.
        """
        from rich.console import Console

        out, say = Path(out), narrator(Console())
        with cpu_threads(self.threads):
            records = []
            for label, task in self.tasks.items():
                records += self.records(label, task, say)
        say("done")
        results = self.results(records)
        return publish(results, out, threads=self.threads)

    def links(self, task: dict[str, Any], scenario: str, purpose: str, num_links: int, rays: bool = False):
        """Links for "train", "tune" or "test": drops of their own each."""
        from airlam.channels import load_channel

        recipe = {**load_channel(scenario).recipe, "speed_kmh": self.speed_kmh, **task.get("channel", {})}
        recipe["links_per_drop"] = self.links_per_drop
        seed = stream_seed(self.seed, recipe, purpose)
        return load_channel(recipe).sample(num_links, self.slots, seed=seed, return_rays=rays)

    def records(
        self, label: str, task: dict[str, Any], say: Callable[[str], None] = lambda text: None
    ) -> list[dict[str, Any]]:
        """One record for each cell of a task: linear NMSE of every link under every method; ``say`` shows progress."""
        from airlam.baselines import axis_covariance
        from airlam.evaluation.engine.contenders import trainable
        from airlam.models import AirlamEstimator

        shipped = trainable(self.model).model  # type: ignore[attr-defined]
        axis, share = task["axis"], -(-self.num_train // len(self.scenarios) // self.links_per_drop)
        share *= self.links_per_drop
        train = {s: self.links(task, s, "train", share) for s in self.scenarios}
        tune = {s: self.links(task, s, "tune", self.num_tune) for s in self.scenarios}
        learned: dict[str, tuple[Any, dict, int]] = {self.label: (AirlamEstimator(shipped, self.label), {}, 0)}
        say(f"{label}: adaptation to {', '.join(f'{100 * share:g} %' for share in self.shots)} of the links")
        adapted = self.adapted(task, train, tune) if self.shots else {}
        records = []
        for scenario in self.scenarios:
            say(f"{label}: {scenario}")
            links = self.links(task, scenario, "test", self.num_links, rays=True)
            shape = links.port_shape
            covariance = axis_covariance(train[scenario].h, axis, shape)
            for pattern in task["patterns"]:
                for snr_db in self.csi_snr_db:
                    few = adapted if snr_db == self.adapted_csi_snr_db else {}
                    cell = dict(
                        task=label,
                        axis=axis,
                        pattern=pattern,
                        data=scenario,
                        csi_snr_db=snr_db,
                        seed=self.seed,
                        recipe={k: v for k, v in links.recipe.items() if k != "seed"},
                        history=self.slots,
                    )
                    methods = self._cell(cell, links, tune[scenario], covariance, self.methods(task), learned | few)
                    records.append({"cell": cell, "drop": links.drop.tolist(), "methods": methods})
        return records

    def _cell(
        self, cell: dict[str, Any], links: Any, tune: Any, covariance: Tensor, methods: list[str], learned: dict
    ) -> dict[str, Any]:
        from airlam.baselines import LMMSEInterpolator
        from airlam.evaluation.benchmarks.reconstruction.estimators import GENIE, genie_context, tuned_classic
        from airlam.tasks import sampling_pattern

        axis, shape = cell["axis"], links.port_shape
        length = series_along(links.h[:1], axis, shape)[0].shape[1]
        observed, wanted = sampling_pattern(cell["pattern"], length)
        seed = stream_seed(self.seed, cell["recipe"], "noise")
        y = measure(links.h, cell["csi_snr_db"], torch.Generator().manual_seed(seed))
        y_tune = measure(tune.h, cell["csi_snr_db"], torch.Generator().manual_seed(seed + 1))
        truth = series_along(links.h, axis, shape)[0][:, wanted]
        out: dict[str, Any] = {}
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
            out[name] = {"nmse": error.tolist(), "settings": settings, "parameters": parameters}
        return out

    def adapted(self, task: dict[str, Any], train: dict, tune: dict) -> dict[str, tuple[Any, dict, int]]:
        """Adapted estimators, and the control from random weights, for every share of the training links."""
        from airlam.evaluation.benchmarks.reconstruction.estimators import FewLinks, adapt
        from airlam.models import AirlamEstimator

        shape = next(iter(train.values())).port_shape
        span = (min(self.csi_snr_db), max(self.csi_snr_db))
        options = dict(
            axis=task["axis"],
            patterns=list(task["patterns"]),
            steps=self.steps,
            seed=self.seed,
            learning_rate=self.learning_rate,
        )
        known = torch.cat([links.h for links in tune.values()])

        def batches(share: float) -> FewLinks:
            count = max(1, round(share * len(next(iter(train.values())))))
            h = torch.cat([links.h[:count] for links in train.values()])
            return FewLinks(h, shape, span, self.batch_size, self.seed)

        def error(model: Any) -> float:
            return self._validation_db(task, AirlamEstimator(model), known, shape)

        rank: int | None = None
        whole: dict[int | None, Any] = {}
        if self.lora_rank is not None:
            everything = batches(max(self.shots))
            whole = {r: adapt(self.model, everything, lora_rank=r, **options) for r in (None, self.lora_rank)}
            rank = min(whole, key=lambda r: error(whole[r]))
        out: dict[str, tuple[Any, dict, int]] = {}
        for share in sorted(self.shots):
            few, name = batches(share), "" if share == max(self.shots) else f"-{100 * share:g}"
            for kind, random_start in (("adapted", False), ("random-start", True)):
                model: Any
                if not random_start and share == max(self.shots) and rank in whole:
                    model = whole[rank]
                else:
                    lora = None if random_start else rank
                    model = adapt(self.model, few, lora_rank=lora, random_start=random_start, **options)
                what = "all weights" if random_start or rank is None else f"LoRA of rank {rank}"
                settings = {"links": len(few.h), "steps": self.steps, "trained": what}
                trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
                key = f"{self.label}:{kind}{name}"
                out[key] = (AirlamEstimator(model, key), settings, trained)
        return out

    def _validation_db(self, task: dict[str, Any], estimator: Any, h: Tensor, shape: Any) -> float:
        from airlam.tasks import sampling_pattern

        y, total = measure(h, self.adapted_csi_snr_db, torch.Generator().manual_seed(self.seed)), 0.0
        length = series_along(h[:1], task["axis"], shape)[0].shape[1]
        for pattern in task["patterns"]:
            observed, wanted = sampling_pattern(pattern, length)
            est = estimator.estimate(y, observed, axis=task["axis"], port_shape=shape)
            pair = (series_along(x, task["axis"], shape)[0][:, wanted] for x in (est, h))
            total += math.log10(float(nmse(*pair)))
        return 10 * total / len(task["patterns"])

    def results(self, records: list[dict[str, Any]]) -> Results:
        """Rows, tables, headline and notes from the cells' records."""
        results = Results(self.title, "reconstruction", config=dict(self.config))
        results.rows = [row for record in records for row in cell_rows(record, self.bar)]
        shared = [m for m in records[0]["methods"] if all(m in r["methods"] for r in records)]
        results.rows += mean_rows(records, shared, self.bar, "mean")
        few = [r for r in records if any(":" in m for m in r["methods"])]
        for task in dict.fromkeys(r["cell"]["task"] for r in few):
            here = [r for r in few if r["cell"]["task"] == task]
            rows = mean_rows(here, list(here[0]["methods"]), self.bar, "few_shot")
            for row in rows:
                row.settings["task"] = task
            results.rows += rows
        results.recipes = {r["cell"]["data"]: r["cell"]["recipe"] for r in records}
        results.headline = headline(results, self.label, self.bar)
        results.extras = {
            "focus": self.label,
            "bar": self.bar,
            "details": details(results, self.label, self.bar),
            "compared": [
                f"Gains are relative to the baseline {look(self.bar).label}. {self.slots} slots of one link are "
                "measured with the same pattern and estimated together. For comb patterns NMSE is taken over all "
                "samples of the axis, for extrapolation over the samples that were not measured; always against the "
                "true channel.",
                "lmmse knows the frequency (or antenna) covariance of the scenario's training links, lmmse-sample the "
                "link's own power-delay profile, eigen-... work in the link's own eigenbasis of all other axes; "
                "lmmse-genie knows the link's own covariance from its rays and treats every antenna alone: it bounds "
                "methods that do so, not methods that use all antennas together.",
            ],
            "tables": [*pattern_tables(records), *few_shot_tables(results)],
        }
        results.notes = [
            "Classical methods are tuned in every cell on links of other drops, over their whole grid.",
            "Adapted rows, and the networks that are trained from random weights for comparison, see the same "
            "batches for the same number of steps; adapted-5 used 5 % of the training links, adapted all of them.",
            "Intervals are 95 %, bootstrapped over drops; gains are paired.",
        ]
        return results


def new_row(record: dict[str, Any], method: str, group: str) -> Row:
    """A row with everything but figures."""
    cell, entry = record["cell"], record["methods"][method]
    settings = {"task": cell["task"], "pattern": cell["pattern"], **entry["settings"]}
    return Row(
        method,
        cell["data"],
        recipe_hash(cell["recipe"]),
        None,
        cell["csi_snr_db"],
        cell["history"],
        0,
        entry["parameters"][0],
        entry["parameters"][1],
        settings,
        {"benchmark": cell["seed"]},
        len(record["drop"]),
        len(set(record["drop"])),
        group=group,
    )


def cell_rows(record: dict[str, Any], bar: str) -> list[Row]:
    """One row per method of a cell's record."""
    drop, rows = torch.tensor(record["drop"]), []
    reference = torch.tensor(record["methods"][bar]["nmse"], dtype=torch.float64)
    for method, entry in record["methods"].items():
        row, values = new_row(record, method, "estimate"), torch.tensor(entry["nmse"], dtype=torch.float64)
        row.figures["nmse"] = statistics.mean_figure(values, drop, "1")
        row.figures["nmse_db"] = statistics.db_figure(values, drop)
        if method != bar:
            row.figures["gain_db"] = statistics.gain_db(values, reference, drop)
        rows.append(row)
    return rows


def mean_rows(records: list[dict[str, Any]], methods: list[str], bar: str, group: str) -> list[Row]:
    """One row per method over several cells: both means, paired gains."""
    drops, rows = [torch.tensor(record["drop"]) for record in records], []
    snrs = {record["cell"]["csi_snr_db"] for record in records}
    for method in methods:
        row = new_row(records[0], method, group)
        row.data = ", ".join(dict.fromkeys(record["cell"]["data"] for record in records))
        row.data_hash = recipe_hash([record["cell"]["recipe"] for record in records])
        row.csi_snr_db = next(iter(snrs)) if len(snrs) == 1 else None
        row.settings = {k: v for k, v in row.settings.items() if k in ("links", "steps", "trained")}
        row.num_links = sum(len(drop) for drop in drops)
        row.num_drops = sum(len(drop.unique()) for drop in drops)
        add_mean_nmse(row, records, drops, bar)
        rows.append(row)
    return rows


def pattern_tables(records: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """NMSE in dB of every cell: a table for each task and pattern, a line for each method."""
    tables = []
    for task, pattern in dict.fromkeys((r["cell"]["task"], r["cell"]["pattern"]) for r in records):
        here = [r for r in records if (r["cell"]["task"], r["cell"]["pattern"]) == (task, pattern)]
        methods = [m for m in order({m for r in here for m in r["methods"]}) if not m.partition(":")[2]]
        lines = []
        for method in methods:
            values = [torch.tensor(r["methods"][method]["nmse"]).double().mean().log10().item() * 10 for r in here]
            lines.append([look(method).label, f"{sum(values) / len(values):.1f}", *(f"{v:.1f}" for v in values)])
        columns = [f"{r['cell']['data']} {r['cell']['csi_snr_db']:g} dB" for r in here]
        tables.append(
            {"title": f"{task}, {pattern}: NMSE [dB]", "columns": ["method", "mean of cells", *columns], "lines": lines}
        )
    return tables


def few_shot_tables(results: Results) -> list[dict[str, Any]]:
    """The mean over the cells with adapted rows: a table for each task."""
    tasks = dict.fromkeys(row.settings["task"] for row in results.select(group="few_shot"))
    return [few_shot_table(results, task) for task in tasks]


def few_shot_table(results: Results, task: str) -> dict[str, Any]:
    """One of them; adapted rows in the order of the links they saw."""
    rows = {row.method: row for row in results.select(group="few_shot") if row.settings["task"] == task}
    methods = sorted(order(list(rows)), key=lambda m: rows[m].settings.get("links", 0) if ":" in m else -1)
    lines = []
    for method in methods:
        figures, settings = rows[method].figures, rows[method].settings
        gain = figures.get("gain_cells_db")
        text = "-" if gain is None else f"{gain.number:+.2f} ({gain.ends[0]:+.2f} to {gain.ends[1]:+.2f})"
        lines.append(
            [
                look(method).label,
                str(settings.get("links", "-")),
                settings.get("trained", "-"),
                f"{figures['nmse_cells_db'].number:.2f}",
                text,
                f"{figures['nmse_linear_db'].number:.2f}",
            ]
        )
    columns = ["method", "links", "trained", "NMSE, mean of cells [dB]", "gain over baseline [dB]", "NMSE, linear mean"]
    return {"title": f"After few-shot adaptation, {task}", "columns": columns, "lines": lines}
