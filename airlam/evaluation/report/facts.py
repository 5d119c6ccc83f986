"""What stands on top of a report besides its headline: large numbers, its colour, the machine."""

from __future__ import annotations

from airlam.evaluation.engine.timing import BUSY, is_busy
from airlam.evaluation.report.baseline import bar_label, bar_of
from airlam.evaluation.report.palette import Looks
from airlam.evaluation.report.verdicts import verdict
from airlam.evaluation.rows import Results


def key_facts(results: Results, focus: str) -> list[tuple[str, str]]:
    """Three to four large numbers under the headline."""
    rows = {row.method: row for row in results.select(group="mean")}
    if focus not in rows:
        return []
    figures, looks, bar, facts = rows[focus].figures, Looks.of(results), bar_of(results), []
    if "gain_cells_db" in figures:
        facts.append(
            (
                f"{figures['gain_cells_db'].value:+.2f} dB",
                f"NMSE gain of {looks[focus].label} over {bar_label(results)}, mean over cells",
            )
        )
    if (strongest := figures.get("best_classic_gain_cells_db")) is not None and strongest.note != bar:
        what = f"NMSE gain over {looks[strongest.note].label}, the strongest classical method of the table"
        facts.append((f"{strongest.value:+.2f} dB", what))
    sizes = rows[focus].group_sizes
    limit = rows.get("perfect") or rows.get("perfect + tuned") or rows.get("perfect + rzf")
    mine, full = (row.sum_se(sizes[0]) if row is not None and sizes else None for row in (rows[focus], limit))
    if mine is not None and full is not None:
        value, perfect = mine.number, full.number
        facts.append(
            (f"{value:.1f} bit/s/Hz", f"sum-SE of {sizes[0]} users, {100 * value / perfect:.0f} % of perfect CSI")
        )
    if "latency_p50_ms" in figures:
        p50, p99 = figures["latency_p50_ms"].value, figures["latency_p99_ms"].value
        what = results.extras.get("latency_text", "median latency of one prediction on one CPU thread")
        busy = f"; {BUSY}: an idle one is faster" if is_busy(figures["latency_p50_ms"]) else ""
        facts.append((f"{p50:.1f} ms", f"{what} (p99 {p99:.1f} ms{busy})"))
    if rows[focus].parameters_total:
        facts.append((f"{rows[focus].parameters_total / 1e6:.2f} M", "parameters"))
    return facts


def tone(results: Results, focus: str) -> str:
    """The colour of the headline: "better", "worse" or "level"; empty without a comparison."""
    if results.config.get("quick"):
        return "level"
    for row in results.select(group="mean", method=focus):
        gains = [f"{over}gain_{mean}_db" for over in ("", "best_classic_") for mean in ("linear", "cells")]
        words = {verdict(row.figures[name]) for name in gains if name in row.figures}
        return words.pop() if words in ({"better"}, {"worse"}) else "level"
    return ""


def machine(results: Results) -> str:
    """The machine and the versions of a run, as a sentence."""
    env = results.environment
    versions = ", ".join(f"{name} {version}" for name, version in env.get("versions", {}).items())
    return (
        f"{env.get('processor', '')}, {env.get('cores', '?')} cores, {env.get('threads', '?')} thread(s) used; "
        f"{env.get('system', '')}; {versions}; {env.get('date', '')}."
    )
