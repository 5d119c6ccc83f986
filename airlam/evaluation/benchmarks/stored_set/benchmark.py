"""The benchmark on stored links: predictors on an imported data set, under its publication's convention."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from airlam.data.layout import is_store
from airlam.errors import RecipeError
from airlam.evaluation.benchmarks.channel_prediction.tables import main_cells
from airlam.evaluation.benchmarks.stored_set.cell import StoredCell, cells_of
from airlam.evaluation.benchmarks.stored_set.config import StoredSetArguments
from airlam.evaluation.engine.contenders import GENIES, Entries, contenders_of_cell
from airlam.evaluation.engine.measure import measure_cell, run_cells
from airlam.evaluation.engine.reuse import what_cells_depend_on, what_rows_depend_on
from airlam.evaluation.engine.summarise import cell_rows, mean_rows
from airlam.evaluation.report.conventions import convention_table
from airlam.evaluation.report.html import publish
from airlam.evaluation.report.notes import NOTES
from airlam.evaluation.report.sentences import headline
from airlam.evaluation.results import CellRecord, file_names
from airlam.evaluation.rows import Results
from airlam.metrics import cpu_threads

SIMULATED = ("llm4cp", "wifo", "deepmimo", "quadriga", "sionna", "wimae", "channels4world")


class StoredSetBenchmark(StoredSetArguments):
    """Predictors on the links of a store, a cell for each speed.

    Histories are measured as ``convention`` says, classical methods tuned on other links of the store. The arguments
    stand in :class:`StoredSetArguments`.

    Attributes:
        config: the arguments as they were given, for ``results.json``.
        label: the name of the learned method. names: of all methods.

    Raises:
        RecipeError: an unknown method, or a genie.

    Example:
        >>> StoredSetBenchmark(store="llm4cp.h5", convention="llm4cp").setting(20)
        Setting(csi_snr_db=18.0, history=16, horizon=4, shared_noise=True)
    """

    def __post_init__(self) -> None:
        super().__post_init__()
        self.config = self.plain()
        self.entries = Entries(self.model, self.others, self.methods)
        self.label, self.names = self.entries.label, self.entries.names
        if genies := [name for name in self.names if name in GENIES]:
            raise RecipeError(f"methods holds {genies[0]}, but a store holds no rays for a genie; leave it out")
        if self.bar not in self.names:
            raise RecipeError(f"bar is {self.bar!r}, which is not among the methods {', '.join(self.names)}; add it")

    def all_cells(self, store: str | Path | None = None) -> list[StoredCell]:
        """Every cell, of the links of ``store`` (without it: of the argument ``store``)."""
        store = self.store if store is None else store
        if store is None:
            raise RecipeError("store is null; name a data set or the file that 'airlam import' wrote: --store FILE")
        return cells_of(self, self.names, store)

    def stored(self, out: Path) -> str | Path | None:
        """``store`` itself; or, where it is a foreign data set, the store it is imported to, in ``out``.

        Raises:
            StoreError, RecipeError: the data set cannot be imported; or options of an import beside a store.
        """
        path = Path(self.store or "").expanduser()
        if self.store is None or not path.exists() or is_store(path):
            if said := self.said():
                raise RecipeError(
                    f"{said[0]} is an option of an import, but store is {self.store}, no foreign data set; leave it out"
                )
            return self.store
        print(f"importing {path}", flush=True)
        store, notes = self.import_to(path, out, self.seed)
        for note in notes:
            print(f"note: {note}", flush=True)
        return store

    def run(self, out: str | Path) -> Path:
        """Run what is not finished yet, and write ``results.json``, ``report.html``, ``leaderboard.md``.

        Returns:
            The path of ``report.html``.
        """
        out = Path(out)
        with cpu_threads(self.threads):
            models, cells = self.entries.built(), self.all_cells(self.stored(out))
            depends = what_cells_depend_on(what_rows_depend_on(self.names, models))
            by_name = {cell.name: cell for cell in cells}
            records = run_cells(
                list(cells), lambda cell: _measured(by_name[cell.name], models), lambda _: depends, out, _cost
            )
        return publish(self.results(records), out, threads=self.threads)

    def results(self, records: list[CellRecord]) -> Results:
        """Rows and tables from the records of all cells."""
        main = main_cells(records)
        results = Results(self.title, "stored_set", config=dict(self.config))
        results.cells = file_names(records)
        results.rows = mean_rows(main, self.bar)
        for record in records:
            results.rows += cell_rows(record, self.bar)
        results.recipes = {record.cell["data"]: record.cell["recipe"] for record in main}
        results.headline = headline(results, self.label, self.bar)
        results.extras = {"focus": self.label, "bar": self.bar, "compared": _compared(main, self.convention)}
        results.extras["tables"] = [convention_table(results, self.convention)]
        results.notes = [NOTES[name] for name in ("tags", "nmse", "intervals", "single")]
        return results


def _measured(cell: StoredCell, models: dict[str, Any]) -> CellRecord:
    start = time.perf_counter()
    links = cell.links("test", cell.num_links)
    h_past, observed = cell.observe(links.h, "test")
    record = measure_cell(cell, links, h_past, contenders_of_cell(cell, links, models, observed))
    record.extras["seconds"] = round(time.perf_counter() - start, 1)
    return record


def _cost(cell: Any) -> float:
    return cell.num_links * len(cell.methods) + 4 * cell.num_tune


def _compared(main: list[CellRecord], convention: str) -> list[str]:
    """Sentences on the data, the noise and the truth."""
    cell, links = main[0].cell, sum(len(record.drop()) for record in main)
    layout = cell["recipe"].get("layout")
    noise = "one level for all links of a cell" if cell["shared_noise"] else "relative to each link's own power"
    sentences = [
        f"{links} stored links of {cell['data']} in {len(main)} cells. From {cell['history']} measured slots the next "
        f"{cell['horizon']} are predicted. The history has a CSI SNR of {cell['csi_snr_db']:g} dB, {noise}.",
        f"Classical methods are tuned on {cell['num_tune']} other links of the store.",
    ]
    if any(record.cell["same_drop"] for record in main):
        sentences.append(
            "All test links of a speed are of one drop, and so are those that classical methods were tuned on: these "
            "may look a little better than on links of other drops, and there are no intervals."
        )
    if layout is not None and layout not in SIMULATED:
        sentences.append(
            f"The layout {layout} does not say whether its CSI is clean. If it was measured, the noise of the target "
            "is part of every NMSE, and noise was added to a history that was noisy already."
        )
    else:
        sentences.append("The links are simulated without noise: airlam's NMSE is against the true channel.")
    if convention == "wifo" and cell["history"] != cell["horizon"]:
        sentences.append("WiFo shows half of the slots and predicts the other half; here it is not so.")
    return sentences
