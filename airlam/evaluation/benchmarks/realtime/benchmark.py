"""Predictions that arrive in time: streams, full predictions and classical methods, each charged with its latency."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from airlam.channels import load_channel
from airlam.evaluation.benchmarks.realtime.chain_tables import add_chains, time_chains
from airlam.evaluation.benchmarks.realtime.chains import Chains, learned_precoders
from airlam.evaluation.benchmarks.realtime.config import LATEST_S, STREAM, RealtimeArguments
from airlam.evaluation.benchmarks.realtime.streams import Judged, built, contenders, pushes
from airlam.evaluation.benchmarks.realtime.tables import make_results, write_page
from airlam.evaluation.engine.cell import Cell, Contender
from airlam.evaluation.engine.fingerprint import UNCACHED, combined
from airlam.evaluation.engine.measure import measure_cell, run_cells
from airlam.evaluation.engine.timing import cell_figure, latency_series
from airlam.evaluation.latency.reference import REFERENCE
from airlam.evaluation.latency.timing import on_one_core, time_in_turn
from airlam.evaluation.report.html import publish
from airlam.evaluation.results import CellRecord
from airlam.io import recipe_hash
from airlam.metrics import Latency, cpu_threads

CHAIN, CHAIN_TIMED = "chain", "chain timing"
TIMED = "timing"  # group of the cell where latencies are measured


class RealtimeBenchmark(RealtimeArguments):
    """Sum spectral efficiency of predictions that are charged with the time they take.

    Every method is judged as it would run: a full prediction from every history, or a stream whose filters are as old
    as they become, timed in turn on one core. A prediction that takes longer serves later slots. Arguments:
    :class:`RealtimeArguments`.

    Example:
        >>> RealtimeBenchmark(quick=True).sizes.num_links
        8
    """

    def run(self, out: str | Path) -> Path:
        """Run what is not finished yet; write ``results.json``, ``plots/``, ``report.html``, ``leaderboard.md``.

        Returns:
            The path of ``report.html``.
        """
        out = Path(out)
        with cpu_threads(self.threads):
            models = built(self)
            streamed = self._depends(models.values())
            chained = self._depends([*models.values(), *learned_precoders(self).values()], asdict(self.chains))
            cells = self.plan()
            further = self.chain_cells(cells)
            found = run_cells(
                [*cells, self.timed_cell(cells), *further],
                lambda cell: self._run_cell(cell, models),
                lambda cell: chained if cell.group.startswith(CHAIN) else streamed,
                out,
                lambda cell: float(cell.num_links),
            )
        records, timing, chains = found[: len(cells)], found[len(cells)], found[len(cells) + 1 :]
        results = make_results(self, records, timing)
        if chains:
            add_chains(results, self, chains[:-1], chains[-1])
        return publish(results, out, threads=self.threads, leaderboard=write_page)

    def _depends(self, models: Iterable[Any], *further: Any) -> str:
        """What a cell's own fields do not say: weights, how streams run, and what classical methods are tuned for."""
        found = combined(models)
        if UNCACHED in found:
            return found
        return recipe_hash([found, asdict(self.streaming), asdict(self.sizes), asdict(self.timed), *further])

    def plan(self) -> list[Cell]:
        """A cell for each scenario and speed; its history is what the slowest stream takes."""
        methods = [REFERENCE, *self.full, *(name + STREAM for name in self.streaming.names), "perfect"]
        slots = max(Judged.slots(self.sizes.history, self.refresh_of(name)) for name in self.streaming.names)
        cells = []
        for data in self.cells.scenarios:
            for speed in self.cells.speeds_kmh:
                recipe = {**load_channel(data).recipe, "speed_kmh": speed, **self.cells.channel_overrides}
                recipe["links_per_drop"] = self.sizes.links_per_drop
                slot = recipe["slot_duration"]
                cell = Cell(
                    "age",
                    data,
                    load_channel(recipe).recipe,
                    speed,
                    self.cells.csi_snr_db,
                    self.sizes.num_links,
                    self.sizes.num_tune,
                    history=slots,
                    horizon=self.horizon,
                    num_future=max(self.horizon, math.ceil(LATEST_S / slot) + self.csi_period),
                    methods=tuple(dict.fromkeys(methods)),
                    users=tuple(self.rates.users[:1]),
                    transmit_snr_db=(self.rates.headline_snr_db,),
                    headline_snr_db=self.rates.headline_snr_db,
                    tone_step=self.rates.tone_step,
                    seed=self.seed,
                )
                cells.append(cell)
        return cells

    @staticmethod
    def timed_cell(cells: list[Cell]) -> Cell:
        """Where everything is timed: one drop of the middle speed. Its file may be removed to time all again."""
        middle = cells[len(cells) // 2]
        return replace(middle, group=TIMED, num_links=middle.recipe["links_per_drop"], timed=True)

    def chain_cells(self, cells: list[Cell]) -> list[Cell]:
        """A cell of chains for each of ``cells``, and the one where they are timed."""
        chosen, made = self.chains, []
        for cell in cells if chosen.users else ():
            # as many slots as the latest beams serve
            latest = 2 * math.ceil(LATEST_S / cell.recipe["slot_duration"])
            fields: dict[str, Any] = dict(methods=tuple(chosen.names), users=tuple(chosen.users), num_future=latest)
            made.append(replace(cell, group=CHAIN, num_links=chosen.num_links, horizon=chosen.horizon, **fields))
        return [*made, *(replace(self.timed_cell([cell]), group=CHAIN_TIMED) for cell in made[len(made) // 2 :][:1])]

    def _run_cell(self, cell: Cell, models: dict[str, Any]) -> CellRecord:
        links = cell.links("test", cell.num_links)
        h_past, _ = cell.observe(links.h, "test")
        if cell.group in (CHAIN, CHAIN_TIMED):
            chains = Chains(self, cell, links, h_past, models)
            return chains.judge() if cell.group == CHAIN else time_chains(self, cell, chains)
        found = contenders(self, cell, links, models)
        return self._time(cell, found, h_past) if cell.group == TIMED else measure_cell(cell, links, h_past, found)

    def _time(self, cell: Cell, found: list[Contender], h_past: Tensor) -> CellRecord:
        """Latencies of all methods, in turn on one core."""
        record = CellRecord(asdict(cell), {})
        calls: dict[str, Callable[[], object]] = {}
        first, link = h_past[:1, -self.sizes.history :].clone(), torch.zeros(1, dtype=torch.int64)
        for contender in found:
            if contender.name.endswith(STREAM):
                calls |= pushes(contender, h_past[0])
            elif contender.timed:
                calls[contender.name] = functools.partial(contender.predict, first, self.sizes.horizon, link)
        with on_one_core():
            timings = time_in_turn(calls, REFERENCE, rounds=self.timed.rounds, seconds=self.timed.seconds)
        for name, timing in timings.items():
            if name.endswith(":refresh"):
                record.add(cell_figure(name.removesuffix(":refresh"), "refresh_ms", timing.p50_ms, "ms"))
            else:
                latency = Latency(1e-3 * timing.p50_ms, 1e-3 * timing.p99_ms, 1, timing.calls, timing.cpu_share)
                record.add(*latency_series(name, latency), cell_figure(name, "latency_ratio", timing.ratio))
        return record
