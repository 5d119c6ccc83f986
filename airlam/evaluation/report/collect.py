"""Collects the figures and tables of a report: those that the benchmark of the results declares.

A benchmark declares its figures as ``SECTIONS`` in ``figures.py`` of its folder. A package outside airlam declares them
by an entry point of the group :data:`GROUP`, named after the task of its results, or hands them to
:func:`airlam.evaluation.report.html.publish`.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from importlib.metadata import entry_points
from pathlib import Path

from airlam.evaluation.report.contents import appendix, main_tables
from airlam.evaluation.report.drawing import WIDTH, svg
from airlam.evaluation.report.figures import SHARED
from airlam.evaluation.report.sections import Section
from airlam.evaluation.report.table import Table
from airlam.evaluation.rows import Results
from airlam.io import write_text

GROUP = "airlam.figures"  # of entry points
BENCHMARKS = "airlam.evaluation.benchmarks"


@dataclass(frozen=True)
class Drawing:
    """A figure as SVG text, and the share of the column that it fills."""

    svg: str
    share: float


def sections_of(task: str) -> Sequence[Section]:
    """The sections that the benchmark of ``task`` declares; those of all benchmarks where it declares none.

    Args:
        task: :attr:`airlam.evaluation.rows.Results.task`; also the name of the benchmark's folder.
    """
    if task.isidentifier():  # the name may come from a stranger's results.json
        folder = f"{BENCHMARKS}.{task}"
        if importlib.util.find_spec(folder) and importlib.util.find_spec(f"{folder}.figures"):
            return importlib.import_module(f"{folder}.figures").SECTIONS
    for entry in entry_points(group=GROUP, name=task):
        return entry.load()
    return SHARED


def report_tables(results: Results, sections: Iterable[Section] | None = None) -> list[Table]:
    """Every table of a report, that of all cells last: for :func:`~airlam.evaluation.report.csv.write_csv` and
    :func:`~airlam.evaluation.report.latex.write_latex`.

    Example:
        >>> report_tables(Results("Nothing", "channel_prediction"))
        []
    """
    sections = sections_of(results.task) if sections is None else sections
    found = [make(results) for section in sections for make in section.tables]
    return [*main_tables(results), *(table for table in found if table is not None), *appendix(results)]


def draw_all(sections: Iterable[Section], results: Results, folder: str | Path) -> dict[str, Drawing]:
    """Draw every figure that the results allow and write it as ``<name>.svg`` and ``<name>.png``."""
    folder = Path(folder)
    drawings = {}
    for each in (figure for section in sections for figure in section.figures):
        if (figure := each.draw(results)) is None:
            continue
        drawings[each.name] = Drawing(svg(figure), figure.get_figwidth() / WIDTH)
        write_text(folder / f"{each.name}.svg", drawings[each.name].svg)
        figure.savefig(folder / f"{each.name}.png", dpi=110, facecolor="white")
    return drawings
