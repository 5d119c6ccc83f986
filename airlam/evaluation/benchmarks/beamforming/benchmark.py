"""The benchmark of beamforming: from noisy, ageing CSI to multi-user spectral efficiency, chain against chain."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from airlam.errors import RecipeError
from airlam.evaluation.benchmarks.beamforming.cell import Learned, cost, plan, run_cell
from airlam.evaluation.benchmarks.beamforming.config import BeamformingConfig
from airlam.evaluation.benchmarks.beamforming.results import make_results
from airlam.evaluation.engine.cell import Cell
from airlam.evaluation.engine.contenders import build_model, build_row
from airlam.evaluation.engine.fingerprint import combined, fingerprint, outside
from airlam.evaluation.engine.measure import run_cells
from airlam.evaluation.report.html import publish
from airlam.methods import Method
from airlam.metrics import cpu_threads
from airlam.recipes import find_checkpoint


class BeamformingBenchmark(BeamformingConfig):
    """Chains of CSI and precoder against the best classical pair, and against perfect CSI.

    A chain is named ``"ar + rzf"``: any predictor, and any precoder (see ``chains.py`` beside this file). Headline
    cells are all scenarios at all speeds of ``cells``. Beside them stand, with fewer links, sweeps over CSI SNR, speed,
    users, CSI period; other arrays; the latency-charged curve; static users with noisy CSI; and users that send pilots.
    Arguments: :class:`BeamformingConfig`.

    Raises:
        RecipeError: an unknown method, or sizes that do not fit.

    Example:
        >>> made = BeamformingBenchmark(precoder="wmmse", methods=["ar + tuned", "{model} + rzf"])
        >>> made.baseline
        'ar + tuned'
    """

    def run(self, out: str | Path) -> Path:
        """Run what is not finished yet, and write ``results.json``, ``plots/``, ``report.html``, ``leaderboard.md``.

        Every finished cell is a file in ``out/cells``; an interrupted benchmark goes on where it stopped.

        Returns:
            The path of ``report.html``.
        """
        out = Path(out)
        with cpu_threads(self.threads):
            learned = self._load()
            weights = self._weights(learned)
            run = partial(run_cell, config=self, learned=learned)
            records = run_cells(plan(self), run, weights, out, cost)
        return publish(make_results(self, records), out, threads=self.threads)

    def _load(self) -> Learned:
        """Everything learned.

        Raises:
            RecipeError: a predictor that cannot do what a chain asks of it. CheckpointError: no such checkpoint.
        """
        from airlam.models import AirlamModel, load_pilots

        model = build_model(self.label, self.predictor_row[1])
        needed = [c for c in self.chains if c.source == self.label and c.robust]
        needed = [c for c in needed if not outside([c.precoder], "precoder")]
        tuned = isinstance(model, Method)  # a classical method: its errors are measured on the tuning drops
        if needed and not tuned and not hasattr(model, "predict_with_covariance"):
            raise RecipeError(
                f"{self.label} has no predict_with_covariance, so it can stand only before precoders that are not "
                "told the errors of CSI, like '{model} + rzf'"
            )
        estimates = self.static.csi_snr_db and any(c.source == self.label for c in self.static_chains)
        if estimates and not isinstance(getattr(model, "model", None), AirlamModel):
            raise RecipeError(
                f"{self.label} cannot estimate the CSI of static users; set static.csi_snr_db to [] or leave "
                "'{model}' out of static.methods"
            )
        precoders = {name: build_row(name, what, "precoder") for name, what in self.precoder_rows.items()}
        networks = {name: load_pilots(find_checkpoint(path)) for name, path in self.network_rows.items()}
        return Learned(model, precoders, networks)

    def _weights(self, learned: Learned) -> Any:
        """What says on which weights and code the record of a cell depends: its file is named after it."""
        every = (*self.chains, *self.static_chains, *self.pilot_chains)
        own = [*outside(c.source for c in every), *outside((c.precoder for c in every), "precoder")]
        precoders = combined([*learned.precoders.values(), *own])
        other, first = fingerprint(learned.model), {}
        if learned.networks:
            prints = [fingerprint(SimpleNamespace(model=made)) for made in learned.networks.values()]  # type: ignore[arg-type]
            first["pilots"] = "-".join(prints)
            first["static"] = f"{other}-{first['pilots']}"

        def weights(cell: Cell) -> str:
            return f"{first.get(cell.group, other)}-{precoders}"

        return weights
