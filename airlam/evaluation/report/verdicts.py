"""When a figure allows a verdict, and how a report says on how much data it rests."""

from __future__ import annotations

from collections.abc import Iterable

from airlam.evaluation.rows import Figure, Results, Row

MIN_GROUPS = 8
"""Fewest drops (or blocks of users of one site) in every cell for a verdict.

Simulated coverage of the 95 % interval for normal values: 49 % from 2 drops, 74 % from 3, 87 % from 4, 95 % from 8.
With 2 drops an interval excludes zero in half of the cases where there is no difference.
"""
NO_VERDICT = "no verdict"


def verdict(gain: Figure) -> str:
    """One word on a paired gain, of which positive is better.

    Returns:
        ``"better"`` or ``"worse"`` where the whole 95 % interval lies on one side of zero, ``"level"`` where it
        contains zero, ``"no verdict"`` where there is no interval, or where it was resampled over fewer than
        :data:`MIN_GROUPS` drops (:attr:`~airlam.evaluation.rows.Figure.groups`).

    Example:
        >>> verdict(Figure(0.5, "dB", "measured", interval=(0.3, 0.7), groups=24))
        'better'
        >>> verdict(Figure(0.5, "dB", "measured", interval=(0.3, 0.7), groups=2))
        'no verdict'
    """
    if gain.interval is None or (gain.groups is not None and gain.groups < MIN_GROUPS):
        return NO_VERDICT
    low, high = gain.ends
    return "better" if low > 0 else "worse" if high < 0 else "level"


def banner(results: Results) -> str:
    """What must stand on top of a report that supports no claim; empty for a full run.

    A benchmark is a quick run if its argument ``quick`` is true; ``extras["banner"]`` is a benchmark's own sentence.
    """
    sentences = [results.extras.get("banner", "")]
    if results.config.get("quick"):
        sentences.insert(
            0, "Quick run on few drops, to see that everything works. Do not quote its figures: run it without quick."
        )
    return " ".join(sentence for sentence in sentences if sentence)


def support(rows: Iterable[Row], resampled: str = "drops") -> str:
    """On how many links and drops each of ``rows`` rests, as a phrase; empty where no row says.

    Args:
        rows: of one table or plot.
        resampled: what :attr:`~airlam.evaluation.rows.Row.num_drops` counts: "drops", "users" (then each link is one),
            or blocks of users.

    Example:
        >>> support([Row("ar", "umi", num_links=16, num_drops=2), Row("ar", "umi", num_links=48, num_drops=6)])
        '16 to 48 links from 2 to 6 drops'
    """
    rows = [row for row in rows if row.num_links and row.num_drops]
    if not rows:
        return ""
    links = [row.num_links for row in rows]
    if resampled == "users":
        return _range(links, resampled)
    return f"{_range(links, 'links')} from {_range([row.num_drops for row in rows], resampled)}"


def rests_on(what: str, rows: Iterable[Row], results: Results, end: str = "") -> str:
    """A sentence on how much data rows rest on: "Each point rests on 192 links from 24 drops."; empty if unknown.

    Args:
        what: subject of the sentence. rows: of one table or figure. results: say what was resampled.
        end: between the numbers and the full stop.
    """
    found = support(rows, results.extras.get("resampled", "drops"))
    return f"{what} rests on {found}{end}." if found else ""


def _range(values: list[int], what: str) -> str:
    low, high = min(values), max(values)
    what = what.removesuffix("s") if high == 1 else what
    return f"{low:,} {what}" if low == high else f"{low:,} to {high:,} {what}"
