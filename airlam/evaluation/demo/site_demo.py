"""The run of the demo: a site, adaptation, comparison on the site's other users, report."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import torch

from airlam.channels import LinkBatch, load_channel
from airlam.csi import normalise
from airlam.evaluation.demo.arguments import DemoArguments
from airlam.evaluation.demo.report import print_table, results_of
from airlam.evaluation.demo.training import adapt, as_predictor
from airlam.evaluation.engine.cell import Cell, Contender
from airlam.evaluation.engine.contenders import OFF, without_correction
from airlam.evaluation.engine.measure import measure_cell, picture, predict_all
from airlam.evaluation.engine.site_methods import contender_of, site_cell, tuned_on_site
from airlam.evaluation.report.html import write_report
from airlam.evaluation.report.verdicts import banner
from airlam.evaluation.results import CellRecord
from airlam.evaluation.rows import environment
from airlam.evaluation.runner import narrator
from airlam.io import results_folder
from airlam.loading import load_predictor
from airlam.metrics import cpu_threads

TUNED = ("mean", "pad", "ar", "eigen-ar")


class SiteDemo(DemoArguments):
    """Generate a site with Sionna, adapt the shipped model to it, and compare on the site's other users.

    The arguments stand in :class:`~airlam.evaluation.demo.arguments.DemoArguments`.

    Example:
        >>> SiteDemo(steps=10).banner()[:36]
        'Quick run (steps 10 instead of 250):'
    """

    def run(self, out: str | Path) -> Path:
        """Run everything; write ``results.json``, ``report.html``, ``plots/`` and ``adapter/`` into ``out``.

        Returns:
            The path of ``report.html``, also printed.
        """
        with results_folder(out) as folder:
            return self._run(folder)

    def _run(self, out: Path) -> Path:
        from rich.console import Console

        from airlam.models import save_lora

        console = Console()
        say, threads = narrator(console), self.threads or idle_cores()
        with cpu_threads(threads):
            shipped = load_predictor(self.model)
            count = self.num_adapt + self.num_held_out
            say(f"Sionna generates the channels of {count} users of one site, {self.channel}")
            users, held_out = self.site()
            say(f"{self.label} is adapted by LoRA of rank {self.lora_rank}: {self.num_adapt} users, {self.steps} steps")
            adapted = adapt(users, self, self.lora_rank)
            save_lora(adapted, out / "adapter")
            learned = {
                self.label + OFF: (without_correction(shipped), 0),
                self.label: (shipped, 0),
                f"{self.label}:adapted": as_predictor(adapted),
            }
            if self.random_start:
                say("for comparison, a network of the same shape with random weights is trained on the same batches")
                learned[f"{self.label}:random-start"] = as_predictor(adapt(users, self, None))
            say(f"classical methods are tuned, then all methods are evaluated on the other {self.num_held_out} users")
            records = self.records(users, held_out, learned)
        results = results_of(records, self)
        results.environment = environment(threads=threads)
        results.save(out / "results.json")
        report = write_report(results, out)
        say("done")
        print_table(console, results)
        console.print(f"\n{banner(results)}", style="yellow", markup=False, highlight=False)
        console.print(f"\n{results.headline}\n", markup=False, highlight=False)
        console.print(f"Report: {report}   adapter: {out / 'adapter'}", soft_wrap=True, markup=False, highlight=False)
        return report

    def site(self) -> tuple[LinkBatch, LinkBatch]:
        """Adaptation users and held-out users of one spatially consistent snapshot."""
        users = self.num_adapt + self.num_held_out
        recipe = {**load_channel(self.channel).recipe, **self.channel_overrides, "speed_kmh": self.speed_kmh}
        recipe |= {"spatial_consistency": True, "links_per_drop": users}
        links = load_channel(recipe).sample(users, self.num_slots, seed=self.seed)
        shuffled = torch.randperm(users, generator=torch.Generator().manual_seed(self.seed))
        return links[shuffled[: self.num_adapt]], links[shuffled[self.num_adapt :]]

    def records(self, users: LinkBatch, held_out: LinkBatch, learned: dict[str, tuple[Any, int]]) -> list[CellRecord]:
        """One record for each speed class of the held-out users; see ``measure_cell``.

        Args:
            users: those who adapted the model; some of them tune the classical methods.
            learned: name -> predictor, number of trained weights.
        """
        window, records = self.history + self.horizon, []
        for number, index in enumerate(held_out.speed.argsort().chunk(self.num_speed_classes)):
            part = held_out[index]
            part.h = normalise(part.h[:, :window])[0]
            cell = self._cell(part, [*learned], timed=number == self.num_speed_classes // 2)
            contenders = tuned_on_site(cell, part, users, TUNED)
            for name, (predictor, trained) in learned.items():
                contenders.append(contender_of(name, predictor, part, trained=trained))
            contenders.append(Contender("perfect", lambda *_: torch.empty(0), timed=False))
            h_past, _ = cell.observe(part.h, "test")
            record = measure_cell(cell, part, h_past, contenders)
            # one site is one drop: intervals are over its users, and over its groups
            record.drops = {per: list(range(len(drops))) for per, drops in record.drops.items()}
            if cell.timed:
                shown = [c for c in contenders if c.name in ("ar", f"{self.label}:adapted")]
                few = {c.name: predict_all(c, h_past[:1], self.horizon) for c in shown}
                record.extras["picture"] = picture(part, self.history, few)
            records.append(record)
        return records

    def _cell(self, part: LinkBatch, learned: list[str], *, timed: bool) -> Cell:
        return site_cell(
            f"{self.channel}_site",
            part,
            csi_snr_db=self.csi_snr_db,
            num_tune=self.num_tune,
            history=self.history,
            horizon=self.horizon,
            methods=("hold", *TUNED, *learned, "perfect"),
            users=(self.group_size,),
            transmit_snr_db=tuple(sorted({0.0, 10.0, 20.0, 30.0, self.transmit_snr_db})),
            headline_snr_db=self.transmit_snr_db,
            seed=self.seed,
            timed=timed,
        )


def run(out: str | Path = "outputs/demo", **settings: Any) -> Path:
    """The demo; ``settings`` are the arguments of :class:`SiteDemo`. Returns the path of ``report.html``."""
    return SiteDemo(**settings).run(out)


def idle_cores(most: int = 4) -> int:
    """Cores that nobody uses right now, at least 1: threads that wait for a busy core are slower than one alone."""
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else 0.0
    return max(1, min(most, (os.cpu_count() or 1) - round(load)))
