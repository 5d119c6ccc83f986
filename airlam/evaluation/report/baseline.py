"""What the gains of a report are relative to: named by the benchmark, or by the gains themselves."""

from __future__ import annotations

from airlam.evaluation.report.palette import Looks
from airlam.evaluation.rows import Results

GAINS = ("gain_db", "gain_linear_db", "gain_cells_db")


def bar_of(results: Results) -> str:
    """The name of the method that gains are relative to: ``extras["bar"]``, else what the gains of the rows name; empty
    where neither says it.

    Example:
        >>> bar_of(Results("t", "my_task", extras={"bar": "hold"})), bar_of(Results("t", "my_task"))
        ('hold', '')
    """
    if "bar" in results.extras:
        return results.extras["bar"]
    rows = [row for row in results.rows if row.group in ("cell", "mean")]
    gains = [row.figures[name] for row in rows for name in GAINS if name in row.figures]
    gains += [gain for row in rows for users in row.group_sizes if (gain := row.sum_se_gain(users)) is not None]
    names = {gain.note for gain in gains}
    return names.pop() if len(names) == 1 else ""


def bar_label(results: Results, bar: str | None = None) -> str:
    """The baseline as it stands in a sentence; "the baseline" where nobody says what it is.

    Args:
        bar: its name; default: :func:`bar_of`.
    """
    bar = bar_of(results) if bar is None else bar
    return Looks.of(results).in_a_sentence(bar) if bar else "the baseline"


def bar_short(results: Results) -> str:
    """The same for headings and axes."""
    bar = bar_of(results)
    return Looks.of(results).short(bar) if bar else "the baseline"
