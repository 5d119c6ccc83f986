"""Positioning: where users of a site are, from their CSI and few known positions."""

from __future__ import annotations

from pathlib import Path

from airlam.evaluation.benchmarks.positioning.config import PositioningConfig
from airlam.evaluation.benchmarks.positioning.one_site import run_site
from airlam.evaluation.benchmarks.positioning.site import site_recipe
from airlam.evaluation.benchmarks.positioning.tables import make_results
from airlam.evaluation.engine.contenders import trainable
from airlam.evaluation.engine.fingerprint import fingerprint
from airlam.evaluation.report.html import publish
from airlam.evaluation.runner import narrator
from airlam.io import file_words, read_finished, recipe_hash, write_json
from airlam.metrics import cpu_threads


class PositioningBenchmark(PositioningConfig):
    """Classic methods and networks at sites with several stations, with few known positions.

    Each site has users who may train, users who choose settings, and users who judge. Arguments:
    :class:`PositioningConfig`.

    Raises:
        RecipeError: shares or sizes that do not fit, a site without stations.

    Example:
        >>> PositioningBenchmark(shares=[0.1], sizes={"num_train": 100}).count(0.1)
        10
    """

    def run(self, out: str | Path) -> Path:
        """Run what is not finished yet; write ``results.json``, ``plots/``, ``report.html``, ``leaderboard.md``.

        Every finished site is a file in ``out/sites``: an interrupted benchmark goes on with the next site.

        Returns:
            The path of ``report.html``.
        """
        from rich.console import Console

        out, say = Path(out), narrator(Console())
        files = {label: self.file(out, label) for label in self.sites}  # refuses sites before anything is computed
        with cpu_threads(self.threads):
            records = []
            for label, path in files.items():
                record = read_finished(path)
                if record is None:
                    record = run_site(self, label, say)
                    write_json(path, record)
                records.append(record)
        say("done")
        return publish(make_results(self, records), out, threads=self.threads)

    def file(self, out: Path, label: str) -> Path:
        """The file of a finished site; its name changes with all that the site's figures depend on."""
        arguments = {k: v for k, v in self.plain().items() if k not in ("sites", "title", "threads")}
        weights = fingerprint(trainable(self.model)) if self.networks else ""
        key = recipe_hash([arguments, self.sites[label], site_recipe(self, label), weights])
        return out / "sites" / f"{file_words(label)}_{key}.json"
