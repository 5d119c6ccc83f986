"""Tables and headline of the report on probes."""

from __future__ import annotations

import math
from typing import Any

from airlam.evaluation.report.verdicts import NO_VERDICT, verdict
from airlam.evaluation.rows import Figure, Row

TARGETS = {"line of sight": "accuracy", "speed": "RMSE [km/h]"}


def tables(rows: list[Row]) -> list[dict[str, Any]]:
    """A table for each target: features against SNR and share of the training links."""
    out = []
    for target, unit in TARGETS.items():
        here = [row for row in rows if row.settings["target"] == target]
        cells = list(dict.fromkeys((row.csi_snr_db, row.settings["links"]) for row in here))
        lines = []
        for name in dict.fromkeys(row.method for row in here):
            found = {(r.csi_snr_db, r.settings["links"]): r.figures["score"] for r in here if r.method == name}
            style = ".3f" if target != "speed" else ".1f"
            lines.append([name, *(f"{found[cell].number:{style}}" for cell in cells)])
        columns = ["features", *(f"{snr:g} dB, {links} links" for snr, links in cells)]
        out.append({"title": f"{target}: {unit}", "columns": columns, "lines": lines})
    return out


def headline(rows: list[Row], label: str) -> str:
    """Verdicts on the backbone against hand-made features, with all training links, over all SNRs."""
    words = []
    for target, unit in TARGETS.items():
        here = [r for r in rows if r.settings["target"] == target and r.method == label]
        here = [r for r in here if r.settings["links"] == max(x.settings["links"] for x in here)]
        found = [verdict(r.figures["gain"]) for r in here]
        words.append(
            f"{target} ({unit}): better at {found.count('better')} of {len(here)} SNRs, worse at "
            f"{found.count('worse')}, too few drops for a verdict at {found.count(NO_VERDICT)}"
        )
    return f"Probes on {label} against the same probes on hand-made features: " + "; ".join(words) + "."


def score(loss: Figure, target: str) -> Figure:
    """Accuracy, or root mean squared error in km/h."""
    low, high = loss.ends
    if target != "speed":
        return Figure(1 - loss.number, "1", "measured", loss.interval and (1 - high, 1 - low), groups=loss.groups)
    interval = loss.interval and (math.sqrt(max(low, 0.0)), math.sqrt(high))
    return Figure(math.sqrt(loss.number), "km/h", "measured", interval, groups=loss.groups)
