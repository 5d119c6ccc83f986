"""The benchmark of adaptation to a site: what pretraining is worth there, and with how much of the site's data."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from airlam.evaluation.benchmarks.sites.config import SiteArguments
from airlam.evaluation.benchmarks.sites.one_site import OneSite, row_name
from airlam.evaluation.benchmarks.sites.record import SiteRecord
from airlam.evaluation.benchmarks.sites.tables import (
    BAR,
    compared,
    not_run_row,
    notes,
    ray_traced_gains,
    share_table,
    site_table,
)
from airlam.evaluation.benchmarks.sites.users import BLOCK_M, SiteLinks, site_links, site_recipe
from airlam.evaluation.engine.contenders import trainable
from airlam.evaluation.engine.fingerprint import fingerprint
from airlam.evaluation.engine.measure import finished
from airlam.evaluation.engine.summarise import cell_rows, mean_rows
from airlam.evaluation.report.html import publish
from airlam.evaluation.report.markdown import write_leaderboard
from airlam.evaluation.report.sentences import details, headline
from airlam.evaluation.report.style import parts
from airlam.evaluation.rows import Results
from airlam.evaluation.runner import narrator
from airlam.io import file_words, recipe_hash, write_json
from airlam.metrics import cpu_threads


class SiteBenchmark(SiteArguments):
    """Zero-shot, few-shot and full adaptation to sites, against tuned classics and a random start.

    Each site has ``num_train`` users who may adapt a model, ``num_val`` users who choose how (all weights or LoRA,
    learning rate, when to stop), and ``num_test`` held-out users who judge, in classes of speed. Models start from the
    pretrained weights, or (the control) from random ones with the same data and steps. The arguments stand in
    :class:`~airlam.evaluation.benchmarks.sites.config.SiteArguments`.

    Attributes:
        config: the arguments as they were given, for ``results.json``.
        label: the name of the model's rows.

    Raises:
        RecipeError: sizes that do not fit each other.

    Example:
        >>> SiteBenchmark(adaptation={"fractions": [0.05, 0.1], "steps": [10, 10]}).counts()
        [50, 100]
    """

    def __post_init__(self) -> None:
        super().__post_init__()
        self.config = self.plain()
        model = str(self.model)
        self.label = Path(model).stem if model.endswith(".ckpt") else Path(model).name

    def run(self, out: str | Path) -> Path:
        """Run what is not finished; write ``results.json``, ``plots/``, ``report.html``, ``leaderboard.md``.

        Every finished site is a file in ``out/sites``: an interrupted benchmark goes on with the next site.

        Returns:
            The path of ``report.html``.
        """
        from rich.console import Console

        out, say = Path(out), narrator(Console())
        with cpu_threads(self.threads):
            shipped = trainable(self.model)
            weights = fingerprint(shipped)
            records = []
            for site in self.sites or {}:
                path = self._file(out, site, weights)
                record = finished(path, SiteRecord)
                if record is None:
                    record = OneSite(self, site, shipped, self.label, say).record()
                    if not record.not_run:  # what is missing today may be installed tomorrow
                        write_json(path, record.plain())
                records.append(record)
        results = self.results(records)
        results.config["weights"] = {self.label: weights}
        say("done")
        return publish(results, out, threads=self.threads, leaderboard=write_leaderboard)

    def _file(self, out: Path, site: str, weights: str) -> Path:
        """The file of a finished site; its name changes with all that the site's figures depend on."""
        arguments = {k: v for k, v in self.config.items() if k not in ("sites", "title", "threads")}
        key = recipe_hash([arguments, self.recipe(site), weights, BLOCK_M])
        return out / "sites" / f"{file_words(site)}_{key}.json"

    def recipe(self, label: str) -> dict[str, Any]:
        """The resolved channel recipe of a site."""
        return site_recipe(self, label)

    def links(self, label: str) -> SiteLinks:
        """All users of a site, split at random."""
        return site_links(self, label)

    def results(self, records: list[SiteRecord]) -> Results:
        """Rows, tables, headline and notes from the records of all sites."""
        results = Results(self.title, "site_adaptation", config=dict(self.config))
        ran = [record for record in records if not record.not_run]
        results.recipes = {record.site: record.recipe for record in records}
        results.rows = [not_run_row(record, self.label) for record in records if record.not_run]
        focus = row_name(self.label, "adapted", self.adaptation.headline_fraction)
        results.extras = {
            "focus": focus,
            "bar": BAR,
            "resampled": "blocks of neighbouring users",
            "transmit_snr_db": self.conditions.transmit_snr_db,
        }
        results.notes = notes(self)
        if not ran:
            results.headline = "No site could be run: " + "; ".join(f"{r.site}: {r.not_run}" for r in records)
            return results
        headline_share = parts(focus)[2]  # the other shares have a table of their own
        main = [cell for record in ran for cell in record.cells]
        results.rows += mean_rows(main, BAR)
        for record in ran:
            for row in mean_rows(record.cells, BAR):
                results.rows.append(replace(row, group="site"))
            for cell in record.cells:
                results.rows += [row for row in cell_rows(cell, BAR) if parts(row.method)[2] in ("", headline_share)]
        results.headline = headline(results, focus, BAR)
        results.extras |= {
            "details": details(results, focus, BAR)
            + ray_traced_gains(ran, self.label, self.adaptation.headline_fraction),
            "compared": compared(records, self, self.label),
            "mean_text": f"Means over {len(ran)} sites with {self.sizes.num_speed_classes} classes of speed each. "
            f"Spectral efficiency at {self.conditions.transmit_snr_db:g} dB transmit SNR, groups of "
            f"{self.sizes.group_size} users.",
            "tables": [site_table(results, records, self, self.label), share_table(results, ran, self, self.label)],
        }
        return results
