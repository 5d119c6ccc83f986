"""Tables as CSV: one file for all tables of a report, to be read by pandas or a spreadsheet."""

from __future__ import annotations

import csv
import io
import itertools
import re
from collections.abc import Iterable
from pathlib import Path

from airlam.evaluation.report.table import Cell, Table, as_cell, unique_columns
from airlam.io import write_text

FORMULA = re.compile(r"^(?:[=@\t\r]|[+-](?![\d.∞]))")  # a spreadsheet would compute it; a signed number is none


def write_csv(tables: Iterable[Table], path: str | Path) -> Path:
    """Write tables to one CSV file.

    The first column is the title of the table, the others are the columns of all tables. Numbers have all their digits.
    The 95 % interval of column ``x`` is in ``x, low`` and ``x, high``, further texts are in ``x, note``. To read one
    table::

        every = pandas.read_csv("leaderboard.csv")
        every[every["table"] == "All cells together"].dropna(axis="columns", how="all")
    """
    return write_text(Path(path), to_csv(tables))


def to_csv(tables: Iterable[Table]) -> str:
    """The text of :func:`write_csv`.

    Example:
        >>> print(to_csv([Table("Means", ["method", "NMSE"], [("", ["ar", "-7.6"])])]))
        table,method,NMSE
        Means,ar,-7.6
        <BLANKLINE>
    """
    lines = [line for table in tables for line in _lines(table)]
    columns = list(dict.fromkeys(name for line in lines for name in line))
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, restval="", lineterminator="\n")
    if columns:
        writer.writerow({name: _harmless(name) for name in columns})
    writer.writerows(lines)
    return text.getvalue()


def _lines(table: Table) -> list[dict[str, str]]:
    """Each line as column -> text; interval and note of a column have columns of their own, where any cell has them."""
    names = unique_columns(table.columns)
    filled = [[as_cell(content) for content in cells] for _, cells in table.lines]
    columns = list(zip(names, zip(*filled, strict=True), strict=True)) if filled else []
    found: list[dict[str, str]] = [{"table": _harmless(table.title)} for _ in filled]
    for place, (name, cells) in enumerate(columns):
        with_ends, with_notes = any(cell.ends for cell in cells), any(cell.small for cell in cells)
        for line, cell in zip(found, cells, strict=True):
            line[name] = _value(cell)
            if with_ends:
                interval = cell.figure.ends if cell.figure is not None and cell.ends else None
                line[f"{name}, low"], line[f"{name}, high"] = map(repr, interval) if interval else ("", "")
            if with_notes:
                line[f"{name}, note"] = _harmless("; ".join(cell.small))
        if place < table.keys:
            for above, line in itertools.pairwise(found):
                line[name] = line[name] or above[name]
    return found


def _value(cell: Cell) -> str:
    """A number with all its digits, or the text."""
    if cell.figure is not None:
        return repr(cell.figure.number)
    return _harmless(cell.text) if cell.number is None else repr(cell.number)


def _harmless(text: str) -> str:
    """One line that no spreadsheet takes for a formula."""
    text = " ".join(str(text).splitlines())
    return f"'{text}" if FORMULA.match(text) else text
