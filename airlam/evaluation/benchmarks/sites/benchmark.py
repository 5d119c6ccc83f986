"""The benchmark of adaptation to a site: what pretraining is worth there, and with how much of the site's data."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from airlam.channels import LinkBatch, load_channel, rt_available
from airlam.csi import normalise
from airlam.evaluation.benchmarks.channel_prediction.tables import NOTES
from airlam.evaluation.engine.cell import Cell, Contender
from airlam.evaluation.engine.contenders import OFF, of_predictor, tuned, without_correction
from airlam.evaluation.engine.fingerprint import fingerprint
from airlam.evaluation.engine.measure import measure_cell
from airlam.evaluation.engine.summarise import cell_rows, mean_rows
from airlam.evaluation.engine.training import Adapted, Choice, adapt
from airlam.evaluation.report.html import publish
from airlam.evaluation.report.markdown import write_leaderboard
from airlam.evaluation.report.sentences import details, headline
from airlam.evaluation.report.style import look, parts
from airlam.evaluation.report.verdicts import verdict
from airlam.evaluation.rows import Figure, Results, Row
from airlam.evaluation.runner import narrator
from airlam.interfaces import RecipeError
from airlam.io import read_finished, recipe_hash, write_json
from airlam.metrics import cpu_threads

BASELINES = ("hold", "mean", "ar", "eigen-ar")
BAR = "ar"
# Side of the blocks whose users are resampled together [m]: the largest correlation distance of the large-scale
# parameters of a scenario, TR 38.901 table 7.5-6; ray-traced scenes have none and take that of UMa.
BLOCK_M = {"uma": 50.0, "umi": 15.0, "rma": 120.0, "inh": 10.0, "inf": 10.0, "ray_traced": 50.0}


@dataclass
class SiteLinks:
    """Users of one site: those who adapt, those who choose settings and when to stop, and those who judge."""

    train: LinkBatch
    val: LinkBatch
    test: LinkBatch


class SiteBenchmark:
    """Zero-shot, few-shot and full adaptation to sites, against tuned classics and a random start.

    Each site has ``num_train`` users who may adapt a model, ``num_val`` users who choose how (all weights or LoRA,
    learning rate, when to stop), and ``num_test`` held-out users who judge, in classes of speed. Models start from the
    pretrained weights, or (the control) from random ones with the same data and steps.

    Args:
        model: a shipped checkpoint's name, a checkpoint folder, or a Lightning ``.ckpt``.
        sites: label -> ``channel`` (a recipe's name) and keys that replace those of its recipe. Statistical scenarios
            become one spatially consistent snapshot; ray-traced ones are a site by themselves, and are left out with
            a remark where ray tracing cannot run.
        fractions: shares of the training links that adaptation sees.
        steps: training steps of each share.
        headline_fraction: the share in the headline; one of ``fractions``.
        adaptations: candidates for the pretrained start: ``learning_rate`` and, for LoRA, ``lora_rank``.
        controls: candidates for the random start.
        choose_fraction: the share at which the candidates are compared, on validation users, with the first seed.
        seeds: of batches, noise, which links are the share, and random weights; figures are means over them. The
            whole of the links is adapted to with the first one alone.
        num_train, num_val, num_test: users. num_tune: training users, of like speed, that tune the classics of a class.
        num_speed_classes: classes that the test users are split into by speed.
        speed_kmh: users draw their speed from this range, unless a site says otherwise.
        csi_snr_db: SNR of the measured histories. transmit_snr_db: of the spectral efficiencies.
        group_size: users served together.
        history, horizon: slots seen and predicted.
        batch_size: links of a training step.
        precision: ``float32`` or ``bfloat16``, of the backbone while training.
        channel_overrides: keys that replace those of every channel recipe (smaller panels for a quick look).
        seed: of the sites and of the test noise.
        threads: CPU threads.
        title: of the report.

    Raises:
        RecipeError: sizes that do not fit each other.

    Example:
        >>> SiteBenchmark(fractions=[0.05, 0.1], steps=[10, 10]).counts()
        [50, 100]
    """

    def __init__(
        self,
        model: str = "airlam-tiny",
        sites: dict[str, dict[str, Any]] | None = None,
        fractions: Sequence[float] = (0.01, 0.05, 0.1, 1.0),
        steps: Sequence[int] = (30, 50, 50, 100),
        headline_fraction: float = 0.05,
        adaptations: list[dict[str, Any]] | None = None,
        controls: list[dict[str, Any]] | None = None,
        choose_fraction: float = 0.1,
        seeds: Sequence[int] = (0, 1, 2),
        num_train: int = 1000,
        num_val: int = 64,
        num_test: int = 192,
        num_tune: int = 48,
        num_speed_classes: int = 3,
        speed_kmh: Sequence[float] = (3.0, 100.0),
        csi_snr_db: float = 20.0,
        transmit_snr_db: float = 20.0,
        group_size: int = 4,
        history: int = 16,
        horizon: int = 4,
        batch_size: int = 16,
        precision: str = "float32",
        channel_overrides: dict[str, Any] | None = None,
        seed: int = 11,
        threads: int = 1,
        title: str = "Adaptation to a site",
    ):
        self.config = {name: value for name, value in locals().items() if name != "self"}
        self.model, self.label = str(model), Path(str(model)).stem if str(model).endswith(".ckpt") else Path(model).name
        self.sites = {"umi_site": {"channel": "umi_site"}} if sites is None else dict(sites)
        self.fractions, self.steps = [float(f) for f in fractions], [int(s) for s in steps]
        self.headline_fraction, self.choose_fraction = float(headline_fraction), float(choose_fraction)
        self.adaptations = [Choice.of(c) for c in adaptations or [{"learning_rate": 3e-4}]]
        self.controls = [Choice.of(c) for c in controls or [{"learning_rate": 1e-3}]]
        self.seeds = [int(s) for s in seeds]
        self.num_train, self.num_val, self.num_test, self.num_tune = num_train, num_val, num_test, num_tune
        self.num_speed_classes, self.speed_kmh = num_speed_classes, [float(v) for v in speed_kmh]
        self.csi_snr_db, self.transmit_snr_db = float(csi_snr_db), float(transmit_snr_db)
        self.group_size, self.history, self.horizon = group_size, history, horizon
        self.batch_size, self.precision = batch_size, precision
        self.channel_overrides = dict(channel_overrides or {})
        self.seed, self.threads, self.title = seed, threads, title
        self._check()

    def _check(self) -> None:
        if not self.sites:
            raise RecipeError("sites is empty: name at least one, like {umi_site: {channel: umi_site}}")
        for label, site in self.sites.items():
            if not isinstance(site, dict) or "channel" not in site:
                raise RecipeError(f"sites.{label} is {site!r}, but must name a channel recipe: channel: umi_site")
        if not self.fractions or len(self.fractions) != len(self.steps):
            raise RecipeError(f"{len(self.fractions)} fractions have {len(self.steps)} steps; give one for each")
        for name in (
            "num_train",
            "num_val",
            "num_tune",
            "history",
            "horizon",
            "batch_size",
            "threads",
            "group_size",
            "num_speed_classes",
        ):
            if getattr(self, name) < 1:
                raise RecipeError(f"{name} is {getattr(self, name)}, but must be at least 1")
        for fraction, count, steps in zip(self.fractions, self.counts(), self.steps, strict=True):
            if not 0 < fraction <= 1 or count < 1:
                raise RecipeError(f"fractions holds {fraction:g}: {count} of {self.num_train} links, but 1 is needed")
            if steps < 1:
                raise RecipeError(f"steps holds {steps}, but must be at least 1")
        for name in ("headline_fraction", "choose_fraction"):
            if getattr(self, name) not in self.fractions:
                raise RecipeError(
                    f"{name} is {getattr(self, name):g}, but must be one of the fractions {self.fractions}"
                )
        if self.num_tune > self.num_train:
            raise RecipeError(f"num_tune is {self.num_tune}, but must be at most num_train ({self.num_train})")
        if not self.seeds:
            raise RecipeError("seeds is empty; give at least one")
        if self.num_test < 1 or self.num_test % (self.num_speed_classes * self.group_size):
            raise RecipeError(
                f"num_test is {self.num_test}, but must be a multiple of num_speed_classes x group_size "
                f"({self.num_speed_classes} x {self.group_size}): every speed class is served in whole groups"
            )
        if self.precision not in ("float32", "bfloat16"):
            raise RecipeError(f"precision is {self.precision!r}, but must be float32 or bfloat16")

    def counts(self) -> list[int]:
        """Links of each share."""
        return [round(fraction * self.num_train) for fraction in self.fractions]

    def run(self, out: str | Path) -> Path:
        """Run what is not finished; write ``results.json``, ``plots/``, ``report.html``, ``leaderboard.md``.

        Every finished site is a file in ``out/sites``: an interrupted benchmark goes on where it stopped.

        Returns:
            The path of ``report.html``.
        """
        from rich.console import Console

        from airlam.evaluation.engine.contenders import trainable

        out, say = Path(out), narrator(Console())
        with cpu_threads(self.threads):
            shipped = trainable(self.model)
            weights = fingerprint(shipped)
            records = []
            for label in self.sites:
                key = recipe_hash(
                    [
                        {k: v for k, v in self.config.items() if k not in ("sites", "title", "threads")},
                        self.recipe(label),
                        weights,
                        BLOCK_M,
                    ]
                )
                safe = "".join(c if c.isalnum() or c in "._-" else "-" for c in label)
                path = out / "sites" / f"{safe}_{key}.json"
                record = read_finished(path)
                if record is None:
                    record = self._site(label, shipped, say)
                    if not record["not_run"]:  # what is missing today may be installed tomorrow
                        write_json(path, record)
                records.append(record)
        results = self.results(records)
        results.config["weights"] = {self.label: weights}
        say("done")
        return publish(results, out, threads=self.threads, leaderboard=write_leaderboard)

    def recipe(self, label: str) -> dict[str, Any]:
        """The resolved channel recipe of a site."""
        site = {key: value for key, value in self.sites[label].items() if key != "channel"}
        base = load_channel(self.sites[label]["channel"]).recipe
        recipe = {**base, "speed_kmh": self.speed_kmh, **self.channel_overrides, **site}
        if recipe["scenario"] != "ray_traced":
            if "spatial_consistency" not in base:
                raise RecipeError(f"sites.{label}: {base['scenario']} has no spatial consistency, so it is no site")
            users = self.num_train + self.num_val + self.num_test
            recipe |= {"spatial_consistency": True, "links_per_drop": users, "chunk": min(users, 4096)}
        return load_channel(recipe).recipe

    def links(self, label: str) -> SiteLinks:
        """All users of a site, split at random."""
        users = self.num_train + self.num_val + self.num_test
        recipe = self.recipe(label)
        whole = -(-users // recipe["links_per_drop"]) * recipe["links_per_drop"]  # drops are never split
        links = load_channel(recipe).sample(whole, self.history + self.horizon, seed=self.seed)
        links = links[torch.randperm(len(links), generator=torch.Generator().manual_seed(self.seed))[:users]]
        links.h = normalise(links.h)[0]
        ends = (self.num_train, self.num_train + self.num_val)
        return SiteLinks(links[: ends[0]], links[ends[0] : ends[1]], links[ends[1] :])

    def _site(self, label: str, shipped: Any, say: Any) -> dict[str, Any]:
        """The record of one site: plain data."""
        recipe = self.recipe(label)
        record: dict[str, Any] = {"site": label, "recipe": recipe, "not_run": "", "cells": [], "training": {}}
        if recipe["scenario"] == "ray_traced":
            available = rt_available()
            if not available:
                say(f"{label}: left out, {available.reason}")
                return record | {"not_run": available.reason}
        start = time.perf_counter()
        say(f"{label}: Sionna makes {self.num_train + self.num_val + self.num_test} users")
        links = self.links(label)
        record["seconds_links"] = round(time.perf_counter() - start, 1)
        say(f"{label}: classics are tuned, {self.label} predicts as it is")
        classes = self._classes(label, links)
        for cell, part, h_past, contenders in classes:
            contenders += [
                self._contender(self.label + OFF, without_correction(shipped), part),
                self._contender(self.label, shipped, part),
                Contender("perfect", lambda *_: torch.empty(0), timed=False),
            ]
            found = measure_cell(cell, part, h_past, contenders)
            # One site is one drop, and neighbours in it are alike: intervals are over blocks of neighbouring users.
            # Groups hold users of the whole site, so they are resampled one by one.
            side = BLOCK_M.get(recipe["scenario"], 50.0)
            found["drop"] = user_blocks(part.position, side).tolist()
            found["group_drop"] = {k: list(range(len(drops))) for k, drops in found["group_drop"].items()}
            record["cells"].append(found)
        for kind, candidates in (("adapted", self.adaptations), ("random-start", self.controls)):
            choice, tried = self._choose(kind, candidates, links, shipped)
            say(f"{label}: {kind}, {choice}; {', '.join(f'{share:g}' for share in self.fractions)} of the links")
            record["training"][kind] = {"choice": str(choice), "tried": tried}
            for fraction, count, steps in zip(self.fractions, self.counts(), self.steps, strict=True):
                seeds = self.seeds if fraction < 1 else self.seeds[:1]
                name = f"{self.label}:{kind}-{100 * fraction:g}%"
                entries: list[list[dict]] = [[] for _ in classes]
                stops, vals = [], []
                for seed in seeds:
                    done = self._train(kind, choice, links, shipped, count, steps, seed)
                    stops.append(done.step)
                    vals.append(round(done.val_db, 3))
                    for number, (cell, part, h_past, _) in enumerate(classes):
                        contender = self._contender(name, _predictor(done.model), part, trained=done.trained)
                        entries[number].append(measure_cell(cell, part, h_past, [contender])["methods"][name])
                for number, entry in enumerate(entries):
                    merged = average(entry)
                    merged["settings"] = {"adaptation": str(choice), "links": count, "stopped_at": str(stops)}
                    record["cells"][number]["methods"][name] = merged
                record["training"][name] = {"links": count, "seeds": list(seeds), "stopped_at": stops, "val_db": vals}
        record["seconds"] = round(time.perf_counter() - start, 1)
        return record

    def _classes(self, label: str, links: SiteLinks) -> list[tuple[Cell, LinkBatch, Any, list[Contender]]]:
        """Test users of like speed, their measured histories, and the classics tuned for them."""
        out = []
        for users in links.test.speed.argsort().chunk(self.num_speed_classes):
            part = links.test[users]
            part.drop = torch.zeros_like(part.drop)  # all users of a site share its base station
            cell = Cell(
                group="cell",
                data=label,
                recipe={key: value for key, value in part.recipe.items() if key != "seed"},
                speed_kmh=round(3.6 * float(part.speed.mean())),
                csi_snr_db=self.csi_snr_db,
                num_links=len(part),
                num_tune=self.num_tune,
                history=self.history,
                horizon=self.horizon,
                num_future=self.horizon,
                methods=(),
                users=(self.group_size,),
                transmit_snr_db=(self.transmit_snr_db,),
                headline_snr_db=self.transmit_snr_db,
                tone_step=4,
                seed=self.seed,
                headline=True,
            )
            nearest = (links.train.speed - part.speed.mean()).abs().argsort()[: self.num_tune]
            known = links.train.h[nearest]
            tuning = (cell.observe(known, "tune")[0], known[:, self.history :])
            contenders = [self._contender("hold", _hold(), part)]
            for name in BASELINES[1:]:
                predictor, settings = tuned(name, *tuning, port_shape=part.port_shape, context=_context(part))
                contenders.append(self._contender(name, predictor, part, settings=settings))
            out.append((cell, part, cell.observe(part.h, "test")[0], contenders))
        return out

    def _contender(self, name: str, predictor: Any, part: LinkBatch, **fields: Any) -> Contender:
        return of_predictor(name, predictor, _context(part), part.port_shape, **fields)

    def _choose(
        self, kind: str, candidates: list[Choice], links: SiteLinks, shipped: Any
    ) -> tuple[Choice, dict[str, float]]:
        """The candidate that serves the validation users best, and what each of them reached [dB]."""
        number = self.fractions.index(self.choose_fraction)
        count, steps = self.counts()[number], self.steps[number]
        if len(candidates) == 1:
            return candidates[0], {}
        seed = self.seeds[0]
        tried = {choice: self._train(kind, choice, links, shipped, count, steps, seed).val_db for choice in candidates}
        return min(tried, key=lambda choice: tried[choice]), {str(c): round(v, 3) for c, v in tried.items()}

    def _train(
        self, kind: str, choice: Choice, links: SiteLinks, shipped: Any, count: int, steps: int, seed: int
    ) -> Adapted:
        start = shipped.model
        if kind == "random-start":
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(seed)
                start = shipped.model.untrained()
        share = torch.randperm(len(links.train), generator=torch.Generator().manual_seed(seed))[:count]
        return adapt(
            start,
            links.train[share],
            links.val,
            choice,
            steps=steps,
            batch_size=self.batch_size,
            history=self.history,
            csi_snr_db=self.csi_snr_db,
            seed=seed,
            precision=self.precision,
        )

    def results(self, records: list[dict[str, Any]]) -> Results:
        """Rows, tables, headline and notes from the records of all sites."""
        results = Results(self.title, "site_adaptation", config=dict(self.config))
        ran = [record for record in records if not record["not_run"]]
        results.recipes = {record["site"]: record["recipe"] for record in records}
        for record in records:
            if record["not_run"]:
                results.rows.append(
                    Row(
                        self.label,
                        record["site"],
                        recipe_hash(record["recipe"]),
                        group="not_run",
                        note=f"not run: {record['not_run']}",
                    )
                )
        results.extras = {
            "focus": self._name("adapted", self.headline_fraction),
            "resampled": "blocks of neighbouring users",
        }
        results.notes = [
            NOTES["tags"],
            NOTES["nmse"],
            "Intervals: 95 %, bootstrap over blocks of neighbouring users of each site (squares as wide as the largest "
            "correlation distance of the scenario's large-scale parameters): they say what other users of these sites "
            "would see, and nothing about other sites. Differences are paired, on the same users and noise.",
            "Intervals of sum-SE resample groups. A group holds users of the whole site, so groups are not quite "
            "independent of each other, and these intervals are somewhat too narrow.",
            f"Adapted figures are means over {len(self.seeds)} seeds (batches, which links are the share, random "
            "weights); with all links over one. Intervals do not hold the spread over seeds.",
            f"How to adapt and when to stop was chosen on {self.num_val} other users of the site, for both starts "
            "alike, so a few-shot row has seen more of the site than its 1 % of the links.",
            "The network from random weights is trained for the same few steps. It was not trained until it no longer "
            "improves, so these figures do not say what it could reach.",
            NOTES["sum_se"],
            NOTES["single"],
        ]
        if not ran:
            results.headline = "No site could be run: " + "; ".join(f"{r['site']}: {r['not_run']}" for r in records)
            return results
        focus = results.extras["focus"]
        headline_share = parts(focus)[2]  # the other shares have a table of their own
        main = [cell for record in ran for cell in record["cells"]]
        results.rows += mean_rows(main, BAR, {})
        for record in ran:
            for row in mean_rows(record["cells"], BAR, {}):
                results.rows.append(replace(row, group="site"))
            for cell in record["cells"]:
                results.rows += [row for row in cell_rows(cell, BAR) if parts(row.method)[2] in ("", headline_share)]
        results.headline = headline(results, focus, BAR)
        results.extras["details"] = details(results, focus, BAR) + self._targets(ran)
        results.extras["compared"] = self._compared(records)
        results.extras["mean_text"] = (
            f"Means over {len(ran)} sites with {self.num_speed_classes} classes of speed each. Spectral efficiency at "
            f"{self.transmit_snr_db:g} dB transmit SNR, groups of {self.group_size} users."
        )
        results.extras["tables"] = [self._site_table(results, records), self._share_table(results, ran)]
        return results

    def _name(self, kind: str, fraction: float) -> str:
        return f"{self.label}:{kind}-{100 * fraction:g}%"

    def _targets(self, ran: list[dict[str, Any]]) -> list[str]:
        """What pretraining promised, and whether it holds: on the ray-traced sites, and site by site."""
        traced = [c for record in ran if record["recipe"]["scenario"] == "ray_traced" for c in record["cells"]]
        sentences = []
        if traced:
            rows = {row.method: row for row in mean_rows(traced, BAR, {})}
            for method in (self.label, self._name("adapted", self.headline_fraction)):
                gain = rows[method].figures["gain_cells_db"]
                sentences.append(
                    f"On the ray-traced sites {look(method).label} gains {_signed(gain)} over the tuned AR "
                    f"({verdict(gain)})."
                )
        return sentences

    def _compared(self, records: list[dict[str, Any]]) -> list[str]:
        counts = zip(self.fractions, self.counts(), strict=True)
        shares = ", ".join(f"{100 * fraction:g} % ({count})" for fraction, count in counts)
        not_run = [f"{record['site']} was left out: {record['not_run']}." for record in records if record["not_run"]]
        return [
            f"Each site has {self.num_train} users who may adapt a model, {self.num_val} who choose how and when to "
            f"stop, and {self.num_test} held-out users who judge, in {self.num_speed_classes} classes of speed. "
            "Statistical sites are one spatially consistent snapshot of TR 38.901; ray-traced ones are scenes of "
            "Sionna RT in which users walk and drive along straight tracks.",
            f"{self.history} measured CSI occasions at {self.csi_snr_db:g} dB are seen, {self.horizon} are predicted. "
            f"{self.label} sees {shares} of the site's links; the random start has its shape, the same links and "
            f"steps ({', '.join(map(str, self.steps))}) of {self.batch_size} links. Classical methods are tuned in "
            f"each class on {self.num_tune} training users of like speed.",
            *not_run,
        ]

    def _site_table(self, results: Results, records: list[dict[str, Any]]) -> dict[str, Any]:
        """A line per site: the tuned classics, the model as it is, and adapted to the headline's share."""
        methods = [m for m in (*BASELINES, self.label + OFF, self.label) if results.select(method=m)]
        shown = self._name("adapted", self.headline_fraction), self._name("adapted", self.fractions[-1])
        methods += [m for m in dict.fromkeys(shown) if results.select(method=m)]
        lines = []
        for record in records:
            rows = {row.method: row.figures for row in results.select(group="site", data=record["site"])}
            if not rows:
                lines.append([record["site"], f"not run: {record['not_run']}", *[""] * (len(methods) + 1)])
                continue
            cells = [f"{rows[m]['nmse_cells_db'].number:.2f}" for m in methods]
            gains = [_signed(rows[m]["gain_cells_db"]) for m in (self.label, shown[0])]
            lines.append([record["site"], *cells, *gains])
        return {
            "title": "Site by site: NMSE [dB]",
            "columns": ["data", *(look(m).label for m in methods), f"{self.label} over AR", "adapted over AR"],
            "lines": lines,
            "text": "Mean over classes of speed of dB; gains are paired, with 95 % intervals. Adapted over AR: with "
            f"{100 * self.headline_fraction:g} % of the links.",
        }

    def _share_table(self, results: Results, ran: list[dict[str, Any]]) -> dict[str, Any]:
        """What adaptation and pretraining are worth with each share of the links."""
        lines = []
        for record in ran:
            rows = {row.method: row for row in results.select(group="site", data=record["site"])}
            for fraction, count in zip(self.fractions, self.counts(), strict=True):
                adapted, blank = (rows[self._name(kind, fraction)] for kind in ("adapted", "random-start"))
                training = record["training"]
                stops = [", ".join(map(str, training[row.method]["stopped_at"])) for row in (adapted, blank)]
                lines.append(
                    [
                        record["site"],
                        f"{100 * fraction:g} % ({count})",
                        f"{adapted.figures['nmse_cells_db'].number:.2f}",
                        f"{blank.figures['nmse_cells_db'].number:.2f}",
                        _signed(adapted.figures["adaptation_gain_cells_db"]),
                        _signed(adapted.figures["pretraining_gain_cells_db"]),
                        f"{training['adapted']['choice']}; {training['random-start']['choice']}",
                        f"{stops[0]}; {stops[1]}",
                    ]
                )
        return {
            "title": "With how much of the site's data: NMSE [dB]",
            "columns": [
                "data",
                "links",
                "pretrained start",
                "random start",
                "adapted over zero-shot",
                "pretrained over random start",
                "adaptation (pretrained; random)",
                "stopped at step",
            ],
            "lines": lines,
            "text": "Both starts see the same links for the same number of steps; each stops where the validation "
            "users are served best (step 0: adaptation did not help).",
        }


def user_blocks(position: Tensor, side: float) -> Tensor:
    """The square of ``side`` metres that each user stands in, numbered from 0, ``int64 [user]``.

    Args:
        position: ``[user, 3]`` m, as in :class:`airlam.channels.LinkBatch`; height does not count.

    Example:
        >>> user_blocks(torch.tensor([[1.0, 1.0, 1.5], [61.0, 2.0, 1.5], [9.0, 9.0, 4.5]]), 10.0).tolist()
        [0, 1, 0]
    """
    return (position[:, :2] / side).floor().unique(dim=0, return_inverse=True)[1]


def average(entries: list[Any]) -> Any:
    """Mean over seeds of records of one shape: numbers and lists of numbers; anything else is taken from the first."""
    first = entries[0]
    if isinstance(first, dict):
        return {key: average([entry[key] for entry in entries]) for key in first}
    if isinstance(first, list):
        return [average([entry[n] for entry in entries]) for n in range(len(first))]
    if isinstance(first, float):
        return sum(entries) / len(entries)
    return first


def _signed(gain: Figure) -> str:
    low, high = gain.ends
    return f"{gain.number:+.2f}" + (f" ({low:+.2f} to {high:+.2f})" if gain.interval else "") + " dB"


def _context(part: LinkBatch) -> dict[str, Any]:
    return {
        "slot_duration": part.slot_duration,
        "subcarrier_spacing": part.subcarrier_spacing,
        "carrier_frequency": part.carrier_frequency,
    }


def _hold() -> Any:
    from airlam.loading import load_predictor

    return load_predictor("hold")


def _predictor(model: Any) -> Any:
    from airlam.models import AirlamPredictor

    return AirlamPredictor(model)
