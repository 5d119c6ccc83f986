"""``report.html`` from :class:`airlam.evaluation.rows.Results`: one file, no link to anything outside it."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from markupsafe import Markup

from airlam.evaluation.report.collect import Drawing, draw_all, report_tables, sections_of
from airlam.evaluation.report.contents import appendix, main_tables
from airlam.evaluation.report.csv import write_csv
from airlam.evaluation.report.drawing import data_uri
from airlam.evaluation.report.facts import key_facts, machine, tone
from airlam.evaluation.report.latex import write_latex
from airlam.evaluation.report.markdown import write_tables
from airlam.evaluation.report.sections import Section
from airlam.evaluation.report.table import Content, Table, as_cell
from airlam.evaluation.report.verdicts import banner
from airlam.evaluation.rows import Results, environment
from airlam.io import write_text

DASH = Markup("&ndash;")
SMALL = Markup("<small>{}</small>")
DOT = Markup('<span class="dot" style="background:{}"></span>')


def publish(
    results: Results,
    out: str | Path,
    *,
    threads: int,
    leaderboard: Callable[[Results, Path], Path] = write_tables,
    sections: Sequence[Section] | None = None,
) -> Path:
    """Write all that a benchmark leaves in ``out``: ``results.json``, ``leaderboard.md``, ``leaderboard.csv``,
    ``tables.tex``, ``plots/``, ``report.html``.

    Args:
        threads: that the run used.
        leaderboard: writes ``leaderboard.md``.
        sections: see :func:`write_report`.

    Returns:
        The path of ``report.html``.
    """
    out = Path(out)
    results.environment = environment(threads=threads)
    results.save(out / "results.json")
    leaderboard(results, out / "leaderboard.md")
    sections = sections_of(results.task) if sections is None else sections
    tables = report_tables(results, sections)
    write_csv(tables, out / "leaderboard.csv")
    write_latex(tables, out / "tables.tex")
    return write_report(results, out, sections)


def write_report(results: Results, out: str | Path, sections: Sequence[Section] | None = None) -> Path:
    """Write ``report.html`` and ``plots/`` into the folder ``out``, from the results alone.

    Args:
        results: for example ``Results.load("results.json")``: a report can be made again without a new run.
        out: folder; made if missing.
        sections: figures and tables of the report. ``None``: those that the benchmark of ``results.task`` declares
            (:func:`airlam.evaluation.report.collect.sections_of`).

    Returns:
        The path of ``report.html``.
    """
    import jinja2

    out = Path(out)
    sections = sections_of(results.task) if sections is None else sections
    drawings = draw_all(sections, results, out / "plots")
    engine = jinja2.Environment(
        loader=jinja2.PackageLoader("airlam.evaluation.report", "."),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    focus = results.extras.get("focus", "")
    shown = [_section(section, results, drawings) for section in sections]
    html = engine.get_template("report.html.j2").render(
        results=results,
        tone=tone(results, focus),
        details=results.extras.get("details", []),
        facts=key_facts(results, focus),
        compared=results.extras.get("compared", []),
        tables=[render(table) for table in main_tables(results)],
        sections=[section for section in shown if section["plots"] or section["tables"]],
        appendix=[render(table) for table in appendix(results)],
        notes=results.notes,
        machine=machine(results),
        configuration=json.dumps({"benchmark": results.config, "recipes": results.recipes}, indent=1, default=str),
        banner=banner(results),
        word_columns=("data", "method", "tuned to"),
    )
    return write_text(out / "report.html", html)


def _section(section: Section, results: Results, drawings: dict[str, Drawing]) -> dict[str, Any]:
    """What the template shows of a section."""
    plots = [
        {
            "uri": Markup(data_uri(drawings[figure.name].svg)),
            "share": round(100 * drawings[figure.name].share),
            "alt": figure.text(results),
            "caption": figure.text(results),
            "support": figure.support(results),
            "tags": ["modelled"] if figure.modelled else ["measured"],
        }
        for figure in section.figures
        if figure.name in drawings
    ]
    tables = [render(table) for make in section.tables if (table := make(results)) is not None]
    return {"title": section.title, "plots": plots, "tables": tables}


def render(table: Table) -> dict[str, Any]:
    """A table as the template takes it: cells are texts, which it escapes, or ``markupsafe.Markup``."""
    lines = [(kind, [render_cell(content) for content in cells]) for kind, cells in table.lines]
    return vars(table) | {"lines": lines}


def render_cell(content: Content) -> Markup | str:
    """A cell as HTML; names in it are escaped."""
    if content is None:
        return DASH
    if isinstance(content, str):
        return content
    cell = as_cell(content)
    text = Markup("<b>{}</b>" if cell.strong else "{}").format(cell.value)
    if cell.color:
        text = DOT.format(cell.color) + text
    small = [" … ".join(cell.ends)] if cell.ends else []
    return text + Markup("").join(SMALL.format(each) for each in (*small, *cell.small))
