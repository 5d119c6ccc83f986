"""Beam management: which beams of a DFT codebook to use next, from sweeps that measure some of them."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from airlam.errors import RecipeError
from airlam.evaluation.benchmarks.beam_management.cell import plan, run_cell
from airlam.evaluation.benchmarks.beam_management.config import BeamManagementConfig
from airlam.evaluation.benchmarks.beam_management.results import make_results
from airlam.evaluation.benchmarks.beam_management.training import Tracks
from airlam.evaluation.engine.fingerprint import combined, outside
from airlam.evaluation.engine.measure import run_cells
from airlam.evaluation.report.html import publish
from airlam.metrics import cpu_threads
from airlam.recipes import find_checkpoint


class BeamManagementBenchmark(BeamManagementConfig):
    """Beam prediction on tracks against classical trackers and against a full sweep.

    Every sweep of the history measures ``sizes.beams_per_sweep`` beams of the codebook, round and round in a random
    order. A method names beams for each of the ``sizes.horizon`` sweeps to come. Judged are how often the best beam is
    among its first 1, 3 and 5, and the spectral efficiency over that with the best beam: with its first beam, or with
    the strongest of its first 3 or 5 after these have been measured once more. The headline compares with the strongest
    classical method by each figure, whatever the bar. Arguments: :class:`BeamManagementConfig`.

    Raises:
        RecipeError: an unknown method, or sizes that do not fit.

    Example:
        >>> BeamManagementBenchmark(sizes={"num_links": 64}).sizes.num_links
        64
    """

    def run(self, out: str | Path) -> Path:
        """Run what is not finished yet; write ``results.json``, ``plots/``, ``report.html``, ``leaderboard.md``.

        Returns:
            The path of ``report.html``.
        """
        from airlam.models import load_beams

        out = Path(out)
        with cpu_threads(self.threads):
            named = {self.label: self.model, **self.controls}
            models = {name: load_beams(find_checkpoint(path)) for name, path in named.items()}
            for name, made in models.items():
                if self.sizes.horizon > made.config.horizon:
                    raise RecipeError(
                        f"sizes.horizon is {self.sizes.horizon}, but {name} was trained for at most "
                        f"{made.config.horizon}"
                    )
            weights = combined([*models.values(), *outside(self.row_names, "beam-tracker")])
            records = run_cells(
                plan(self),
                partial(run_cell, models=models, tracks=Tracks()),
                lambda _: weights,
                out,
                lambda cell: cell.num_links + cell.num_tune,
            )
        return publish(make_results(self, records), out, threads=self.threads)
