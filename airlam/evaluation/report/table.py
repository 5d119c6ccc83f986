"""A table of a report as plain data; html.py, markdown.py, csv.py and latex.py each render it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from airlam.evaluation.rows import Figure


@dataclass(frozen=True)
class Cell:
    """A cell that is more than a text.

    Attributes:
        text: shown as it is, where there is no figure.
        figure: a number with its interval.
        number: the value itself where ``text`` writes it for readers ("1,012,345").
        style: format of the number and of the ends of its interval (``.2f``, ``+.2f``).
        small: further texts: beneath the value, or in brackets.
        color: of a dot before the text, ``#rrggbb``; HTML alone shows it.
        strong: bold in Markdown and LaTeX.
    """

    text: str = ""
    figure: Figure | None = None
    number: float | None = None
    style: str = ".2f"
    small: tuple[str, ...] = ()
    color: str = ""
    strong: bool = False

    @property
    def value(self) -> str:
        """The text, or the formatted number."""
        return self.text if self.figure is None else f"{self.figure.number:{self.style}}"

    @property
    def ends(self) -> tuple[str, str] | None:
        """The formatted ends of the interval; None where there is none."""
        if self.figure is None or self.figure.interval is None:
            return None
        low, high = self.figure.ends
        return f"{low:{self.style}}", f"{high:{self.style}}"


Content = Cell | str | None
"""What a cell holds; ``None``: the figure does not exist. Tables of plain texts write ``-`` for it."""


@dataclass
class Table:
    """A table of a report.

    Attributes:
        title: its heading.
        columns: headings of the columns.
        lines: of each line its kind ("focus": the method that the report is about, "bound", or empty) and its cells.
        keys: number of leading columns that are left empty where they repeat the line above.
        text: paragraph before the table. note: paragraph below it.
        support: sentence on how much data the figures rest on.
        tags: "measured", "modelled".
    """

    title: str
    columns: list[str]
    lines: list[tuple[str, Sequence[Content]]] = field(default_factory=list)
    keys: int = 0
    text: str = ""
    note: str = ""
    support: str = ""
    tags: list[str] = field(default_factory=list)


def figure_cell(figure: Figure | None, style: str = ".2f") -> Cell | None:
    """The cell of a figure that may not exist."""
    return None if figure is None else Cell(figure=figure, style=style)


def figure_text(figure: Figure | None, form: str = ".1f", scale: float = 1.0) -> str:
    """A figure and its interval in plain words, for sentences and own tables; nothing where there is no figure."""
    if figure is None:
        return ""
    value = f"{scale * figure.number:{form}}"
    if figure.interval is None:
        return value
    low, high = (scale * end for end in figure.ends)
    return f"{value} ({low:{form}} to {high:{form}})"


def as_cell(content: Content) -> Cell:
    """A cell of any content; an empty one where there is no figure."""
    return content if isinstance(content, Cell) else Cell("" if content in (None, "-") else str(content))


def unique_columns(columns: list[str]) -> list[str]:
    """Headings without repetition: a repeated one names the column on its left.

    Example:
        >>> unique_columns(["NMSE", "gain", "SE", "gain"])
        ['NMSE', 'gain (NMSE)', 'SE', 'gain (SE)']
    """
    found: list[str] = []
    for place, name in enumerate(columns):
        if columns.count(name) > 1 and place:
            name = f"{name} ({columns[place - 1]})"
        while name in found:
            name += "'"
        found.append(name)
    return found
