"""The table that puts the scores of a publication beside airlam's."""

from __future__ import annotations

from typing import Any

from airlam.evaluation.report.palette import Looks
from airlam.evaluation.report.style import order, title
from airlam.evaluation.rows import Results, Row
from airlam.metrics import CONVENTIONS, to_db


def convention_table(results: Results, convention: str) -> dict[str, Any]:
    """A line for each method of each cell, then the means over the cells of the headline; for ``extras["tables"]``.

    Args:
        results: with all rows.
        convention: a name of :data:`airlam.metrics.CONVENTIONS`.
    """
    chosen, looks = CONVENTIONS[convention], Looks.of(results)
    rows = [row for row in results.select(group="cell") if f"nmse_{convention}" in row.figures]
    means = [row for row in results.select(group="mean") if f"nmse_{convention}" in row.figures]
    further = [
        (name, label)
        for name, label in (
            (f"se_{convention}", f"SE as {chosen.title}'s code"),
            (f"se_formula_{convention}", f"SE, {chosen.title}'s formula"),
        )
        if any(name in row.figures for row in rows)
    ]
    columns = ["data", "km/h", "CSI SNR [dB]", "method", "NMSE", "NMSE [dB]"]
    theirs = f"NMSE, {chosen.title}"
    columns += [theirs, f"{theirs} [dB]", *(f"{label} [bit/s/Hz]" for _, label in further)]
    places, lines = order([row.method for row in rows]), []

    def key(row: Row) -> tuple[str, float, float, int]:
        return row.data, row.speed_kmh or 0.0, row.csi_snr_db or 0.0, places.index(row.method)

    for row in sorted(rows, key=key):
        where = [title(row.data), f"{row.speed_kmh:g}", f"{row.csi_snr_db:g}"]
        lines.append([*where, *_scores(row, convention, looks, further)])
    for row in sorted(means, key=key):
        lines.append(["mean of the headline", "", "", *_scores(row, convention, looks, further)])
    return {
        "title": f"Scored as {chosen.title} scores",
        "columns": columns,
        "lines": lines,
        "text": f"The same predictions, from the same histories, against another target: {chosen.title} adds noise of "
        f"{chosen.target_snr_db:g} dB to the target, so that perfect prediction scores near {chosen.floor:.4f}, and "
        f"its links weigh with their gains. Read from {chosen.source}. Means are linear.",
    }


def _scores(row: Row, convention: str, looks: Looks, further: list[tuple[str, str]]) -> list[str]:
    """Method, both NMSEs linear and in dB, and what else the publication gives."""
    linear = row.figures.get("nmse")
    db = row.figures.get("nmse_db") or row.figures.get("nmse_linear_db")
    theirs = row.figures[f"nmse_{convention}"].number
    own = "-" if db is None else f"{linear.number if linear else 10 ** (db.number / 10):.4f}"
    found = [looks[row.method].label, own, "-" if db is None else f"{db.number:.2f}"]
    found += [f"{theirs:.4f}", f"{float(to_db(theirs)):.2f}"]
    return [*found, *(f"{row.figures[name].number:.2f}" for name, _ in further)]
