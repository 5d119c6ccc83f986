"""Coded links: whether an advantage in spectral efficiency remains with a real code."""

from __future__ import annotations

from pathlib import Path

from airlam.evaluation.benchmarks.link_level.cell import coded_link, plan, run_cell
from airlam.evaluation.benchmarks.link_level.config import LinkLevelConfig
from airlam.evaluation.benchmarks.link_level.tables import make_results
from airlam.evaluation.engine.contenders import build_model, build_row
from airlam.evaluation.engine.fingerprint import combined, outside
from airlam.evaluation.engine.measure import run_cells
from airlam.evaluation.report.html import publish
from airlam.metrics import cpu_threads


class LinkLevelBenchmark(LinkLevelConfig):
    """Block error rate and throughput of chains of CSI and precoder over a 5G NR coded OFDM link.

    Every slot of the horizon carries one transport block to each user of a group. A chain sends all blocks of a speed
    and an SNR with one entry of the MCS table (slow link adaptation): the one of the highest throughput on
    ``sizes.num_choose`` links of other drops, which count for nothing else. Arguments: :class:`LinkLevelConfig`.

    Raises:
        RecipeError: an unknown method, or sizes that do not fit.

    Example:
        >>> made = LinkLevelBenchmark(precoder="wmmse", methods=["ar + rzf", "{model} + rzf"], bar="ar + rzf")
        >>> made.link.users
        4
    """

    def __post_init__(self) -> None:
        super().__post_init__()
        coded_link(self, self.link.mcs[0])  # refuses sizes that no code block has, before anything runs

    def run(self, out: str | Path) -> Path:
        """Run what is not finished yet; write ``results.json``, ``plots/``, ``report.html``, ``leaderboard.md``.

        Returns:
            The path of ``report.html``.
        """
        out = Path(out)
        with cpu_threads(self.threads):
            model, precoder = build_model(*self.predictor_row), build_row(*self.precoder_row, "precoder")
            own = [*outside(c.source for c in self.chains), *outside((c.precoder for c in self.chains), "precoder")]
            weights = combined([model, precoder, *own])
            records = run_cells(
                plan(self), lambda cell: run_cell(cell, self, model, precoder), lambda _: weights, out, lambda _: 1.0
            )
        return publish(make_results(self, records), out, threads=self.threads)
