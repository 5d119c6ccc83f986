"""The classes with which a benchmark declares the figures, captions and sections of its report.

Example:
    >>> from airlam.evaluation.report.drawing import draw_panels
    >>> def error_vs_snr(results):
    ...     rows = results.select(group="cell")
    ...     def panel(axes, method):
    ...         found = [row for row in rows if row.method == method]
    ...         errors = [row.figures["nmse_db"].number for row in found]
    ...         axes.plot([row.csi_snr_db for row in found], errors, label=method)
    ...         axes.set_xlabel("CSI SNR [dB]")
    ...     return draw_panels(panel, list(dict.fromkeys(row.method for row in rows)), "NMSE [dB]") if rows else None
    >>> SECTIONS = (Section("Noise", (ReportFigure(error_vs_snr, "NMSE against the CSI SNR.", rows_of("cell")),)),)
    >>> SECTIONS[0].figures[0].draw(Results("t", "my_task")) is None   # nothing to draw
    True
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from airlam.evaluation.report.baseline import bar_label
from airlam.evaluation.report.drawing import Figure
from airlam.evaluation.report.table import Table
from airlam.evaluation.report.verdicts import rests_on
from airlam.evaluation.rows import Results, Row


@dataclass(frozen=True)
class ReportFigure:
    """A figure of a report.

    Attributes:
        draw: makes the figure from the results, or returns None where they hold nothing to draw. Its name is that of
            the files in ``plots/``.
        caption: the text below it; ``{bar}`` is the baseline, ``{resampled}`` what intervals were resampled over.
        rows: the rows that the figure shows; the caption says on how many links and drops they rest.
        modelled: some values are derived by a stated formula instead of measured.
    """

    draw: Callable[[Results], Figure | None]
    caption: str
    rows: Callable[[Results], Iterable[Row]]
    modelled: bool = False

    @property
    def name(self) -> str:
        return self.draw.__name__

    def text(self, results: Results) -> str:
        """The caption for these results."""
        return self.caption.format(resampled=results.extras.get("resampled", "drops"), bar=bar_label(results))

    def support(self, results: Results) -> str:
        """A sentence on how many links and drops each point rests on; empty where no row says it."""
        return rests_on("Each point", self.rows(results), results)


@dataclass(frozen=True)
class Section:
    """A section of a report: figures, then tables. A section without anything to show is left out."""

    title: str
    figures: Sequence[ReportFigure] = ()
    tables: Sequence[Callable[[Results], Table | None]] = ()


def rows_of(*groups: str) -> Callable[[Results], list[Row]]:
    """A function that selects the rows of some groups.

    Example:
        >>> len(rows_of("cell")(Results("t", "x", rows=[Row("ar", "umi"), Row("ar", "all", group="mean")])))
        1
    """
    return lambda results: [row for row in results.rows if row.group in groups]
