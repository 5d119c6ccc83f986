"""Rows of a cell that stand in the record of an earlier run: a further method costs its own time, not that of all."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from airlam.evaluation.engine.cell import Cell
from airlam.evaluation.engine.contenders import GENIES, OFF, STACK
from airlam.evaluation.engine.fingerprint import UNCACHED, fingerprint
from airlam.evaluation.engine.measure import finished
from airlam.evaluation.results import CELLS, CellRecord
from airlam.io import recipe_hash
from airlam.methods import get


def what_rows_depend_on(methods: Iterable[str], models: Mapping[str, Any]) -> dict[str, str]:
    """A fingerprint of each method; see :mod:`airlam.evaluation.engine.fingerprint`."""
    from airlam.baselines import STACK_MEMBERS
    from airlam.baselines.genie import NEGLIGIBLE

    def of(name: str) -> str:
        if name in (*GENIES, "perfect"):
            return f"{name} {NEGLIGIBLE:g}" if name == "genie_clusters" else name
        if name == STACK:
            return recipe_hash([of(member) for member in STACK_MEMBERS])
        model = models.get(name.removesuffix(OFF))
        return fingerprint(get(name, "predictor") if model is None else model)

    return {name: of(name) for name in methods}


def what_cells_depend_on(rows: Mapping[str, str]) -> str:
    """One fingerprint of all rows, for the names of cells: another grid of a classical method is another cell."""
    return UNCACHED if any(UNCACHED in text for text in rows.values()) else recipe_hash(sorted(rows.items()))


def known_rows(cell: Cell, depends: Mapping[str, str], out: Path) -> dict[str, CellRecord]:
    """Method -> a record of the same cell that holds its row, of the same fingerprint.

    A cell whose latencies are measured has none: they are to be taken side by side.
    """
    if cell.timed:
        return {}
    found: dict[str, CellRecord] = {}
    for path in sorted((out / CELLS).glob(f"{cell.words}_*.json")):
        record = finished(path, CellRecord)
        if record is None or _without_methods(record.cell) != _without_methods(asdict(cell)):
            continue
        for name, facts in record.methods.items():
            if facts.depends and facts.depends == depends.get(name):
                found[name] = record
    return found


def _without_methods(cell: Mapping[str, Any]) -> str:
    usual = {"methods": cell.get("methods"), "convention": ""}  # records of before have no convention
    return recipe_hash({key: value for key, value in cell.items() if key not in usual or value != usual[key]})


def merged(record: CellRecord, known: Mapping[str, CellRecord], methods: tuple[str, ...]) -> CellRecord:
    """A record with the rows of ``record`` and of ``known``, in the order of ``methods``."""
    out = CellRecord({**record.cell, "methods": list(methods)}, record.drops)
    out.extras = dict(record.extras)
    for name in methods:
        source = record if name in record.methods else known[name]
        out.methods[name] = source.methods[name]
        out.add(*(series for series in source.series if series.method == name))
    return out
