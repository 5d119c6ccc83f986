"""Rows, tables, headline and notes of the report on radio maps."""

from __future__ import annotations

from typing import Any

import torch

from airlam.evaluation.benchmarks.radio_map.config import CLASSICS, LABELS, REFERENCES, RadioMapConfig
from airlam.evaluation.benchmarks.radio_map.judging import METRICS
from airlam.evaluation.report.table import figure_text
from airlam.evaluation.rows import Figure, Results, Row
from airlam.io import recipe_hash
from airlam.metrics import bootstrap_interval

COLUMNS = {
    "rmse": ("power error [dB]", ".1f", 1.0),
    "inside": ("inside 90 % interval [%]", ".0f", 100.0),
    "similarity": ("profile similarity", ".2f", 1.0),
    "distance": ("energy distance of powers", ".2f", 1.0),
    "first_nmse": ("first estimate, NMSE [dB]", ".1f", 1.0),
}
NOTES = (
    "Measured: computed on simulated channels in this run. Nothing was trained at these sites.",
    "Power error: RMSE over places without a measurement, mean over stations; what lies below -10 dB over the noise is "
    "called -10 dB, in truth and in every map. Stations that fewer than a third of the places hear are left out.",
    "Intervals: 95 %, bootstrap over regions.",
    "Profile similarity: cosine similarity of power over 32 delays and the beams. All classics but the nearest place "
    "take means of neighbours' profiles, moved by the difference of distances.",
    "First estimate: of a user that enters, from one noisy pilot, each delay and beam weighted as the map expects it. "
    "Without a map, bins above a threshold are kept. How far bins may differ from a map, and the height of the "
    "threshold, are the best for the users who judge, in every method alike.",
)


def of_cells(record: dict[str, Any], method: str, share: float, metric: str) -> torch.Tensor:
    """Means over stations ``[region]``."""
    found = [c["metrics"][metric] for c in record["cells"] if (c["method"], c["share"]) == (method, share)]
    return torch.tensor([sum(values) / len(values) for values in found])


def mean_figure(values: torch.Tensor, unit: str, note: str = "") -> Figure:
    """Mean over regions, with its interval where there are several."""
    found = bootstrap_interval(values) if len(values) > 1 else None
    ends = (found.low, found.high) if found else None
    return Figure(float(values.mean()), unit, "measured", ends, groups=len(values), note=note)


def make_results(config: RadioMapConfig, records: list[dict[str, Any]]) -> Results:
    """Rows, tables, headline and notes."""
    results = Results(config.title, "radio_map", config=config.plain())
    results.recipes = {record["label"]: record["recipe"] for record in records}
    for record in records:
        for share in config.shares:
            methods = dict.fromkeys(c["method"] for c in record["cells"])
            results.rows += [_row(config, record, method, share) for method in methods]
    results.extras = {
        "tables": [table for record in records for table in _tables(config, results, record)],
        "compared": compared(config, records),
        "resampled": "regions",
        "pictures": {record["label"]: record["picture"] for record in records},
    }
    results.headline = " ".join(_sentence(config, record) for record in records)
    results.notes = list(NOTES)
    return results


def _row(config: RadioMapConfig, record: dict[str, Any], method: str, share: float) -> Row:
    seconds = [c["seconds"] for c in record["cells"] if (c["method"], c["share"]) == (method, share)]
    row = Row(
        method,
        record["label"],
        recipe_hash(record["recipe"]),
        None,
        config.csi_snr_db,
        1,
        0,
        settings={
            "share": share,
            "measured places": config.count(share),
            "seconds": round(sum(seconds) / len(seconds), 2),
        },
        seeds={"benchmark": config.seed},
        num_links=(config.users - config.count(share)) * sum(r["stations"] for r in record["regions"]),
        num_drops=len(record["regions"]),
        group="cell" if share == config.headline_share else "share",
    )
    for metric, unit in METRICS.items():
        if method not in REFERENCES or metric == "first_nmse":
            row.figures[metric] = mean_figure(of_cells(record, method, share, metric), unit)
    return row


def gain(record: dict[str, Any], share: float, other: str, metric: str = "rmse", method: str = "network") -> Figure:
    """How far a method's metric lies below that of another, paired by region."""
    return mean_figure(
        of_cells(record, other, share, metric) - of_cells(record, method, share, metric), METRICS[metric], other
    )


def best_classic(record: dict[str, Any], share: float, metric: str = "rmse") -> str:
    """The classic with the smallest error."""
    names = dict.fromkeys(c["method"] for c in record["cells"] if c["method"] in CLASSICS)
    return min(names, key=lambda name: float(of_cells(record, name, share, metric).mean()))


def _sentence(config: RadioMapConfig, record: dict[str, Any]) -> str:
    share, best = config.headline_share, best_classic(record, config.headline_share)
    classic = float(of_cells(record, best, share, "rmse").mean())
    head = (
        f"{record['label']}, {config.count(share)} of {config.users} places measured: {LABELS[best]} {classic:.1f} dB"
    )
    if not any(c["method"] == "network" for c in record["cells"]):
        return head + "."
    found, usual = (figure_text(gain(record, share, other)) for other in (best, "kriging"))
    network = float(of_cells(record, "network", share, "rmse").mean())
    start = figure_text(gain(record, share, "no-map", "first_nmse"))
    return (
        f"{head}; airlam-map {network:.1f} dB, {found} dB less, and {usual} dB less than kriging without a drift. With "
        f"its map a user's first estimate gains {start} dB over no map."
    )


def compared(config: RadioMapConfig, records: list[dict[str, Any]]) -> list[str]:
    """What is judged."""
    lines = [
        f"{config.users} users of each region; some were measured, with noise {config.csi_snr_db:g} dB below the "
        "median user's strongest station; the others judge. CSI of one instant."
    ]
    for record in records:
        regions = record["regions"]
        los = [region["los"] for region in regions if region["los"] is not None]
        stations = sum(region["stations"] for region in regions)
        sight = f"; {100 * sum(los) / len(los):.0f} % of links have a line of sight" if los else ""
        lines.append(f"{record['label']}: {len(regions)} regions, {stations} stations{sight}.")
    return lines


def _tables(config: RadioMapConfig, results: Results, record: dict[str, Any]) -> list[dict[str, Any]]:
    rows = [row for row in results.rows if row.data == record["label"]]
    head = [
        [LABELS[row.method], *(figure_text(row.figures.get(m), form, scale) for m, (_, form, scale) in COLUMNS.items())]
        for row in rows
        if row.group == "cell"
    ]
    first = {
        "title": f"{record['label']}: {config.count(config.headline_share)} of {config.users} places measured",
        "columns": ["method", *(title for title, _, _ in COLUMNS.values())],
        "lines": head,
        "text": "",
    }
    lines = []
    for name in dict.fromkeys(row.method for row in rows if row.method not in REFERENCES):
        mine = {row.settings["share"]: row for row in rows if row.method == name}
        lines.append([LABELS[name], *(figure_text(mine[s].figures["rmse"], ".1f") for s in config.shares)])
    columns = ["method", *(f"{config.count(s)} measured" for s in config.shares)]
    title = f"{record['label']}: power error [dB] over measured places"
    return [first, {"title": title, "columns": columns, "lines": lines, "text": ""}]
