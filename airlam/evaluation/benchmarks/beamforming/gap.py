"""Gains over the strongest classical chain, and the share of the gap to perfect CSI that a chain closes."""

from __future__ import annotations

from collections.abc import Mapping

from airlam.evaluation.benchmarks.beamforming.chains import DENOISED
from airlam.evaluation.benchmarks.beamforming.config import BeamformingConfig
from airlam.evaluation.engine.summarise import mean_sum_se_gain
from airlam.evaluation.report.style import is_learned, look
from airlam.evaluation.report.verdicts import verdict
from airlam.evaluation.results import CellRecord, group_of
from airlam.evaluation.rows import Figure, Results, Row, sum_se_name
from airlam.methods import names as registered

FULL = "perfect CSI with the best classical precoder (RZF or WMMSE, chosen in each cell as for the baseline)"
YARDSTICK = "perfect + tuned"  # shares of the gap count from the baseline to this


def add_best_classic_gains(row: Row, records: list[CellRecord]) -> None:
    """The paired gain over the strongest classical chain, for each size of groups; its note names the chain."""
    if not is_learned(row.method):
        return
    for users in records[0].cell["users"]:
        best = best_classical(records, users)
        if best is not None:
            row.figures[sum_se_name(users, "best_classic_gain")] = mean_sum_se_gain(records, row.method, best, users)


def best_classical(records: list[CellRecord], users: int | None = None) -> str | None:
    """Of the chains that were run, the one with classical CSI and classical precoder of the highest mean sum-SE, of
    the smallest groups unless ``users`` says which; None where no such chain was run."""
    users = users or records[0].cell["users"][0]

    def value(method: str) -> float:
        rates = (record.values(method, "user_rate", group_of(users)) for record in records)
        return sum(float(r.sum(1).mean()) for r in rates)

    classical = (*registered("predictor", "classical", built=True), *DENOISED)
    known = [m for m in records[0].methods if m.split(" + ")[0] in classical and not is_learned(m)]
    return max(known, key=value, default=None)


def gap_closed(rows: Mapping[str, dict[str, Figure]], users: int, method: str, baseline: str) -> float | None:
    """The share of the gap in sum-SE from ``baseline`` to perfect CSI that ``method`` closes; perfect CSI with the best
    classical precoder, chosen in each cell as for the baseline (:data:`YARDSTICK`). None where it was not run."""
    if YARDSTICK not in rows or baseline not in rows or method.startswith("perfect"):
        return None
    name = sum_se_name(users)
    low, high = rows[baseline][name].number, rows[YARDSTICK][name].number
    return (rows[method][name].number - low) / (high - low) if high > low else None


def headline(results: Results, config: BeamformingConfig) -> str:
    """The learned chain against the baseline, and how much of the gap to perfect CSI it closes."""
    rows = {row.method: row.figures for row in results.select(group="mean")}
    focus, baseline, words = config.focus, config.baseline, []
    for users in config.rates.users:
        name = sum_se_name(users)
        gain = rows[focus].get(sum_se_name(users, "gain"))
        if gain is None:
            continue
        low, high = gain.ends
        text = f"{users} users: {rows[focus][name].number:.2f} against {rows[baseline][name].number:.2f} "
        text += f"bit/s/Hz ({gain.number:+.2f}, 95 % interval {low:+.2f} to {high:+.2f}: {verdict(gain)})"
        if (share := gap_closed(rows, users, focus, baseline)) is not None:
            text += f", {100 * share:.0f} % of what it leaves to {FULL}"
        best = rows[focus].get(sum_se_name(users, "best_classic_gain"))
        if best is not None and best.note != baseline:
            low, high = best.ends
            text += f"; over the strongest classical chain run here, {look(best.note).label}, {best.number:+.2f} "
            text += f"({low:+.2f} to {high:+.2f}: {verdict(best)}"
            if (share := gap_closed(rows, users, focus, best.note)) is not None:
                text += f", {100 * share:.0f} % of what that leaves"
            text += ")"
        words.append(text)
    return f"{look(focus).label} against {look(baseline).label}, sum-SE: " + "; ".join(words) + "."
