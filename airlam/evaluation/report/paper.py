"""A report for a paper: each table as CSV and LaTeX, each figure as PDF and SVG, BibTeX of what was compared."""

from __future__ import annotations

import io
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from matplotlib import rc_context
from matplotlib.figure import Figure

from airlam.errors import RecipeError
from airlam.evaluation.report.collect import report_tables, sections_of
from airlam.evaluation.report.csv import write_csv
from airlam.evaluation.report.drawing import STYLE, svg
from airlam.evaluation.report.facts import machine
from airlam.evaluation.report.latex import escape, to_latex
from airlam.evaluation.report.palette import Looks
from airlam.evaluation.report.sections import Section
from airlam.evaluation.report.table import Table
from airlam.evaluation.rows import Results
from airlam.io import replacing, results_folder, write_text
from airlam.methods.citing import bibliography, methods_in

FOLDERS = ("tables", "figures")
ALWAYS = ("airlam",)
OF_3GPP_CHANNELS = ("hoydis2022sionna", "tr38901")
EMBEDDED = {"pdf.fonttype": 42}  # TrueType: many publishers refuse Type 3 fonts
LONGEST = 40  # characters of a file's name
HEAD = r"""\documentclass{article}
\usepackage[landscape,margin=15mm]{geometry}
\usepackage{booktabs,graphicx,longtable}
\begin{document}
\footnotesize
"""
FIGURE = r"""\begin{{figure}}
\centering
\includegraphics[width=\linewidth,height=0.8\textheight,keepaspectratio]{{figures/{name}}}
\caption{{{caption}}}
\label{{fig:{name}}}
\end{{figure}}"""
TAIL = r"""\clearpage
\nocite{*}
\bibliographystyle{plain}
\bibliography{references}
\end{document}
"""


@dataclass(frozen=True)
class Paper:
    """What was written.

    Attributes:
        tex: a document with all of it, to be compiled or copied from.
        tables, figures: stems of the files in ``tables/`` and ``figures/``.
        references: keys in ``references.bib``.
        unreferenced: methods that name no reference.
    """

    tex: Path
    tables: list[str]
    figures: list[str]
    references: list[str]
    unreferenced: list[str]


def write_paper(results: Results | str | Path, out: str | Path, sections: Sequence[Section] | None = None) -> Paper:
    """Write ``paper.tex``, ``references.bib``, tables (CSV, LaTeX), figures (PDF, SVG).

    Equal results give equal files. Numbered files of an earlier call in ``tables/`` are replaced.

    Args:
        results: or the path of a ``results.json``: a benchmark need not run again.
        out: folder; made if missing.
        sections: see :func:`airlam.evaluation.write_report`.

    Raises:
        RecipeError: ``results`` is no file with results, or ``out`` cannot be written to.

    Example:
        >>> from airlam.evaluation import Figure, Row
        >>> row = Row("pad", "all", group="mean", figures={"nmse_linear_db": Figure(-8.4, "dB", "measured")})
        >>> paper = write_paper(Results("One row", "channel_prediction", [row]), "my-paper")
        >>> paper.tables, paper.references
        (['01-all-cells-together'], ['airlam', 'yin2020pad'])
    """
    if not isinstance(results, Results):
        results = _read(Path(results))
    with results_folder(out) as folder:
        sections = sections_of(results.task) if sections is None else sections
        for name in FOLDERS:
            (folder / name).mkdir(exist_ok=True)
        tables = _tables(report_tables(results, sections), folder / "tables")
        figures = _figures(sections, results, folder / "figures")
        entries, unreferenced = references_of(results)
        note = f"% Without a reference: {', '.join(unreferenced)}\n\n" if unreferenced else ""
        write_text(folder / "references.bib", note + "\n\n".join(entries.values()) + "\n")
        title = f"\\title{{{escape(results.title)}}}\n\\author{{}}\\date{{}}\\maketitle"
        text = "\n".join([_origin(results), HEAD, title, *tables.values(), r"\clearpage", *figures.values(), TAIL])
        return Paper(write_text(folder / "paper.tex", text), list(tables), list(figures), list(entries), unreferenced)


def references_of(results: Results) -> tuple[dict[str, str], list[str]]:
    """BibTeX entries of all methods that the results name, of airlam, and of 3GPP's channels where they were used.

    Returns:
        The entries by key, and the labels of methods without any.
    """
    wanted, without, looks = list(ALWAYS), [], Looks.of(results)
    if any(isinstance(recipe, dict) and "scenario" in recipe for recipe in results.recipes.values()):
        wanted += OF_3GPP_CHANNELS
    for name in dict.fromkeys(row.method for row in results.rows):
        for method in methods_in(name):
            wanted += method.references
            without += [] if method.references or method.name.startswith("airlam-") else [looks.short(method.name)]
        if not methods_in(name) and not name.startswith("airlam-"):
            without.append(name)
    return bibliography(wanted, "references of a method"), list(dict.fromkeys(without))


def _read(path: Path) -> Results:
    if not path.is_file():
        raise RecipeError(f"{path} does not exist, so there is nothing for a paper; name a results.json of a benchmark")
    return Results.load(path)


def _tables(tables: Iterable[Table], folder: Path) -> dict[str, str]:
    """Write each table; the stems of the files, and what stands for the table in the document."""
    for old in folder.glob("[0-9][0-9]-*"):
        old.unlink()
    found = {}
    for number, table in enumerate(tables, 1):
        stem = f"{number:02d}-{_slug(table.title)}"
        write_csv([table], folder / f"{stem}.csv")
        write_text(folder / f"{stem}.tex", to_latex(table, label=f"tab:{stem}", shrink=True))
        found[stem] = f"\\input{{tables/{stem}}}"
    return found


def _figures(sections: Iterable[Section], results: Results, folder: Path) -> dict[str, str]:
    """Draw each figure for which there are results; the same of these."""
    found = {}
    for each in (figure for section in sections for figure in section.figures):
        if (figure := each.draw(results)) is None:
            continue
        write_text(folder / f"{each.name}.svg", svg(figure))
        with replacing(folder / f"{each.name}.pdf") as path:
            path.write_bytes(pdf(figure))
        caption = " ".join(text for text in (each.text(results), each.support(results)) if text)
        found[each.name] = FIGURE.format(name=each.name, caption=escape(caption))
    return found


def pdf(figure: Figure) -> bytes:
    """A figure as PDF with its fonts, without a date: equal results make equal files."""
    buffer = io.BytesIO()
    with rc_context(STYLE | EMBEDDED):
        figure.savefig(buffer, format="pdf", metadata={"CreationDate": None, "Creator": None, "Producer": None})
    return buffer.getvalue()


def _origin(results: Results) -> str:
    """Where the figures come from, as comments of the document."""
    command = str(results.environment.get("command", ""))
    return "\n".join("% " + " ".join(text.split()) for text in ("Written by --paper of:", command, machine(results)))


def _slug(title: str) -> str:
    """A title as the name of a file."""
    words = re.sub(r"[^a-z0-9]+", "-", title.lower()).strip("-")
    return words[:LONGEST].rstrip("-") or "table"
