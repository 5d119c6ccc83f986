"""Tables as LaTeX, to be pasted into a paper: booktabs rules, every name escaped."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable
from pathlib import Path

from airlam.evaluation.report.table import Content, Table, as_cell
from airlam.io import write_text

LONG = 40  # lines; a longer table runs over pages
PREAMBLE = "% Needs \\usepackage{booktabs} and \\usepackage{longtable}\n"
SPECIAL = {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    "…": r"\ldots{}",
    "–": "--",
    "×": r"$\times$",
    "±": r"$\pm$",
    "≤": r"$\le$",
    "≥": r"$\ge$",
    "→": r"$\to$",
    "∞": r"$\infty$",
    "µ": r"$\mu$",
    "μ": r"$\mu$",
    "°": r"$^\circ$",
} | {character: f"\\{character}" for character in "&%$#_{}"}
SHRINK = r"\resizebox{\ifdim\width>\linewidth \linewidth\else \width\fi}{!}{%"
NUMBER = re.compile(r"^[+-]?\d[\d.,/ ]*(%|\(.*)?$|^-?$")
MINUS = re.compile(r"(?<![\w}])-(?=[\d.])")


def write_latex(tables: Iterable[Table], path: str | Path) -> Path:
    """Write tables to one ``.tex`` file, each as a ``table`` (or ``longtable``) of its own."""
    return write_text(Path(path), PREAMBLE + "".join("\n" + to_latex(table) for table in tables))


def to_latex(table: Table, *, label: str = "", shrink: bool = False) -> str:
    r"""One table.

    Args:
        label: for ``\ref``; empty: none.
        shrink: to the width of the text, where the table is wider (not a ``longtable``); needs graphicx.

    Example:
        >>> print(to_latex(Table("Gain of 5 %", ["method", "NMSE"], [("", ["my_ar", "-7.6"])])))
        \begin{table}
        \caption{Gain of 5 \%}
        \begin{tabular}{lr}
        \toprule
        method & NMSE \\
        \midrule
        my\_ar & $-$7.6 \\
        \bottomrule
        \end{tabular}
        \end{table}
        <BLANKLINE>
    """
    kinds = "".join(
        "r" if all(NUMBER.match(as_cell(cells[column]).value) for _, cells in table.lines) else "l"
        for column in range(len(table.columns))
    )
    sentences = [text for text in (table.title, table.text, table.support) if text]
    caption = escape(". ".join(text.removesuffix(".") for text in sentences) + ("." if len(sentences) > 1 else ""))
    caption = f"\\caption{{{caption}}}" + (f"\\label{{{label}}}" if label else "")
    head = [_row(map(escape, table.columns))]
    body = [_row(_render(cell, kind == "focus") for cell in cells) for kind, cells in table.lines]
    if len(body) > LONG:
        lines = [f"\\begin{{longtable}}{{{kinds}}}", f"{caption} \\\\", r"\toprule", *head, r"\midrule"]
        lines += [r"\endhead", *body, r"\bottomrule", r"\end{longtable}"]
    else:
        lines = [r"\begin{table}", caption, *([SHRINK] if shrink else []), f"\\begin{{tabular}}{{{kinds}}}"]
        lines += [r"\toprule", *head, r"\midrule", *body, r"\bottomrule", r"\end{tabular}", *("}" if shrink else "")]
        lines += [r"\end{table}"]
    return "\n".join(lines) + "\n"


def escape(text: str) -> str:
    r"""A text in which LaTeX finds no command, as one line.

    Example:
        >>> escape(r"50 % of \input{x}")
        '50 \\% of \\textbackslash{}input\\{x\\}'
    """
    return "".join(_escaped(character) for character in " ".join(str(text).splitlines()))


def _escaped(character: str) -> str:
    """A character that pdflatex knows: others without their marks, or by their number."""
    if character in SPECIAL:
        return SPECIAL[character]
    if character.isascii() or "\xc0" <= character <= "\xff":  # letters of Latin-1
        return character if character.isprintable() else " "
    plain = unicodedata.normalize("NFKD", character).encode("ascii", "ignore").decode()
    return "".join(SPECIAL.get(each, each) for each in plain) or f"[U+{ord(character):04X}]"


def _row(cells: Iterable[str]) -> str:
    """A line of a table; the rule or ``\\\\`` above it would take a leading ``[`` or ``*`` for an option of its own."""
    text = " & ".join(cells)
    return ("{}" if text.startswith(("[", "*")) else "") + text + r" \\"


def _render(content: Content, bold: bool) -> str:
    if content in (None, "-"):
        return "--"
    cell = as_cell(content)
    text = _signed(cell.value)
    if text and (bold or cell.strong):
        text = f"\\textbf{{{text}}}"
    small = [f"{cell.ends[0]} to {cell.ends[1]}", *cell.small] if cell.ends else list(cell.small)
    return f"{text} ({_signed(', '.join(small))})" if small else text


def _signed(text: str) -> str:
    """An escaped text whose negative numbers have a minus sign in place of a hyphen."""
    return MINUS.sub("$-$", escape(text))
