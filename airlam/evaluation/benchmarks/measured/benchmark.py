"""Prediction of measured channels: recordings of real receivers, whose true channel nobody knows."""

from __future__ import annotations

from pathlib import Path

from airlam.errors import RecipeError
from airlam.evaluation.benchmarks.measured.cell import plan, run_cell
from airlam.evaluation.benchmarks.measured.config import MeasuredConfig
from airlam.evaluation.benchmarks.measured.recordings import find_recordings
from airlam.evaluation.benchmarks.measured.tables import make_results
from airlam.evaluation.engine.contenders import Entries
from airlam.evaluation.engine.measure import run_cells
from airlam.evaluation.engine.reuse import what_cells_depend_on, what_rows_depend_on
from airlam.evaluation.report.html import publish
from airlam.metrics import cpu_threads


class MeasuredBenchmark(MeasuredConfig):
    """Prediction of recorded packets, against tuned classics and the mean of the history.

    Of each recording the first half of the packets tunes the classical methods; after a guard gap the second half
    scores. The target is the *measured* future: its noise bounds every method, and is estimated from the recording.
    Intervals resample blocks in time. Arguments: :class:`MeasuredConfig`.

    Raises:
        RecipeError: an unknown method or view, or sizes that do not fit; from :meth:`run`: no recordings.

    Example:
        >>> MeasuredBenchmark(sizes={"history": 8}).sizes.window
        12
    """

    def __post_init__(self) -> None:
        super().__post_init__()
        self.config = self.plain()
        self.entries = Entries(self.model, (), self.methods)
        if self.bar not in self.entries.names:
            raise RecipeError(f"bar is {self.bar!r}, which is not among the methods; add it")

    def run(self, out: str | Path) -> Path:
        """Run what is not finished yet; write ``results.json``, ``plots/``, ``report.html``, ``leaderboard.md``.

        Returns:
            The path of ``report.html``.
        """
        out, found = Path(out), find_recordings(self)
        with cpu_threads(self.threads):
            models, names = self.entries.built(), self.entries.names
            depends = what_cells_depend_on(what_rows_depend_on(names, models))
            records = run_cells(
                plan(self, names, found),
                lambda cell: run_cell(cell, found.recordings[cell.data], self.sizes, models),
                lambda _: depends,
                out,
                lambda cell: len(cell.methods) + 20 * ("paths" in cell.methods),
            )
        results = make_results(self, self.config, self.entries.label, records, found.left_out)
        return publish(results, out, threads=self.threads)
