"""``leaderboard.md``: the tables of a benchmark as Markdown, for a repository's documentation."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from airlam.evaluation.report.baseline import bar_label
from airlam.evaluation.report.leaderboard import leaderboard_tables, own_tables
from airlam.evaluation.report.table import Content, Table, as_cell
from airlam.evaluation.report.verdicts import banner, rests_on
from airlam.evaluation.rows import Results
from airlam.io import write_text

INTRO = """\
# Leaderboard: {title}
{banner}
{headline}

{details}

NMSE [dB] against the true channel; gains are paired differences to {bar} on the same links and noise, with 95 %
intervals (bootstrap over {resampled}); "above": distance to a genie, a bound that knows what no receiver knows, mean of
dB; sum-SE [bit/s/Hz] of RZF at {snr} dB.
Everything is measured on simulated channels. Latency: one prediction on one CPU thread.
Written by `{command}`; {machine}.
"""


def write_leaderboard(results: Results, path: str | Path) -> Path:
    """Write the tables of ``results`` to the Markdown file ``path``.

    Example:
        >>> write_leaderboard(Results.load("outputs/x/results.json"), "leaderboard.md")     # doctest: +SKIP
    """
    env = results.environment
    versions = ", ".join(f"{name} {version}" for name, version in env.get("versions", {}).items())
    text = INTRO.format(
        title=_escape(results.title),
        banner=f"\n**{text}**\n" if (text := _escape(banner(results))) else "",
        bar=bar_label(results),
        resampled=results.extras.get("resampled", "drops"),
        snr=f"{results.extras.get('transmit_snr_db', results.config.get('headline_snr_db', 20.0)):g}",
        headline=_escape(results.headline),
        details="\n".join(f"- {_escape(sentence)}" for sentence in results.extras.get("details", [])),
        command=env.get("command", "airlam evaluate").replace("`", "'"),
        machine=_escape(
            f"{env.get('processor', '')}, {env.get('cores', '?')} cores; {versions}; {env.get('date', '')[:10]}"
        ),
    )
    return write_text(Path(path), text + to_markdown(leaderboard_tables(results)))


def write_tables(results: Results, path: str | Path) -> Path:
    """Headline and ``extras["tables"]`` of a benchmark that brings its own, as Markdown."""
    sentences = [f"- {_escape(sentence)}" for sentence in results.extras.get("details", [])]
    quick = [f"**{_escape(text)}**", ""] if (text := banner(results)) else []
    rests = [found, ""] if (found := rests_on("Each figure", results.rows, results)) else []
    title = _escape(results.title)
    text = "\n".join([f"# {title}", "", *quick, _escape(results.headline), "", *sentences, "", *rests])
    return write_text(Path(path), text + to_markdown(own_tables(results)))


def to_markdown(tables: Iterable[Table]) -> str:
    """Tables with headings; tables of one title share it.

    Example:
        >>> print(to_markdown([Table("Means", ["method", "NMSE"], [("", ["ar", "-7.6"])])]))
        <BLANKLINE>
        ## Means
        <BLANKLINE>
        | method | NMSE |
        | --- | --- |
        | ar | -7.6 |
        <BLANKLINE>
    """
    text, previous = "", None
    for table in tables:
        head = f"## {_escape(table.title)}\n\n" + (f"{table.support}\n\n" if table.support else "")
        text += "\n" + (head if table.title != previous else "")
        text += f"{_escape(table.text)}\n\n" if table.text else ""
        lines = [[_render(cell) for cell in cells] for _, cells in table.lines]
        lines = [[_escape(name) for name in table.columns], ["---"] * len(table.columns), *lines]
        text += "".join(f"| {' | '.join(line)} |\n" for line in lines)
        previous = table.title
    return text


def _render(content: Content) -> str:
    """A cell; of intervals only that of a difference, which has a sign."""
    if content in (None, "-"):
        return "-"
    cell = as_cell(content)
    text = f"**{cell.value}**" if cell.strong else cell.value
    if cell.ends and cell.style.startswith("+"):
        text += f" ({cell.ends[0]} to {cell.ends[1]})"
    return _escape(text + "".join(f" ({each})" for each in cell.small))


def _escape(text: str) -> str:
    """A text inside Markdown: no HTML, no end of a cell, one line."""
    return " ".join(str(text).replace("&", "&amp;").replace("<", "&lt;").replace("|", "\\|").splitlines())
