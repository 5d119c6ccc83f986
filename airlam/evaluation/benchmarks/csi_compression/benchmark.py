"""CSI compression: what reports of a user are worth, by their bits."""

from __future__ import annotations

from pathlib import Path

from airlam.evaluation.benchmarks.csi_compression.cell import plan, run_cell
from airlam.evaluation.benchmarks.csi_compression.config import CompressionConfig
from airlam.evaluation.benchmarks.csi_compression.tables import make_results
from airlam.evaluation.engine.fingerprint import combined, outside
from airlam.evaluation.engine.measure import run_cells
from airlam.evaluation.report.html import publish
from airlam.metrics import cpu_threads


class CompressionBenchmark(CompressionConfig):
    """Reports of precoding vectors at their counted bits: SGCS, and the sum-rate of users served from reports.

    A user measures its channel, finds the strongest eigenvector of each subband, and reports them. The base station
    precodes for ``sizes.users`` users of a drop with RZF that knows how good such reports are in the mean. Judged is
    against the true channel at that time, or some slots later. Arguments: :class:`CompressionConfig`.

    Raises:
        RecipeError: an unknown codec, or sizes that do not fit.

    Example:
        >>> CompressionBenchmark(sizes={"num_links": 64}).sizes.num_links
        64
    """

    def run(self, out: str | Path) -> Path:
        """Run what is not finished yet; write ``results.json``, ``plots/``, ``report.html``, ``leaderboard.md``.

        Returns:
            The path of ``report.html``.
        """
        out = Path(out)
        with cpu_threads(self.threads):
            weights = combined([*outside(self.row_names, "codec")])
            records = run_cells(
                plan(self), run_cell, lambda _: weights, out, lambda cell: cell.num_links + cell.num_tune
            )
        return publish(make_results(self, records), out, threads=self.threads)
