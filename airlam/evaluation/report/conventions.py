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
        convention: a name of :data:`airlam.metrics.CONVENTIONS`; another: airlam's own NMSE alone.
    """
    chosen, looks = CONVENTIONS.get(convention), Looks.of(results)
    own = "nmse" if chosen is None else f"nmse_{convention}"
    rows = [row for row in results.select(group="cell") if own in row.figures]
    means = [row for row in results.select(group="mean") if own in row.figures or "nmse_linear_db" in row.figures]
    columns = ["data", "km/h", "CSI SNR [dB]", "method", "NMSE", "NMSE [dB]"]
    further: list[str] = []
    if chosen is not None:
        columns += [f"NMSE, {chosen.title}", f"NMSE, {chosen.title} [dB]"]
        names = {
            f"se_{convention}": f"SE as {chosen.title}'s code [bit/s/Hz]",
            f"se_formula_{convention}": f"SE, {chosen.title}'s formula [bit/s/Hz]",
        }
        further = [name for name in names if any(name in row.figures for row in rows)]
        columns += [names[name] for name in further]
    places, lines = order([row.method for row in rows]), []

    def key(row: Row) -> tuple[str, float, float, int]:
        return row.data, row.speed_kmh or 0.0, row.csi_snr_db or 0.0, places.index(row.method)

    for row in sorted(rows, key=key):
        speed = "-" if row.speed_kmh is None else f"{row.speed_kmh:g}"
        where = [title(row.data), speed, f"{row.csi_snr_db:g}"]
        lines.append([*where, *_scores(row, convention, looks, further)])
    for row in sorted(means, key=key):
        lines.append(["mean of the cells", "", "", *_scores(row, convention, looks, further)])
    if chosen is None:
        return {"title": "NMSE of every cell", "columns": columns, "lines": lines, "text": "Means are linear."}
    return {
        "title": f"Scored as {chosen.title} scores",
        "columns": columns,
        "lines": lines,
        "text": f"The same predictions, from the same histories, against another target: {chosen.title} adds noise of "
        f"{chosen.target_snr_db:g} dB to the target, so that perfect prediction scores near {chosen.floor:.4f}. "
        "Links of an imported set weigh with the gains of their file, generated ones have equal power. "
        f"Means are linear. Read from {chosen.source}.",
    }


def _scores(row: Row, convention: str, looks: Looks, further: list[str]) -> list[str]:
    """Method, NMSE linear and in dB, the publication's, and what else that gives."""
    linear, theirs = row.figures.get("nmse"), row.figures.get(f"nmse_{convention}")
    db = row.figures.get("nmse_db") or row.figures.get("nmse_linear_db")
    found = [looks[row.method].label, "-", "-"]
    if db is not None:
        found[1:] = [f"{linear.number if linear else 10 ** (db.number / 10):.4f}", f"{db.number:.2f}"]
    if theirs is not None:
        found += [f"{theirs.number:.4f}", f"{float(to_db(theirs.number)):.2f}"]
    return [*found, *(f"{row.figures[name].number:.2f}" for name in further)]
