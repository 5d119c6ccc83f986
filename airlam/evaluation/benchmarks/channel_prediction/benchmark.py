"""The benchmark of channel prediction: cells of scenario, speed and CSI SNR, tuned classical methods, report."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path
from typing import Any

from airlam.errors import RecipeError
from airlam.evaluation.benchmarks.channel_prediction.cells import cells_of, cost
from airlam.evaluation.benchmarks.channel_prediction.config import OWN, ChannelPredictionArguments
from airlam.evaluation.benchmarks.channel_prediction.tables import compared, main_cells, rows_of
from airlam.evaluation.engine.cell import Cell
from airlam.evaluation.engine.contenders import Entries, contenders_of_cell
from airlam.evaluation.engine.fingerprint import UNCACHED
from airlam.evaluation.engine.measure import measure_cell, picture, predict_all, run_cells
from airlam.evaluation.engine.reuse import known_rows, merged, what_cells_depend_on, what_rows_depend_on
from airlam.evaluation.report.conventions import convention_table
from airlam.evaluation.report.html import publish
from airlam.evaluation.report.markdown import write_leaderboard
from airlam.evaluation.report.notes import NOTES
from airlam.evaluation.report.sentences import details, headline
from airlam.evaluation.results import CellRecord, file_names
from airlam.evaluation.rows import Results
from airlam.metrics import cpu_threads


class ChannelPredictionBenchmark(ChannelPredictionArguments):
    """Channel prediction against tuned classical methods, with bounds.

    The headline holds every scenario at every speed of ``cells``. Cells beside it have fewer links: a sweep over CSI
    SNR, and for the first scenario the spectral efficiency against latency, the CSI period, and impaired histories.
    The arguments stand in :class:`ChannelPredictionArguments`.

    Attributes:
        config: the arguments as they were given, for ``results.json``.
        label: the name of the learned method.
        methods: the names of all methods.

    Raises:
        RecipeError: an unknown method, or sizes that do not fit.

    Example:
        >>> ChannelPredictionBenchmark(quick=True).sizes.num_links
        16
    """

    def __post_init__(self) -> None:
        super().__post_init__()
        self.config = self.plain()
        self.entries = Entries(self.model, self.others, self.methods)
        self.label = self.entries.label
        self._set(methods=self.entries.names, **(self.reduced() if self.quick else {}))
        if self.bar not in self.methods:
            raise RecipeError(f"bar is {self.bar!r}, which is not among the methods {', '.join(self.methods)}; add it")
        if self.label not in self.methods:
            raise RecipeError(f"the model {self.label!r} is not among the methods; add '{{model}}'")

    def all_cells(self) -> list[Cell]:
        """Every cell, in the order in which they run: the headline first."""
        return cells_of(self, self.methods)

    def run(self, out: str | Path) -> Path:
        """Run what is not finished yet, and write ``results.json``, ``plots/``, ``report.html``, ``leaderboard.md``.

        Every finished cell is a file in ``out/cells``. An interrupted benchmark goes on with the next cell. A cell
        whose figures depend on something else (weights, settings, seeds) is computed again, but for the rows of
        methods that are as they were; latencies are always taken side by side.

        Returns:
            The path of ``report.html``.
        """
        out = Path(out)
        with cpu_threads(self.threads):
            models = self.entries.built()
            cells = self.all_cells()
            rows = what_rows_depend_on(self.methods, models)
            depends = what_cells_depend_on(rows)
            records = run_cells(
                cells, lambda cell: self._run_cell(cell, models, rows, out), lambda _: depends, out, cost
            )
        results = self.results(records, next((r.extras["picture"] for r in records if "picture" in r.extras), {}))
        results.config["weights"] = {name: rows[name] for name in models}
        return publish(results, out, threads=self.threads, leaderboard=write_leaderboard)

    def _run_cell(self, cell: Cell, models: dict[str, Any], depends: dict[str, str], out: Path) -> CellRecord:
        start = time.perf_counter()
        known = known_rows(cell, depends, out)
        rest = replace(cell, methods=tuple(name for name in cell.methods if name not in known))
        links = rest.links("test", cell.num_links)
        h_past, observed = cell.observe(links.h, "test")
        contenders = contenders_of_cell(rest, links, models, observed)
        record = merged(measure_cell(rest, links, h_past, contenders), known, cell.methods)
        for name, facts in record.methods.items():
            facts.depends = "" if UNCACHED in depends[name] else depends[name]
        if cell.timed and cell.headline:
            shown = [c for c in contenders if c.name in (self.bar, self.label)]
            few = {c.name: predict_all(c, h_past[:1], cell.horizon) for c in shown}
            record.extras["picture"] = picture(links, cell.history, few)
        record.extras["seconds"] = round(time.perf_counter() - start, 1)
        return record

    def results(self, records: list[CellRecord], picture: dict[str, Any] | None = None) -> Results:
        """Rows, headline and notes from the records of all cells."""
        main = main_cells(records)
        results = Results(self.title, "channel_prediction", config=dict(self.config))
        results.cells = file_names(records)
        results.rows = rows_of(records, self.bar, csi_period=self.sizes.horizon)
        results.recipes = {record.cell["data"]: record.cell["recipe"] for record in main}
        results.headline = headline(results, self.label, self.bar)
        results.extras = {
            "focus": self.label,
            "bar": self.bar,
            "transmit_snr_db": self.rates.headline_snr_db,
            "details": details(results, self.label, self.bar),
            "compared": compared(results, main, self, self.label),
            "mean_text": f"Means over {len(main)} cells at {self.cells.csi_snr_db:g} dB CSI SNR. Spectral "
            f"efficiency at {self.rates.headline_snr_db:g} dB transmit SNR. In the linear mean the fastest users "
            "weigh most; in the mean over cells (of dB) every speed weighs alike.",
            "path_loss_text": "Users with the path loss, shadowing and element gains of their drop, 43 dBm over the "
            "band, noise figure 9 dB; beams of equal power. History still measured at the cell's CSI SNR.",
            "picture": picture or {},
        }
        if self.convention != OWN:
            results.extras["tables"] = [convention_table(results, self.convention)]
        results.notes = list(NOTES.values())
        return results
