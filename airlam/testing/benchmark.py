"""The contract of every benchmark: a class with ``run(out) -> Path`` that a YAML names by ``class_path``."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from airlam.errors import RecipeError
from airlam.evaluation import Results
from airlam.evaluation.runner import load_runner


class BenchmarkContract:
    """Tests that every benchmark must pass. Subclass it and set ``class_path`` and ``init_args``.

    Attributes:
        class_path: of the benchmark, as in its YAML.
        init_args: so small that a run takes seconds; ``{"quick": True}`` where the benchmark has that.
        cells: finished cells are kept in ``out/cells`` and not computed again.
        changed: argument -> another value, each of which alone must change the figures of the rows; of an argument that
            is a dataclass one key: ``{"sizes.history": 8}``. Name those that only your code reads.
    """

    class_path = ""
    init_args: dict[str, Any] = {}
    cells = True
    changed: dict[str, Any] = {}

    def make(self, **changes: Any) -> Any:
        """The benchmark under test."""
        if not self.class_path:
            raise NotImplementedError("set class_path to the benchmark under test, as its YAML names it")
        return load_runner(self.class_path, self.init_args, changes)

    @pytest.fixture(scope="class")
    @classmethod
    def done(cls, tmp_path_factory: pytest.TempPathFactory) -> Path:
        """The folder of one run."""
        out = tmp_path_factory.mktemp("benchmark")
        assert cls().make().run(out) == out / "report.html"
        return out

    def test_it_writes_results_tables_and_a_report(self, done):
        results = Results.load(done / "results.json")
        assert results.title and results.task and results.headline
        assert results.environment["versions"]["airlam"] and results.environment["threads"] >= 1
        table, report = (done / name for name in ("leaderboard.md", "report.html"))
        assert table.read_text(encoding="utf-8").strip() and "</html>" in report.read_text(encoding="utf-8")

    def test_every_row_says_what_it_rests_on(self, done):
        rows = Results.load(done / "results.json").rows
        assert rows
        for row in rows:
            assert row.method and row.data and row.figures
        assert any(row.num_links > 0 for row in rows)

    def test_a_finished_run_computes_nothing_again(self, done):
        def written() -> dict[str, int]:
            return {file.name: file.stat().st_mtime_ns for file in (done / "cells").glob("*")}

        if not self.cells:
            return
        before, rows = written(), Results.load(done / "results.json").rows
        assert before, "no finished cells in out/cells; set cells = False if the benchmark keeps none"
        self.make().run(done)
        assert written() == before
        assert Results.load(done / "results.json").rows == rows

    def test_a_changed_argument_computes_its_cells_again(self, done, tmp_path):
        if not self.changed:
            pytest.skip("no argument to change; set changed = {argument: another value} to have this tested")
        before = Results.load(done / "results.json").rows
        for number, (name, value) in enumerate(self.changed.items()):
            out = tmp_path / str(number)
            shutil.copytree(done, out)
            self.make(**{name: value}).run(out)
            assert Results.load(out / "results.json").rows != before, (
                f"{name}: {value!r} gives the same rows as before: the cells of the run before were found and taken. "
                "The names of finished cells must depend on this argument: add it to what combined([...]) is given, "
                "see docs/extending.md, 'What makes a cell run again'. If no figure depends on it, take it out of "
                "changed"
            )

    def test_an_unknown_argument_is_refused_in_one_line(self):
        with pytest.raises(RecipeError, match="no argument 'no_such_argument'") as caught:
            self.make(no_such_argument=1)
        assert "\n" not in str(caught.value)
